//! The clients of a history, through Holdfast: what each asks, and what it is told, written down.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use holdfast_history::plan::Read;
use holdfast_history::reader::{Reading, Seen};
use holdfast_history::record::{
    Answer, ClientId, End, Entry, ExchangeId, Origin, Record, Request, What,
};
use holdfast_history::reflector::Reflector;
use holdfast_history::scope::Resource;
use holdfast_history::wire::{self, Told};
use http::{Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::peer::{Line, Lines, Peer};

/// What the clients of one history share.
pub(super) struct Scene {
    began: Instant,
    holdfast: Peer,
    /// Of each caller.
    tokens: Vec<String>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    record: Record,
    exchanges: ExchangeId,
    open: BTreeSet<ExchangeId>,
}

impl Scene {
    pub(super) fn new(holdfast: Peer, tokens: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            holdfast,
            tokens,
            inner: Mutex::default(),
        })
    }

    pub(super) fn note(&self, entry: Entry) {
        let at = self.now();
        self.lock().record.push(at, entry);
    }

    /// Writes these down if `can_be` says so of the record with them. Nothing is written between.
    pub(super) fn note_if(
        &self,
        entries: impl FnOnce() -> Vec<Entry>,
        can_be: impl FnOnce(&Record, usize) -> bool,
    ) -> bool {
        let at = self.now();
        let mut inner = self.lock();
        let mut record = inner.record.clone();
        let from = record.entries.len();
        for entry in entries() {
            record.push(at, entry);
        }
        let can_be = can_be(&record, from);
        if can_be {
            inner.record = record;
        }
        can_be
    }

    pub(super) fn take_record(&self) -> Record {
        std::mem::take(&mut self.lock().record)
    }

    /// The latest exchange that began.
    pub(super) fn latest(&self) -> ExchangeId {
        self.lock().exchanges
    }

    /// True while any of the exchanges until this one is under way.
    pub(super) fn is_open(&self, until: ExchangeId) -> bool {
        self.lock()
            .open
            .first()
            .is_some_and(|first| *first <= until)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's hands and ears.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) scene: Arc<Scene>,
    pub(super) id: ClientId,
    pub(super) caller: usize,
}

/// An exchange, for as long as it is under way.
struct Exchange {
    client: Client,
    id: ExchangeId,
}

impl Client {
    /// Follows a scope until it is stopped.
    pub(super) async fn inform(self, reflector: Arc<Mutex<Reflector>>, stop: CancellationToken) {
        // As client-go, but for its jitter.
        const TIMEOUT_SECONDS: u64 = 330;
        let lock = || reflector.lock().unwrap_or_else(PoisonError::into_inner);
        let work = async {
            loop {
                let (wait, request) = lock().next(TIMEOUT_SECONDS);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let (exchange, answer, body) = self.ask(&request).await;
                lock().answered(&answer);
                if let (Answer::Watch, Some(body)) = (&answer, body) {
                    let began = Instant::now();
                    let mut told = |told: &Told| lock().told(told);
                    let follow = exchange.follow(request.resource(), body, &mut told);
                    let end = stop.run_until_cancelled(follow).await;
                    exchange.note(What::Ended(end.unwrap_or(End::ByClient)));
                    let lasted = began.elapsed().as_millis();
                    lock().ended(u64::try_from(lasted).unwrap_or(u64::MAX));
                }
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// One read, and for a list all of its pages. `seen` is what this client was told before.
    pub(super) async fn read(self, read: Read, seen: Arc<Mutex<Seen>>) {
        let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reading = Reading::new(&read, &lock());
        loop {
            let request = reading.request().clone();
            let (exchange, answer, body) = self.ask(&request).await;
            if let (Answer::Watch, Some(body)) = (&answer, body) {
                let mut told = |told: &Told| reading.told(told, &mut lock());
                let end = exchange.follow(request.resource(), body, &mut told).await;
                return exchange.note(What::Ended(end));
            }
            if !reading.answered(&answer, &mut lock()) {
                return;
            }
        }
    }

    async fn ask(&self, request: &Request) -> (Exchange, Answer, Option<Incoming>) {
        let exchange = self.begin();
        exchange.note(What::Asked(request.clone()));
        let (origin, answer, body) = match self.send(request).await {
            Ok(response) => {
                let origin = origin(&response);
                let (answer, body) = read_answer(request, response).await;
                (origin, answer, body)
            }
            // Holdfast is not there, or went away before it answered.
            Err(_) => (Origin::Holdfast, Answer::Broken, None),
        };
        exchange.note(What::Answered(origin, answer.clone()));
        (exchange, answer, body)
    }

    fn begin(&self) -> Exchange {
        let mut inner = self.scene.lock();
        inner.exchanges += 1;
        let id = inner.exchanges;
        inner.open.insert(id);
        Exchange {
            client: self.clone(),
            id,
        }
    }

    async fn send(&self, request: &Request) -> Result<Response<Incoming>> {
        let bearer = format!("Bearer {}", self.scene.tokens[self.caller]);
        let request = http::Request::get(request.target())
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())?;
        self.scene.holdfast.send(request).await
    }
}

impl Exchange {
    fn note(&self, what: What) {
        let client = &self.client;
        client.scene.note(Entry::Exchange(client.id, self.id, what));
    }

    /// Reads events until the stream ends, or `told` has heard enough.
    async fn follow(
        &self,
        resource: Resource,
        body: Incoming,
        told: &mut impl FnMut(&Told) -> bool,
    ) -> End {
        let mut lines = Lines::new(body);
        loop {
            let line = match lines.next().await {
                Line::Whole(line) => line,
                Line::End(rest) => {
                    if !rest.is_empty() {
                        self.note(What::Garbled(format!("ends with {rest:?}")));
                    }
                    return End::Clean;
                }
                Line::Broken => return End::Broken,
            };
            match wire::event(resource, &line) {
                Ok(event) => {
                    self.note(What::Told(event.clone()));
                    if !told(&event) {
                        return End::ByClient;
                    }
                }
                Err(why) => self.note(What::Garbled(format!("{why}: {line:?}"))),
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.client.scene.lock().open.remove(&self.id);
    }
}

/// Holdfast marks what is from its cache, and the API server gives every answer of its own an audit id.
fn origin(response: &Response<Incoming>) -> Origin {
    let has = |name| response.headers().contains_key(name);
    match (has("holdfast-origin"), has("audit-id")) {
        (true, _) => Origin::Cache,
        (false, true) => Origin::Upstream,
        (false, false) => Origin::Holdfast,
    }
}

async fn read_answer(
    request: &Request,
    response: Response<Incoming>,
) -> (Answer, Option<Incoming>) {
    let (head, body) = response.into_parts();
    if matches!(request, Request::Watch(..)) && head.status.is_success() {
        return (Answer::Watch, Some(body));
    }
    let Ok(body) = body.collect().await else {
        return (Answer::Broken, None);
    };
    let answer = Answer::read(request, head.status.as_u16(), &body.to_bytes());
    (answer, None)
}

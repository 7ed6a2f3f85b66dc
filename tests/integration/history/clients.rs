//! The clients of a history, through Holdfast: what each asks, and what it is told, written down.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use holdfast_history::drive::{self, Exchange as _, Next};
use holdfast_history::record::{
    Answer, ClientId, Entry, ExchangeId, Origin, Record, Request, What,
};
use http::{Response, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::peer::Peer;

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
pub(super) struct Exchange {
    client: Client,
    id: ExchangeId,
}

impl Client {
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

impl drive::Client for Client {
    type Exchange = Exchange;

    async fn ask(&self, request: &Request) -> drive::Asked<Exchange> {
        let exchange = self.begin();
        exchange.note(What::Asked(request.clone()));
        let (origin, answer, body) = match self.send(request).await {
            Ok(response) => {
                let origin = origin(&response);
                let (answer, body) = drive::answer(request, response).await;
                (origin, answer, body)
            }
            // Holdfast is not there, or went away before it answered.
            Err(_) => (Origin::Holdfast, Answer::Broken, None),
        };
        exchange.note(What::Answered(origin, answer.clone()));
        (exchange, answer, body)
    }
}

impl drive::Exchange for Exchange {
    type Body = Incoming;

    fn note(&self, what: What) {
        let client = &self.client;
        client.scene.note(Entry::Exchange(client.id, self.id, what));
    }

    async fn next(&self, body: &mut Incoming) -> Next {
        Next::of(body).await
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

//! The clients of a history: what each asks through Holdfast, and what it is told, written down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use holdfast_history::plan::Read;
use holdfast_history::reader::{Reading, Seen};
use holdfast_history::record::{
    Answer, ClientId, End, Entry, ExchangeId, Origin, Record, Request, What,
};
use holdfast_history::reflector::Reflector;
use holdfast_history::scope::Resource;
use holdfast_history::wire::{self, Told};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::asked::Asked;
use crate::body::{self, Body};
use crate::identity::{Caller, ServiceAccount};
use crate::request_info::RequestInfo;
use crate::runtime::metrics;
use crate::serve::{self, Serve};
use crate::upstream::Lane;

/// What the clients of one history share.
pub(super) struct Scene {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    record: Record,
    exchanges: ExchangeId,
    holdfast: Holdfast,
}

/// One life of Holdfast.
#[derive(Clone)]
pub(super) struct Holdfast {
    pub(super) serve: Arc<Serve>,
    /// Cancelled when it is killed: every connection breaks.
    pub(super) killed: CancellationToken,
}

impl Scene {
    pub(super) fn new(holdfast: Holdfast) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                record: Record::default(),
                exchanges: 0,
                holdfast,
            }),
        })
    }

    pub(super) fn holdfast(&self) -> Holdfast {
        self.lock().holdfast.clone()
    }

    pub(super) fn replace(&self, holdfast: Holdfast) {
        self.lock().holdfast = holdfast;
    }

    pub(super) fn note(&self, entry: Entry) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.lock().record.push(at, entry);
    }

    pub(super) fn take_record(&self) -> Record {
        std::mem::take(&mut self.lock().record)
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

/// An exchange that began.
struct Exchange {
    client: Client,
    id: ExchangeId,
    /// Ends with Holdfast.
    killed: CancellationToken,
}

impl Client {
    /// Follows a scope until it is stopped.
    pub(super) async fn inform(self, reflector: Arc<Mutex<Reflector>>, stop: CancellationToken) {
        // As client-go, but for its jitter.
        const TIMEOUT_SECONDS: u64 = 330;
        let lock = || reflector.lock().unwrap_or_else(PoisonError::into_inner);
        let resource = lock().store().scope.resource;
        let work = async {
            loop {
                let (wait, request) = lock().next(TIMEOUT_SECONDS);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let (exchange, answer, body) = self.ask(&request).await;
                lock().answered(&answer);
                if let (Answer::Watch, Some(body)) = (&answer, body) {
                    let began = Instant::now();
                    let mut told = |told: &Told| lock().told(told);
                    let follow = exchange.follow(resource, body, &mut told);
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

    async fn ask(&self, request: &Request) -> (Exchange, Answer, Option<Body>) {
        let (id, holdfast) = {
            let mut inner = self.scene.lock();
            inner.exchanges += 1;
            (inner.exchanges, inner.holdfast.clone())
        };
        let exchange = Exchange {
            client: self.clone(),
            id,
            killed: holdfast.killed.clone(),
        };
        exchange.note(What::Asked(request.clone()));
        let answered = async {
            let (response, origin) = self.send(&holdfast.serve, request).await;
            let (answer, body) = read_answer(request, response).await;
            (origin, answer, body)
        };
        let answered = holdfast.killed.run_until_cancelled(answered).await;
        let (origin, answer, body) = answered.unwrap_or((Origin::Holdfast, Answer::Broken, None));
        exchange.note(What::Answered(origin, answer.clone()));
        (exchange, answer, body)
    }

    async fn send(&self, serve: &Arc<Serve>, request: &Request) -> (Response<Body>, Origin) {
        let uri: http::Uri = request.target().parse().expect("a URI");
        let account = ServiceAccount {
            namespace: "a".to_owned(),
            name: format!("caller-{}", self.caller),
            uid: self.caller.to_string(),
        };
        let bearer = HeaderValue::try_from(format!("Bearer caller-{}", self.caller));
        let headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, bearer.expect("a header")),
            (header::ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let asked = Asked {
            method: Method::GET,
            uri: uri.clone(),
            info: RequestInfo::parse(&Method::GET, &uri).ok(),
            upgrade: false,
            socket: None,
            headers: headers.clone(),
            caller: Caller::ServiceAccount(account.clone()),
            lane: Lane::Caller(account),
        };
        let mut request = http::Request::new(body::empty());
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let (response, origin) = serve::answer(serve, &asked, request).await;
        let is_marked = response.headers().contains_key("holdfast-origin");
        let origin = match origin {
            metrics::Origin::Upstream => Origin::Upstream,
            metrics::Origin::Cache => Origin::Cache,
            metrics::Origin::Holdfast => Origin::Holdfast,
        };
        assert_eq!(
            is_marked,
            origin == Origin::Cache,
            "only a cached answer says so"
        );
        (response, origin)
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
        mut body: Body,
        told: &mut impl FnMut(&Told) -> bool,
    ) -> End {
        let mut lines = BytesMut::new();
        loop {
            let frame = self.killed.run_until_cancelled(body.frame()).await;
            let data = match frame {
                Some(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Some(None) => {
                    if !lines.is_empty() {
                        self.note(What::Garbled(format!("ends with {lines:?}")));
                    }
                    return End::Clean;
                }
                Some(Some(Err(_))) | None => return End::Broken,
            };
            lines.extend_from_slice(&data);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line = lines.split_to(end + 1).freeze();
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
}

async fn read_answer(request: &Request, response: Response<Body>) -> (Answer, Option<Body>) {
    let (parts, body) = response.into_parts();
    if matches!(request, Request::Watch(..)) && parts.status.is_success() {
        return (Answer::Watch, Some(body));
    }
    let Ok(body) = body.collect().await else {
        return (Answer::Broken, None);
    };
    let answer = Answer::read(request, parts.status.as_u16(), &body.to_bytes());
    (answer, None)
}

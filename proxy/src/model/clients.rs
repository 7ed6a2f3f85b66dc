//! The clients of a history: what each asks through Holdfast, and what it is told, written down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_history::drive::{self, Exchange as _, Next};
use holdfast_history::record::{
    Answer, ClientId, Entry, ExchangeId, Origin, Record, Request, What,
};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::asked;
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
pub(super) struct Exchange {
    client: Client,
    id: ExchangeId,
    /// Ends with Holdfast.
    killed: CancellationToken,
}

impl Client {
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
        let asked = asked::Asked {
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

impl drive::Client for Client {
    type Exchange = Exchange;

    async fn ask(&self, request: &Request) -> drive::Asked<Exchange> {
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
            let (answer, body) = drive::answer(request, response).await;
            (origin, answer, body)
        };
        let answered = holdfast.killed.run_until_cancelled(answered).await;
        let (origin, answer, body) = answered.unwrap_or((Origin::Holdfast, Answer::Broken, None));
        exchange.note(What::Answered(origin, answer.clone()));
        (exchange, answer, body)
    }
}

impl drive::Exchange for Exchange {
    type Body = Body;

    fn note(&self, what: What) {
        let client = &self.client;
        client.scene.note(Entry::Exchange(client.id, self.id, what));
    }

    async fn next(&self, body: &mut Body) -> Next {
        let next = self.killed.run_until_cancelled(Next::of(body)).await;
        next.unwrap_or(Next::Broken)
    }
}

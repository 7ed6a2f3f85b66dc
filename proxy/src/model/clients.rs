//! The clients of a history: what each asks through Holdfast, and what it is told, written down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_history::plan::{Read, Rv};
use holdfast_history::record::{
    Answer, ClientId, End, Entry, ExchangeId, ListAsk, Origin, Record, Request, WatchAsk, What,
};
use holdfast_history::reflector::Reflector;
use holdfast_history::scope::{Resource, Scope};
use holdfast_history::truth::Key;
use holdfast_history::wire::{self, Status, Told};
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

    /// One read, and for a list all of its pages. `seen` is the latest RV this client was told of the scope.
    pub(super) async fn read(self, read: Read, seen: Arc<Mutex<Seen>>) {
        match read {
            Read::Get(key) => drop(self.ask(&Request::Get(key)).await),
            Read::List {
                scope,
                rv,
                exact,
                limit,
                gives_up,
            } => {
                let mut ask = ListAsk {
                    rv: Seen::number(&seen, &scope, rv),
                    exact,
                    limit,
                    continue_token: String::new(),
                };
                ask.exact &= ask.rv.parse().is_ok_and(|rv: u64| rv > 0);
                loop {
                    let (_, answer, _) = self.ask(&Request::List(scope.clone(), ask.clone())).await;
                    let Answer::List(list) = answer else {
                        return;
                    };
                    if list.continue_token.is_empty() {
                        return Seen::tell(&seen, &scope, list.rv);
                    }
                    if gives_up {
                        return;
                    }
                    ask = ListAsk {
                        limit,
                        continue_token: list.continue_token,
                        ..ListAsk::default()
                    };
                }
            }
            Read::Watch {
                scope,
                rv,
                initial,
                bookmarks,
                seconds,
            } => {
                let ask = WatchAsk {
                    rv: Seen::number(&seen, &scope, rv),
                    initial,
                    bookmarks,
                    timeout_seconds: Some(seconds),
                };
                let began_at: Option<u64> = ask.rv.parse().ok().filter(|rv| *rv > 0);
                let mut ordered = initial != Some(true) && began_at.is_some();
                let (exchange, answer, body) = self.ask(&Request::Watch(scope.clone(), ask)).await;
                let (Answer::Watch, Some(body)) = (answer, body) else {
                    return;
                };
                let mut told = |told: &Told| {
                    match told {
                        Told::Bookmark { rv, .. } => {
                            ordered = true;
                            Seen::tell(&seen, &scope, *rv);
                        }
                        Told::Event(_, object) if ordered => {
                            Seen::tell(&seen, &scope, object.rv);
                        }
                        Told::Event(..) => {}
                        Told::Error(_) => return false,
                    }
                    true
                };
                let end = exchange.follow(scope.resource, body, &mut told).await;
                exchange.note(What::Ended(end));
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
        let uri: http::Uri = target(request).parse().expect("a URI");
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

/// The latest RVs a reader was told, by scope.
#[derive(Default)]
pub(super) struct Seen(Vec<(Scope, u64)>);

impl Seen {
    fn tell(seen: &Mutex<Self>, scope: &Scope, rv: u64) {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.0.iter_mut().find(|(of, _)| of == scope) {
            Some((_, known)) => *known = rv.max(*known),
            None => seen.0.push((scope.clone(), rv)),
        }
    }

    fn number(seen: &Mutex<Self>, scope: &Scope, rv: Rv) -> String {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.0.iter().find(|(of, _)| of == scope);
        match (rv, known) {
            (Rv::Any, _) => "0".to_owned(),
            (Rv::Seen, Some((_, known))) => known.to_string(),
            (Rv::Unset, _) | (Rv::Seen, None) => String::new(),
        }
    }
}

/// The request line.
fn target(request: &Request) -> String {
    let (path, mut query) = match request {
        Request::Get(key) => return Key::path(key),
        Request::List(scope, _) | Request::Watch(scope, _) => scope.target(),
    };
    let mut put = |name, value: &dyn ToString| query.push((name, value.to_string()));
    match request {
        Request::List(_, ask) => {
            if !ask.rv.is_empty() {
                put("resourceVersion", &ask.rv);
            }
            if ask.exact {
                put("resourceVersionMatch", &"Exact");
            }
            if let Some(limit) = ask.limit {
                put("limit", &limit);
            }
            if !ask.continue_token.is_empty() {
                put("continue", &ask.continue_token);
            }
        }
        Request::Watch(_, ask) => {
            put("watch", &"true");
            if !ask.rv.is_empty() {
                put("resourceVersion", &ask.rv);
            }
            if let Some(initial) = ask.initial {
                put("sendInitialEvents", &initial);
                put("resourceVersionMatch", &"NotOlderThan");
            }
            if ask.bookmarks {
                put("allowWatchBookmarks", &"true");
            }
            if let Some(seconds) = ask.timeout_seconds {
                put("timeoutSeconds", &seconds);
            }
        }
        Request::Get(_) => {}
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(query)
        .finish();
    match query.is_empty() {
        true => path,
        false => format!("{path}?{query}"),
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
    let body: Bytes = body.to_bytes();
    let read = match request {
        _ if !parts.status.is_success() => {
            let code = parts.status.as_u16();
            wire::status(&body).map(|status| Answer::Refused(Status { code, ..status }))
        }
        Request::List(scope, _) => wire::list(scope.resource, &body).map(Answer::List),
        Request::Get(key) => wire::object(key.resource, &body).map(Answer::Object),
        Request::Watch(..) => Ok(Answer::Watch),
    };
    (read.unwrap_or_else(Answer::Malformed), None)
}

//! What the model answers to GET, LIST and WATCH.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use fastrand::Rng;
use holdfast_history::plan::Fault;
use holdfast_history::scope::{Resource, Scope};
use holdfast_history::truth::{Content, Key, Object};
use http::{Response, Uri};
use http_body_util::{BodyExt, Channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apiserver::{ApiServer, FRESH_TIMEOUT, json, refuse, with_body};
use super::encode;
use crate::body::{Body, BoxError};

/// Of a slow list.
const PIECES: usize = 8;

/// About one a minute (`apiserver:pkg/storage/cacher/cacher.go`).
const BOOKMARKS: Duration = Duration::from_secs(60);

type Pipe = http_body_util::channel::Sender<Bytes, BoxError>;

#[derive(Default)]
struct Options {
    labels: String,
    fields: String,
    watch: bool,
    rv: String,
    rv_match: String,
    limit: usize,
    next: String,
    initial: Option<bool>,
    bookmarks: bool,
    timeout: Option<u64>,
}

impl Options {
    fn parse(uri: &Uri) -> Self {
        let mut options = Self::default();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
            let truthy = !matches!(value.as_ref(), "0" | "false");
            match name.as_ref() {
                "labelSelector" => options.labels = value.into_owned(),
                "fieldSelector" => options.fields = value.into_owned(),
                "watch" => options.watch = truthy,
                "resourceVersion" => options.rv = value.into_owned(),
                "resourceVersionMatch" => options.rv_match = value.into_owned(),
                "limit" => options.limit = value.parse().unwrap_or(0),
                "continue" => options.next = value.into_owned(),
                "sendInitialEvents" => options.initial = Some(truthy),
                "allowWatchBookmarks" => options.bookmarks = truthy,
                "timeoutSeconds" => options.timeout = value.parse().ok(),
                _ => {}
            }
        }
        options
    }

    fn number(&self) -> u64 {
        self.rv.parse().unwrap_or(0)
    }
}

impl ApiServer {
    pub(super) async fn respond(self: &Arc<Self>, uri: &Uri, mut rng: Rng) -> Response<Body> {
        let options = Options::parse(uri);
        let path = uri.path();
        match Resource::of_path(path) {
            Some((resource, Some(namespace), Some(name))) => {
                self.get(&Key::new(resource, namespace, name))
            }
            Some(_) => {
                let scope = Scope::parse(path, &options.labels, &options.fields);
                let scope = scope.unwrap_or_else(|| panic!("{uri} is not modelled"));
                match options.watch {
                    true => self.watch(scope, &options, rng),
                    false => self.list(&scope, &options, &mut rng).await,
                }
            }
            None => refuse(
                404,
                "NotFound",
                "the server could not find the requested resource",
            ),
        }
    }

    fn get(&self, key: &Key) -> Response<Body> {
        match self.lock().truth.get(key) {
            Some(object) => json(200, format!("{}\n", encode::object(object))),
            None => {
                let (plural, name) = (key.resource.plural(), &key.name);
                refuse(404, "NotFound", &format!("{plural} \"{name}\" not found"))
            }
        }
    }

    /// Waits a while for an RV that is not there yet; whether it came.
    async fn wait_for(&self, rv: u64) -> bool {
        let reached = async {
            while self.lock().truth.rv() < rv {
                self.written.notified().await;
            }
        };
        tokio::time::timeout(FRESH_TIMEOUT, reached).await.is_ok()
    }

    // --- LIST ---

    async fn list(&self, scope: &Scope, options: &Options, rng: &mut Rng) -> Response<Body> {
        let asked = options.number();
        if options.next.is_empty() && !self.wait_for(asked).await {
            let mut response = refuse(504, "Timeout", "Too large resource version");
            let retry = http::HeaderValue::from_static("1");
            response.headers_mut().insert("retry-after", retry);
            return response;
        }
        let mut inner = self.lock();
        let now = inner.truth.rv();
        // A limit makes an RV exact (`apiserver:pkg/storage/etcd3/store.go`, the legacy rule).
        let is_exact = options.rv_match == "Exact" || (options.limit > 0 && asked > 0);
        let (rv, start) = match (options.next.as_str(), options.rv.as_str()) {
            ("", "") => (now, String::new()),
            ("", _) if is_exact && asked > 0 => (asked, String::new()),
            ("", _) => (inner.some_rv(rng, asked), String::new()),
            (token, _) => match read_token(token) {
                Some((-1, start)) => (now, start),
                Some((rv, start)) => (u64::try_from(rv).unwrap_or(now), start),
                None => return refuse(400, "BadRequest", "continue key is not valid"),
            },
        };
        if (is_exact || !options.next.is_empty()) && rv < inner.compacted {
            let why =
                "The provided continue parameter is too old to display a consistent list result";
            return refuse(410, "Expired", why);
        }
        let content = inner.truth.content(scope, rv);
        // Any state may come whole (`apiserver:pkg/storage/cacher/delegator`): the limit is of no account there.
        let limit = if options.rv == "0" { 0 } else { options.limit };
        let body = page(scope, options, &content, rv, &start, limit);
        let fault = inner.take(|fault| matches!(fault, Fault::CutList(_) | Fault::SlowList(_)));
        let connections = inner.connections();
        drop(inner);
        match fault {
            Some(Fault::CutList(share)) => with_body(200, cut(body, share)),
            Some(Fault::SlowList(pause)) => with_body(200, slow(body, pause, connections)),
            _ => json(200, body),
        }
    }

    // --- WATCH ---

    fn watch(self: &Arc<Self>, scope: Scope, options: &Options, mut rng: Rng) -> Response<Body> {
        let with_match = options.rv_match == "NotOlderThan";
        if options.initial.is_some() != with_match {
            return refuse(
                422,
                "Invalid",
                "sendInitialEvents needs resourceVersionMatch",
            );
        }
        let asked = options.number();
        let wants_all = options.initial == Some(true) || (options.initial.is_none() && asked == 0);
        let gone = (asked > 0 && !wants_all)
            .then(|| {
                self.lock()
                    .take(|fault| matches!(fault, Fault::Gone { .. }))
            })
            .flatten();
        if let Some(Fault::Gone { as_event: false }) = gone {
            return refuse(410, "Expired", "too old resource version");
        }
        let (pipe, body) = Channel::new(64);
        let mut inner = self.lock();
        let late = match inner.take(|fault| matches!(fault, Fault::LateWatch(_))) {
            Some(Fault::LateWatch(late)) => late,
            _ => 0,
        };
        let timeout = match options.timeout {
            Some(seconds) => seconds,
            None => 1800 + rng.u64(0..1800),
        };
        let from = match (wants_all, asked) {
            (false, asked) => From::After(asked),
            (true, 0) if options.rv == "0" => From::Everything(inner.some_rv(&mut rng, 0)),
            (true, 0) => From::Everything(inner.truth.rv()),
            (true, asked) => From::EverythingSince(asked),
        };
        let stream = Stream {
            server: self.clone(),
            scope,
            pipe,
            connections: inner.connections(),
            rng,
            bookmarks: options.bookmarks,
            late: Duration::from_millis(late),
            deadline: Instant::now() + Duration::from_secs(timeout),
        };
        drop(inner);
        tokio::spawn(stream.run(from, gone.is_some()));
        with_body(200, body.boxed_unsync())
    }
}

/// One page, from `start` on.
fn page(
    scope: &Scope,
    options: &Options,
    content: &Content,
    rv: u64,
    start: &str,
    limit: usize,
) -> Vec<u8> {
    // Below the path of the list.
    let relative = |object: &Object| match scope.namespace {
        Some(_) => object.key.name.clone(),
        None => object.key.in_list_order(),
    };
    let rest = content.values().map(AsRef::as_ref);
    let rest: Vec<&Object> = rest
        .filter(|object| relative(object).as_str() >= start)
        .collect();
    let (items, left) = match limit {
        0 => (rest.as_slice(), 0),
        limit => {
            let items = &rest[..limit.min(rest.len())];
            (items, rest.len() - items.len())
        }
    };
    let next = items.last().filter(|_| left > 0).map(|last| {
        let token = serde_json::json!({
            "v": "meta.k8s.io/v1", "rv": rv, "start": format!("/{}\0", relative(last)),
        });
        URL_SAFE_NO_PAD.encode(token.to_string())
    });
    let is_filtered = !options.labels.is_empty() || !options.fields.is_empty();
    let left = (left > 0 && !is_filtered).then_some(left);
    encode::list(scope.resource, rv, (next.as_deref(), left), items).into_bytes()
}

/// The RV and the first key of the next page.
fn read_token(token: &str) -> Option<(i64, String)> {
    let json = URL_SAFE_NO_PAD.decode(token).ok()?;
    let json: serde_json::Value = serde_json::from_slice(&json).ok()?;
    let start = json["start"].as_str()?;
    Some((
        json["rv"].as_i64()?,
        start.trim_start_matches('/').to_owned(),
    ))
}

fn broken() -> BoxError {
    BoxError::from("the connection broke")
}

fn cut(body: Vec<u8>, share: u8) -> Body {
    let (mut pipe, channel) = Channel::new(2);
    let len = body.len() * usize::from(share) / 100;
    let part = Bytes::from(body).slice(..len);
    tokio::spawn(async move {
        let _ = pipe.send_data(part).await;
        pipe.abort(broken());
    });
    channel.boxed_unsync()
}

fn slow(body: Vec<u8>, pause: u64, connections: CancellationToken) -> Body {
    let (mut pipe, channel) = Channel::new(2);
    let body = Bytes::from(body);
    tokio::spawn(async move {
        for piece in body.chunks(body.len().div_ceil(PIECES).max(1)) {
            let piece = Bytes::copy_from_slice(piece);
            let pause = tokio::time::sleep(Duration::from_millis(pause));
            if connections.run_until_cancelled(pause).await.is_none() {
                return pipe.abort(broken());
            }
            if pipe.send_data(piece).await.is_err() {
                return;
            }
        }
    });
    channel.boxed_unsync()
}

/// What a watch begins with.
enum From {
    After(u64),
    /// The content at this RV.
    Everything(u64),
    /// The content at an RV that is not older than this one.
    EverythingSince(u64),
}

/// One watch, as the API server serves it.
struct Stream {
    server: Arc<ApiServer>,
    scope: Scope,
    pipe: Pipe,
    connections: CancellationToken,
    rng: Rng,
    bookmarks: bool,
    /// How long an event takes.
    late: Duration,
    deadline: Instant,
}

/// The stream is over.
struct Over;

impl Stream {
    async fn run(mut self, from: From, is_gone: bool) {
        let connections = self.connections.clone();
        let deadline = tokio::time::sleep_until(self.deadline);
        tokio::select! {
            biased;
            () = connections.cancelled() => {}
            () = deadline => return,
            _ = self.serve(from, is_gone) => return,
        }
        // In the middle of an event, sometimes.
        if self.rng.bool() {
            let _ = self
                .pipe
                .try_send(http_body::Frame::data(Bytes::from_static(
                    b"{\"type\":\"ADD",
                )));
        }
        self.pipe.abort(broken());
    }

    async fn serve(&mut self, from: From, is_gone: bool) -> Result<(), Over> {
        let mut position = match from {
            From::After(rv) => {
                let (in_window, oldest) = {
                    let inner = self.server.lock();
                    (inner.is_in_window(rv), inner.oldest())
                };
                if is_gone || !in_window {
                    let message = format!("too old resource version: {rv} ({oldest})");
                    return self.send(encode::error(410, "Expired", &message)).await;
                }
                rv
            }
            From::Everything(rv) => self.everything(rv).await?,
            From::EverythingSince(rv) => {
                if !self.server.wait_for(rv).await {
                    let message = format!("Too large resource version: {rv}");
                    return self.send(encode::error(504, "Timeout", &message)).await;
                }
                let now = self.server.lock().truth.rv();
                self.everything(now).await?
            }
        };
        let server = self.server.clone();
        let mut bookmark = tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
        loop {
            // Before looking: what is written from now on wakes.
            let mut written = std::pin::pin!(server.written.notified());
            written.as_mut().enable();
            let now = server.lock().truth.rv();
            let events = server.lock().truth.events(&self.scope, position, now);
            for event in events {
                tokio::time::sleep(self.late).await;
                self.send(encode::event(event.kind, &event.object)).await?;
            }
            position = position.max(now);
            tokio::select! {
                biased;
                () = written => {}
                _ = bookmark.tick(), if self.bookmarks => {
                    self.send(encode::bookmark(self.scope.resource, position, false)).await?;
                }
            }
        }
    }

    async fn everything(&mut self, rv: u64) -> Result<u64, Over> {
        let content = self.server.lock().truth.content(&self.scope, rv);
        for object in content.values() {
            tokio::time::sleep(self.late).await;
            self.send(encode::event(
                holdfast_history::truth::EventKind::Added,
                object,
            ))
            .await?;
        }
        if self.bookmarks {
            self.send(encode::bookmark(self.scope.resource, rv, true))
                .await?;
        }
        Ok(rv)
    }

    async fn send(&mut self, frame: String) -> Result<(), Over> {
        // What is sent into a black hole does not come.
        while self.server.is_silent() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut frame = Bytes::from(frame);
        if self.rng.u8(0..4) == 0 {
            let first = frame.split_to(self.rng.usize(1..frame.len()));
            self.pipe.send_data(first).await.map_err(|_| Over)?;
            tokio::time::sleep(Duration::from_millis(self.rng.u64(0..3))).await;
        }
        self.pipe.send_data(frame).await.map_err(|_| Over)
    }
}

//! A model of the API server: what it answers, by the rules that `kube-apiserver` keeps, from a truth that can be looked up.
//!
//! Sources of the rules: `apiserver:pkg/storage/cacher/{cacher,cache_watcher,watch_cache}.go`, `apiserver:pkg/storage/continue.go`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::BoxFuture;
use holdfast_history::plan::{Face, Fault, Op};
use holdfast_history::record::Entry;
use holdfast_history::truth::{Key, Object, Truth};
use http::{Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::clients::Scene;
use super::encode;
use crate::body::{self, Body};
use crate::policy::{Failure, Uplink};
use crate::upstream::{Lane, Script, Upstream};

/// Events the watch cache of a resource keeps. The real one keeps 100 and more, and 75 s; few writes go far in a model.
const WINDOW: usize = 40;

/// How long a read waits for an RV that is not there yet (`apiserver:pkg/storage/cacher/watch_cache.go`, blockTimeout).
pub(super) const FRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// What Holdfast waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The API server and the road to it.
pub(super) struct ApiServer {
    inner: Mutex<Inner>,
    /// Something was written. Whoever waits is woken in the order of waiting, which a `watch` does not promise.
    pub(super) written: Notify,
    road_opened: Notify,
    upstream: Mutex<Weak<Upstream>>,
    scene: Mutex<Weak<Scene>>,
}

pub(super) struct Inner {
    pub(super) truth: Truth,
    seed: u64,
    /// How often each request came.
    asked: HashMap<String, u64>,
    /// Watches from before get a 410.
    oldest: u64,
    /// Lists of before are gone.
    pub(super) compacted: u64,
    pub(super) armed: VecDeque<Fault>,
    road: Option<Face>,
    /// Cancelled when every connection breaks.
    connections: CancellationToken,
    objects: u64,
}

impl ApiServer {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let inner = Inner {
            truth: Truth::new(100),
            seed,
            asked: HashMap::new(),
            oldest: 100,
            compacted: 100,
            armed: VecDeque::new(),
            road: None,
            connections: CancellationToken::new(),
            objects: 0,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            written: Notify::new(),
            road_opened: Notify::new(),
            upstream: Mutex::new(Weak::new()),
            scene: Mutex::new(Weak::new()),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose uplink goes down when a request is refused or meets silence.
    pub(super) fn is_upstream(&self, upstream: &Arc<Upstream>) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(upstream);
    }

    /// Who writes down what is asked here.
    pub(super) fn is_in(&self, scene: &Arc<Scene>) {
        *self.scene.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(scene);
    }

    fn note(&self, request: &Request<()>) {
        let scene = self.scene.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scene) = scene.upgrade() {
            let caller = request.headers().get(http::header::AUTHORIZATION);
            let caller = caller
                .and_then(|caller| caller.to_str().ok())
                .unwrap_or_default();
            let request = format!("{} by {caller}", request.uri());
            scene.note(Entry::Arrived(request));
        }
    }

    pub(super) fn write(&self, key: &Key, op: &Op) {
        self.lock().write(key, op);
        self.written.notify_waiters();
    }

    pub(super) fn write_elsewhere(&self, count: u64) {
        let mut inner = self.lock();
        for _ in 0..count {
            inner.truth.written_elsewhere();
        }
        drop(inner);
        self.written.notify_waiters();
    }

    pub(super) fn arm(&self, fault: Fault) {
        self.lock().armed.push_back(fault);
    }

    pub(super) fn cut(&self, face: Face) {
        self.lock().road = Some(face);
        if face == Face::Refused {
            self.disturb();
        }
    }

    pub(super) fn open_road(&self) {
        self.lock().road = None;
        self.road_opened.notify_waiters();
    }

    pub(super) fn is_open(&self) -> bool {
        self.lock().road.is_none()
    }

    /// Every connection breaks.
    pub(super) fn disturb(&self) {
        let mut inner = self.lock();
        std::mem::take(&mut inner.connections).cancel();
    }

    pub(super) fn restart(&self) {
        let mut inner = self.lock();
        inner.oldest = inner.truth.rv();
        std::mem::take(&mut inner.connections).cancel();
    }

    pub(super) fn compact(&self) {
        let mut inner = self.lock();
        inner.compacted = inner.truth.rv();
    }

    /// Holdfast's health says so: it drops every connection.
    pub(super) fn uplink(&self, uplink: Uplink) {
        let upstream = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = upstream.upgrade() {
            upstream.set_uplink(uplink);
        }
        drop(upstream);
        if uplink == Uplink::Down {
            self.disturb();
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        read: bool,
    ) -> Result<Response<Body>, Failure> {
        let road = self.lock().road;
        match road {
            Some(Face::Refused) => {
                self.uplink(Uplink::Down);
                return Err(Failure::NotSent);
            }
            Some(Face::BlackHole) => self.silence(read).await?,
            None => {}
        }
        let request = request.map(drop);
        let (mut rng, connections) = {
            let mut inner = self.lock();
            (inner.chance(&request), inner.connections.clone())
        };
        let answer = async {
            tokio::time::sleep(Duration::from_millis(rng.u64(0..10))).await;
            self.note(&request);
            self.respond(request.uri(), rng).await
        };
        tokio::select! {
            biased;
            () = connections.cancelled() => Err(Failure::Broken),
            answer = answer => Ok(answer),
        }
    }

    /// What is sent into a black hole is sent again, and comes if the road is open in time. A read is given up after a while,
    /// everything else when the uplink goes down.
    async fn silence(&self, read: bool) -> Result<(), Failure> {
        let connections = self.lock().connections.clone();
        tokio::select! {
            biased;
            () = connections.cancelled() => {}
            () = self.road_opened.notified() => return Ok(()),
            () = tokio::time::sleep(ANSWER_TIMEOUT), if read => self.uplink(Uplink::Down),
        }
        Err(Failure::NoAnswer)
    }

    /// Bytes on their way: silent while the road is a black hole.
    pub(super) fn is_silent(&self) -> bool {
        self.lock().road == Some(Face::BlackHole)
    }
}

impl Script for Arc<ApiServer> {
    fn forward(
        &self,
        _lane: &Lane,
        request: Request<Body>,
        read: bool,
    ) -> BoxFuture<'static, Result<Response<Body>, Failure>> {
        Box::pin(self.clone().answer(request, read))
    }
}

impl Inner {
    fn write(&mut self, key: &Key, op: &Op) {
        match op {
            Op::Put { labels, node } => {
                let known = self.truth.get(key).cloned();
                let uid = match &known {
                    Some(known) => known.uid.clone(),
                    None => self.uid(),
                };
                let object = Object {
                    key: key.clone(),
                    uid,
                    rv: self.truth.rv() + 1,
                    labels: labels.clone(),
                    // Bound once, as the scheduler does it.
                    node: match &known {
                        Some(known) if !known.node.is_empty() => known.node.clone(),
                        _ if key.resource == holdfast_history::scope::Resource::Pods => {
                            (*node).to_owned()
                        }
                        _ => String::new(),
                    },
                    value: self.truth.rv() + 1,
                };
                self.truth.put(object);
            }
            Op::Delete => {
                let rv = self.truth.rv() + 1;
                self.truth.delete(key, rv);
            }
            Op::Recreate => {
                let Some(known) = self.truth.get(key).cloned() else {
                    return;
                };
                let rv = self.truth.rv() + 1;
                self.truth.delete(key, rv);
                let object = Object {
                    uid: self.uid(),
                    rv: rv + 1,
                    value: rv + 1,
                    ..(*known).clone()
                };
                self.truth.put(object);
            }
        }
        let changes = self.truth.changes();
        if let Some(first) = changes.len().checked_sub(WINDOW + 1) {
            self.oldest = self.oldest.max(changes[first].rv);
        }
    }

    fn uid(&mut self) -> String {
        self.objects += 1;
        format!("uid-{}", self.objects)
    }

    /// The first armed fault that is wanted here.
    pub(super) fn take(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = self.armed.iter().position(wanted)?;
        self.armed.remove(at)
    }

    /// What happens to a request by chance. It hangs on the request alone, not on what else came in the same moment.
    fn chance(&mut self, request: &Request<()>) -> Rng {
        let caller = request.headers().get(http::header::AUTHORIZATION);
        let name = format!("{caller:?} {}", request.uri());
        let times = self.asked.entry(name.clone()).or_default();
        *times += 1;
        // FNV-1a: the same on every machine.
        let bytes = name.bytes().chain(times.to_le_bytes());
        let hash = bytes.fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng::with_seed(hash)
    }

    pub(super) fn connections(&self) -> CancellationToken {
        self.connections.clone()
    }

    /// Whether a watch from this RV misses nothing.
    pub(super) fn is_in_window(&self, rv: u64) -> bool {
        rv >= self.oldest
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Any state may answer who asks for any: another API server may be a little behind.
    pub(super) fn some_rv(&self, rng: &mut Rng, least: u64) -> u64 {
        let now = self.truth.rv();
        match rng.u8(0..4) {
            0 => rng.u64(least.max(self.oldest).min(now)..=now),
            _ => now,
        }
    }
}

pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    with_body(status, body::full(body))
}

pub(super) fn with_body(status: u16, body: Body) -> Response<Body> {
    let response = Response::builder()
        .status(StatusCode::from_u16(status).expect("a status"))
        .header("content-type", "application/json")
        .header("cache-control", "no-cache, private")
        .body(body);
    response.expect("a response")
}

pub(super) fn refuse(code: u16, reason: &str, message: &str) -> Response<Body> {
    json(code, format!("{}\n", encode::status(code, reason, message)))
}

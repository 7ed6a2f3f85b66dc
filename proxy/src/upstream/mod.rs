//! Step 6a: the API servers: addresses, health with hysteresis, pooled connections, forwarding, upgrades.

mod answer;
mod beside;
mod credential;
mod dial;
mod forward;
mod headers;
mod health;
mod lane;
mod lease;
mod line;
mod own;
mod patience;
mod pool;
mod probe;
mod read_ahead;
mod resolve;
mod room;
#[cfg(test)]
mod scripted;
mod server;
mod spare;
mod upgrade;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::{Body, BoxError};
use crate::config;
use crate::identity::{ConnectionId, ServiceAccount};
use crate::policy::{Failure, Uplink};
use crate::runtime::latest::Follower;
use crate::runtime::metrics::Metrics;
use credential::TlsFiles;
use dial::Dialer;
use forward::Forward;
use own::Own;
use pool::Pool;
use probe::Prober;
#[cfg(test)]
pub(crate) use scripted::Script;
use server::{Board, Server};
use upgrade::Upgrades;

/// How often idle connections are looked for; they live at most this much longer than their limit.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// Marks a socket as Holdfast's own before it connects, so that the redirect lets it pass.
pub type TagDial = Arc<dyn Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync>;

/// Who shares upstream connections: a verified caller with itself; everybody else only within one client connection
/// (an HTTP/2 API server drops the whole connection after a 401 or an anonymous request).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    Caller(ServiceAccount),
    Connection(ConnectionId),
}

/// What a request is to the API server, which counts those under way by the same classes
/// (`apiserver:pkg/server/filters/maxinflight.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A GET or a LIST: over soon. May be given up, and asked again.
    ReadOnly,
    /// A watch, or what else is read as long as it lasts. May be given up before it is answered, and asked again.
    LongRunning,
    /// Everything else.
    Mutating,
}

impl Class {
    /// May be given up, and asked again.
    pub fn is_read(self) -> bool {
        self != Self::Mutating
    }
}

/// The API servers, as one thing to ask.
pub struct Upstream {
    servers: Vec<Arc<Server>>,
    strategy: config::Strategy,
    turn: AtomicUsize,
    answer_timeout: Duration,
    probe: config::Probe,
    board: Arc<Board>,
    pool: Pool,
    /// Dials for upgrades, with no certificate, as for every caller.
    dialer: Dialer,
    own: Arc<Own>,
    tasks: TaskTracker,
    #[cfg(test)]
    script: Option<Arc<dyn Script>>,
}

/// A file of the configuration that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("upstream.caFile {path:?}: {why}")]
    Ca {
        path: std::path::PathBuf,
        why: String,
    },
    #[error("upstream certFile/keyFile: {0}")]
    Certificate(String),
}

/// Why a request with Holdfast's own credential brought no document.
#[derive(Debug, thiserror::Error)]
pub enum OwnRequestError {
    #[error("the API server could not be asked: {0:?}")]
    Failure(Failure),
    #[error("the API server answered {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off or was larger than {0} bytes")]
    Body(usize),
}

impl Upstream {
    /// Reads the CA and credentials; connects to nothing.
    pub fn new(
        config: &config::Upstream,
        tag: TagDial,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, SetupError> {
        let board = Arc::new(Board::new(config.servers.len(), metrics));
        let pace = health::Pace {
            interval: config.probe.interval,
            down_interval: config.probe.down_interval,
        };
        let servers = config.servers.iter().enumerate().map(|(index, address)| {
            Arc::new(Server::new(
                address.clone(),
                index,
                pace,
                Arc::clone(&board),
            ))
        });
        let tasks = TaskTracker::new();
        let for_callers = || -> Result<Dialer, SetupError> {
            let tls = TlsFiles::for_callers(&config.ca_file)?;
            Ok(Dialer::new(Arc::clone(&tag), tls))
        };
        let own_tls = TlsFiles::for_own(&config.ca_file, &config.credential)?;
        Ok(Arc::new(Self {
            servers: servers.collect(),
            strategy: config.strategy,
            turn: AtomicUsize::new(0),
            answer_timeout: config.answer_timeout,
            probe: config.probe.clone(),
            board,
            pool: Pool::new(for_callers()?, tasks.clone()),
            dialer: for_callers()?,
            own: Arc::new(Own::new(
                Dialer::new(Arc::clone(&tag), own_tls),
                config.credential.clone(),
                tasks.clone(),
            )),
            tasks,
            #[cfg(test)]
            script: None,
        }))
    }

    /// Probes every address until `stop`. Going down drops every upstream connection.
    /// After `stop` requests are still forwarded, so that a drain can finish what it began.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut probers = JoinSet::new();
        for server in &self.servers {
            let prober = Prober::new(Arc::clone(server), Arc::clone(&self.own), &self.probe);
            probers.spawn(prober.run(stop.clone()));
        }
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = sweep.tick() => self.pool.sweep(Instant::now()),
            }
        }
        probers.join_all().await;
        self.pool.close_idle(Instant::now());
        self.tasks.close();
    }

    /// It was down when the process before this one ended. Whoever asks before the first probe is answered need not find out that
    /// it still is, which takes `answerTimeout` in a black hole.
    pub fn assume_down(&self) {
        for server in &self.servers {
            server.assume_down();
        }
    }

    pub fn uplink(&self) -> Uplink {
        self.board.uplink().get()
    }

    pub fn follow(&self) -> Follower<Uplink> {
        self.board.uplink().follow()
    }

    /// Sends one request on, streaming both ways. `request` has an origin-form URI; hop-by-hop headers are handled here.
    /// A read may be given up after `answerTimeout` without a sign of life from that upstream (`Failure::NoAnswer`); other requests wait until the uplink goes down.
    /// Redirects are not followed. Once a byte was sent nothing is asked again, but for a read without a body, on another connection or server.
    pub async fn forward(
        &self,
        lane: &Lane,
        request: Request<Body>,
        class: Class,
    ) -> Result<Response<Body>, Failure> {
        #[cfg(test)]
        if let Some(script) = &self.script {
            return script.forward(lane, request, class.is_read()).await;
        }
        let forward = Forward {
            pool: &self.pool,
            lane,
            answer_timeout: self.answer_timeout,
            class,
        };
        forward.run(request, self.in_order()).await
    }

    /// Forwards an HTTP/1.1 upgrade on a connection of its own; after the upstream's 101 (and only then) bytes are copied raw both ways
    /// in a task of this module, half-close included. Any other answer is passed on as an ordinary response.
    pub async fn upgrade<B>(&self, request: Request<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let upgrades = Upgrades {
            dialer: &self.dialer,
            tasks: &self.tasks,
            answer_timeout: self.answer_timeout,
        };
        upgrades.run(request, self.in_order()).await
    }

    /// GETs a small document with Holdfast's own credential (keys, discovery of the issuer).
    pub async fn own_get(&self, path: &str) -> Result<Bytes, OwnRequestError> {
        self.own.get(path, self.in_order()).await
    }

    /// A pod has come whose first request is near: a connection waits for it, unless its account has one.
    pub fn expect(&self) {
        // The one that the next request goes to, whose turn it stays.
        let first = self.turn.load(Ordering::Relaxed);
        let mut servers = self.in_order_from(first);
        if let Some(server) = servers.find(|server| server.epoch().is_some()) {
            self.pool.expect(&server);
        }
    }

    /// The lanes of a client connection that is gone: its upstream connections are closed.
    pub fn release(&self, connection: ConnectionId) {
        self.pool.release(connection);
    }

    /// One line per address for `/status`.
    pub fn status(&self) -> Vec<ServerStatus> {
        self.servers.iter().map(|server| status(server)).collect()
    }

    fn in_order(&self) -> impl Iterator<Item = Arc<Server>> {
        let first = match self.strategy {
            config::Strategy::Priority => 0,
            config::Strategy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        self.in_order_from(first)
    }

    fn in_order_from(&self, first: usize) -> impl Iterator<Item = Arc<Server>> {
        let count = self.servers.len();
        (0..count).filter_map(move |step| self.servers.get((first % count + step) % count).cloned())
    }
}

fn status(server: &Server) -> ServerStatus {
    let last_heard = server.heard.last().map(|last| last.elapsed().as_millis());
    ServerStatus {
        server: server.name.clone(),
        state: server.state().as_str(),
        last_heard_ms: last_heard.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
        connections: server.connections.load(Ordering::Relaxed),
        last_error: server.last_error(),
    }
}

#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    pub server: String,
    /// `up`, `late` (bytes come, probes go unanswered), `down`, or `unknown` before the first probe.
    pub state: &'static str,
    /// Milliseconds since a byte last came from it; absent when never.
    pub last_heard_ms: Option<u64>,
    /// Open connections, those of probes included.
    pub connections: usize,
    pub last_error: Option<String>,
}

#[cfg(test)]
mod tests;

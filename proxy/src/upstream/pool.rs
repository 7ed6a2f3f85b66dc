//! Connections kept for requests: a few per server and lane, HTTP/2 first, HTTP/1.1 where that is all there is.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Lane;
use super::credential::Alpn;
use super::dial::{DialError, Dialer, Dialled};
use super::lease::{Conduit, Exchange, Idle, Lease, Multiplexed, Stream};
use super::server::Server;
use crate::identity::ConnectionId;

/// The API server's own idle limit.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// What one stream may send ahead of its client: a list of many megabytes wants much of it on a long line, a small node little.
const STREAM_WINDOW: u32 = 512 * 1024;
/// Eight clients that stopped reading fill it; only then do the other streams of their own lane wait.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Response headers: room for many `Warning`s.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// A connection whose middle box forgot it, while the server lives, is found out so. Not more often: a metered line pays for each.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Pool {
    dialer: Dialer,
    lanes: Mutex<HashMap<(usize, Lane), Arc<LaneConnections>>>,
    tasks: TaskTracker,
}

#[derive(Default)]
pub(super) struct LaneConnections {
    connections: Mutex<Connections>,
    /// Held while dialling, so that a burst of requests makes one connection and not one each.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Connections {
    multiplexed: Vec<Arc<Multiplexed>>,
    idle: Vec<Idle>,
    /// The server agreed on HTTP/1.1: waiting for another's dial would gain nothing.
    http1_only: bool,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, tasks: TaskTracker) -> Self {
        Self {
            dialer,
            lanes: Mutex::default(),
            tasks,
        }
    }

    /// A connection for one request, an open one if there is any. `epoch`: the server's, as it was when the request chose it.
    pub(super) async fn checkout(
        &self,
        server: &Arc<Server>,
        lane: &Lane,
        epoch: &CancellationToken,
    ) -> Result<Lease, DialError> {
        let connections = self.lane(server.index, lane);
        if let Some(lease) = connections.take(&self.tasks) {
            return Ok(lease);
        }
        let http1_only = connections.lock().http1_only;
        let _turn = if http1_only {
            None
        } else {
            Some(connections.dialling.lock().await)
        };
        // While waiting for the turn somebody else may have made one.
        if let Some(lease) = connections.take(&self.tasks) {
            return Ok(lease);
        }
        let dialled = self
            .dialer
            .dial(server, Alpn::Http2OrHttp1, epoch.clone())
            .await?;
        self.start(dialled, &connections, epoch.clone()).await
    }

    /// Forgets the open connections of a lane: one of them turned out dead. Requests in flight on them go on.
    pub(super) fn forget(&self, server: &Server, lane: &Lane) {
        lock(&self.lanes).remove(&(server.index, lane.clone()));
    }

    /// The lanes of a client connection that is gone.
    pub(super) fn release(&self, connection: ConnectionId) {
        lock(&self.lanes).retain(|(_, lane), _| *lane != Lane::Connection(connection));
    }

    /// Drops what was idle for `limit`, and what is closed. Dropping the last handle closes a connection once its streams are over.
    pub(super) fn sweep(&self, limit: Duration, now: Instant) {
        let mut lanes = lock(&self.lanes);
        lanes.retain(|_, lane| {
            let mut connections = lane.lock();
            connections.sweep(limit, now);
            // A lane somebody is just dialling for is kept by them; they put their connection where nobody looks, for one use.
            !connections.is_empty()
        });
    }

    fn lane(&self, server: usize, lane: &Lane) -> Arc<LaneConnections> {
        let mut lanes = lock(&self.lanes);
        Arc::clone(lanes.entry((server, lane.clone())).or_default())
    }

    async fn start(
        &self,
        dialled: Dialled,
        lane: &Arc<LaneConnections>,
        cut: CancellationToken,
    ) -> Result<Lease, DialError> {
        let io = TokioIo::new(dialled.stream);
        let conduit = if dialled.http2 {
            let (sender, connection) = http2_builder(&self.tasks)
                .handshake(io)
                .await
                .map_err(|error| handshake_failed("start HTTP/2", error))?;
            self.tasks.spawn(driven(connection));
            let shared = Arc::new(Multiplexed::new(sender, cut));
            let mut connections = lane.lock();
            connections.multiplexed.push(Arc::clone(&shared));
            Conduit::Http2(Stream::open(shared))
        } else {
            let (sender, connection) = http1::handshake(io)
                .await
                .map_err(|error| handshake_failed("start HTTP/1.1", error))?;
            self.tasks.spawn(driven(connection));
            lane.lock().http1_only = true;
            let idle = Idle::new(sender, cut);
            Conduit::Http1(Exchange::open(idle, Arc::clone(lane), self.tasks.clone()))
        };
        Ok(Lease::new(conduit, false))
    }
}

fn http2_builder(tasks: &TaskTracker) -> http2::Builder<Tracked> {
    let mut builder = http2::Builder::new(Tracked(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

fn handshake_failed(step: &'static str, error: hyper::Error) -> DialError {
    DialError::Io {
        step,
        source: std::io::Error::other(error),
    }
}

/// Drives a connection until it ends by itself. It is never dropped from outside: an HTTP/1.1 body whose connection is dropped seems to
/// have ended cleanly. What must end it cuts its line.
async fn driven(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an upstream connection ended");
    }
}

/// Lets hyper's own tasks belong to the tracker.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

impl LaneConnections {
    /// A connection whose exchange is over.
    pub(super) fn give_back(&self, idle: Idle) {
        self.lock().idle.push(idle);
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        lock(&self.connections)
    }

    fn take(self: &Arc<Self>, tasks: &TaskTracker) -> Option<Lease> {
        let mut connections = self.lock();
        connections.sweep(IDLE_LIMIT, Instant::now());
        let conduit = if let Some(stream) = connections.stream() {
            Conduit::Http2(stream)
        } else {
            let idle = connections.idle.pop()?;
            Conduit::Http1(Exchange::open(idle, Arc::clone(self), tasks.clone()))
        };
        Some(Lease::new(conduit, true))
    }
}

impl Connections {
    /// Streams are opened under the lane's lock only, so the bound holds.
    fn stream(&self) -> Option<Stream> {
        let free = self.multiplexed.iter().find(|one| one.is_free())?;
        Some(Stream::open(Arc::clone(free)))
    }

    fn sweep(&mut self, limit: Duration, now: Instant) {
        self.multiplexed
            .retain(|one| one.is_worth_keeping(limit, now));
        self.idle.retain(|one| one.is_worth_keeping(limit, now));
    }

    fn is_empty(&self) -> bool {
        self.multiplexed.is_empty() && self.idle.is_empty()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

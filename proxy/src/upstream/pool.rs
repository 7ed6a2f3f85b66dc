//! Connections kept for requests: a few per server and lane, HTTP/2 first, HTTP/1.1 where that is all there is.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Lane;
use super::credential::Alpn;
use super::dial::{DialError, Dialer, Dialled};
use super::server::Server;
use crate::body::Body;
use crate::identity::ConnectionId;

/// The API server allows 100 at once by default, and watches fill them for minutes; a request above that would wait for a watch to end.
const MAX_STREAMS: usize = 90;
/// The API server's own idle limit.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// What one stream may send ahead of its client: a list of many megabytes wants much of it on a long line, a small node little.
const STREAM_WINDOW: u32 = 512 * 1024;
/// Sixteen clients that stopped reading fill it; only then do the other streams of their own lane wait.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Response headers: room for many `Warning`s.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// A connection whose middle box forgot it, while the server lives, is found out so.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a finished HTTP/1.1 exchange may take until its connection is free again.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Pool {
    dialer: Dialer,
    lanes: Mutex<HashMap<(usize, Lane), Arc<LaneConnections>>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct LaneConnections {
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

struct Multiplexed {
    sender: http2::SendRequest<Body>,
    in_flight: AtomicUsize,
    used: Mutex<Instant>,
    cut: CancellationToken,
}

struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
    cut: CancellationToken,
}

/// One request's right to a connection.
pub(super) struct Lease {
    conduit: Conduit,
    /// Not the first request on it: it may have died of old age in the meantime.
    pub(super) reused: bool,
}

enum Conduit {
    Http2(Stream),
    Http1(Exchange),
}

/// Held until the response's body is over.
pub(super) struct Slot(
    #[expect(dead_code, reason = "kept for what dropping it does")] Option<Conduit>,
);

impl Slot {
    /// Of an answer whose connection is its own.
    pub(super) fn none() -> Self {
        Self(None)
    }
}

struct Stream(Arc<Multiplexed>);

struct Exchange {
    sender: Option<http1::SendRequest<Body>>,
    lane: Arc<LaneConnections>,
    cut: CancellationToken,
    tasks: TaskTracker,
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
            let shared = Arc::new(Multiplexed {
                sender,
                in_flight: AtomicUsize::new(1),
                used: Mutex::new(Instant::now()),
                cut,
            });
            lane.lock().multiplexed.push(Arc::clone(&shared));
            Conduit::Http2(Stream(shared))
        } else {
            let (sender, connection) = http1::handshake(io)
                .await
                .map_err(|error| handshake_failed("start HTTP/1.1", error))?;
            self.tasks.spawn(driven(connection));
            lane.lock().http1_only = true;
            Conduit::Http1(Exchange {
                sender: Some(sender),
                lane: Arc::clone(lane),
                cut,
                tasks: self.tasks.clone(),
            })
        };
        Ok(Lease {
            conduit,
            reused: false,
        })
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
            Conduit::Http1(Exchange {
                sender: Some(idle.sender),
                lane: Arc::clone(self),
                cut: idle.cut,
                tasks: tasks.clone(),
            })
        };
        Some(Lease {
            conduit,
            reused: true,
        })
    }
}

impl Connections {
    fn stream(&self) -> Option<Stream> {
        let free = self
            .multiplexed
            .iter()
            .find(|one| one.in_flight.load(Ordering::Relaxed) < MAX_STREAMS)?;
        // Only ever raised under the lane's lock, so the bound holds.
        free.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Stream(Arc::clone(free)))
    }

    fn sweep(&mut self, limit: Duration, now: Instant) {
        self.multiplexed.retain(|one| {
            let idle = one.in_flight.load(Ordering::Relaxed) == 0
                && now.saturating_duration_since(*lock(&one.used)) >= limit;
            !idle && !one.sender.is_closed() && !one.cut.is_cancelled()
        });
        self.idle.retain(|one| {
            now.saturating_duration_since(one.since) < limit
                && one.sender.is_ready()
                && !one.cut.is_cancelled()
        });
    }

    fn is_empty(&self) -> bool {
        self.multiplexed.is_empty() && self.idle.is_empty()
    }
}

impl Lease {
    pub(super) fn http2(&self) -> bool {
        matches!(self.conduit, Conduit::Http2(_))
    }

    /// Sends the request. An error that carries the request back says that nothing of it was sent.
    pub(super) async fn send(
        mut self,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, Slot), Box<TrySendError<Request<Body>>>> {
        let response = match &mut self.conduit {
            Conduit::Http2(stream) => stream.0.sender.clone().try_send_request(request).await,
            Conduit::Http1(exchange) => match exchange.sender.as_mut() {
                Some(sender) => sender.try_send_request(request).await,
                None => unreachable!("an exchange gives its sender up only when dropped"),
            },
        };
        match response {
            Ok(response) => Ok((response, Slot(Some(self.conduit)))),
            Err(error) => Err(Box::new(error)),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *lock(&self.0.used) = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Back to the lane once hyper has settled the exchange; a connection that does not settle soon is closed.
impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(mut sender) = self.sender.take() else {
            return;
        };
        let (lane, cut) = (Arc::clone(&self.lane), self.cut.clone());
        self.tasks.spawn(async move {
            if matches!(
                tokio::time::timeout(SETTLE_LIMIT, sender.ready()).await,
                Ok(Ok(()))
            ) {
                let since = Instant::now();
                lane.lock().idle.push(Idle { sender, since, cut });
            }
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

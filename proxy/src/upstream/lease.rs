//! One request's right to a connection, and what becomes of the connection after it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lane::LaneConnections;
use crate::body::Body;

/// The API server allows 100 at once by default, and watches fill them for minutes; a request above that would wait for a watch to end.
const MAX_STREAMS: usize = 90;
/// How long a finished HTTP/1.1 exchange may take until its connection is free again.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// One HTTP/2 connection of a lane.
pub(super) struct Multiplexed {
    sender: http2::SendRequest<Body>,
    in_flight: AtomicUsize,
    used: Mutex<Instant>,
    cut: CancellationToken,
}

/// One HTTP/1.1 connection that nobody uses just now.
pub(super) struct Idle {
    sender: http1::SendRequest<Body>,
    pub(super) since: Instant,
    cut: CancellationToken,
    /// Of its lane, when it was made.
    pub(super) generation: u64,
}

/// One request's right to a connection.
pub(super) struct Lease {
    conduit: Conduit,
    /// Not the first request on it: it may have died of old age in the meantime.
    pub(super) reused: bool,
}

pub(super) enum Conduit {
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

/// One stream of a shared connection.
pub(super) struct Stream(Arc<Multiplexed>);

/// One connection lent to one request.
pub(super) struct Exchange {
    sender: Option<http1::SendRequest<Body>>,
    lane: Arc<LaneConnections>,
    cut: CancellationToken,
    generation: u64,
    tasks: TaskTracker,
}

impl Multiplexed {
    pub(super) fn new(sender: http2::SendRequest<Body>, cut: CancellationToken) -> Self {
        Self {
            sender,
            in_flight: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            cut,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) < MAX_STREAMS
    }

    /// Open, and in use or not idle for `limit` yet.
    pub(super) fn is_worth_keeping(&self, limit: Duration, now: Instant) -> bool {
        let idle = self
            .idle_since()
            .is_some_and(|since| now.saturating_duration_since(since) >= limit);
        !idle && !self.sender.is_closed() && !self.cut.is_cancelled()
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.in_flight.load(Ordering::Relaxed) == 0).then(|| *self.used())
    }

    fn used(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    pub(super) fn open(connection: Arc<Multiplexed>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Idle {
    pub(super) fn new(
        sender: http1::SendRequest<Body>,
        cut: CancellationToken,
        generation: u64,
    ) -> Self {
        Self {
            sender,
            since: Instant::now(),
            cut,
            generation,
        }
    }

    /// Open, and not idle for `limit` yet.
    pub(super) fn is_worth_keeping(&self, limit: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < limit
            && self.sender.is_ready()
            && !self.cut.is_cancelled()
    }
}

impl Exchange {
    pub(super) fn open(idle: Idle, lane: Arc<LaneConnections>, tasks: TaskTracker) -> Self {
        Self {
            sender: Some(idle.sender),
            lane,
            cut: idle.cut,
            generation: idle.generation,
            tasks,
        }
    }
}

impl Lease {
    /// `reused`: it carried requests before.
    pub(super) fn new(conduit: Conduit, reused: bool) -> Self {
        Self { conduit, reused }
    }

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
        *self.0.used() = Instant::now();
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
        let generation = self.generation;
        self.tasks.spawn(async move {
            if matches!(
                tokio::time::timeout(SETTLE_LIMIT, sender.ready()).await,
                Ok(Ok(()))
            ) {
                lane.give_back(Idle::new(sender, cut, generation));
            }
        });
    }
}

//! Connections kept for requests: a few per server and lane, HTTP/2 first, HTTP/1.1 where that is all there is.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Version;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::beside::Beside;
use super::credential::Alpn;
use super::dial::{DialError, Dialer, Dialled};
use super::lane::{LaneConnections, idle_limit};
use super::lease::{Conduit, Exchange, Idle, Lease, Multiplexed, Stream};
use super::line::Line;
use super::room::{Guest, Place, Places};
use super::server::Server;
use super::spare::Spares;
use super::{Class, Lane};
use crate::body::Body;
use crate::identity::ConnectionId;

/// What one stream may send ahead of its client: a list of many megabytes wants much of it on a long line, a small node little.
const STREAM_WINDOW: u32 = 512 * 1024;
/// Eight clients that stopped reading fill it; only then do the other streams of their own lane wait.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Response headers: room for many `Warning`s.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// The same bound where only the number of lines can be set.
const MAX_HEADERS: usize = 512;
/// A connection whose middle box forgot it, while the server lives, is found out so. Not more often: a metered line pays for each.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Pool {
    dialer: Arc<Dialer>,
    spares: Arc<Spares>,
    lanes: Mutex<HashMap<(usize, Lane), Arc<LaneConnections>>>,
    tasks: TaskTracker,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, tasks: TaskTracker) -> Self {
        let dialer = Arc::new(dialer);
        Self {
            spares: Spares::new(Arc::clone(&dialer), tasks.clone()),
            dialer,
            lanes: Mutex::default(),
            tasks,
        }
    }

    /// A connection for one request, an open one if there is any. `client`: what its own connection speaks. `epoch`: the
    /// server's, as it was when the request chose it.
    pub(super) async fn checkout(
        &self,
        server: &Arc<Server>,
        lane: &Lane,
        (class, client): (Class, Version),
        epoch: &CancellationToken,
    ) -> Result<Lease, DialError> {
        let connections = self.lane(server.index, lane);
        if let Some(lease) = connections.take(class, &self.tasks) {
            if class == Class::ReadOnly && lease.http2() {
                self.beside(server, &connections, epoch).add();
            }
            return Ok(lease);
        }
        let http1_only = connections.lock().http1_only;
        let turn = if http1_only {
            None
        } else {
            Some(connections.dialling.lock().await)
        };
        // While waiting for the turn somebody else may have made one.
        if let Some(lease) = connections.take(class, &self.tasks) {
            return Ok(lease);
        }
        let of_lane = match connections.room.free_place() {
            Some(place) => place,
            None => {
                // Those behind would wait for the very same place, one after the other.
                drop(turn);
                let Some(place) = connections.room.place().await else {
                    let lease = connections.take(class, &self.tasks);
                    return lease.ok_or(DialError::TooMany);
                };
                place
            }
        };
        // An unknown caller may come as often as it likes, and would leave none for others.
        if let Lane::Caller(_) = lane
            && let Some(spare) = self.spares.take(server)
        {
            let (sender, cut) = spare.move_in(of_lane);
            // It may have died of old age.
            return Ok(Lease::new(share(&connections, sender, cut), true));
        }
        if (class, client) == (Class::ReadOnly, Version::HTTP_11)
            && let Some(first) = self.beside(server, &connections, epoch).first()
        {
            match first.await {
                // It may want HTTP/2.
                Err(DialError::Io { .. }) => {}
                done => return done,
            }
        }
        let of_server = self.place_at(server, Guest::of(lane)).await;
        let places = Places::of(vec![of_lane, of_server.ok_or(DialError::TooMany)?]);
        let dialled = self
            .dialer
            .dial(server, Alpn::Http2OrHttp1, epoch.clone(), places)
            .await?;
        self.start(dialled, &connections, epoch.clone()).await
    }

    /// A caller that is new here may ask soon: there is to be a connection for it.
    pub(super) fn expect(&self, server: &Arc<Server>) {
        self.spares.make(server);
    }

    /// Forgets the open connections of a lane that speak as one does that turned out dead. Requests in flight on them go on, and
    /// keep their places.
    pub(super) fn forget(&self, server: &Server, lane: &Lane, http2: bool) {
        self.lane(server.index, lane).lock().retire(http2);
    }

    /// The lanes of a client connection that is gone.
    pub(super) fn release(&self, connection: ConnectionId) {
        lock(&self.lanes).retain(|(_, lane), _| *lane != Lane::Connection(connection));
    }

    /// Drops what was idle too long, and what is closed. Dropping the last handle closes a connection once its streams are over.
    pub(super) fn sweep(&self, now: Instant) {
        self.sweep_at_most(Duration::MAX, now);
    }

    /// Drops all that is idle.
    pub(super) fn close_idle(&self, now: Instant) {
        self.sweep_at_most(Duration::ZERO, now);
    }

    fn sweep_at_most(&self, limit: Duration, now: Instant) {
        self.spares.sweep(limit);
        lock(&self.lanes).retain(|_, lane| {
            let mut connections = lane.lock();
            connections.sweep(limit.min(idle_limit(&lane.lane)), now);
            let rooms = [&lane.room, &lane.room_beside];
            let unused = connections.is_empty() && rooms.iter().all(|room| room.is_empty());
            // Who holds it is about to dial, or to give back.
            !unused || Arc::strong_count(lane) > 1
        });
    }

    fn lane(&self, server: usize, lane: &Lane) -> Arc<LaneConnections> {
        let mut lanes = lock(&self.lanes);
        let connections = lanes
            .entry((server, lane.clone()))
            .or_insert_with(|| Arc::new(LaneConnections::new(lane.clone())));
        Arc::clone(connections)
    }

    /// A place at the server; where there is none, the one that another lane leaves idle.
    async fn place_at(&self, server: &Server, guest: Guest) -> Option<Place> {
        let room = server.rooms.of(guest);
        if let Some(place) = room.free_place() {
            return Some(place);
        }
        self.close_idlest(server, guest);
        room.place().await
    }

    fn close_idlest(&self, server: &Server, guest: Guest) {
        let lanes = lock(&self.lanes);
        let idlest = lanes
            .iter()
            .filter(|((index, lane), _)| *index == server.index && Guest::of(lane) == guest)
            .filter_map(|(_, lane)| Some((lane.lock().idle_since()?, lane)))
            .min_by_key(|(since, _)| *since);
        if let Some((since, lane)) = idlest {
            lane.lock().close_idle_since(since);
        }
    }

    fn beside<'p>(
        &'p self,
        server: &'p Arc<Server>,
        lane: &'p Arc<LaneConnections>,
        epoch: &'p CancellationToken,
    ) -> Beside<'p> {
        Beside {
            dialer: &self.dialer,
            tasks: &self.tasks,
            server,
            lane,
            epoch,
        }
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
            share(lane, sender, cut)
        } else {
            let sender = http1(io, &self.tasks).await?;
            let mut connections = lane.lock();
            if !std::mem::replace(&mut connections.http1_only, true) {
                lane.room.widen_for_http1(&lane.lane);
            }
            let idle = Idle::new(sender, cut, connections.generation);
            Conduit::Http1(Exchange::open(idle, Arc::clone(lane), self.tasks.clone()))
        };
        Ok(Lease::new(conduit, false))
    }
}

pub(super) async fn http1(
    io: TokioIo<TlsStream<Line>>,
    tasks: &TaskTracker,
) -> Result<http1::SendRequest<Body>, DialError> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .handshake(io)
        .await
        .map_err(|error| handshake_failed("start HTTP/1.1", error))?;
    tasks.spawn(driven(connection));
    Ok(sender)
}

/// The connection is the lane's.
fn share(
    lane: &LaneConnections,
    sender: http2::SendRequest<Body>,
    cut: CancellationToken,
) -> Conduit {
    let shared = Arc::new(Multiplexed::new(sender, cut));
    let mut connections = lane.lock();
    connections.multiplexed.push(Arc::clone(&shared));
    Conduit::Http2(Stream::open(shared))
}

pub(super) fn http2_builder(tasks: &TaskTracker) -> http2::Builder<Tracked> {
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
pub(super) async fn driven(connection: impl Future<Output = hyper::Result<()>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an upstream connection ended");
    }
}

/// Lets hyper's own tasks belong to the tracker.
#[derive(Clone)]
pub(super) struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The connections of one lane to one server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::lease::{Conduit, Exchange, Idle, Lease, Multiplexed, Stream};
use super::room::Room;
use super::{Class, Lane};

/// The API server's own idle limit.
const IDLE_LIMIT: Duration = Duration::from_secs(90);
/// A client connection of its own caller is cheap to make and to leave idle, and only its own next request would use what is kept.
const IDLE_LIMIT_UNKNOWN: Duration = Duration::from_secs(5);
/// Of what carries the reads of a busy moment beside an HTTP/2 connection.
const IDLE_LIMIT_BESIDE: Duration = Duration::from_secs(20);
/// A caller that asks again so soon may gain from a connection that carries one read at a time.
const BUSY: Duration = Duration::from_secs(1);

pub(super) struct LaneConnections {
    pub(super) lane: Lane,
    connections: Mutex<Connections>,
    pub(super) room: Room,
    /// For HTTP/1.1 beside HTTP/2.
    pub(super) room_beside: Room,
    /// Held while dialling, so that a burst of requests makes one connection and not one each.
    pub(super) dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(super) struct Connections {
    pub(super) multiplexed: Vec<Arc<Multiplexed>>,
    idle: Vec<Idle>,
    /// Grows when the connections of before are no longer to be trusted: those lent just then are not taken back.
    pub(super) generation: u64,
    /// The server agreed on HTTP/1.1: waiting for another's dial would gain nothing.
    pub(super) http1_only: bool,
    /// When a read last went over HTTP/2.
    read: Option<Instant>,
    /// A connection beside is on its way.
    pub(super) adding: bool,
    /// None is made before this: the last could not be.
    pub(super) add_from: Option<Instant>,
}

impl LaneConnections {
    pub(super) fn new(lane: Lane) -> Self {
        Self {
            connections: Mutex::default(),
            room: Room::of_lane(&lane),
            room_beside: Room::beside(&lane),
            dialling: tokio::sync::Mutex::default(),
            lane,
        }
    }

    /// A connection whose exchange is over.
    pub(super) fn give_back(&self, idle: Idle) {
        let mut connections = self.lock();
        if idle.generation == connections.generation {
            connections.idle.push(idle);
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A read goes over HTTP/1.1 where that is at hand, see [`super::beside`]. All others go over HTTP/2: a write that was not looked at is
    /// known not to have been, and a watch costs a stream.
    pub(super) fn take(self: &Arc<Self>, class: Class, tasks: &TaskTracker) -> Option<Lease> {
        let mut connections = self.lock();
        connections.sweep(idle_limit(&self.lane), Instant::now());
        let exchange = |idle| Exchange::open(idle, Arc::clone(self), tasks.clone());
        let conduit = if class == Class::ReadOnly
            && let Some(idle) = connections.idle.pop()
        {
            Conduit::Http1(exchange(idle))
        } else if let Some(stream) = connections.stream() {
            Conduit::Http2(stream)
        } else if connections.http1_only {
            Conduit::Http1(exchange(connections.idle.pop()?))
        } else {
            return None;
        };
        Some(Lease::new(conduit, true))
    }

    /// It has no connection at all, and none is made.
    pub(super) fn is_unused(&self) -> bool {
        self.lock().is_empty() && self.room_beside.is_empty()
    }

    /// A read goes over HTTP/2. Whether one more connection beside it is worth its dial; then it is `adding` from now on.
    pub(super) fn is_worth_adding(&self, now: Instant) -> bool {
        let mut connections = self.lock();
        let before = connections.read.replace(now);
        let is_busy = before.is_some_and(|before| now.saturating_duration_since(before) < BUSY);
        let may_be = connections.add_from.is_none_or(|from| now >= from) && !connections.http1_only;
        is_busy && may_be && !std::mem::replace(&mut connections.adding, true)
    }
}

impl Connections {
    /// Streams are opened under the lane's lock only, so the bound holds.
    fn stream(&self) -> Option<Stream> {
        let free = self.multiplexed.iter().find(|one| one.is_free())?;
        Some(Stream::open(Arc::clone(free)))
    }

    pub(super) fn sweep(&mut self, limit: Duration, now: Instant) {
        self.multiplexed
            .retain(|one| one.is_worth_keeping(limit, now));
        let limit = match self.http1_only {
            true => limit,
            false => limit.min(IDLE_LIMIT_BESIDE),
        };
        self.idle.retain(|one| one.is_worth_keeping(limit, now));
    }

    /// Those that speak HTTP/1.1 in any case: there is no ping that would have found out about them.
    pub(super) fn retire(&mut self, http2: bool) {
        if http2 {
            self.multiplexed.clear();
        }
        self.idle.clear();
        self.generation += 1;
    }

    /// When the one that is idle longest was used last.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let multiplexed = self.multiplexed.iter().filter_map(|one| one.idle_since());
        multiplexed
            .chain(self.idle.iter().map(|one| one.since))
            .min()
    }

    pub(super) fn close_idle_since(&mut self, since: Instant) {
        self.multiplexed
            .retain(|one| one.idle_since().is_none_or(|its| its > since));
        self.idle.retain(|one| one.since > since);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.multiplexed.is_empty() && self.idle.is_empty()
    }
}

pub(super) fn idle_limit(lane: &Lane) -> Duration {
    match lane {
        Lane::Caller(_) => IDLE_LIMIT,
        Lane::Connection(_) => IDLE_LIMIT_UNKNOWN,
    }
}

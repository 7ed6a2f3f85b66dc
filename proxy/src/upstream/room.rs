//! How many connections one API server is asked to hold, and for whom: whoever comes in numbers takes the room of the likes of them only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Lane;

/// Connections to one server for verified callers: far above what a node's pods need; with the others' far below the limit on open files.
const FOR_CALLERS: usize = 256;
/// For everybody else. Anybody on the node can fill it, and then only the likes of them wait.
const FOR_UNKNOWN: usize = 128;
/// An upgrade has a connection of its own, for as long as the client likes.
const FOR_UPGRADES: usize = 128;

/// One caller's: each carries ninety requests at once, and those the server said GOAWAY on stay until their last watch is over.
const OF_CALLER: usize = 32;
/// One client connection's, which carries a hundred or two requests at once itself.
const OF_CONNECTION: usize = 2;
/// One caller's that carry one read at a time, beside those.
const OF_CALLER_BESIDE: usize = 16;
/// So many more times where the server speaks HTTP/1.1 only and each connection carries one request.
const HTTP1_FACTOR: usize = 2;

/// A connection that was told to close needs a few turns of the scheduler, no more.
const CLOSING_LIMIT: Duration = Duration::from_millis(100);

/// Whom a connection is for. Holdfast's own need no room: health must not depend on how many others came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    Caller,
    Unknown,
    Upgrade,
}

/// What is free at one server.
pub(super) struct Rooms {
    callers: Room,
    unknown: Room,
    upgrades: Room,
}

/// A number of places.
pub(super) struct Room {
    free: Arc<Semaphore>,
}

/// One connection's place, free again when its line is dropped.
#[derive(Debug)]
pub(super) struct Place(
    #[expect(dead_code, reason = "kept for what dropping it does")] OwnedSemaphorePermit,
);

/// The places of one connection: held by its line.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Vec<Place>>>);

impl Places {
    pub(super) fn of(places: Vec<Place>) -> Self {
        Self(Arc::new(Mutex::new(places)))
    }

    /// One more, for as long as the others.
    pub(super) fn add(&self, place: Place) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.push(place);
    }
}

impl Guest {
    pub(super) fn of(lane: &Lane) -> Self {
        match lane {
            Lane::Caller(_) => Self::Caller,
            Lane::Connection(_) => Self::Unknown,
        }
    }
}

impl Rooms {
    pub(super) fn new() -> Self {
        Self {
            callers: Room::new(FOR_CALLERS),
            unknown: Room::new(FOR_UNKNOWN),
            upgrades: Room::new(FOR_UPGRADES),
        }
    }

    /// Whether verified callers have more than half of their room left: what is only for speed takes no more.
    pub(super) fn is_roomy(&self) -> bool {
        self.callers.free.available_permits() > FOR_CALLERS / 2
    }

    pub(super) fn of(&self, guest: Guest) -> &Room {
        match guest {
            Guest::Caller => &self.callers,
            Guest::Unknown => &self.unknown,
            Guest::Upgrade => &self.upgrades,
        }
    }
}

impl Room {
    fn new(places: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places)),
        }
    }

    /// Of one lane at one server.
    pub(super) fn of_lane(lane: &Lane) -> Self {
        Self::new(lane_places(lane))
    }

    /// For HTTP/1.1 beside the HTTP/2 of one lane at one server. None for who is not known: its connections are many and short.
    pub(super) fn beside(lane: &Lane) -> Self {
        Self::new(match lane {
            Lane::Caller(_) => OF_CALLER_BESIDE,
            Lane::Connection(_) => 0,
        })
    }

    /// More, once: the lane's server speaks HTTP/1.1 only.
    pub(super) fn widen_for_http1(&self, lane: &Lane) {
        self.free
            .add_permits(lane_places(lane) * (HTTP1_FACTOR - 1));
    }

    /// A place if there is one now.
    pub(super) fn free_place(&self) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Place)
    }

    /// A place, or the one that whoever is just leaving makes free.
    pub(super) async fn place(&self) -> Option<Place> {
        let place = timeout(CLOSING_LIMIT, Arc::clone(&self.free).acquire_owned()).await;
        place.ok()?.ok().map(Place)
    }

    /// Nobody has a place, or waits for one.
    pub(super) fn is_empty(&self) -> bool {
        Arc::strong_count(&self.free) == 1
    }
}

fn lane_places(lane: &Lane) -> usize {
    match lane {
        Lane::Caller(_) => OF_CALLER,
        Lane::Connection(_) => OF_CONNECTION,
    }
}

//! One API server as everybody in this module shares it: its health, when it was last heard, and the token that cuts its connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::health::{self, Event, Health, Pace, State};
use super::resolve::Resolver;
use super::room::Rooms;
use crate::config;
use crate::policy::Uplink;
use crate::runtime::latest::Latest;
use crate::runtime::metrics::Metrics;

/// A round trip within a site, or a town.
const SHORT_ROAD: Duration = Duration::from_millis(10);
/// A node may move.
const ROAD_HOLDS: Duration = Duration::from_secs(60);

/// The state of the whole, kept from the states of the servers.
pub(super) struct Board {
    states: Mutex<Vec<State>>,
    uplink: Latest<Uplink>,
    metrics: Arc<Metrics>,
}

pub(super) struct Server {
    pub(super) address: config::Server,
    /// `https://host:port`, as in the configuration.
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) heard: Heard,
    pub(super) connections: AtomicUsize,
    pub(super) rooms: Rooms,
    pub(super) road: Road,
    pub(super) resolver: Resolver,
    /// Wakes the probe loop when the time of the next probe may have changed.
    pub(super) reschedule: Notify,
    board: Arc<Board>,
    inner: Mutex<Inner>,
}

struct Inner {
    health: Health,
    /// Cancelled when the server goes down: every connection made under it ends.
    epoch: CancellationToken,
    last_error: Option<String>,
}

/// When bytes last came from a server: any bytes, of any connection to it.
#[derive(Debug)]
pub(super) struct Heard {
    base: Instant,
    /// Microseconds since `base`, plus one; 0: never.
    last: AtomicU64,
}

/// How far away a server is: the least that a connect to it took lately. One alone may have met a busy moment of this node.
#[derive(Debug)]
pub(super) struct Road(Mutex<(Duration, Instant)>);

impl Road {
    /// Nothing is known of it: it may be long.
    fn new(now: Instant) -> Self {
        Self(Mutex::new((Duration::MAX, now)))
    }

    /// A connect took so long.
    pub(super) fn took(&self, trip: Duration, now: Instant) {
        let mut least = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if trip <= least.0 || now.saturating_duration_since(least.1) > ROAD_HOLDS {
            *least = (trip, now);
        }
    }

    pub(super) fn is_short(&self) -> bool {
        let least = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        least.0 < SHORT_ROAD
    }
}

impl Board {
    pub(super) fn new(servers: usize, metrics: Arc<Metrics>) -> Self {
        let states = vec![State::Unknown; servers];
        let uplink = health::uplink(&states);
        metrics.uplink(uplink);
        Self {
            states: Mutex::new(states),
            uplink: Latest::new(uplink),
            metrics,
        }
    }

    pub(super) fn uplink(&self) -> &Latest<Uplink> {
        &self.uplink
    }

    fn set(&self, index: usize, state: State) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = states.get_mut(index) {
            *slot = state;
        }
        let uplink = health::uplink(&states);
        if self.uplink.set(uplink) {
            self.metrics.uplink(uplink);
            tracing::info!(?uplink, "the uplink changed");
        }
    }
}

impl Server {
    pub(super) fn new(
        address: config::Server,
        index: usize,
        pace: Pace,
        board: Arc<Board>,
    ) -> Self {
        let now = Instant::now();
        let name = format!("https://{}", authority(&address));
        Self {
            resolver: Resolver::new(&address),
            address,
            name,
            index,
            heard: Heard::new(now),
            connections: AtomicUsize::new(0),
            rooms: Rooms::new(),
            road: Road::new(now),
            reschedule: Notify::new(),
            board,
            inner: Mutex::new(Inner {
                health: Health::new(pace, now),
                epoch: CancellationToken::new(),
                last_error: None,
            }),
        }
    }

    /// Before the first probe and the first request.
    pub(super) fn assume_down(&self) {
        self.lock().health.assume_down();
        self.board.set(self.index, State::Down);
    }

    pub(super) fn state(&self) -> State {
        self.lock().health.state()
    }

    /// The token that going down cancels; `None` while down, when nobody is to try.
    pub(super) fn epoch(&self) -> Option<CancellationToken> {
        let inner = self.lock();
        (inner.health.state() != State::Down).then(|| inner.epoch.clone())
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    /// When the next probe is to start; `None` while one is under way.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.lock().health.next_probe()
    }

    pub(super) fn probe_started(&self) {
        self.lock().health.probe_started(Instant::now());
    }

    pub(super) fn note(&self, event: Event) {
        self.step(event, None);
    }

    /// A note that has a cause to show.
    pub(super) fn note_error(&self, event: Event, why: String) {
        self.step(event, Some(why));
    }

    fn step(&self, event: Event, why: Option<String>) {
        let mut cut = None;
        let rescheduled;
        {
            let mut inner = self.lock();
            let before = inner.health.next_probe();
            if why.is_some() {
                inner.last_error.clone_from(&why);
            }
            if let Some(state) = inner.health.step(event, Instant::now()) {
                tracing::info!(server = self.name, ?state, because = ?event, why = why.as_deref(), "an upstream changed");
                if state == State::Down {
                    cut = Some(std::mem::take(&mut inner.epoch));
                }
                // Before the cut: whoever is woken by it asks for the uplink.
                self.board.set(self.index, state);
            }
            rescheduled = inner.health.next_probe() != before;
        }
        if let Some(epoch) = cut {
            epoch.cancel();
        }
        if rescheduled {
            self.reschedule.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `host:port`, an IPv6 literal in brackets.
pub(super) fn authority(address: &config::Server) -> String {
    if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    }
}

impl Heard {
    pub(super) fn new(base: Instant) -> Self {
        Self {
            base,
            last: AtomicU64::new(0),
        }
    }

    pub(super) fn note(&self) {
        let micros = self.base.elapsed().as_micros();
        let stamp = u64::try_from(micros).unwrap_or(u64::MAX - 1) + 1;
        self.last.fetch_max(stamp, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Option<Instant> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            stamp => Some(self.base + Duration::from_micros(stamp - 1)),
        }
    }

    pub(super) fn since(&self, then: Instant) -> bool {
        self.last().is_some_and(|last| last >= then)
    }
}

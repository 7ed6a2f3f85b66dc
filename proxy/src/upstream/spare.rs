//! One connection to an API server that nobody asked anything on yet, for the first request of a caller that is new here: it
//! saves the round trips of TCP and TLS, which on a long road are two of three.
//!
//! It proves nobody's identity: that is in each request. Whose first request goes over it, its lane alone has it from then on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::credential::Alpn;
use super::dial::Dialer;
use super::pool::{driven, http2_builder};
use super::room::{Guest, Place, Places};
use super::server::Server;
use crate::body::Body;

/// A pod's first request comes within seconds of the pod; the API server itself gives an idle connection 90 s.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Spares {
    dialer: Arc<Dialer>,
    tasks: TaskTracker,
    /// At most one for each server, by its index.
    kept: Mutex<HashMap<usize, Slot>>,
}

enum Slot {
    Dialling,
    Ready(Spare),
}

/// It speaks HTTP/2: where a connection carries one request at a time, each lane has to dial anyway.
pub(super) struct Spare {
    pub(super) sender: http2::SendRequest<Body>,
    pub(super) cut: CancellationToken,
    places: Places,
    since: Instant,
}

impl Spares {
    pub(super) fn new(dialer: Arc<Dialer>, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            tasks,
            kept: Mutex::default(),
        })
    }

    /// Sees to it that there is one soon, unless the server is down or full.
    pub(super) fn make(self: &Arc<Self>, server: &Arc<Server>) {
        let Some(epoch) = server.epoch() else {
            return;
        };
        {
            let mut kept = self.lock();
            match kept.get(&server.index) {
                Some(Slot::Dialling) => return,
                Some(Slot::Ready(spare)) if spare.is_good(LIMIT) => return,
                _ => kept.insert(server.index, Slot::Dialling),
            };
        }
        let (spares, server) = (Arc::clone(self), Arc::clone(server));
        // Bounded by the limits of a dial.
        self.tasks.spawn(async move {
            let made = spares.dial(&server, epoch).await;
            let mut kept = spares.lock();
            match made {
                Some(spare) => kept.insert(server.index, Slot::Ready(spare)),
                None => kept.remove(&server.index),
            };
        });
    }

    /// What goes wrong here the next probe or request finds out, too.
    async fn dial(&self, server: &Arc<Server>, cut: CancellationToken) -> Option<Spare> {
        let places = Places::of(vec![server.rooms.of(Guest::Caller).free_place()?]);
        let dialled = self
            .dialer
            .dial(server, Alpn::Http2OrHttp1, cut.clone(), places.clone());
        let dialled = dialled.await.ok().filter(|dialled| dialled.http2)?;
        let io = TokioIo::new(dialled.stream);
        let (sender, connection) = http2_builder(&self.tasks).handshake(io).await.ok()?;
        self.tasks.spawn(driven(connection));
        Some(Spare {
            sender,
            cut,
            places,
            since: Instant::now(),
        })
    }

    /// The spare connection to a server, if there is one; and a next one is made.
    pub(super) fn take(self: &Arc<Self>, server: &Arc<Server>) -> Option<Spare> {
        let spare = {
            let mut kept = self.lock();
            match kept.remove(&server.index)? {
                Slot::Ready(spare) => spare,
                dialling @ Slot::Dialling => {
                    kept.insert(server.index, dialling);
                    return None;
                }
            }
        };
        self.make(server);
        spare.is_good(LIMIT).then_some(spare)
    }

    /// Closes those that nobody needed for so long.
    pub(super) fn sweep(&self, limit: Duration) {
        self.lock().retain(|_, slot| match slot {
            Slot::Dialling => true,
            Slot::Ready(spare) => spare.is_good(limit.min(LIMIT)),
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Slot>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spare {
    fn is_good(&self, limit: Duration) -> bool {
        !self.sender.is_closed() && !self.cut.is_cancelled() && self.since.elapsed() < limit
    }

    /// It is a lane's from now on, and has its place there, too.
    pub(super) fn move_in(self, of_lane: Place) -> (http2::SendRequest<Body>, CancellationToken) {
        self.places.add(of_lane);
        (self.sender, self.cut)
    }
}

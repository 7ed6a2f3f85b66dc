//! HTTP/1.1 connections beside the HTTP/2 one of a lane, for reads: each carries one at a time.
//!
//! An API server answers over HTTP/2 in many more turns of its threads (`net/http` of Go passes each piece that a handler writes
//! through the goroutine of its connection: five thousand turns for a LIST of 18 MB, against one thousand), and so does a proxy.
//! Only on a short road: there turns are what a read waits for, while on a long one the headers that HTTP/2 does not repeat count for more.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::credential::Alpn;
use super::dial::{DialError, Dialer};
use super::lane::LaneConnections;
use super::lease::{Conduit, Exchange, Idle, Lease};
use super::pool::http1;
use super::room::{Guest, Places};
use super::server::Server;

/// A server, or what is before it, may not want HTTP/1.1.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A lane that may get one more.
pub(super) struct Beside<'p> {
    pub(super) dialer: &'p Arc<Dialer>,
    pub(super) tasks: &'p TaskTracker,
    pub(super) server: &'p Arc<Server>,
    pub(super) lane: &'p Arc<LaneConnections>,
    pub(super) epoch: &'p CancellationToken,
}

impl<'p> Beside<'p> {
    /// For the first request of a client that speaks HTTP/1.1 itself: as many round trips as for HTTP/2. `None`: it is not the
    /// first, or the road is long.
    pub(super) fn first(self) -> Option<BoxFuture<'p, Result<Lease, DialError>>> {
        let is_first = self.server.road.is_short() && self.lane.is_unused();
        let places = is_first.then(|| self.places())??;
        let dial = self.dial(places);
        // Of its own: each request would have room for it.
        Some(Box::pin(async move {
            let exchange = Exchange::open(dial.await?, Arc::clone(self.lane), self.tasks.clone());
            Ok(Lease::new(Conduit::Http1(exchange), false))
        }))
    }

    /// For those of a busy caller, made while they go over HTTP/2.
    pub(super) fn add(self) {
        if !self.server.road.is_short() || !self.lane.is_worth_adding(Instant::now()) {
            return;
        }
        let lane = Arc::clone(self.lane);
        let Some(places) = self.places() else {
            lane.lock().adding = false;
            return;
        };
        let dial = self.dial(places);
        // Bounded by the limits of a dial. What goes wrong here the next probe or request finds out, too.
        self.tasks.spawn(async move {
            match dial.await {
                Ok(idle) => lane.give_back(idle),
                Err(error) => {
                    tracing::debug!(%error, "no connection beside HTTP/2");
                    lane.lock().add_from = Some(Instant::now() + AGAIN_AFTER);
                }
            }
            lane.lock().adding = false;
        });
    }

    fn places(&self) -> Option<Places> {
        if !self.server.rooms.is_roomy() {
            return None;
        }
        let of_server = self.server.rooms.of(Guest::of(&self.lane.lane));
        let places = [self.lane.room_beside.free_place()?, of_server.free_place()?];
        Some(Places::of(places.into()))
    }

    fn dial(&self, places: Places) -> impl Future<Output = Result<Idle, DialError>> + use<> {
        let (dialer, tasks) = (Arc::clone(self.dialer), self.tasks.clone());
        let (server, cut) = (Arc::clone(self.server), self.epoch.clone());
        let generation = self.lane.lock().generation;
        async move {
            let dialled = dialer
                .dial(&server, Alpn::Http1, cut.clone(), places)
                .await?;
            let sender = http1(TokioIo::new(dialled.stream), &tasks).await?;
            Ok(Idle::new(sender, cut, generation))
        }
    }
}

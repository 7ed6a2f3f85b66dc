//! Who has room for connections when others came in numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;

use super::far_end::{Ca, FarEnd};
use super::{BOTH, HTTP1, PATIENCE, caller, get, going_on, ok, run, text, until};
use crate::body::Body;
use crate::identity::ConnectionId;
use crate::policy::{Failure, Uplink};
use crate::upstream::{Class, Lane, Upstream};

/// More than any room has places.
const CROWD: u64 = 400;

fn unknown(number: u64) -> Lane {
    Lane::Connection(ConnectionId(number))
}

/// `/watch` stays open, all else is answered.
async fn far_end(ca: &Ca, protocols: &[&str]) -> Arc<FarEnd> {
    FarEnd::start(ca, protocols, |request: Request<Incoming>| async move {
        match request.uri().path() {
            "/watch" => going_on(6 * PATIENCE),
            _ => ok("{}"),
        }
    })
    .await
}

async fn watches(upstream: &Upstream, lanes: impl Iterator<Item = Lane>) -> Vec<Option<Body>> {
    let watches = lanes.map(|lane| async move {
        match upstream
            .forward(&lane, get("/watch"), Class::LongRunning)
            .await
        {
            Ok(response) => Some(response.into_body()),
            Err(failure) => {
                assert_eq!(failure, Failure::NotSent);
                None
            }
        }
    });
    futures_util::future::join_all(watches).await
}

async fn connections(upstream: &Upstream, wanted: usize) {
    tokio::time::timeout(PATIENCE, async {
        while upstream.status()[0].connections != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{wanted} connections, not {:?}", upstream.status()));
}

#[tokio::test]
async fn a_crowd_of_unknown_callers_leaves_room_for_verified_ones_and_for_probes() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    let held = watches(&upstream, (0..CROWD).map(unknown)).await;
    assert!(held.iter().any(Option::is_none));

    let response = upstream
        .forward(&caller("a"), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(text(response.expect("room")).await, "{}");
    // The first probe dials anew.
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    assert_eq!(upstream.status()[0].last_error, None);
}

#[tokio::test]
async fn one_callers_watches_leave_room_for_the_next_caller() {
    for protocols in [BOTH, HTTP1] {
        let ca = Ca::new();
        let far_end = far_end(&ca, protocols).await;
        let upstream = ca.upstream(&[&far_end]);
        let lanes = std::iter::repeat_n(unknown(1), 185);
        let held = watches(&upstream, lanes).await;
        assert!(held.iter().any(Option::is_none));
        assert!(far_end.seen.connections.load(Ordering::SeqCst) <= 4);
        let response = upstream
            .forward(&unknown(2), get("/api"), Class::ReadOnly)
            .await;
        assert_eq!(text(response.expect("room")).await, "{}");
    }
}

#[tokio::test]
async fn connections_that_others_leave_idle_make_room() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    for number in 0..CROWD / 2 {
        let response = upstream
            .forward(&unknown(number), get("/api"), Class::ReadOnly)
            .await;
        assert_eq!(text(response.expect("room")).await, "{}");
    }
}

#[tokio::test]
async fn an_unknown_callers_idle_connection_is_closed_after_seconds_and_a_verified_ones_kept() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    for lane in [unknown(1), caller("a")] {
        let response = upstream.forward(&lane, get("/api"), Class::ReadOnly).await;
        text(response.expect("an answer")).await;
    }
    connections(&upstream, 2).await;
    upstream.pool.sweep(Instant::now() + Duration::from_secs(6));
    connections(&upstream, 1).await;
    upstream
        .pool
        .sweep(Instant::now() + Duration::from_secs(91));
    connections(&upstream, 0).await;
}

#[tokio::test]
async fn forgotten_connections_that_still_carry_watches_keep_their_places() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    let mut held = Vec::new();
    for _ in 0..2 {
        let watch = upstream
            .forward(&unknown(1), get("/watch"), Class::LongRunning)
            .await;
        held.push(watch.expect("room"));
        upstream
            .pool
            .forget(&upstream.servers[0], &unknown(1), true);
        upstream.pool.sweep(Instant::now());
    }
    let third = upstream
        .forward(&unknown(1), get("/watch"), Class::LongRunning)
        .await;
    assert_eq!(third.err(), Some(Failure::NotSent));
    held.pop();
    let third = upstream
        .forward(&unknown(1), get("/watch"), Class::LongRunning)
        .await;
    assert!(third.is_ok());
}

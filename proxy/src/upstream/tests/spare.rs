//! The connection that waits for whoever is new.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::far_end::{Ca, FarEnd};
use super::{BOTH, HTTP1, PATIENCE, caller, get, ok, text};
use crate::identity::ConnectionId;
use crate::upstream::{Class, Lane, Upstream};

async fn far_end(ca: &Ca, protocols: &[&str]) -> Arc<FarEnd> {
    FarEnd::start(ca, protocols, |_| async { ok("{}") }).await
}

async fn ask(upstream: &Upstream, lane: &Lane) {
    let response = upstream.forward(lane, get("/api"), Class::ReadOnly).await;
    assert_eq!(text(response.expect("an answer")).await, "{}");
}

/// Waits until the far end has seen so many connections in all.
async fn seen(far_end: &FarEnd, wanted: usize) {
    let connections = || far_end.seen.connections.load(Ordering::Relaxed);
    tokio::time::timeout(PATIENCE, async {
        while connections() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{wanted} connections, not {}", connections()));
    // Its handshake, and whatever comes of it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(connections(), wanted);
}

#[tokio::test]
async fn a_new_caller_takes_the_connection_that_waits_and_another_is_made() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    upstream.expect();
    upstream.expect();
    seen(&far_end, 1).await;
    ask(&upstream, &caller("a")).await;
    seen(&far_end, 2).await;
    ask(&upstream, &caller("a")).await;
    seen(&far_end, 2).await;
    ask(&upstream, &caller("b")).await;
    seen(&far_end, 3).await;
}

#[tokio::test]
async fn an_unknown_caller_leaves_it_alone() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    upstream.expect();
    seen(&far_end, 1).await;
    ask(&upstream, &Lane::Connection(ConnectionId(1))).await;
    seen(&far_end, 2).await;
}

#[tokio::test]
async fn none_waits_where_a_connection_carries_one_request_at_a_time() {
    let ca = Ca::new();
    let far_end = far_end(&ca, HTTP1).await;
    let upstream = ca.upstream(&[&far_end]);
    upstream.expect();
    seen(&far_end, 1).await;
    assert_eq!(upstream.status()[0].connections, 0);
    ask(&upstream, &caller("a")).await;
    seen(&far_end, 2).await;
}

#[tokio::test]
async fn one_that_its_server_closed_is_not_taken() {
    let ca = Ca::new();
    let far_end = far_end(&ca, BOTH).await;
    let upstream = ca.upstream(&[&far_end]);
    upstream.expect();
    seen(&far_end, 1).await;
    far_end.go_away();
    tokio::time::sleep(Duration::from_millis(200)).await;
    ask(&upstream, &caller("a")).await;
    // The caller's own, and the next spare one.
    seen(&far_end, 3).await;
}

//! The connections that carry the reads of a busy caller beside its HTTP/2 one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::Version;

use super::far_end::{Ca, FarEnd};
use super::{BOTH, PATIENCE, get, going_on, ok, post, text};
use crate::identity::ConnectionId;
use crate::upstream::{Class, Lane, Upstream};

/// As many as make a caller busy, and a connection beside.
const MANY: usize = 20;

fn caller() -> Lane {
    super::caller("b")
}

async fn far_end(ca: &Ca) -> Arc<FarEnd> {
    FarEnd::start(ca, BOTH, |_| async { ok("{}") }).await
}

/// One read of a client that speaks HTTP/2; which version of HTTP it went over.
async fn read(upstream: &Upstream, far_end: &FarEnd, lane: &Lane) -> Version {
    let mut request = get("/api");
    *request.version_mut() = Version::HTTP_2;
    let response = upstream.forward(lane, request, Class::ReadOnly).await;
    assert_eq!(text(response.expect("an answer")).await, "{}");
    last(far_end)
}

fn last(far_end: &FarEnd) -> Version {
    let requests = far_end.seen.requests.lock().expect("no panic");
    requests.last().expect("one").0
}

/// Reads until one goes over HTTP/1.1.
async fn until_beside(upstream: &Upstream, far_end: &FarEnd) {
    let busy = async {
        while read(upstream, far_end, &caller()).await != Version::HTTP_11 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, busy).await.expect("beside");
}

#[tokio::test]
async fn a_busy_callers_reads_leave_http2_and_its_writes_and_watches_stay() {
    let ca = Ca::new();
    let far_end = far_end(&ca).await;
    let upstream = ca.upstream(&[&far_end]);
    assert_eq!(
        read(&upstream, &far_end, &caller()).await,
        Version::HTTP_2,
        "nobody waits for a dial that is not needed"
    );
    until_beside(&upstream, &far_end).await;
    // Back a moment after the answer was read.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let lane = caller();
    for (request, class) in [
        (get("/watch"), Class::LongRunning),
        (post("/api", "{}"), Class::Mutating),
    ] {
        let response = upstream.forward(&lane, request, class).await;
        text(response.expect("an answer")).await;
        assert_eq!(last(&far_end), Version::HTTP_2, "{class:?}");
    }
    assert_eq!(read(&upstream, &far_end, &lane).await, Version::HTTP_11);
    assert_eq!(far_end.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_that_its_server_closed_costs_a_read_nothing() {
    let ca = Ca::new();
    let far_end = far_end(&ca).await;
    let upstream = ca.upstream(&[&far_end]);
    until_beside(&upstream, &far_end).await;
    far_end.go_away();
    for _ in 0..MANY {
        read(&upstream, &far_end, &caller()).await;
    }
}

#[tokio::test]
async fn who_asks_seldom_or_is_not_known_has_none() {
    let ca = Ca::new();
    let far_end = far_end(&ca).await;
    let upstream = ca.upstream(&[&far_end]);
    let unknown = Lane::Connection(ConnectionId(1));
    for _ in 0..MANY {
        assert_eq!(read(&upstream, &far_end, &unknown).await, Version::HTTP_2);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..2 {
        assert_eq!(read(&upstream, &far_end, &caller()).await, Version::HTTP_2);
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(far_end.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_goes_on_keeps_its_connection_and_another_is_made() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |request| async move {
        match request.uri().path() {
            "/api" => ok("{}"),
            _ => going_on(PATIENCE),
        }
    })
    .await;
    let upstream = ca.upstream(&[&far_end]);
    until_beside(&upstream, &far_end).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let lane = caller();
    let long = upstream.forward(&lane, get("/long"), Class::ReadOnly).await;
    assert_eq!(last(&far_end), Version::HTTP_11);
    assert_eq!(read(&upstream, &far_end, &lane).await, Version::HTTP_2);
    until_beside(&upstream, &far_end).await;
    drop(long);
}

#[tokio::test]
async fn the_first_read_of_a_client_that_speaks_http1_goes_as_it_came() {
    let ca = Ca::new();
    let far_end = far_end(&ca).await;
    for (short, client, expected) in [
        (true, Version::HTTP_11, Version::HTTP_11),
        (true, Version::HTTP_2, Version::HTTP_2),
        (false, Version::HTTP_11, Version::HTTP_2),
    ] {
        let upstream = ca.upstream(&[&far_end]);
        if short {
            let trip = Duration::from_micros(300);
            upstream.servers[0].road.took(trip, Instant::now());
        }
        let mut request = get("/api");
        *request.version_mut() = client;
        let lane = caller();
        let response = upstream.forward(&lane, request, Class::ReadOnly).await;
        text(response.expect("an answer")).await;
        assert_eq!(last(&far_end), expected, "{short} {client:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_http2_is_asked_for_nothing_else_for_long() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, &["h2"], |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    let trip = Duration::from_micros(300);
    upstream.servers[0].road.took(trip, Instant::now());
    let lane = caller();
    for _ in 0..MANY {
        let response = upstream.forward(&lane, get("/api"), Class::ReadOnly).await;
        text(response.expect("an answer")).await;
        assert_eq!(last(&far_end), Version::HTTP_2);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first read's own, the one it went over, and the one beside.
    assert!(far_end.seen.connections.load(Ordering::SeqCst) <= 3);
}

//! The module against a far end that fails on demand.

mod beside;
mod black_hole;
mod far_end;
mod resets;
mod rooms;
mod spare;
mod upgrades;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel, StreamBody};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Class, Lane, Upstream};
use crate::body::{self, Body, BoxError};
use crate::identity::{ConnectionId, ServiceAccount};
use crate::policy::{Failure, Uplink};
use far_end::{Ca, FarEnd, upstream};

/// How long a state may take to come: far more than it should, so that a busy machine does not fail a test.
const PATIENCE: Duration = Duration::from_secs(10);

const BOTH: &[&str] = &["h2", "http/1.1"];
const HTTP1: &[&str] = &["http/1.1"];

fn lane() -> Lane {
    Lane::Connection(ConnectionId(1))
}

fn caller(name: &str) -> Lane {
    Lane::Caller(ServiceAccount {
        namespace: "a".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
    })
}

fn get(path: &str) -> Request<Body> {
    Request::get(path)
        .header("host", "kubernetes.default.svc")
        .body(body::empty())
        .expect("a request")
}

fn post(path: &str, content: &'static str) -> Request<Body> {
    Request::post(path)
        .body(body::full(content))
        .expect("a request")
}

fn ok(content: &'static str) -> Response<Body> {
    Response::new(body::full(content))
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body");
    String::from_utf8(bytes.to_bytes().to_vec()).expect("text")
}

fn run(upstream: &Arc<Upstream>) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(Arc::clone(upstream).run(stop.clone()));
    stop.drop_guard()
}

async fn until(upstream: &Upstream, wanted: Uplink) {
    let mut uplink = upstream.follow();
    let turned = async {
        while uplink.get() != wanted {
            uplink.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, turned)
        .await
        .unwrap_or_else(|_| panic!("{wanted:?} within {PATIENCE:?}"));
}

/// An answer that goes on for so long, and brings nothing.
fn going_on(life: Duration) -> Response<Body> {
    let (sender, body) = open_body();
    tokio::spawn(async move {
        tokio::time::sleep(life).await;
        drop(sender);
    });
    Response::new(body)
}

/// A body that stays open as long as the returned sender.
fn open_body() -> (http_body_util::channel::Sender<Bytes, BoxError>, Body) {
    let (sender, body) = Channel::new(16);
    (sender, body.boxed_unsync())
}

#[tokio::test]
async fn requests_cross_in_both_protocols_with_the_callers_headers_and_name() {
    for (protocols, version) in [
        (BOTH, http::Version::HTTP_2),
        (HTTP1, http::Version::HTTP_11),
    ] {
        let ca = Ca::new();
        let far_end = FarEnd::start(&ca, protocols, |request| async move {
            let sent = request.into_body().collect().await.expect("a body");
            let mut response = Response::new(body::full(sent.to_bytes()));
            response
                .headers_mut()
                .insert("audit-id", HeaderValue::from_static("7"));
            response
        })
        .await;
        let upstream = ca.upstream(&[&far_end]);
        let mut request = post("/api/v1/namespaces/a/pods?x=%2F", "the pod");
        request
            .headers_mut()
            .insert("authorization", HeaderValue::from_static("Bearer t"));
        request
            .headers_mut()
            .insert("connection", HeaderValue::from_static("keep-alive"));
        let response = upstream.forward(&lane(), request, Class::Mutating).await;
        let response = response.expect("an answer");
        assert_eq!(response.headers()["audit-id"], "7");
        assert_eq!(response.headers()["content-length"], "7");
        assert_eq!(text(response).await, "the pod");
        let seen = far_end.seen.requests.lock().expect("no panic").clone();
        assert_eq!(seen[0].0, version);
        assert!(seen[0].1.ends_with("/api/v1/namespaces/a/pods?x=%2F"));
        assert_eq!(seen[0].2["authorization"], "Bearer t");
        assert!(!seen[0].2.contains_key("connection"));
        assert!(!seen[0].2.contains_key("x-forwarded-for"));
    }
}

#[tokio::test]
async fn lanes_do_not_share_connections_and_one_lane_does() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    for lane in [
        Lane::Connection(ConnectionId(1)),
        Lane::Connection(ConnectionId(2)),
        caller("b"),
    ] {
        for _ in 0..3 {
            let response = upstream.forward(&lane, get("/api"), Class::Mutating).await;
            text(response.expect("an answer")).await;
        }
    }
    assert_eq!(far_end.seen.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_burst_on_one_lane_dials_once_and_watches_beyond_its_streams_make_a_second_connection() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { going_on(PATIENCE) }).await;
    let upstream = ca.upstream(&[&far_end]);
    let lane = lane();
    let watches = (0..100).map(|_| upstream.forward(&lane, get("/watch"), Class::LongRunning));
    let open = futures_util::future::join_all(watches).await;
    assert!(open.iter().all(Result::is_ok));
    assert_eq!(far_end.seen.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn http1_connections_are_reused_once_the_answer_was_read() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, HTTP1, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    for _ in 0..5 {
        let response = upstream
            .forward(&lane(), get("/api"), Class::ReadOnly)
            .await;
        text(response.expect("an answer")).await;
        // Back in the pool a moment after its body ended.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(far_end.seen.connections.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_refused_connection_means_down_at_once_and_back_is_seen_soon() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    far_end.killed().await;
    let started = Instant::now();
    let refused = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(refused.err(), Some(Failure::NotSent));
    assert!(started.elapsed() < Duration::from_millis(500));
    assert_eq!(upstream.uplink(), Uplink::Down);
    assert_eq!(upstream.status()[0].state, "down");
    assert!(upstream.status()[0].last_error.is_some());

    let _running = run(&upstream);
    far_end.start_again();
    until(&upstream, Uplink::Up).await;
    let response = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(text(response.expect("an answer")).await, "{}");
}

#[tokio::test]
async fn silence_gives_a_read_up_within_the_answer_timeout_and_then_nobody_waits() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    let warm = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    text(warm.expect("an answer")).await;

    far_end.seen.frozen.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let silent = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(silent.err(), Some(Failure::NoAnswer));
    // A deadline that is behaviour, with room for a busy machine: three times its value.
    assert!(started.elapsed() <= 3 * Duration::from_millis(600));
    assert_eq!(upstream.uplink(), Uplink::Down);
    let started = Instant::now();
    let refused = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(refused.err(), Some(Failure::NotSent));
    assert!(started.elapsed() < Duration::from_millis(300));
}

#[tokio::test]
async fn slow_is_not_down_while_probes_are_answered() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        ok("at last")
    })
    .await;
    let upstream = ca.upstream(&[&far_end]);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    let response = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(text(response.expect("an answer")).await, "at last");
    assert_eq!(upstream.uplink(), Uplink::Up);
    // Every half answerTimeout of silence asked for one.
    assert!(far_end.seen.probes.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn a_write_waits_until_its_server_is_down_and_is_never_sent_again() {
    let ca = Ca::new();
    let first = FarEnd::start(&ca, BOTH, |_| std::future::pending()).await;
    let second = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&first, &second]);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    let write = {
        let upstream = Arc::clone(&upstream);
        tokio::spawn(async move {
            upstream
                .forward(&lane(), post("/api", "{}"), Class::Mutating)
                .await
        })
    };
    while first.seen.requests.lock().expect("no panic").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert!(!write.is_finished());
    first.seen.frozen.store(true, Ordering::SeqCst);
    let failure = write.await.expect("no panic").err();
    assert_eq!(failure, Some(Failure::NoAnswer));
    assert_eq!(upstream.uplink(), Uplink::Degraded);
    assert!(second.seen.requests.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_write_that_was_not_sent_goes_to_the_next_server() {
    let ca = Ca::new();
    let first = FarEnd::start(&ca, BOTH, |_| async { ok("first") }).await;
    let second = FarEnd::start(&ca, BOTH, |_| async { ok("second") }).await;
    first.killed().await;
    let upstream = ca.upstream(&[&first, &second]);
    let response = upstream
        .forward(&lane(), post("/api", "{}"), Class::Mutating)
        .await
        .expect("an answer");
    assert_eq!(text(response).await, "second");
    assert_eq!(upstream.uplink(), Uplink::Degraded);
}

#[tokio::test]
async fn a_connection_that_died_with_the_process_costs_a_read_nothing_when_the_server_is_back() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    for _ in 0..3 {
        let response = upstream
            .forward(&lane(), get("/api"), Class::ReadOnly)
            .await;
        text(response.expect("an answer")).await;
        far_end.killed().await;
        far_end.start_again();
    }
}

#[tokio::test]
async fn a_body_cut_in_the_middle_is_an_error_and_makes_a_probe_due() {
    for protocols in [BOTH, HTTP1] {
        let ca = Ca::new();
        let far_end = FarEnd::start(&ca, protocols, |_| async {
            let chunks = [
                Ok(http_body::Frame::data(Bytes::from_static(b"half of "))),
                Err(BoxError::from("broken on purpose")),
            ];
            let stream = futures_util::stream::iter(chunks);
            Response::new(StreamBody::new(stream).boxed_unsync())
        })
        .await;
        let upstream = ca.upstream(&[&far_end]);
        let _running = run(&upstream);
        until(&upstream, Uplink::Up).await;
        let response = upstream
            .forward(&lane(), get("/api"), Class::ReadOnly)
            .await;
        // HTTP/2 may reset the stream before its headers were seen; both are a failure, none a whole body.
        if let Ok(response) = response {
            assert!(response.into_body().collect().await.is_err());
        }
        tokio::time::timeout(PATIENCE, async {
            while far_end.seen.probes.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("a probe well before its interval is over");
    }
}

#[tokio::test]
async fn going_down_breaks_every_open_body_at_once() {
    for protocols in [BOTH, HTTP1] {
        let ca = Ca::new();
        let far_end = FarEnd::start(&ca, protocols, |request| async move {
            if request.uri().path() != "/watch" {
                return ok("{}");
            }
            let (mut sender, body) = open_body();
            tokio::spawn(async move {
                let _ = sender.send_data(Bytes::from_static(b"event")).await;
                tokio::time::sleep(PATIENCE).await;
            });
            Response::new(body)
        })
        .await;
        let upstream = ca.upstream(&[&far_end]);
        let _running = run(&upstream);
        until(&upstream, Uplink::Up).await;
        let watch = upstream
            .forward(&lane(), get("/watch"), Class::LongRunning)
            .await;
        let mut watch = watch.expect("a stream").into_body();
        let event = watch.frame().await.expect("an event").expect("whole");
        assert_eq!(event.into_data().expect("data"), "event");

        far_end.seen.frozen.store(true, Ordering::SeqCst);
        let silent = upstream
            .forward(&lane(), get("/api"), Class::ReadOnly)
            .await;
        assert!(silent.is_err());
        let cut = tokio::time::timeout(Duration::from_millis(500), watch.frame()).await;
        assert!(cut.expect("at once").expect("an end").is_err());
        assert_eq!(upstream.uplink(), Uplink::Down);
        tokio::time::timeout(PATIENCE, async {
            // The prober's own may be under way.
            while upstream.status()[0].connections > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("closed connections");
    }
}

#[tokio::test]
async fn goaway_replaces_the_connection_and_no_request_notices() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        ok("{}")
    })
    .await;
    let upstream = ca.upstream(&[&far_end]);
    let lane = lane();
    for round in 1..=5 {
        let burst = (0..10).map(|_| async {
            let response = upstream.forward(&lane, get("/api"), Class::ReadOnly).await;
            text(response.expect("an answer")).await
        });
        let burst = futures_util::future::join_all(burst);
        let (answers, ()) = tokio::join!(burst, async {
            tokio::time::sleep(Duration::from_millis(round * 5)).await;
            far_end.go_away();
        });
        assert!(answers.iter().all(|answer| answer == "{}"));
    }
}

#[tokio::test]
async fn a_503_is_passed_on_as_it_came_and_the_uplink_stays_up() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async {
        let mut response = ok("service unavailable");
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
            .headers_mut()
            .insert("retry-after", HeaderValue::from_static("5"));
        response
    })
    .await;
    let upstream = ca.upstream(&[&far_end]);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    let probes = far_end.seen.probes.load(Ordering::SeqCst);
    let response = upstream
        .forward(&lane(), get("/apis/x/v1"), Class::ReadOnly)
        .await;
    let response = response.expect("an answer");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "5");
    tokio::time::timeout(PATIENCE, async {
        while far_end.seen.probes.load(Ordering::SeqCst) == probes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a probe due at once");
    assert_eq!(upstream.uplink(), Uplink::Up);
}

#[tokio::test]
async fn probes_answered_5xx_mean_down_and_403_means_alive() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    far_end.seen.probe_status.store(403, Ordering::SeqCst);
    let mut config = ca.config(&[&far_end]);
    config.probe.interval = Duration::from_millis(200);
    let upstream = upstream(&config);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    far_end.seen.probe_status.store(500, Ordering::SeqCst);
    until(&upstream, Uplink::Down).await;
    far_end.seen.probe_status.store(200, Ordering::SeqCst);
    until(&upstream, Uplink::Up).await;
}

#[tokio::test]
async fn own_requests_carry_the_token_of_the_file_as_it_is_now() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{\"keys\":[]}") }).await;
    let mut config = ca.config(&[&far_end]);
    let token = ca.file.with_file_name("token");
    config.credential = crate::config::OwnCredential::TokenFile(token.clone());
    let upstream = upstream(&config);
    for content in ["one\n", "two"] {
        std::fs::write(&token, content).expect("a token");
        let keys = upstream.own_get("/openid/v1/jwks").await.expect("keys");
        assert_eq!(keys, "{\"keys\":[]}");
    }
    let seen = far_end.seen.requests.lock().expect("no panic").clone();
    assert_eq!(seen[0].2["authorization"], "Bearer one");
    assert_eq!(seen[1].2["authorization"], "Bearer two");
}

#[tokio::test]
async fn a_released_client_connection_takes_its_upstream_connections_along() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    let response = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    text(response.expect("an answer")).await;
    assert_eq!(upstream.status()[0].connections, 1);
    upstream.release(ConnectionId(1));
    tokio::time::timeout(PATIENCE, async {
        while upstream.status()[0].connections > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a closed connection");
}

#[tokio::test]
async fn a_server_whose_certificate_another_ca_signed_is_down() {
    let (ca, other) = (Ca::new(), Ca::new());
    let far_end = FarEnd::start(&other, BOTH, |_| async { ok("{}") }).await;
    let upstream = ca.upstream(&[&far_end]);
    let refused = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(refused.err(), Some(Failure::NotSent));
    let _running = run(&upstream);
    until(&upstream, Uplink::Down).await;
    assert!(far_end.seen.requests.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn running_ends_promptly_on_stop_though_a_probe_waits_in_a_black_hole() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    far_end.seen.frozen.store(true, Ordering::SeqCst);
    let upstream = ca.upstream(&[&far_end]);
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&upstream).run(stop.clone()));
    while far_end.seen.connections.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(1), running).await;
    ended.expect("promptly").expect("no panic");
}

#[tokio::test]
async fn large_headers_cross_both_ways_in_both_protocols() {
    for protocols in [BOTH, HTTP1] {
        let ca = Ca::new();
        let far_end = FarEnd::start(&ca, protocols, |_| async {
            let mut response = ok("{}");
            let warning = HeaderValue::from_static("299 - \"deprecated\"");
            for _ in 0..200 {
                response.headers_mut().append("warning", warning.clone());
            }
            let long = HeaderValue::try_from("x".repeat(40_000)).expect("a value");
            response.headers_mut().insert("x-long", long);
            response
        })
        .await;
        let upstream = ca.upstream(&[&far_end]);
        let mut request = get("/api");
        let token = HeaderValue::try_from("t".repeat(300_000)).expect("a value");
        request.headers_mut().insert("authorization", token);
        let response = upstream.forward(&lane(), request, Class::ReadOnly).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-long"].len(), 40_000);
        assert_eq!(response.headers().get_all("warning").iter().count(), 200);
        let seen = far_end.seen.requests.lock().expect("no panic").clone();
        assert_eq!(seen[0].2["authorization"].len(), 300_000);
    }
}

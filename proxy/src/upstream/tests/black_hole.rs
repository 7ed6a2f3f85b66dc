//! Servers that say nothing at all.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::far_end::{Ca, FarEnd};
use super::{BOTH, get, lane, ok, run, text, until};
use crate::policy::{Failure, Uplink};
use crate::upstream::Class;

#[tokio::test]
async fn however_many_servers_are_silent_a_read_is_given_up_within_one_answer_timeout() {
    let ca = Ca::new();
    let mut far_ends = Vec::new();
    for _ in 0..4 {
        far_ends.push(FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await);
    }
    let upstream = ca.upstream(
        &far_ends
            .iter()
            .map(std::sync::Arc::as_ref)
            .collect::<Vec<_>>(),
    );
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    for far_end in &far_ends {
        far_end.seen.frozen.store(true, Ordering::SeqCst);
    }
    let started = Instant::now();
    let silent = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert!(silent.is_err());
    // One answerTimeout of 600 ms and as much for a busy machine; one for each server would be 2.4 s.
    assert!(started.elapsed() <= Duration::from_millis(1200));
    assert_eq!(upstream.status()[0].state, "down");
    // Asked for no whole answerTimeout, the others are not judged by the request.
    assert_ne!(upstream.status()[3].state, "down");
    until(&upstream, Uplink::Down).await;
}

#[tokio::test]
async fn a_read_goes_from_a_silent_server_to_one_that_lives() {
    let ca = Ca::new();
    let silent = FarEnd::start(&ca, BOTH, |_| async { ok("silent") }).await;
    let alive = FarEnd::start(&ca, BOTH, |_| async { ok("alive") }).await;
    let upstream = ca.upstream(&[&silent, &alive]);
    let _running = run(&upstream);
    until(&upstream, Uplink::Up).await;
    silent.seen.frozen.store(true, Ordering::SeqCst);
    let response = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(text(response.expect("an answer")).await, "alive");
    assert_eq!(upstream.uplink(), Uplink::Degraded);
}

#[tokio::test]
async fn nobody_waits_for_what_was_silent_before_the_start_and_a_probe_ends_that() {
    let ca = Ca::new();
    let far_end = FarEnd::start(&ca, BOTH, |_| async { ok("{}") }).await;
    far_end.seen.frozen.store(true, Ordering::SeqCst);
    let upstream = ca.upstream(&[&far_end]);
    upstream.assume_down();
    let _running = run(&upstream);
    assert_eq!(upstream.uplink(), Uplink::Down);
    let refused = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(refused.err(), Some(Failure::NotSent));
    far_end.seen.frozen.store(false, Ordering::SeqCst);
    until(&upstream, Uplink::Up).await;
    let response = upstream
        .forward(&lane(), get("/api"), Class::ReadOnly)
        .await;
    assert_eq!(text(response.expect("an answer")).await, "{}");
}

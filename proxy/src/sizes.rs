//! What a connection, a request and a watch cost before any of them has allocated: the sizes of their futures, pinned.
//!
//! A future holds what lives across its awaits, so one more local in the wrong place is paid for by each of a thousand idle
//! watches. Who makes one smaller lowers its bound; who needs more says so here.

use crate::relay::Relay;
use crate::{accept, serve};

/// A connection with its TLS session while it idles; hyper's state of it, which is HTTP/1.1's or HTTP/2's, has its own place. In bytes,
/// as the others, and rounded up to the next 256.
const CONNECTION: usize = 5_376;
/// What owns it: the limits, and the end of its pod.
const TASK_OF_A_CONNECTION: usize = 512;
/// A request until its response's head; a body is the connection's.
const REQUEST: usize = 11_008;
/// A live watch, for as long as the client has it open.
const WATCH: usize = 6_144;
/// What a watch has besides while it is held, its requests for a way back among it.
const HELD_WATCH: usize = 11_776;

#[test]
fn the_future_of_a_connection_has_not_grown() {
    let size = two(serve::serve_connection);
    assert!(size <= CONNECTION, "{size} bytes");
    let size = six(accept::one_connection);
    assert!(size <= TASK_OF_A_CONNECTION, "{size} bytes");
}

#[test]
fn the_future_of_a_request_has_not_grown() {
    let size = three(serve::serve_request);
    assert!(size <= REQUEST, "{size} bytes");
}

#[test]
fn the_future_of_a_watch_has_not_grown() {
    let size = two(Relay::run);
    assert!(size <= WATCH, "{size} bytes");
    let size = two(Relay::hold);
    assert!(size <= HELD_WATCH, "{size} bytes");
}

fn two<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
    size_of::<F>()
}

fn three<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

fn six<A, B, C, D, E, G, F>(_: impl Fn(A, B, C, D, E, G) -> F) -> usize {
    size_of::<F>()
}

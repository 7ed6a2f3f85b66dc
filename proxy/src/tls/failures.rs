//! A hostile client can fail as often as it likes: each reason is logged once per minute, with the count of those left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const QUIET: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Failures {
    /// Keyed by the reasons of one enum, so as bounded as that.
    reasons: Mutex<HashMap<&'static str, Seen>>,
}

struct Seen {
    logged: Instant,
    unlogged: u64,
}

impl Failures {
    /// `Some(n)`: log this one; `n` of its reason went unlogged before.
    pub(super) fn admit(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = reasons.get_mut(reason)
            && now.saturating_duration_since(seen.logged) < QUIET
        {
            seen.unlogged += 1;
            return None;
        }
        let fresh = Seen {
            logged: now,
            unlogged: 0,
        };
        Some(
            reasons
                .insert(reason, fresh)
                .map_or(0, |seen| seen.unlogged),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_a_minute_with_the_count_left_out() {
        let failures = Failures::default();
        let start = Instant::now();
        assert_eq!(failures.admit("Tls", start), Some(0));
        assert_eq!(failures.admit("Tls", start + QUIET / 2), None);
        assert_eq!(failures.admit("NotTls", start + QUIET / 2), Some(0));
        assert_eq!(failures.admit("Tls", start + QUIET), Some(1));
        assert_eq!(failures.admit("Tls", start + QUIET * 2), Some(0));
    }
}

//! What was counted while the process was killed again and again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// Counts of one run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub kills: usize,
    pub slowest_start: Duration,
    /// Reads that were asked and answered while the link was up.
    pub light: Reads,
    /// Reads that were asked and answered while the link was cut.
    pub dark: Reads,
    /// Reads that the link changed under, or that a kill cut off.
    pub in_between: usize,
    pub cut_off: usize,
    pub events: usize,
    pub streams: usize,
    /// Streams that were told that their RV is too old, or from the future.
    pub expired: usize,
    pub too_new: usize,
    pub writes: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Reads {
    pub answered: usize,
    /// By the reason that the answer gave.
    pub refused: BTreeMap<String, usize>,
}

impl Reads {
    pub(super) fn refuse(&mut self, status: &Value) {
        let reason = status["details"]["causes"][0]["reason"].as_str();
        let reason = reason.or(status["reason"].as_str()).unwrap_or("nothing");
        *self.refused.entry(reason.to_owned()).or_default() += 1;
    }

    /// Of a hundred.
    #[expect(clippy::cast_precision_loss, reason = "a share that is read by people")]
    pub fn share(&self) -> f64 {
        let refused: usize = self.refused.values().sum();
        let all = (self.answered + refused).max(1);
        100.0 * self.answered as f64 / all as f64
    }
}

impl fmt::Display for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered ({:.1} %)", self.answered, self.share())?;
        for (reason, times) in &self.refused {
            write!(f, ", {times} {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, slowest start {} ms; reads in the light: {}; in the dark: {}; {} in between, {} cut off; \
             {} events on {} streams ({} expired, {} too new); {} writes",
            self.kills,
            self.slowest_start.as_millis(),
            self.light,
            self.dark,
            self.in_between,
            self.cut_off,
            self.events,
            self.streams,
            self.expired,
            self.too_new,
            self.writes,
        )
    }
}

#[derive(Default)]
pub(super) struct Tally(Mutex<Counts>);

impl Tally {
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

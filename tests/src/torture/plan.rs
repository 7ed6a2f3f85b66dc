//! When the process dies, and what else happens around it: all of it from a seed.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

/// How the link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Face {
    /// Everything vanishes: it takes a moment to be noticed.
    BlackHole,
    /// Everything is answered with a reset.
    Rejected,
}

/// How the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    AtOnce,
    /// So long after it was told to drain.
    Draining(Duration),
}

/// From one life of the process to the next.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    /// The face of the next cut, should there be one.
    pub(super) face: Face,
    pub(super) lives: Duration,
    /// The link is cut or mended, and it lives on for so long.
    pub(super) turn: Option<Duration>,
    pub(super) death: Death,
    /// The link is cut or mended while nobody looks.
    pub(super) turns_unseen: bool,
    /// It is killed again, so long after it was started.
    pub(super) again: Option<Duration>,
    /// Of the next life.
    pub(super) commit_interval: Duration,
}

impl Cycle {
    pub(super) fn random(rng: &mut Rng) -> Self {
        let mut millis = |range: Range<u64>| Duration::from_millis(rng.u64(range));
        let (lives, turned) = (millis(100..600), millis(0..400));
        let (drains, starts) = (millis(0..60), millis(0..300));
        Self {
            face: if rng.u8(..4) == 0 {
                Face::BlackHole
            } else {
                Face::Rejected
            },
            lives,
            // Often at the same moment as the kill.
            turn: (rng.u8(..2) == 0).then(|| {
                if rng.u8(..3) == 0 {
                    Duration::ZERO
                } else {
                    turned
                }
            }),
            death: if rng.u8(..6) == 0 {
                Death::Draining(drains)
            } else {
                Death::AtOnce
            },
            turns_unseen: rng.u8(..5) < 2,
            again: (rng.u8(..5) == 0).then_some(starts),
            // Short, a kill often meets a commit; long, much is lost that was not written yet.
            commit_interval: Duration::from_millis(if rng.bool() { 50 } else { 1000 }),
        }
    }
}

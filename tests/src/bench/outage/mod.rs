//! What a client notices of an outage, of a start in the dark, and of a long road.

mod cut;
mod road;
mod roundtrips;
mod start;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Part, Rig};
use crate::eventually;

/// A probe comes each second while the uplink is down.
const UP_WITHIN: Duration = Duration::from_secs(20);

pub(super) const PARTS: &[Part] = &[
    Part {
        name: "outage/cut",
        what: "cut to the first cached answer, and the next ones",
        run: cut::run,
    },
    Part {
        name: "outage/start",
        what: "start to first answer in a black hole",
        run: start::run,
    },
    Part {
        name: "outage/roundtrips",
        what: "the first request of a new pod over a long road",
        run: roundtrips::run,
    },
];

/// Waits until Holdfast itself says that the uplink is up, or is not.
pub(super) fn uplink(rig: &Rig<'_>, wanted: &str) -> Result<()> {
    eventually(&format!("the uplink to be {wanted}"), UP_WITHIN, || {
        let status = rig.holdfast.status()?;
        ensure!(status["uplink"] == wanted, "{}", status["uplink"]);
        Ok(())
    })
}

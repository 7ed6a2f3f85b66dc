//! From the start of the process to its first answer in a black hole, with 5,000 pods in the store: as `cache/start`, which
//! has the refused ones. The hole was there before the process ended, or came while none ran.

use std::time::Duration;

use anyhow::Result;

use super::uplink;
use crate::Link;
use crate::bench::cache::start::{PATIENCE, first_answer, learn};
use crate::bench::{Report, Rig, Row};

/// What is learnt is committed each second, and so is that the uplink is down.
const COMMITTED: Duration = Duration::from_secs(3);

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let (mut clean, mut killed, mut since) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rig.repeats {
        let name = learn(rig)?;
        clean.push(in_the_dark(rig, &name, |rig| {
            rig.holdfast.terminate(PATIENCE).map(drop)
        })?);
        let name = learn(rig)?;
        killed.push(in_the_dark(rig, &name, |rig| rig.holdfast.kill())?);
        let name = learn(rig)?;
        rig.holdfast.terminate(PATIENCE)?;
        let link = Link::cut(rig.node)?;
        since.push(first_answer(rig, &name)?);
        link.restore()?;
    }
    for (what, values, aim) in [
        ("in the black hole that it was stopped in", clean, "150"),
        ("in the one that it was killed in (-9)", killed, "300"),
        ("in one that came after a clean stop", since, ""),
    ] {
        report.add(Row {
            what: format!("start to first answer, 5,000 pods, {what}"),
            arm: "holdfast",
            unit: "ms",
            values,
            aim,
        });
    }
    Ok(())
}

/// Cuts the link, ends Holdfast when it has noticed, and starts it again.
fn in_the_dark(
    rig: &mut Rig<'_>,
    name: &str,
    end: impl FnOnce(&mut Rig<'_>) -> Result<()>,
) -> Result<f64> {
    uplink(rig, "up")?;
    let link = Link::cut(rig.node)?;
    uplink(rig, "down")?;
    std::thread::sleep(COMMITTED);
    end(rig)?;
    let took = first_answer(rig, name)?;
    link.restore()?;
    Ok(took)
}

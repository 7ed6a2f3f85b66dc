//! From the start of the process to its first answer in a black hole, with 5,000 pods in the store: as `cache/start`, which
//! has the refused ones.

use anyhow::Result;

use crate::Link;
use crate::bench::cache::start::{PATIENCE, first_answer, interrupt, learn};
use crate::bench::{Report, Rig, Row};

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..rig.repeats {
        let name = learn(rig)?;
        rig.holdfast.terminate(PATIENCE)?;
        clean.push(in_a_black_hole(rig, &name)?);
        let name = learn(rig)?;
        interrupt(rig)?;
        killed.push(in_a_black_hole(rig, &name)?);
    }
    for (what, values, aim) in [("a clean stop", clean, "150"), ("kill -9", killed, "300")] {
        report.add(Row {
            what: format!("start to first answer, 5,000 pods, black hole, after {what}"),
            arm: "holdfast",
            unit: "ms",
            values,
            aim,
        });
    }
    Ok(())
}

fn in_a_black_hole(rig: &mut Rig<'_>, name: &str) -> Result<f64> {
    let link = Link::cut(rig.node)?;
    let took = first_answer(rig, name)?;
    link.restore()?;
    Ok(took)
}

//! What has to be shipped.

use std::fs;

use anyhow::Result;

use super::{Part, Report, Rig, Row};
use crate::assets;

pub(super) const PARTS: &[Part] = &[Part {
    name: "size/binary",
    what: "the size of the program",
    run,
}];

fn run(_: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    // The release profile strips it.
    let bytes = fs::metadata(assets::holdfast()?)?.len();
    report.add(Row {
        what: "the program, stripped, its libraries but for libc included".to_owned(),
        arm: super::arm::HOLDFAST,
        unit: "MB",
        values: vec![bytes as f64 / 1e6],
        aim: "9",
    });
    Ok(())
}

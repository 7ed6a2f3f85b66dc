//! What a watch event costs the disk: 100 pod statuses a second, of 30 hot pods and of any of 2,000.

use std::time::Duration;

use anyhow::Result;

use super::{CLUSTER, PODS};
use crate::bench::follow::Follower;
use crate::bench::replay::{Pick, Train};
use crate::bench::{Report, Rig, Row, process};

const RATE: f64 = 100.0;
/// Two minutes: the journal is folded in them, and once more when it is quiet.
const EVENTS: u64 = 12_000;
/// Longer than `commitInterval`, and than what is put off until nothing is learnt: all that the events cost is counted.
const QUIET: Duration = Duration::from_secs(12);
/// What Holdfast counts where it writes.
const WRITTEN: &str = "holdfast_cache_written_bytes_total";
const SYNCS: &str = "holdfast_cache_syncs_total";

/// Counters of the process at one time.
struct Counters {
    seam: Option<f64>,
    syncs: Option<f64>,
    kernel: f64,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    rig.replay()?;
    for (pods, pick, aim) in [
        ("30 hot pods", Pick::Hot(30), "1000"),
        ("2,000 random pods", Pick::Random, "6000"),
    ] {
        let (mut seam, mut syncs, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rig.repeats {
            let (before, after) = once(rig, pick)?;
            let each = |before: f64, after: f64| (after - before) / EVENTS as f64;
            kernel.push(each(before.kernel, after.kernel));
            seam.extend(before.seam.zip(after.seam).map(|(b, a)| each(b, a)));
            syncs.extend(before.syncs.zip(after.syncs).map(|(b, a)| each(b, a)));
        }
        for (what, unit, values, aim) in [
            ("bytes written by the store", "B", seam, aim),
            ("syncs", "", syncs, ""),
            ("bytes written, by /proc/PID/io", "B", kernel, aim),
        ] {
            report.add(Row {
                what: format!("{what} per pod-status event, 100 a second of {pods}"),
                arm: "holdfast",
                unit,
                values,
                aim,
            });
        }
    }
    Ok(())
}

fn once(rig: &mut Rig<'_>, pods: Pick) -> Result<(Counters, Counters)> {
    rig.replay()?.fill(PODS, CLUSTER);
    rig.fresh()?;
    rig.teach(CLUSTER)?;
    let mut follower = Follower::start(&rig.node.netns(), &rig.through, CLUSTER)?;
    rig.settle(QUIET)?;
    let before = counters(rig)?;
    let played = rig.replay()?.play(Train {
        namespace: CLUSTER,
        pods,
        events: EVENTS,
        rate: Some(RATE),
    })?;
    follower.delays(&played)?;
    rig.settle(QUIET)?;
    let after = counters(rig)?;
    follower.end()?;
    Ok((before, after))
}

fn counters(rig: &Rig<'_>) -> Result<Counters> {
    Ok(Counters {
        seam: process::metric(&rig.holdfast, WRITTEN)?,
        syncs: process::metric(&rig.holdfast, SYNCS)?,
        kernel: process::written(rig.pid()?)? as f64,
    })
}

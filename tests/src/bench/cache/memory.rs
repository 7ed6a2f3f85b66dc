//! Resident memory: idle, with a list of 18 MB cached, while ten such lists stream, and after a storm of them.

use std::time::Duration;

use anyhow::Result;

use super::{CLUSTER, PODS};
use crate::bench::rig::pods;
use crate::bench::{Report, Rig, Row, load, process};

/// Lists at once.
const LISTS: usize = 10;
/// A storm: so many rounds of them, and of as many that hang up in the middle.
const ROUNDS: usize = 3;
/// Where those hang up.
const CUT_AFTER: usize = 6 * 1024 * 1024;
/// What is freed late is freed by then.
const QUIET: Duration = Duration::from_secs(10);
const MB: f64 = 1e6;

#[derive(Default)]
struct Seen {
    idle: Vec<f64>,
    cached: Vec<f64>,
    growth: Vec<f64>,
    storm: Vec<f64>,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    rig.replay()?.fill(PODS, CLUSTER);
    let mut seen = Seen::default();
    for _ in 0..rig.repeats {
        once(rig, &mut seen)?;
    }
    let mut add = |what: &str, unit, values, aim| {
        report.add(Row {
            what: what.to_owned(),
            arm: "holdfast",
            unit,
            values,
            aim,
        });
    };
    add("RSS idle", "MB", seen.idle, "12");
    add("RSS with a LIST of 18 MB cached", "MB", seen.cached, "24");
    add(
        "growth while ten such LISTs stream at once, each",
        "MB",
        seen.growth,
        "2",
    );
    add(
        "RSS 10 s after a storm of 60 LISTs, half of them cut off",
        "MB",
        seen.storm,
        "",
    );
    Ok(())
}

fn once(rig: &mut Rig<'_>, seen: &mut Seen) -> Result<()> {
    let mb = |bytes: u64| bytes as f64 / MB;
    // From nothing, so that no memory is left over from a list before.
    let (pid, idle) = idle(rig)?;
    seen.idle.push(mb(idle));
    process::forget_peak(pid)?;
    rig.read(&[CLUSTER; LISTS])?;
    let growth = process::peak(pid)?.saturating_sub(idle);
    seen.growth.push(mb(growth) / LISTS as f64);

    let (pid, _) = self::idle(rig)?;
    rig.teach(CLUSTER)?;
    std::thread::sleep(QUIET);
    seen.cached.push(mb(process::rss(pid)?));

    let netns = rig.node.netns();
    for _ in 0..ROUNDS {
        rig.read(&[CLUSTER; LISTS])?;
        load::cut_off(&netns, &rig.through, &pods(CLUSTER), LISTS, CUT_AFTER)?;
    }
    std::thread::sleep(QUIET);
    seen.storm.push(mb(process::rss(pid)?));
    Ok(())
}

/// A new process that has nothing to do; its memory.
fn idle(rig: &mut Rig<'_>) -> Result<(u32, u64)> {
    rig.fresh()?;
    std::thread::sleep(QUIET);
    let pid = rig.pid()?;
    Ok((pid, process::rss(pid)?))
}

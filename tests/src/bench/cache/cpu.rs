//! What a GET costs Holdfast while the upstream is there: forwarded, and learnt on its way.

use anyhow::{Context, Result};

use super::{CLUSTER, PODS};
use crate::bench::rig::pods;
use crate::bench::{Report, Rig, Row, load, process};

/// Connections at once, and GETs on each.
const GETS: [(usize, usize); 2] = [(1, 4_000), (16, 500)];

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let replay = rig.replay()?;
    replay.fill(PODS, CLUSTER);
    let name = replay.a_pod(CLUSTER).context("a pod")?;
    rig.fresh()?;
    let path = format!("{}/{name}", pods(CLUSTER));
    let (netns, pid) = (rig.node.netns(), rig.pid()?);
    for (connections, requests) in GETS {
        let mut values = Vec::new();
        for _ in 0..rig.repeats {
            let before = process::cpu(pid)?;
            load::get(&netns, &rig.through, &path, connections, requests)?;
            let spent = process::cpu(pid)? - before;
            values.push(spent * 1e6 / (connections * requests) as f64);
        }
        report.add(Row {
            what: format!(
                "CPU of a GET of a pod of 9 KB, learnt on its way, {connections} connections"
            ),
            arm: "holdfast",
            unit: "us",
            values,
            aim: "",
        });
    }
    Ok(())
}

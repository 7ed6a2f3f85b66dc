//! What a proxy adds to a GET of a pod of 9 KB: an open loop on one connection. The real API server takes a millisecond,
//! more or less; what is recorded of it is played in a tenth of that, so that the proxies' own part is seen.

use anyhow::{Context, Result};

use super::{CLUSTER, PROTOCOLS, pod, with_pods};
use crate::bench::arm::in_turn;
use crate::bench::client::Protocol;
use crate::bench::report::{Curve, percentile};
use crate::bench::rig::pods;
use crate::bench::{Report, Rig, load};

/// GETs due in a second, a fifth of what two cores can do.
const RATE: f64 = 200.0;
/// Of them in each turn: two seconds, so that the cache commits meanwhile.
const GETS: usize = 400;
/// The same of the real API server, which now and then stands still for fifty milliseconds: in ten seconds that is of a share that a P99
/// bears, in two it is all that a P99 shows.
const REAL_GETS: usize = 2_000;

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    with_pods(rig, 1, |rig, names| {
        rig.fresh()?;
        measure(rig, report, &pod(names.first().context("a pod")?))
    })?;
    let replay = rig.replay()?;
    replay.fill(1, CLUSTER);
    let name = replay.a_pod(CLUSTER).context("a pod")?;
    rig.fresh()?;
    measure(rig, report, &format!("{}/{name}", pods(CLUSTER)))
}

fn measure(rig: &mut Rig<'_>, report: &mut Report, path: &str) -> Result<()> {
    for protocol in PROTOCOLS {
        one(rig, report, path, protocol)?;
    }
    Ok(())
}

fn one(rig: &mut Rig<'_>, report: &mut Report, path: &str, protocol: Protocol) -> Result<()> {
    let gets = match rig.replay {
        Some(_) => GETS,
        None => REAL_GETS,
    };
    let taken = in_turn(rig, |rig, arm| {
        let client = rig.arm(arm)?.client.speaking(protocol);
        load::open(&rig.node.netns(), &client, path, RATE, gets)
    })?;
    let how = format!("1 connection, {protocol}, {}", rig.upstream());
    for (name, share, aim) in [("P50", 0.5, "0.1"), ("P99", 0.99, "nginx's")] {
        let at = |took: &Vec<f64>| percentile(took, share);
        let what = format!("GET of a pod of 9 KB, {name}, {how}");
        taken.each(report, (&what, "ms", ""), at);
        let what = format!("GET of a pod of 9 KB, added {name}, {how}");
        taken.proxies(report, (&what, "ms", aim), |took, direct| {
            at(took) - at(direct)
        });
    }
    // The API server's own noise would be all that is seen of it.
    let plotted = rig.replay.is_some();
    for (arm, repeats) in taken.arms().filter(|_| plotted) {
        report.draw(Curve::new(
            format!("GET of a pod of 9 KB, {how}"),
            arm,
            repeats.concat(),
        ));
    }
    Ok(())
}

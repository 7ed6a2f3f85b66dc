//! Watch events in a second: as many as the client takes, directly and through Holdfast in turn; and the delay of each at
//! 5,000 in a second.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{CLUSTER, PODS};
use crate::bench::client::Client;
use crate::bench::follow::Follower;
use crate::bench::replay::{Pick, Train};
use crate::bench::report::percentile;
use crate::bench::{Report, Rig, Row};
use crate::eventually;

const UNPACED: u64 = 30_000;
const RATE: f64 = 5_000.0;
const PACED: u64 = 50_000;
/// The second reader is behind by what is queued, no more.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Arm {
    rate: Vec<f64>,
    median: Vec<f64>,
    tail: Vec<f64>,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    rig.replay()?;
    let (mut direct, mut holdfast) = (Arm::default(), Arm::default());
    let mut learnt = Vec::new();
    for _ in 0..rig.repeats {
        rig.replay()?.fill(PODS, CLUSTER);
        rig.fresh()?;
        once(rig, &rig.direct, &mut direct)?;
        let last = once(rig, &rig.through, &mut holdfast)?;
        learnt.push(match all_learnt(rig, last) {
            Ok(()) => 100.0,
            Err(error) => {
                eprintln!("  {error:#}");
                0.0
            }
        });
    }
    for (arm, seen) in [("direct", direct), ("holdfast", holdfast)] {
        for (what, unit, values, aim) in [
            ("watch events in a second, unpaced", "/s", seen.rate, "5000"),
            (
                "delay of an event at 5,000 a second, P50",
                "ms",
                seen.median,
                "",
            ),
            (
                "delay of an event at 5,000 a second, P99",
                "ms",
                seen.tail,
                "",
            ),
        ] {
            report.add(Row {
                what: what.to_owned(),
                arm,
                unit,
                values,
                aim,
            });
        }
    }
    report.add(Row {
        what: "runs after which the cache had every event".to_owned(),
        arm: "holdfast",
        unit: "%",
        values: learnt,
        aim: "100",
    });
    Ok(())
}

fn once(rig: &Rig<'_>, client: &Client, arm: &mut Arm) -> Result<u64> {
    let mut follower = Follower::start(&rig.node.netns(), client, CLUSTER)?;
    let train = Train {
        namespace: CLUSTER,
        pods: Pick::Random,
        events: UNPACED,
        rate: None,
    };
    let Some(replay) = &rig.replay else {
        anyhow::bail!("the replay does not run");
    };
    let played = replay.play(train)?;
    arm.rate.push(follower.rate(&played)?);
    let played = replay.play(Train {
        events: PACED,
        rate: Some(RATE),
        ..train
    })?;
    let delays = follower.delays(&played)?;
    arm.median.push(percentile(&delays, 0.5));
    arm.tail.push(percentile(&delays, 0.99));
    follower.end()?;
    Ok(played.first + PACED - 1)
}

fn all_learnt(rig: &Rig<'_>, last: u64) -> Result<()> {
    eventually("the cache to know the last event", KNOWN_WITHIN, || {
        let known = rig.learnt(CLUSTER)?;
        ensure!(known == last, "{known} of {last} is known");
        Ok(())
    })
}

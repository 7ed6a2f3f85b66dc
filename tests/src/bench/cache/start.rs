//! From the start of the process to its first answer, with 5,000 pods in the store and the upstream refused: after a clean
//! stop, and after a SIGKILL while events were learnt.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::client::{Client, Counted};
use crate::bench::follow::Follower;
use crate::bench::replay::{Pick, Train};
use crate::bench::rig::pods;
use crate::bench::within::within;
use crate::bench::{Report, Rig, Row};

const PODS: usize = 5_000;
/// Their namespace in the replay.
const BIG: &str = "big";
/// Events before the SIGKILL, at this many a second, and the time of the SIGKILL after the first.
const EVENTS: u64 = 400;
const RATE: f64 = 100.0;
const KILLED_AFTER: Duration = Duration::from_millis(2_500);
/// Nothing that is measured here takes longer.
pub(in crate::bench) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries of a client.
const RETRY: Duration = Duration::from_millis(1);

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..rig.repeats {
        let name = learn(rig)?;
        rig.holdfast.terminate(PATIENCE)?;
        clean.push(refused(rig, &name)?);
        let name = learn(rig)?;
        interrupt(rig)?;
        killed.push(refused(rig, &name)?);
    }
    for (what, values, aim) in [("a clean stop", clean, "150"), ("kill -9", killed, "300")] {
        report.add(Row {
            what: format!("start to first answer, 5,000 pods, refused, after {what}"),
            arm: "holdfast",
            unit: "ms",
            values,
            aim,
        });
    }
    Ok(())
}

/// Holdfast knows all pods; the name of one.
pub(in crate::bench) fn learn(rig: &mut Rig<'_>) -> Result<String> {
    let replay = rig.replay()?;
    replay.fill(PODS, BIG);
    let name = replay.a_pod(BIG).context("a pod")?;
    rig.fresh()?;
    rig.teach(BIG)?;
    std::thread::sleep(KILLED_AFTER);
    Ok(name)
}

/// SIGKILL in the middle of learning.
fn interrupt(rig: &mut Rig<'_>) -> Result<()> {
    let follower = Follower::start(&rig.node.netns(), &rig.through, BIG)?;
    let replay = rig.replay.as_ref().context("the replay runs")?;
    let holdfast = &mut rig.holdfast;
    std::thread::scope(|scope| {
        let playing = scope.spawn(|| {
            replay.play(Train {
                namespace: BIG,
                pods: Pick::Random,
                events: EVENTS,
                rate: Some(RATE),
            })
        });
        std::thread::sleep(KILLED_AFTER);
        holdfast.kill()?;
        playing.join().ok().context("playing panicked")?.map(drop)
    })?;
    drop(follower);
    Ok(())
}

fn refused(rig: &mut Rig<'_>, name: &str) -> Result<f64> {
    // Nobody listens there any more.
    rig.replay = None;
    first_answer(rig, name)
}

/// Milliseconds from the start of the process to its answer from the cache.
pub(in crate::bench) fn first_answer(rig: &mut Rig<'_>, name: &str) -> Result<f64> {
    let path = format!("{}/{name}", pods(BIG));
    let started = Instant::now();
    rig.holdfast.launch()?;
    let answer = within(&rig.node.netns(), || async {
        let tries = until_answered(&rig.through, &path);
        Ok(tokio::time::timeout(PATIENCE, tries).await?)
    })?;
    let took = started.elapsed();
    ensure!(
        answer.headers.contains_key("holdfast-origin"),
        "answered by another: {:?}",
        answer.headers
    );
    Ok(took.as_secs_f64() * 1e3)
}

async fn until_answered(client: &Client, path: &str) -> Counted {
    loop {
        match client.get_once(path).await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

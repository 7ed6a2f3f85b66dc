//! Resident memory of the proxies: with nothing to do, after a LIST of 18 MB, and with 1,000 watches that hear nothing.

use std::time::Duration;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{CLUSTER, PODS};
use crate::bench::arm::{DIRECT, HOLDFAST, in_turn};
use crate::bench::client::{Client, Connection};
use crate::bench::rig::{CANARY, pods};
use crate::bench::within::within;
use crate::bench::{Report, Rig, follow, load};

const WATCHES: usize = 1_000;
/// The bench has one descriptor for each watch as its client, and one as its upstream.
const DESCRIPTORS: u64 = 4 * WATCHES as u64;
/// What is freed late is freed by then.
const QUIET: Duration = Duration::from_secs(3);
/// Lists of a proxy that keeps nothing: its buffers are as large as they get.
const LISTS: usize = 3;

struct Seen {
    idle: f64,
    watch: f64,
    peak: f64,
    cached: f64,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(
        Resource::RLIMIT_NOFILE,
        soft.max(DESCRIPTORS.min(hard)),
        hard,
    )?;
    rig.replay()?.fill(PODS, CLUSTER);
    let taken = in_turn(rig, once)?;
    let mut add = |what: &str, unit, scale: f64, aim, of: fn(&Seen) -> f64| {
        let what = format!("{what}, HTTP/1.1, replay");
        taken.proxies(report, (&what, unit, aim), |seen, _| of(seen) / scale);
    };
    add("RSS idle", "MB", 1e6, "12", |seen| seen.idle);
    add(
        "RSS after a LIST of 18 MB, cached if it caches",
        "MB",
        1e6,
        "24",
        |seen| seen.cached,
    );
    add("RSS at most while it passes", "MB", 1e6, "", |seen| {
        seen.peak
    });
    add(
        "memory of an idle watch, 1,000 of them",
        "KB",
        1e3,
        "32",
        |seen| seen.watch,
    );
    Ok(())
}

fn once(rig: &mut Rig<'_>, name: &'static str) -> Result<Seen> {
    let mut seen = Seen {
        idle: f64::NAN,
        watch: f64::NAN,
        peak: f64::NAN,
        cached: f64::NAN,
    };
    if name == DIRECT {
        return Ok(seen);
    }
    let netns = rig.node.netns();
    rig.renew(name)?;
    let arm = rig.arm(name)?;
    std::thread::sleep(QUIET);
    seen.idle = arm.rss()?;
    let watched = within(&netns, || async {
        let open = watch(&arm.client).await?;
        tokio::time::sleep(QUIET).await;
        let rss = arm.rss();
        drop(open);
        rss
    })?;
    seen.watch = (watched - seen.idle) / WATCHES as f64;

    // From nothing again: what the watches left is no part of a list.
    rig.renew(name)?;
    let arm = rig.arm(name)?;
    arm.forget_peak()?;
    if name == HOLDFAST {
        rig.teach(CLUSTER)?;
    } else {
        load::get(&netns, &arm.client, &pods(CLUSTER), 1, LISTS)?;
    }
    seen.peak = arm.peak()?;
    std::thread::sleep(QUIET);
    seen.cached = arm.rss()?;
    Ok(seen)
}

/// Watches of a namespace in which nothing happens, each on a connection of its own.
async fn watch(client: &Client) -> Result<Vec<(Connection, hyper::body::Incoming)>> {
    let path = pods(CANARY);
    let mut open = Vec::with_capacity(WATCHES);
    for _ in 0..WATCHES {
        let mut connection = client.connect().await?;
        let watch = follow::open(&mut connection, &path).await?;
        open.push((connection, watch));
    }
    Ok(open)
}

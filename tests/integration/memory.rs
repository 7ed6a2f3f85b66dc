//! What is large passes, and does not stay: bodies of 100 MB, and lists by the dozen, through the real binary.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use holdfast_tests::bench::rig::pods;
use holdfast_tests::bench::within::within;
use holdfast_tests::bench::{Rig, load, process};
use holdfast_tests::holdfast::MALLOC_ARENA_MAX;
use holdfast_tests::{Node, eventually};
use http::Method;

const MIB: u64 = 1024 * 1024;
const BODY: usize = 100 * 1024 * 1024;
/// So many pods make a LIST of some 100 MB, and of some 9.
const PODS_OF_A_BODY: usize = 11_000;
const PODS: usize = 1_000;

/// How much a body may add to the process, whatever its length: the windows of both connections and what TLS has in hand.
const GROWTH_OF_A_BODY: u64 = 8 * MIB;
/// How much more, where the cache reads along: what it may be behind by (`tee`), what it has read and not yet written (early
/// commits keep that near 4 MiB where the disk keeps up), and the store's page cache.
const GROWTH_OF_LEARNING: u64 = 16 * MIB;

/// Lists at once in the storm, and where half of them hang up.
const LISTS: usize = 4;
const CUT_AFTER: usize = 3 * 1024 * 1024;
/// What one list of 1,000 pods may leave behind: what is known of each, the store's page cache, and code that ran for the
/// first time.
const LEFT_BY_A_LIST: u64 = 24 * MIB;
/// How much more a storm of them may.
const LEFT_BY_A_STORM: u64 = 4 * MIB;
/// The disk is not written to for so long: what was learnt is committed.
const SETTLED: Duration = Duration::from_secs(2);
/// Freed memory is back by then: it is given back every 10 s, and less often where that takes its time (`runtime::heap`).
const BACK_WITHIN: Duration = Duration::from_secs(25);

#[test]
fn bodies_of_100_mb_pass_and_the_memory_stays_within_its_bound() -> Result<()> {
    let node = Node::new()?;
    let mut rig = Rig::new(&node, 1)?;
    rig.replay()?.fill(PODS_OF_A_BODY, "big");
    rig.fresh()?;
    let (list, eviction) = (pods("big"), format!("{}/one/eviction", pods("big")));
    let log = format!("{}/one/log?limitBytes={BODY}", pods("big"));
    grows(&rig, GROWTH_OF_A_BODY, || read(&rig, &log)).context("a log")?;
    grows(&rig, GROWTH_OF_A_BODY, || upload(&rig, &list)).context("a CREATE")?;
    grows(&rig, GROWTH_OF_A_BODY, || upload(&rig, &eviction)).context("an eviction")?;
    // Last: what it leaves behind would hide what the others need.
    let learnt = GROWTH_OF_A_BODY + GROWTH_OF_LEARNING;
    grows(&rig, learnt, || read(&rig, &list)).context("a LIST")
}

/// Does what passes so many bytes; the process grows by no more than `bound` meanwhile.
fn grows(rig: &Rig<'_>, bound: u64, exchange: impl FnOnce() -> Result<usize>) -> Result<()> {
    let pid = rig.pid()?;
    process::forget_peak(pid)?;
    let before = process::rss(pid)?;
    let bytes = exchange()?;
    ensure!(bytes >= BODY * 9 / 10, "only {bytes} bytes passed");
    let growth = process::peak(pid)?.saturating_sub(before);
    ensure!(growth <= bound, "{growth} bytes more than before");
    Ok(())
}

fn read(rig: &Rig<'_>, path: &str) -> Result<usize> {
    let answer = within(&rig.node.netns(), || rig.through.get_once(path))?;
    Ok(answer.bytes)
}

/// How much of a body the upstream says it got.
fn upload(rig: &Rig<'_>, path: &str) -> Result<usize> {
    let body = Bytes::from(vec![b' '; BODY]);
    let said = within(&rig.node.netns(), || async {
        let mut connection = rig.through.connect().await?;
        connection.write(Method::POST, path, body).await
    })?;
    let said: serde_json::Value = serde_json::from_slice(&said)?;
    let read = said["message"].as_str().context("a message")?;
    Ok(read.parse()?)
}

#[test]
fn the_daemon_set_has_the_allocator_that_is_tested_here() -> Result<()> {
    let text = std::fs::read_to_string(holdfast_tests::assets::source("deploy/30-daemonset.yaml"))?;
    let wanted = format!("{{name: MALLOC_ARENA_MAX, value: \"{MALLOC_ARENA_MAX}\"}}");
    ensure!(text.contains(&wanted), "{text}");
    Ok(())
}

#[test]
fn what_a_storm_of_lists_took_goes_back_to_the_system() -> Result<()> {
    let node = Node::new()?;
    let mut rig = Rig::new(&node, 1)?;
    rig.replay()?.fill(PODS, "cluster");
    rig.fresh()?;
    let pid = rig.pid()?;
    let idle = process::rss(pid)?;
    rig.teach("cluster")?;
    rig.settle(SETTLED)?;
    let before = process::rss(pid)?;
    let list = before.saturating_sub(idle);
    ensure!(list <= LEFT_BY_A_LIST, "one list left {list} bytes");
    rig.read(&["cluster"; LISTS])?;
    let (netns, path) = (node.netns(), pods("cluster"));
    load::cut_off(&netns, &rig.through, &path, LISTS, CUT_AFTER)?;
    let peak = process::peak(pid)?.saturating_sub(before);
    eventually("the memory to be back", BACK_WITHIN, || {
        let left = process::rss(pid)?.saturating_sub(before);
        ensure!(
            left <= LEFT_BY_A_STORM,
            "{left} bytes more than before, {peak} at most"
        );
        Ok(())
    })
}

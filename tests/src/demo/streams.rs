//! Line 7.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::offline::{after, now};
use super::scene::Fault;
use super::{Report, SLACK, Scene};
use crate::fixtures::{CONFIGMAPS, MENUS, SHOP, WEB};

/// A WatchList from the cache needs no upstream.
const SYNCED_WITHIN: Duration = Duration::from_secs(5);
/// How long a stream is looked at before it counts as held.
const HELD: Duration = Duration::from_secs(4);

pub(super) fn watches_go_on(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let held = pod.informer("held", &["-namespace", SHOP])?;
    held.synced(SYNCED_WITHIN * SLACK)?;
    // The informer reads protobuf, the plain watch below JSON: what was read in neither encoding is told in neither.
    scene.teach(&pod)?;
    let struck = now();
    scene.strike(Fault::Refused)?;

    let fresh = pod.informer("fresh", &["-namespace", SHOP, "-requests"])?;
    let synced = fresh.synced(SYNCED_WITHIN * SLACK)?;
    ensure!(
        synced["items"].as_u64() >= u64::try_from(MENUS).ok(),
        "too few objects: {synced}"
    );
    let listed = fresh.lines().iter().any(|line| {
        line["event"] == "request"
            && !line["url"]
                .as_str()
                .unwrap_or_default()
                .contains("watch=true")
    });
    ensure!(!listed, "the informer fell back to LIST: {}", fresh.tail());
    report.took(
        "informer started offline: synced by WatchList",
        Duration::from_secs_f64(synced["ms"].as_f64().unwrap_or_default() / 1000.0),
    );

    let path = format!(
        "{CONFIGMAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=300"
    );
    let stream = pod.run(pod.get(&path).at_most(HELD))?;
    ensure!(
        stream.status == 200 && stream.exit == 28,
        "it did not stay open: {} {}",
        stream.status,
        stream.error
    );
    ensure!(
        stream.text().contains("k8s.io/initial-events-end"),
        "no end of the initial events: {}",
        stream.text()
    );
    report.saw(
        "watch opened offline",
        format!("still open after {} s", HELD.as_secs()),
    );

    let troubled = held
        .lines()
        .into_iter()
        .find(|line| after(line, struck) && line["error"].is_string());
    ensure!(
        troubled.is_none() && held.runs(),
        "the held watch was troubled: {troubled:?}"
    );
    report.saw("watch held from before", "still open, no error");
    Ok(report)
}

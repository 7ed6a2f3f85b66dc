//! Line 10.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::offline::{after, now};
use super::scene::Fault;
use super::{Report, SLACK, Scene};
use crate::fixtures::{SHOP, WEB, WIDGETS, WIDGETS_GVR, change, configmap, delete};
use crate::{Process, eventually};

/// Back within the probe's second while down, the jitter of the demo's config, and the resumption itself.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);
/// Longer than anything still on its way would need.
const SETTLED: Duration = Duration::from_secs(2);
const SYNCED_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn nothing_is_missed(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    for name in ["stays", "leaves"] {
        configmap(&scene.api, name, "soup")?;
    }
    let (pod, second) = (scene.reaching_pod(WEB)?, scene.reaching_pod(WEB)?);
    let streams = [
        (
            "informer of ConfigMaps",
            "configmaps",
            pod.informer("configmaps", &["-namespace", SHOP])?,
        ),
        (
            "informer of ConfigMaps, second pod",
            "configmaps",
            second.informer("configmaps", &["-namespace", SHOP])?,
        ),
        (
            "informer of Widgets",
            "widgets",
            pod.informer("widgets", &["-namespace", SHOP, "-gvr", WIDGETS_GVR])?,
        ),
    ];
    for (_, _, process) in &streams {
        process.synced(SYNCED_WITHIN)?;
    }
    let (mark, cut) = (scene.api.audit().mark()?, now());
    scene.strike(Fault::BlackHole)?;
    let dark = std::time::Instant::now();
    change_things(scene)?;
    // The outage is a length of time by its nature.
    std::thread::sleep(scene.outage.saturating_sub(dark.elapsed()));
    report.took("the link was cut for", dark.elapsed());
    let back = now();
    scene.restore()?;

    for (what, resource, process) in &streams {
        let expected = expected(resource);
        let last = eventually(
            &format!("the missed events at the {what}"),
            RESUMED_WITHIN * SLACK,
            || {
                let (seen, last) = events(process, cut);
                ensure!(seen == expected, "it saw {seen:?} and not {expected:?}");
                Ok(last)
            },
        )?;
        report.took(
            format!("{what}: all events, from the link's return"),
            Duration::from_secs_f64((last - back).max(0.0) / 1000.0),
        );
    }
    std::thread::sleep(SETTLED);
    for (what, resource, process) in &streams {
        let (seen, _) = events(process, cut);
        ensure!(
            seen == expected(resource),
            "{what}: more than it missed: {seen:?}"
        );
        let troubled = process
            .lines()
            .into_iter()
            .find(|line| after(line, cut) && line["error"].is_string());
        ensure!(
            troubled.is_none() && process.runs(),
            "{what}: its stream broke: {troubled:?}"
        );
        report.saw(format!("{what}: events"), seen.values().sum::<usize>());
    }
    audited(
        scene,
        mark,
        &streams.each_ref().map(|(_, resource, _)| *resource),
        &mut report,
    )?;
    Ok(report)
}

/// Behind Holdfast's back, at the API server itself.
fn change_things(scene: &Scene<'_>) -> Result<()> {
    configmap(&scene.api, "arrives", "pie")?;
    configmap(&scene.api, "passes", "pie")?;
    change(&scene.api, "stays", "stew")?;
    delete(&scene.api, "leaves")?;
    delete(&scene.api, "passes")?;
    let widget =
        json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": "mixer"}});
    scene.api.create(WIDGETS, &widget)?;
    scene.api.admin(
        "PATCH",
        &format!("{WIDGETS}/oven"),
        Some(&json!({"spec": {"size": 4}})),
    )?;
    scene
        .api
        .admin("DELETE", &format!("{WIDGETS}/mixer"), None)?;
    Ok(())
}

type Events = BTreeMap<(String, String), usize>;

fn expected(resource: &str) -> Events {
    let events: &[(&str, &str)] = match resource {
        "widgets" => &[("add", "mixer"), ("update", "oven"), ("delete", "mixer")],
        _ => &[
            ("add", "arrives"),
            ("add", "passes"),
            ("update", "stays"),
            ("delete", "leaves"),
            ("delete", "passes"),
        ],
    };
    events
        .iter()
        .map(|(event, name)| (((*event).to_owned(), (*name).to_owned()), 1))
        .collect()
}

/// What an informer told since `cut`, and when it told the last of it.
fn events(process: &Process, cut: f64) -> (Events, f64) {
    let mut seen = Events::new();
    let mut last = cut;
    for line in process
        .lines()
        .iter()
        .filter(|line| after(line, cut) && !line["name"].is_null())
    {
        // An update to the same RV, or a tombstone, is a relist that says it was none.
        let relisted =
            line["tombstone"] == true || (line["event"] == "update" && line["oldRV"] == line["rv"]);
        let event = if relisted {
            "relisted"
        } else {
            text(line, "event")
        };
        *seen
            .entry((event.to_owned(), text(line, "name").to_owned()))
            .or_default() += 1;
        last = line["t"].as_f64().unwrap_or(last);
    }
    (seen, last)
}

fn text<'v>(line: &'v Value, key: &str) -> &'v str {
    line[key].as_str().unwrap_or_default()
}

/// What reached the API server since the cut: no LIST (a WatchList is one), and at most one WATCH per stream.
fn audited(
    scene: &Scene<'_>,
    mark: crate::audit::Mark,
    streams: &[&str],
    report: &mut Report,
) -> Result<()> {
    let all = scene.api.audit().since(mark)?;
    for resource in ["configmaps", "widgets"] {
        let ours: Vec<_> = all
            .iter()
            .filter(|entry| {
                entry.resource == resource
                    && entry.user == format!("system:serviceaccount:{SHOP}:{WEB}")
            })
            .collect();
        let lists = ours.iter().filter(|entry| entry.is_list()).count();
        let watches = ours.iter().filter(|entry| entry.verb == "watch").count();
        let open = streams.iter().filter(|stream| **stream == resource).count();
        ensure!(lists == 0, "somebody listed {resource}: {ours:#?}");
        ensure!(
            watches <= open,
            "{watches} watches of {resource} for {open} streams: {ours:#?}"
        );
        report.saw(
            format!("audit log, {resource}"),
            format!("{lists} LIST, {watches} WATCH for {open} streams"),
        );
    }
    Ok(())
}

//! Lines 2 and 3.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{Report, Scene};
use crate::curl::Reply;
use crate::fixtures::{CONFIGMAPS, PODS, SHOP, WEB, WIDGETS, change, configmap, delete, rv};
use crate::{Pod, eventually};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// The API server writes leases of its own every 10 s, which moves the RV of every list between two reads.
const TRIES: usize = 10;
const SEEN_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn bytes_are_equal(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let before = scene.api.admin("GET", CONFIGMAPS, None)?;
    let from = rv(&before)?;
    configmap(&scene.api, "compared", "stew")?;
    change(&scene.api, "compared", "roast")?;
    delete(&scene.api, "compared")?;
    let exchanges: [Exchange; 15] = [
        ("GET", JSON, format!("{CONFIGMAPS}/menu-0")),
        ("GET", PROTOBUF, format!("{CONFIGMAPS}/menu-0")),
        ("LIST", JSON, CONFIGMAPS.to_owned()),
        ("LIST", PROTOBUF, CONFIGMAPS.to_owned()),
        ("LIST of a page", JSON, format!("{CONFIGMAPS}?limit=5")),
        ("LIST of pods", PROTOBUF, PODS.to_owned()),
        ("LIST of a custom resource", JSON, WIDGETS.to_owned()),
        ("LIST as a Table", TABLE, CONFIGMAPS.to_owned()),
        ("GET of nothing", JSON, format!("{CONFIGMAPS}/none")),
        ("forbidden LIST", JSON, "/api/v1/secrets".to_owned()),
        ("discovery", JSON, "/apis".to_owned()),
        (
            "watch",
            JSON,
            format!("{CONFIGMAPS}?watch=true&resourceVersion={from}&timeoutSeconds=1"),
        ),
        (
            "watch",
            PROTOBUF,
            format!("{CONFIGMAPS}?watch=true&resourceVersion={from}&timeoutSeconds=1"),
        ),
        ("WatchList", JSON, watch_list(CONFIGMAPS)),
        ("WatchList", PROTOBUF, watch_list(CONFIGMAPS)),
    ];
    // Side by side: each watch takes the second it asked for, three times over.
    let scene = &*scene;
    let results = std::thread::scope(|threads| {
        let pod = &pod;
        let compare = |exchange| threads.spawn(move || both_versions(scene, pod, exchange));
        let running: Vec<_> = exchanges.iter().map(compare).collect();
        running
            .into_iter()
            .map(|thread| thread.join())
            .collect::<Vec<_>>()
    });
    for result in results {
        for (what, seen) in result.map_err(|_| anyhow::anyhow!("a comparison panicked"))?? {
            report.saw(what, seen);
        }
    }
    Ok(report)
}

type Exchange = (&'static str, &'static str, String);

/// One exchange over HTTP/1.1 and over HTTP/2.
fn both_versions(
    scene: &Scene<'_>,
    pod: &Pod<'_>,
    (what, media_type, path): &Exchange,
) -> Result<Vec<(String, String)>> {
    let encoding = if *media_type == PROTOBUF {
        "protobuf"
    } else {
        "json"
    };
    let compared = ["http1.1", "http2"].map(|version| {
        let reply = compare(scene, pod, path, media_type, &format!("--{version}"))
            .with_context(|| format!("{what}, {encoding}, {version}"))?;
        Ok((
            format!("{what}, {encoding}, {version}"),
            format!("HTTP {}, {} bytes equal", reply.status, reply.body.len()),
        ))
    });
    compared.into_iter().collect()
}

fn watch_list(collection: &str) -> String {
    format!(
        "{collection}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    )
}

/// The same request direct, through Holdfast, and direct again: where both direct answers agree, so must ours.
fn compare(
    scene: &Scene<'_>,
    pod: &Pod<'_>,
    path: &str,
    media_type: &str,
    version: &str,
) -> Result<Reply> {
    let direct = || {
        scene.api.run(
            scene
                .api
                .direct(path)
                .token(&pod.admitted().token)
                .header("Accept", media_type)
                .arg(version),
        )
    };
    let mut before = direct()?;
    for _ in 0..TRIES {
        let ours = pod.run(pod.get(path).header("Accept", media_type).arg(version))?;
        let after = direct()?;
        if comparable(&before) != comparable(&after) {
            before = after;
            continue;
        }
        ensure!(!ours.body.is_empty(), "an empty answer: {ours:?}");
        ensure!(
            ours.header("holdfast-origin").is_none(),
            "answered from the cache"
        );
        if comparable(&ours) != comparable(&after) {
            bail!(
                "direct: HTTP {} {:?}\n{}\nours: HTTP {} {:?}\n{}",
                after.status,
                after.headers,
                after.text(),
                ours.status,
                ours.headers,
                ours.text()
            );
        }
        return Ok(ours);
    }
    bail!("two direct answers were never equal")
}

/// Status, media type and body. Other headers name the moment (`date`) or the request (`audit-id`).
fn comparable(reply: &Reply) -> (u16, Option<&str>, &[u8]) {
    (reply.status, reply.header("content-type"), &reply.body)
}

pub(super) fn writes_come_back(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let informer = pod.informer("watcher", &["-namespace", SHOP])?;
    informer.synced(SEEN_WITHIN)?;

    let create = pod.informer("create", &["-namespace", SHOP, "-create", "by-go"])?;
    ensure!(
        create.wait(SEEN_WITHIN)?.success(),
        "client-go's create failed: {}",
        create.tail()
    );
    let create = pod.python(
        "create",
        &["create", "--namespace", SHOP, "--name", "by-python"],
    )?;
    ensure!(
        create.wait(SEEN_WITHIN * 3)?.success(),
        "Python's create failed: {}",
        create.tail()
    );
    let body = serde_json::to_vec(&json!({"data": {"dish": "curry"}}))?;
    let patch = pod
        .get(&format!("{CONFIGMAPS}/by-go"))
        .method("PATCH")
        .body("application/merge-patch+json", &body);
    let patched = pod.run(patch)?.expect(200)?.json()?;
    let there = scene
        .api
        .admin("GET", &format!("{CONFIGMAPS}/by-go"), None)?;
    ensure!(
        there == patched,
        "the API server has another object: {there}"
    );
    for name in ["by-go", "by-python"] {
        let remove = pod.informer("delete", &["-namespace", SHOP, "-delete", name])?;
        ensure!(
            remove.wait(SEEN_WITHIN)?.success(),
            "client-go's delete failed: {}",
            remove.tail()
        );
    }
    for (event, name) in [
        ("add", "by-go"),
        ("add", "by-python"),
        ("update", "by-go"),
        ("delete", "by-go"),
        ("delete", "by-python"),
    ] {
        let what = format!("{event} of {name}");
        informer.wait_for(&what, SEEN_WITHIN, |lines| {
            lines
                .iter()
                .any(|line| line["event"] == event && line["name"] == name)
                .then_some(())
        })?;
        report.saw(what, "seen by the pod's own informer");
    }
    eventually("the API server to have none of them", SEEN_WITHIN, || {
        scene
            .api
            .request("GET", &format!("{CONFIGMAPS}/by-go"), None)?
            .expect(404)
    })?;
    Ok(report)
}

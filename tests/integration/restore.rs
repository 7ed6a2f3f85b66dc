//! An etcd that was put back from a backup: what happened since never did.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::demo::Scene;
use holdfast_tests::fixtures::{CONFIGMAPS, MENUS, PODS, SHOP, WEB, change, configmap, delete};
use holdfast_tests::{Node, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);
/// client-go lists again after a pause of its own, and an RV from the future costs it another.
const RELISTED_WITHIN: Duration = Duration::from_secs(90);
/// Changes that the restore undoes: the RVs go back by as many.
const UNDONE: usize = 40;

#[test]
fn a_restored_etcd_is_noticed_and_no_client_keeps_what_never_was() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    // Its token is bound to a pod that the restore leaves.
    let pod = scene.pod(WEB)?;
    scene.api.back_up()?;
    scene.online()?;
    eventually("the pod to reach Holdfast", SOON, || {
        pod.run(pod.get("/version"))?.expect(200).map(drop)
    })?;
    let informer = pod.informer("informer", &["-namespace", SHOP])?;
    let pods = pod.informer("pods", &["-namespace", SHOP, "-resource", "pods"])?;
    let saw = |event: &str, name: &str| {
        let found = |lines: &[Value]| {
            let mut lines = lines.iter();
            lines
                .any(|line| line["event"] == event && line["name"] == name)
                .then_some(())
        };
        informer.wait_for(&format!("{event} {name}"), RELISTED_WITHIN, found)
    };
    for watching in [&informer, &pods] {
        watching.synced(SOON)?;
    }
    configmap(&scene.api, "ghost", "soup")?;
    delete(&scene.api, "menu-1")?;
    for dish in 0..UNDONE {
        change(&scene.api, "menu-0", &format!("dish-{dish}"))?;
    }
    scene.api.admit(SHOP, "ghost-pod", WEB)?;
    saw("add", "ghost")?;
    saw("delete", "menu-1")?;
    pods.wait_for("the ghost pod", SOON, |lines| {
        let mut lines = lines.iter();
        lines.any(|line| line["name"] == "ghost-pod").then_some(())
    })?;
    pod.run(pod.get(CONFIGMAPS))?.expect(200)?;

    scene.api.put_back()?;
    scene.online()?;
    // An answer of now is older than what was known: from here on it is.
    eventually("a list of the restored state", SOON, || {
        let list = pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
        ensure!(list.header("holdfast-origin").is_none(), "from the cache");
        is_restored(&list.json()?)
    })?;
    saw("delete", "ghost")?;
    eventually("menu-1 to be back", RELISTED_WITHIN, || {
        let lines = informer.lines();
        let gone = lines
            .iter()
            .position(|line| line["event"] == "delete" && line["name"] == "menu-1");
        let back = lines
            .iter()
            .rposition(|line| line["event"] == "add" && line["name"] == "menu-1");
        ensure!(back > gone, "not yet");
        Ok(())
    })?;
    // Nobody asked for pods: their stream was in doubt, and was looked into.
    pods.wait_for("the ghost pod to go", RELISTED_WITHIN, |lines| {
        let mut lines = lines.iter();
        lines
            .any(|line| line["event"] == "delete" && line["name"] == "ghost-pod")
            .then_some(())
    })?;
    // The streams are of the new storage, and live.
    configmap(&scene.api, "after", "soup")?;
    saw("add", "after")?;
    delete(&scene.api, "after")?;
    saw("delete", "after")?;

    scene.api.kill()?;
    let list = pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    ensure!(
        list.header("holdfast-origin") == Some("cache"),
        "not from the cache"
    );
    is_restored(&list.json()?)?;
    pod.run(pod.get(&format!("{CONFIGMAPS}/ghost")))?
        .expect(404)?;
    // They were only ever read as protobuf.
    let accept = "application/vnd.kubernetes.protobuf";
    let pods = pod
        .run(pod.get(PODS).header("Accept", accept))?
        .expect(200)?;
    ensure!(
        !pods.text().contains("ghost-pod"),
        "a ghost: {}",
        pods.text()
    );
    Ok(())
}

#[test]
fn a_client_reads_in_the_dark_what_it_wrote_last() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let menu = format!("{CONFIGMAPS}/menu-0");
    pod.run(pod.get(&menu))?.expect(200)?;
    let patch = |dish: &str| {
        let patch = json!({"data": {"dish": dish}}).to_string();
        pod.get(&menu)
            .method("PATCH")
            .body("application/merge-patch+json", patch.as_bytes())
    };
    let written = pod.run(patch("stew"))?.expect(200)?.json()?;
    let dry = menu.clone() + "?dryRun=All";
    let body = br#"{"data": {"dish": "air"}}"#;
    let dry = pod.get(&dry).method("PATCH");
    pod.run(dry.body("application/merge-patch+json", body))?
        .expect(200)?;
    let created =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "new-"}});
    let create = pod.get(CONFIGMAPS).method("POST");
    let created = pod
        .run(create.body("application/json", created.to_string().as_bytes()))?
        .expect(201)?
        .json()?;
    pod.run(pod.get(&format!("{CONFIGMAPS}/menu-1")))?
        .expect(200)?;
    pod.run(pod.get(&format!("{CONFIGMAPS}/menu-1")).method("DELETE"))?
        .expect(200)?;

    scene.api.kill()?;
    let read = pod.run(pod.get(&menu))?.expect(200)?;
    ensure!(
        read.header("holdfast-origin") == Some("cache"),
        "not from the cache"
    );
    ensure!(
        read.json()? == written,
        "{} instead of {written}",
        read.text()
    );
    // It was let create it, not read it; it may read no ConfigMap but those it asked for.
    let name = created["metadata"]["name"].as_str().context("a name")?;
    pod.run(pod.get(&format!("{CONFIGMAPS}/{name}")))?
        .expect(503)?;
    pod.run(pod.get(&format!("{CONFIGMAPS}/menu-1")))?
        .expect(503)?;
    Ok(())
}

/// All that was there at the backup, and nothing since.
fn is_restored(list: &Value) -> Result<()> {
    let items = list["items"].as_array().context("a list")?;
    let names: Vec<&str> = items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    let menus = names
        .iter()
        .filter(|name| name.starts_with("menu-"))
        .count();
    ensure!(menus == MENUS && !names.contains(&"ghost"), "{names:?}");
    let first = items
        .iter()
        .find(|item| item["metadata"]["name"] == "menu-0");
    let dish = first.map(|item| &item["data"]["dish"]);
    ensure!(dish == Some(&json!("soup")), "menu-0 has {dish:?}");
    Ok(())
}

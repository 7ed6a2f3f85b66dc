//! An outage after which the API server no longer knows where the held watches were: it was restarted behind a cut link.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::audit::{Entry, Mark};
use holdfast_tests::demo::{Fault, SLACK, Scene};
use holdfast_tests::fixtures::{
    CONFIGMAPS, SHOP, WEB, WIDGETS, WIDGETS_GVR, change, configmap, delete, rv,
};
use holdfast_tests::{Node, Pod, Process, eventually};
use serde_json::{Value, json};

/// Back within the probe's second while down, the jitter of the demo's config, a list and the resumption itself.
const HEALED_WITHIN: Duration = Duration::from_secs(8);
const SYNCED_WITHIN: Duration = Duration::from_secs(20);
/// Longer than anything still on its way would need.
const SETTLED: Duration = Duration::from_secs(3);
const ALL_CONFIGMAPS: &str = "/api/v1/configmaps";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings";
const CLUSTER: &str = "/apis/rbac.authorization.k8s.io/v1";
/// Reads the ConfigMaps of all namespaces.
const AUDITOR: &str = "auditor";
/// Reads those of the shop, until it may not any more.
const GUEST: &str = "guest";
/// As [`GUEST`], but is left with its watch.
const WATCHER: &str = "watcher";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Lets an account of the shop read its ConfigMaps.
fn let_read(scene: &Scene<'_>, account: &str, verbs: &[&str]) -> Result<()> {
    let api = &scene.api;
    let role = json!({"metadata": {"name": account}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
    let binding = json!({
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SHOP}],
    });
    api.create(
        &format!("/api/v1/namespaces/{SHOP}/serviceaccounts"),
        &json!({"metadata": {"name": account}}),
    )?;
    api.create(ROLES, &role)?;
    api.create(BINDINGS, &binding).map(drop)
}

fn let_read_all(scene: &Scene<'_>, account: &str) -> Result<()> {
    let role = json!({"metadata": {"name": account}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]});
    let binding = json!({
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SHOP}],
    });
    let api = &scene.api;
    api.create(
        &format!("/api/v1/namespaces/{SHOP}/serviceaccounts"),
        &json!({"metadata": {"name": account}}),
    )?;
    api.create(&format!("{CLUSTER}/clusterroles"), &role)?;
    (api.create(&format!("{CLUSTER}/clusterrolebindings"), &binding)).map(drop)
}

/// A plain watch by curl, from a LIST of its own on; each event a line.
fn raw_watch(pod: &Pod<'_>, name: &str, path: &str, accept: &str, more: &str) -> Result<Process> {
    let of_list = accept.replace("Metadata;", "MetadataList;");
    let list = pod.run(pod.get(path).header("Accept", &of_list))?;
    let list = list.expect(200)?;
    let from = rv(&list.json()?)?.to_owned();
    let url = format!(
        "https://{}{path}?watch=true&timeoutSeconds=600&resourceVersion={from}{more}",
        holdfast_tests::node::VIP
    );
    let ca = pod.projected("ca.crt").to_string_lossy().into_owned();
    let token = format!("Authorization: Bearer {}", pod.admitted().token);
    let accept = format!("Accept: {accept}");
    let args = [
        "--silent",
        "--show-error",
        "--no-buffer",
        "--cacert",
        &ca,
        "-H",
        &token,
        "-H",
        &accept,
        &url,
    ];
    pod.spawn(name, "curl", &args)
}

fn informer(pod: &Pod<'_>, name: &str, args: &[&str]) -> Result<Process> {
    let informer = pod.informer(name, &[&["-namespace", SHOP], args].concat())?;
    informer.synced(SYNCED_WITHIN)?;
    Ok(informer)
}

/// The link is cut; behind it things change, the API server is restarted, and more changes.
fn outage(scene: &mut Scene<'_>, also: impl FnOnce(&Scene<'_>) -> Result<()>) -> Result<Mark> {
    scene.strike(Fault::BlackHole)?;
    // Holdfast knows of it when an answer is the cache's.
    eventually("the outage to be noticed", SYNCED_WITHIN, || {
        let reply = scene.early.run(scene.early.get("/version"))?;
        ensure!(reply.header("holdfast-origin").is_some() || reply.status == 503);
        Ok(())
    })?;
    configmap(&scene.api, "arrives", "pie")?;
    configmap(&scene.api, "passes", "pie")?;
    change(&scene.api, "stays", "stew")?;
    delete(&scene.api, "leaves")?;
    delete(&scene.api, "reborn")?;
    delete(&scene.api, "passes")?;
    scene.api.kill()?;
    scene.api.restart()?;
    eventually(
        "the custom resource to be served",
        SYNCED_WITHIN * SLACK,
        || scene.api.admin("GET", WIDGETS, None),
    )?;
    configmap(&scene.api, "reborn", "phoenix")?;
    change(&scene.api, "arrives", "tart")?;
    let size = json!({"spec": {"size": 4}});
    scene
        .api
        .admin("PATCH", &format!("{WIDGETS}/oven"), Some(&size))?;
    also(scene)?;
    let mark = scene.api.audit().mark()?;
    scene.restore()?;
    Ok(mark)
}

/// The events of a raw watch but for bookmarks, as `TYPE name`; in the order of their RVs, or it is no watch.
fn told(raw: &Process) -> Result<Vec<String>> {
    let mut last = 0;
    let mut told = Vec::new();
    for line in raw.lines() {
        let meta = &line["object"]["metadata"];
        let kind = line["type"].as_str().context("an event")?;
        if kind == "ERROR" {
            told.push(format!("ERROR {}", line["object"]["code"]));
            continue;
        }
        let version: u64 = meta["resourceVersion"].as_str().context("an RV")?.parse()?;
        ensure!(version >= last, "RVs go back: {:#?}", raw.lines());
        last = version;
        if kind != "BOOKMARK" {
            told.push(format!(
                "{kind} {}",
                meta["name"].as_str().unwrap_or_default()
            ));
        }
    }
    Ok(told)
}

const MISSED: [&str; 5] = [
    "MODIFIED stays",
    "DELETED reborn",
    "ADDED reborn",
    "ADDED arrives",
    "DELETED leaves",
];

fn expect_told(raw: &Process, expected: &[&str]) -> Result<()> {
    eventually("what was missed", HEALED_WITHIN * SLACK, || {
        let told = told(raw)?;
        ensure!(
            told == expected,
            "it was told {told:?} and not {expected:?}"
        );
        ensure!(raw.runs(), "its stream ended: {}", raw.tail());
        Ok(())
    })
}

/// What an informer told since it had synced, and whether it had trouble.
fn lines(informer: &Process) -> Result<Vec<String>> {
    let lines = informer.lines();
    let synced = lines.iter().position(|line| line["event"] == "synced");
    let after = &lines[synced.context("it synced")? + 1..];
    let troubled = after.iter().find(|line| line["error"].is_string());
    ensure!(troubled.is_none(), "its stream broke: {troubled:?}");
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let event = |line: &Value| format!("{} {}", text(line, "event"), text(line, "name"));
    Ok(after
        .iter()
        .filter(|line| line["name"].is_string())
        .map(event)
        .collect())
}

fn expect_lines(informer: &Process, expected: &[&str]) -> Result<()> {
    eventually("what was missed", HEALED_WITHIN * SLACK, || {
        let told = lines(informer)?;
        // Handlers are called in the order of their events; a resync adds nothing.
        ensure!(
            told == expected,
            "it was told {told:?} and not {expected:?}"
        );
        Ok(())
    })
}

/// The requests of one resource that the mark's outage led to, but for the administrator's.
fn requests(scene: &Scene<'_>, mark: Mark, resource: &str) -> Result<Vec<Entry>> {
    let all = scene.api.audit().since(mark)?.into_iter();
    let of_pods = |entry: &Entry| {
        entry.resource == resource && entry.user.starts_with("system:serviceaccount:shop:")
    };
    Ok(all.filter(of_pods).collect())
}

fn lists<'e>(requests: &'e [Entry], path: &str) -> Vec<&'e Entry> {
    let is_list = |entry: &&Entry| entry.is_list() && entry.uri.split('?').next() == Some(path);
    requests.iter().filter(is_list).collect()
}

#[test]
fn after_an_outage_with_a_restart_each_held_stream_is_told_what_it_missed_by_one_list() -> Result<()>
{
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    for name in ["stays", "leaves", "reborn"] {
        configmap(&scene.api, name, "soup")?;
    }
    let_read(&scene, GUEST, &["list", "watch"])?;
    let_read_all(&scene, AUDITOR)?;
    let (web, second) = (scene.reaching_pod(WEB)?, scene.reaching_pod(WEB)?);
    let (guest, auditor) = (scene.reaching_pod(GUEST)?, scene.reaching_pod(AUDITOR)?);
    let informers = [
        informer(&web, "configmaps", &[])?,
        informer(&second, "configmaps", &[])?,
    ];
    let widgets = informer(&web, "widgets", &["-gvr", WIDGETS_GVR])?;
    let json = "application/json";
    let raw = [
        raw_watch(&web, "raw", CONFIGMAPS, json, "")?,
        raw_watch(
            &second,
            "raw",
            CONFIGMAPS,
            json,
            "&allowWatchBookmarks=true",
        )?,
        raw_watch(
            &auditor,
            "raw",
            ALL_CONFIGMAPS,
            json,
            "&allowWatchBookmarks=true",
        )?,
    ];
    let refused = raw_watch(&guest, "raw", CONFIGMAPS, json, "&allowWatchBookmarks=true")?;
    // Each is heard of, so each is open.
    configmap(&scene.api, "before", "bread")?;
    for raw in raw.iter().chain([&refused]) {
        expect_told(raw, &["ADDED before"])?;
    }
    for informer in &informers {
        expect_lines(informer, &["add before"])?;
    }
    let mark = outage(&mut scene, |scene| {
        (scene
            .api
            .admin("DELETE", &format!("{BINDINGS}/{GUEST}"), None))
        .map(drop)
    })?;

    let missed = [&["ADDED before"][..], &MISSED].concat();
    for raw in &raw {
        expect_told(raw, &missed).with_context(|| scene.story())?;
    }
    let changes = [
        "update stays",
        "delete reborn",
        "add reborn",
        "add arrives",
        "delete leaves",
    ];
    let changes = [&["add before"][..], &changes].concat();
    for informer in &informers {
        expect_lines(informer, &changes).with_context(|| scene.story())?;
    }
    expect_lines(&widgets, &["update oven"])?;
    eventually("the guest to be refused", HEALED_WITHIN * SLACK, || {
        let told = told(&refused)?;
        ensure!(
            told == ["ADDED before", "ERROR 403"],
            "it was told {told:?}"
        );
        ensure!(!refused.runs(), "its stream is still open");
        Ok(())
    })
    .with_context(|| scene.story())?;
    let status = refused.lines().pop().context("a Status")?;
    let message = status["object"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(
        message.contains("is forbidden: User"),
        "not the API server's own words: {status}"
    );

    // They are live, and nothing is told twice.
    configmap(&scene.api, "after", "cake")?;
    for raw in &raw {
        expect_told(raw, &[&missed[..], &["ADDED after"]].concat())?;
    }
    for informer in &informers {
        expect_lines(informer, &[&changes[..], &["add after"]].concat())?;
    }
    std::thread::sleep(SETTLED);
    audited(&scene, mark)?;
    ensure!(
        raw[0].lines().iter().all(|line| line["type"] != "BOOKMARK"),
        "bookmarks that nobody asked for: {:#?}",
        raw[0].lines()
    );
    for raw in &raw[1..] {
        let healed = raw.lines().iter().any(|line| line["type"] == "BOOKMARK");
        ensure!(healed, "no bookmark: {:#?}", raw.lines());
    }
    Ok(())
}

/// One LIST for each collection, and for each stream the watch that was too old and the one that goes on.
fn audited(scene: &Scene<'_>, mark: Mark) -> Result<()> {
    let configmaps = requests(scene, mark, "configmaps")?;
    let in_shop = lists(&configmaps, CONFIGMAPS);
    ensure!(
        in_shop.len() == 2,
        "not one in JSON and one in protobuf: {in_shop:#?}"
    );
    let of_all = lists(&configmaps, ALL_CONFIGMAPS);
    ensure!(of_all.len() == 1, "not one LIST: {of_all:#?}");
    ensure!(
        of_all[0].user.ends_with(AUDITOR),
        "another's credential: {of_all:#?}"
    );
    let by_guest = lists(&configmaps, CONFIGMAPS)
        .iter()
        .any(|entry| entry.user.ends_with(GUEST));
    ensure!(!by_guest, "the guest listed");
    let watches = configmaps
        .iter()
        .filter(|entry| entry.verb == "watch" && entry.code == 200);
    let watches = watches.count();
    ensure!(
        watches <= 2 * 5,
        "{watches} watches of five streams: {configmaps:#?}"
    );
    let widgets = requests(scene, mark, "widgets")?;
    let listed = lists(&widgets, WIDGETS);
    ensure!(listed.len() == 1 && widgets.len() <= 3, "{widgets:#?}");
    Ok(())
}

#[test]
fn a_stream_that_may_not_list_is_healed_by_the_list_of_another() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    for name in ["stays", "leaves", "reborn"] {
        configmap(&scene.api, name, "soup")?;
    }
    let_read(&scene, WATCHER, &["list", "watch"])?;
    let (web, watcher) = (scene.reaching_pod(WEB)?, scene.reaching_pod(WATCHER)?);
    let json = "application/json";
    let raw = [
        raw_watch(&watcher, "raw", CONFIGMAPS, json, "")?,
        raw_watch(&web, "raw", CONFIGMAPS, json, "")?,
        raw_watch(&web, "metadata", CONFIGMAPS, METADATA, "")?,
    ];
    let rows = raw_watch(&web, "rows", CONFIGMAPS, TABLE, "")?;
    configmap(&scene.api, "before", "bread")?;
    for raw in &raw {
        expect_told(raw, &["ADDED before"])?;
    }
    let mark = outage(&mut scene, |scene| {
        let only_watch = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["watch"]}]});
        let role = format!("{ROLES}/{WATCHER}");
        scene.api.admin("PATCH", &role, Some(&only_watch)).map(drop)
    })?;
    let missed = [&["ADDED before"][..], &MISSED].concat();
    for raw in &raw {
        expect_told(raw, &missed).with_context(|| scene.story())?;
    }
    let requests = requests(&scene, mark, "configmaps")?;
    let lists = lists(&requests, CONFIGMAPS);
    let allowed = lists.iter().filter(|entry| entry.code == 200).count();
    ensure!(
        allowed == 2 && lists.len() <= 3,
        "not one LIST of objects and one of metadata: {lists:#?}"
    );
    // Rows are for human eyes: that stream is told to list by itself, in the API server's own words.
    eventually("the rows to end", HEALED_WITHIN * SLACK, || {
        let last = rows.lines().pop().context("an event")?;
        ensure!(
            last["type"] == "ERROR" && last["object"]["code"] == 410,
            "{last}"
        );
        let message = last["object"]["message"].as_str().unwrap_or_default();
        ensure!(message.starts_with("too old resource version"), "{message}");
        ensure!(!rows.runs(), "its stream is still open");
        Ok(())
    })
}

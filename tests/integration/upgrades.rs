//! Upgrades through Holdfast against the real API server: a WebSocket watch, and SPDY through the API server's own pod proxy.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::assets::source;
use holdfast_tests::demo::Scene;
use holdfast_tests::fixtures::{CONFIGMAPS, PODS, SHOP, WEB};
use holdfast_tests::node::CONTROL_PLANE;
use holdfast_tests::{ApiServer, Node, Pod, Process, fixtures};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);
const ECHO_PORT: &str = "8099";
const ECHO_PROXY: &str = "/api/v1/namespaces/shop/pods/http:echo:8099/proxy/";

#[test]
fn a_websocket_watch_and_a_spdy_stream_pass_and_end_with_the_uplink() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let echo = echo_server(&node, &scene.api)?;

    let watch_path = format!("{CONFIGMAPS}?watch=true&resourceVersion=0");
    let watch = dial(&pod, "watch", &["GET", &watch_path, "websocket"])?;
    status_of(&watch, 101)?;
    event(&watch, "ADDED", "menu-0")?;
    fixtures::configmap(&scene.api, "by-the-way", "bread")?;
    event(&watch, "ADDED", "by-the-way")?;

    let spdy = dial(&pod, "spdy", &["POST", ECHO_PROXY, "SPDY/3.1"])?;
    let head = status_of(&spdy, 101)?;
    ensure!(
        head.to_lowercase().contains("upgrade: spdy/3.1"),
        "not the upstream's 101:\n{head}"
    );
    spdy.wait_for("the echo", SOON, |lines| {
        lines.iter().find(|line| line["echoed"] == "HELLO").cloned()
    })?;

    let forbidden = dial(
        &pod,
        "forbidden",
        &["GET", "/api/v1/secrets?watch=true", "websocket"],
    )?;
    status_of(&forbidden, 403).context("a refused upgrade is an ordinary answer")?;

    scene.api.kill()?;
    for (stream, name) in [(&watch, "the WebSocket watch"), (&spdy, "the SPDY stream")] {
        stream
            .wait_for("the end", SOON, |lines| {
                lines.iter().find(|line| line["ended"] == true).cloned()
            })
            .with_context(|| format!("{name} goes on though its upstream is dead"))?;
    }
    let offline = dial(&pod, "offline", &["GET", &watch_path, "websocket"])?;
    status_of(&offline, 503)?;
    offline.wait_for("the reason", SOON, |lines| {
        lines
            .iter()
            .find(|line| {
                line["body"]
                    .as_str()
                    .is_some_and(|body| body.contains("NeverSeen"))
            })
            .cloned()
    })?;
    drop(echo);
    Ok(())
}

/// A pod whose address, as its status has it, is that of a server beside the API server.
fn echo_server(node: &Node, api: &ApiServer<'_>) -> Result<Process> {
    let script = source("tests/python/upgrade.py");
    let script = script.to_str().context("a path")?;
    let mut command =
        node.control_plane_command("python3", [script, "echo", CONTROL_PLANE, ECHO_PORT]);
    let server = Process::spawn("echo", node.folder(), &mut command)?;
    server.wait_for("listening", SOON, |lines| lines.first().cloned())?;
    let pod = json!({"metadata": {"name": "echo"}, "spec": {"containers": [{"name": "echo", "image": "echo"}]}});
    let mut pod = api.create(PODS, &pod)?;
    pod["status"] =
        json!({"phase": "Running", "podIP": CONTROL_PLANE, "podIPs": [{"ip": CONTROL_PLANE}]});
    api.admin("PUT", &format!("{PODS}/echo/status"), Some(&pod))?;
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{SHOP}");
    let role = json!({"metadata": {"name": "proxy"}, "rules": [{"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get", "create"]}]});
    api.create(&format!("{rbac}/roles"), &role)?;
    let binding = json!({"metadata": {"name": "proxy"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "proxy"},
        "subjects": [{"kind": "ServiceAccount", "name": WEB, "namespace": SHOP}]});
    api.create(&format!("{rbac}/rolebindings"), &binding)?;
    Ok(server)
}

fn dial(pod: &Pod<'_>, name: &str, args: &[&str]) -> Result<Process> {
    let script = source("tests/python/upgrade.py");
    let mut all = vec![script.to_str().context("a path")?, "dial"];
    all.extend(args);
    pod.spawn(name, "python3", &all)
}

fn status_of(client: &Process, status: u16) -> Result<String> {
    let told: Value = client.wait_for("the answer's head", SOON, |lines| lines.first().cloned())?;
    ensure!(
        told["status"] == status,
        "HTTP {} was awaited; the client wrote:\n{}",
        status,
        client.tail()
    );
    Ok(told["head"].as_str().unwrap_or_default().to_owned())
}

fn event(client: &Process, kind: &str, name: &str) -> Result<()> {
    client
        .wait_for(&format!("{kind} {name}"), SOON, |lines| {
            lines
                .iter()
                .find(|line| line["event"] == kind && line["name"] == name)
                .cloned()
        })
        .map(drop)
}

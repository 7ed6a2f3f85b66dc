//! Watches over WebSocket, by a real client of them: tunnelled while the API server is there, answered while it is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::assets::{python, source};
use holdfast_tests::demo::{Fault, Scene};
use holdfast_tests::fixtures::{CONFIGMAPS, MENUS, OTHER, WEB, configmap};
use holdfast_tests::{Node, Pod, Process, eventually};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const INITIAL: &str =
    "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
/// Opcodes of RFC 6455.
const TEXT: u64 = 1;
const BINARY: u64 = 2;

#[test]
fn a_websocket_watch_is_answered_in_the_dark_and_goes_on_when_the_api_server_is_back() -> Result<()>
{
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let other = scene.reaching_pod(OTHER)?;
    for accept in ["application/json", PROTOBUF] {
        pod.run(pod.get(CONFIGMAPS).header("Accept", accept))?
            .expect(200)?;
    }
    let path = |query: &str| format!("{CONFIGMAPS}?{query}");
    let online = dial(&pod, "online", &[&path(INITIAL)])?;
    ensure!(status(&online)?.0 == 101, "{}", online.tail());
    bookmark(&online)?;

    scene.strike(Fault::BlackHole)?;
    eventually("an answer from the cache", SOON, || {
        let reply = pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
        ensure!(reply.header("holdfast-origin") == Some("cache"), "not yet");
        Ok(())
    })?;
    end(&online).context("what was tunnelled ends with the uplink")?;

    let dark = dial(&pod, "dark", &[&path(INITIAL)])?;
    let (code, told) = status(&dark)?;
    ensure!(code == 101 && told.contains("holdfast-origin"), "{told}");
    bookmark(&dark)?;
    let added = |lines: &[Value], opcode: u64| {
        let is_it = |line: &&Value| line["event"] == "ADDED" && line["opcode"] == opcode;
        lines.iter().filter(is_it).count()
    };
    ensure!(added(&dark.lines(), TEXT) == MENUS, "{}", dark.tail());
    ensure!(
        dark.lines().iter().all(|line| line["line"] != false),
        "{}",
        dark.tail()
    );
    dark.wait_for("a pong", SOON, |lines| {
        lines.iter().find(|line| line["pong"].is_string()).cloned()
    })?;
    let binary = dial(&pod, "binary", &[&path(INITIAL), PROTOBUF])?;
    bookmark(&binary)?;
    ensure!(added(&binary.lines(), BINARY) == MENUS, "{}", binary.tail());

    let short = dial(&pod, "short", &[&path("watch=true&timeoutSeconds=2")])?;
    ensure!(end(&short)?["code"] == 1000, "{}", short.tail());
    let refused = dial(&other, "refused", &[&path(INITIAL)])?;
    let (code, told) = status(&refused)?;
    ensure!(code == 503 && told.contains("NoGrant"), "{code}: {told}");

    configmap(&scene.api, "dark", "soup")?;
    scene.restore()?;
    for (stream, opcode) in [(&dark, TEXT), (&binary, BINARY)] {
        stream.wait_for("what happened meanwhile", SOON, |lines| {
            (added(lines, opcode) == MENUS + 1).then_some(())
        })?;
    }
    configmap(&scene.api, "light", "soup")?;
    dark.wait_for("what happens now", SOON, |lines| {
        lines.iter().find(|line| line["name"] == "light").cloned()
    })?;
    Ok(())
}

fn dial(pod: &Pod<'_>, name: &str, args: &[&str]) -> Result<Process> {
    let script = source("tests/python/websocket_watch.py");
    let mut all = vec![script.to_str().context("a path")?];
    all.extend(args);
    pod.spawn(name, python()?, &all)
}

/// The answer to its handshake.
fn status(client: &Process) -> Result<(u64, String)> {
    let told: Value = client.wait_for("its answer", SOON, |lines| lines.first().cloned())?;
    let status = told["status"].as_u64().context("a status")?;
    Ok((status, told.to_string()))
}

fn bookmark(client: &Process) -> Result<Value> {
    client.wait_for("a bookmark", SOON, |lines| {
        lines
            .iter()
            .find(|line| line["event"] == "BOOKMARK")
            .cloned()
    })
}

fn end(client: &Process) -> Result<Value> {
    client.wait_for("the end", SOON, |lines| {
        lines.iter().find(|line| line["ended"] == true).cloned()
    })
}

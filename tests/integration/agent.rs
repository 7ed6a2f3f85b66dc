//! The agent as its operator meets it: endpoints, signals, and what it says to a bad configuration.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::curl::Reply;
use holdfast_tests::demo::Scene;
use holdfast_tests::fixtures::{CONFIGMAPS, SHOP, WEB};
use holdfast_tests::holdfast::{ADMIN, LISTEN, Settings};
use holdfast_tests::{ApiServer, Holdfast, Node, Process, eventually, fixtures};
use serde_json::json;

/// A debug build on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Kubernetes gives a pod 30 s; Holdfast promises a third.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);
/// 300 handshakes and watches, one after the other.
const LEFT_WITHIN: Duration = Duration::from_secs(60);
/// No line of the demo is run here, so no outage either.
const NO_OUTAGE: Duration = Duration::ZERO;

#[test]
fn it_is_ready_offline_and_says_that_it_is_degraded() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, NO_OUTAGE)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    scene.teach(&pod)?;
    ensure!(scene.holdfast.admin("/livez")?.status == 200, "alive");
    ensure!(scene.holdfast.admin("/readyz")?.status == 200, "ready");
    let online = scene.holdfast.status()?;
    scene.api.kill()?;
    pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    eventually("the status to tell of the outage", SOON, || {
        ensure!(
            scene.holdfast.status()? != online,
            "it says what it said online"
        );
        Ok(())
    })?;
    ensure!(
        scene.holdfast.admin("/readyz")?.status == 200,
        "ready offline, for that is what it is for"
    );
    let metrics = scene.holdfast.admin("/metrics")?.expect(200)?;
    for word in [
        "holdfast_",
        "origin=\"cache\"",
        "origin=\"upstream\"",
        "resource=\"configmaps\"",
    ] {
        ensure!(
            metrics.text().contains(word),
            "the metrics have no {word}:\n{}",
            metrics.text()
        );
    }
    ensure!(
        !metrics.text().contains(&pod.admitted().token),
        "a token in the metrics"
    );
    let status = scene.holdfast.command(&["status"])?;
    ensure!(
        status.status.success(),
        "holdfast status: {}",
        String::from_utf8_lossy(&status.stderr)
    );
    for word in ["down", "configmaps"] {
        ensure!(
            String::from_utf8_lossy(&status.stdout)
                .to_lowercase()
                .contains(word),
            "no `{word}` in holdfast status:\n{}",
            String::from_utf8_lossy(&status.stdout)
        );
    }
    Ok(())
}

#[test]
fn sigterm_drops_the_links_first_lets_answers_finish_and_exits_0() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, NO_OUTAGE)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let informer = pod.informer("held", &["-namespace", SHOP])?;
    informer.synced(SOON)?;
    let (status, took) = scene.holdfast.terminate(DRAINED_WITHIN * 2)?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    ensure!(took < DRAINED_WITHIN, "it took {took:?}");
    let after = pod.run(pod.get(CONFIGMAPS))?;
    ensure!(
        after.exit == 7,
        "the redirect outlived the agent: {after:?}"
    );
    scene.holdfast.start()?;
    scene.wait_up()
}

#[test]
fn a_bad_configuration_is_told_with_field_and_line_and_exits_2() -> Result<()> {
    let node = Node::new()?;
    let api = filled(&node)?;
    let holdfast = Holdfast::install(&node, &api)?;
    let path = holdfast.path("config.yaml");
    let good = fs::read_to_string(&path)?;
    let config = path.display().to_string();
    let valid = holdfast.command(&["config", "validate", &config])?;
    ensure!(
        valid.status.success(),
        "the demo's own config is refused: {}",
        String::from_utf8_lossy(&valid.stderr)
    );
    for (broken, field) in [
        (good.replace("caKeyFile:", "caKeyFlie:"), "caKeyFlie"),
        (good.replace("mode: intermediate", "mode: none"), "mode"),
        (
            good.replace("resumeJitter: 1s", "resumeJitter: soon"),
            "resumeJitter",
        ),
        (
            good.replace("10.96.0.1:443", "kubernetes:443"),
            "destinations",
        ),
    ] {
        fs::write(&path, &broken)?;
        let line = broken
            .lines()
            .position(|line| line.contains(field))
            .context("the field is there")?
            + 1;
        let output = holdfast.command(&["run", "--config", &config])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(2),
            "{field}: it ended with {}: {said}",
            output.status
        );
        ensure!(
            said.contains(field) && said.contains(&line.to_string()),
            "{field}, line {line}: {said}"
        );
    }
    Ok(())
}

#[test]
fn a_destination_outside_the_ca_s_constraints_is_a_config_error() -> Result<()> {
    let node = Node::new()?;
    let api = filled(&node)?;
    let holdfast = Holdfast::install_with(
        &node,
        &api,
        &Settings::new(&api).with(
            "intercept",
            "destinations: [\"10.96.0.1:443\", \"203.0.113.7:443\"]",
        ),
    )?;
    let config = holdfast.path("config.yaml").display().to_string();
    let output = holdfast.command(&["run", "--config", &config])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(2) && said.contains("203.0.113.7"),
        "{}: {said}",
        output.status
    );
    Ok(())
}

#[test]
fn an_occupied_port_is_named_everything_else_goes_on_and_it_is_taken_when_free() -> Result<()> {
    let node = Node::new()?;
    let api = filled(&node)?;
    let mut holdfast = Holdfast::install(&node, &api)?;
    let squatters = [LISTEN, ADMIN].map(|address| squatter(&node, address));
    holdfast.start()?;
    for address in [LISTEN, ADMIN] {
        eventually("the port to be named", SOON, || {
            let log = holdfast.log();
            ensure!(
                log.contains(&format!("cannot listen on {address}")),
                "{log}"
            );
            Ok(())
        })?;
    }
    for squatter in squatters {
        squatter?.kill()?;
    }
    eventually("the admin endpoint", SOON, || {
        holdfast.admin("/readyz")?.expect(200)
    })?;
    eventually("no condition to be left", SOON, || {
        let status = holdfast.status()?;
        ensure!(status["conditions"] == json!([]), "{status}");
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_client_certificate_is_answered_401_and_never_forwarded_as_anonymous() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, NO_OUTAGE)?;
    scene.online()?;
    let pki = scene.api.pki();
    let (ca, cert, key) = (
        pki.path("ca.crt"),
        pki.path("admin.crt"),
        pki.path("admin.key"),
    );
    let mark = scene.api.audit().mark()?;
    let curl = holdfast_tests::curl::Curl::get(&format!("https://{LISTEN}{CONFIGMAPS}"), &ca)
        .arg("--cert")
        .arg(&cert.display().to_string())
        .arg("--key")
        .arg(&key.display().to_string());
    let reply = curl
        .run(node.folder(), |program, args| node.command(program, args))?
        .expect(401)?;
    ensure!(
        reply.json()?["details"]["causes"][0]["reason"] == "ClientCertificate",
        "{}",
        reply.text()
    );
    let forwarded = scene.api.audit().since(mark)?;
    ensure!(
        forwarded
            .iter()
            .all(|entry| entry.user != "system:anonymous"),
        "{forwarded:?}"
    );
    Ok(())
}

/// More than one pod may hold connections: each of them would still be held if a client that left went unnoticed.
const LEAVINGS: &str = "300";

#[test]
fn a_pod_that_leaves_its_watches_is_served_on() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, NO_OUTAGE)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let script = holdfast_tests::assets::source("tests/python/leave.py");
    let list = pod.run(pod.get(CONFIGMAPS))?.expect(200)?.json()?;
    // Nothing happens after this: no event is sent, and so no write to the client's socket can fail.
    let watch = format!(
        "{CONFIGMAPS}?watch=true&resourceVersion={}&timeoutSeconds=600",
        fixtures::rv(&list)?
    );
    let args = [script.to_str().context("a path")?, LEAVINGS, &watch];
    let leaving = pod.spawn("leaving", "python3", &args)?;
    let answered = leaving.wait_for("the last watch", LEFT_WITHIN, |lines| {
        lines.first().map(|line| line["answered"].clone())
    })?;
    ensure!(answered == json!(300), "{answered} watches were accepted");
    pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    Ok(())
}

/// Something else that has the port.
fn squatter(node: &Node, address: &str) -> Result<Process> {
    let port = address.rsplit(':').next().unwrap_or_default();
    let script = format!(
        "import socket,time\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\ns.bind(('127.0.0.1',{port}))\ns.listen()\nprint('{{}}',flush=True)\ntime.sleep(600)"
    );
    let squatter = Process::spawn(
        &format!("squatter-{port}"),
        node.folder(),
        &mut node.command("python3", ["-c", &script]),
    )?;
    squatter.wait_for("the port to be taken", SOON, |lines| {
        (!lines.is_empty()).then_some(())
    })?;
    Ok(squatter)
}

#[test]
fn a_kubeconfig_client_reads_through_the_explicit_listener() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, NO_OUTAGE)?;
    scene.online()?;
    let token = scene.api.token(SHOP, WEB, None)?;
    let ca = scene.api.pki().path("ca.crt");
    let read = |path: &str| -> Result<Reply> {
        let curl =
            holdfast_tests::curl::Curl::get(&format!("https://{LISTEN}{path}"), &ca).token(&token);
        curl.run(node.folder(), |program, args| node.command(program, args))
    };
    let online = read(CONFIGMAPS)?.expect(200)?;
    ensure!(
        online.header("holdfast-origin").is_none(),
        "{:?}",
        online.headers
    );
    scene.api.kill()?;
    // A token bound to no pod counts as its service account.
    let offline = read(CONFIGMAPS)?.expect(200)?;
    ensure!(
        offline.header("holdfast-origin") == Some("cache") && offline.header("age").is_some(),
        "{:?}",
        offline.headers
    );
    ensure!(
        offline.json()?["items"] == online.json()?["items"],
        "other objects than online"
    );
    Ok(())
}

fn filled(node: &Node) -> Result<ApiServer<'_>> {
    let api = ApiServer::start(node)?;
    fixtures::apply(&api)?;
    Ok(api)
}

//! What works with kubectl while the API server is there works in the dark, and prints the same.

mod stock;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use holdfast_tests::assets::asset;
use holdfast_tests::audit::Mark;
use holdfast_tests::demo::{Fault, Scene};
use holdfast_tests::fixtures::{SHOP, WEB};
use holdfast_tests::{Node, Pod, Process, eventually};
use serde_json::json;

use stock::{CLERK, NIGHT, OPS, TILL, fill};

/// Each run has a HOME of its own: none finds discovery in a cache folder.
const COMMANDS: [&str; 48] = [
    "get pods",
    "get pods -o wide",
    "get pods -A",
    "get pods -o yaml",
    "get pods -o name",
    "get pod till-1-x",
    "get pod till-1-x -o yaml",
    "get pod till-1-x -o jsonpath={.status.podIP}",
    "get pods -l app=till",
    "get pods -l app!=till -o name",
    "get pods --field-selector status.phase=Running",
    "get pods --field-selector spec.nodeName=edge-1,status.phase!=Running -o name",
    "get pods --show-labels",
    "get pods -L app",
    "get pods -o custom-columns=N:.metadata.name,IP:.status.podIP",
    "get configmaps",
    "get configmaps --chunk-size=5",
    "get configmaps --chunk-size=5 -o yaml",
    "get configmaps,pods",
    "get all",
    "get nodes -o wide",
    "get namespaces",
    "get deployments -o wide",
    "get crd",
    "get ovens",
    "get ov -o wide",
    "get ovens -o yaml",
    "get ovens -A",
    "get events",
    "get events --sort-by=.metadata.name",
    "get pods --sort-by=.spec.nodeName",
    "get services -l nobody=has-it",
    "events",
    "describe pod till-1-x",
    "describe deployment till",
    "describe service till",
    "describe node edge-1",
    "describe configmap menu-0",
    "describe oven big",
    "describe namespace shop",
    "explain pods.spec.containers",
    "explain ovens --recursive",
    "api-resources",
    "api-versions",
    "version",
    "cluster-info",
    "get --raw /openapi/v2",
    "rollout history deployment/till",
];

/// What the clerk reads while the API server is there: whole lists.
const WHOLE_LISTS: &str =
    "get pods,configmaps,events,deployments,replicasets,services,endpointslices,ovens -o yaml";

/// What the clerk asks for in the dark: parts of them, in other words.
const PARTS: [&str; 17] = [
    "get pods",
    "get pods -o wide",
    "get pods -l app=till",
    "get pods --field-selector status.phase=Running",
    "get pod till-1-x",
    "get ovens",
    "get pod till-1-x -o yaml",
    "get pods -l app!=till -o name",
    "get pods --field-selector spec.nodeName=edge-1,status.phase!=Running -o name",
    "get pods -o custom-columns=N:.metadata.name,IP:.status.podIP",
    "get configmaps --chunk-size=5 -o yaml",
    "events",
    "describe pod till-1-x",
    "describe deployment till",
    "describe service till",
    "describe configmap menu-0",
    "describe oven big",
];

/// As kubectl asks for it.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// For rows to appear in a watch; a link that is back is seen within 2 s, and watches resume within another.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn what_worked_online_works_offline_and_prints_the_same() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    fill(&scene.api)?;
    scene.online()?;
    let [ops, night, clerk] = [OPS, NIGHT, CLERK].map(|account| scene.reaching_pod(account));
    let (ops, night, clerk) = (ops?, night?, clerk?);
    let mark = scene.api.audit().mark()?;
    let mut online = Vec::new();
    for command in COMMANDS {
        online.push(Printed::by(&ops, command)?.fine()?);
    }
    is_let_read_all_that(&scene, &night, mark)?;
    for command in [WHOLE_LISTS, "api-resources"] {
        Printed::by(&clerk, command)?.fine()?;
    }

    scene.strike(Fault::Refused)?;
    let of = |command: &str| online.iter().find(|printed| printed.command == command);
    let all = [(&ops, &COMMANDS[..]), (&night, &COMMANDS), (&clerk, &PARTS)];
    let compare = |pod: &Pod<'_>, commands: &[&str]| -> Result<Vec<String>> {
        let mut different = Vec::new();
        for command in commands {
            let online = of(command).context("it ran online")?;
            if let Err(error) = Printed::by(pod, command)?.is_same(online) {
                different.push(format!("{}: {error}", pod.admitted().account));
            }
        }
        Ok(different)
    };
    let different = std::thread::scope(|threads| {
        let compared = all.map(|(pod, commands)| threads.spawn(move || compare(pod, commands)));
        let joined = compared.map(|thread| thread.join());
        joined.into_iter().collect::<Vec<_>>()
    });
    let mut told = Vec::new();
    for of_one in different {
        told.extend(of_one.map_err(|_| anyhow!("a comparison panicked"))??);
    }
    // What is on the disk is enough.
    scene.holdfast.terminate(SOON)?;
    scene.holdfast.start()?;
    eventually("the pod to reach Holdfast", SOON, || {
        ops.run(ops.get("/version"))?.expect(200)
    })?;
    told.extend(compare(&ops, &PARTS)?);
    told.extend(compare(
        &night,
        &["api-resources", "explain ovens --recursive"],
    )?);
    ensure!(told.is_empty(), "{}", told.join("\n\n"));
    Ok(())
}

/// This pod is let read whatever was read since `mark`: objects in YAML, which shows no rows.
fn is_let_read_all_that(scene: &Scene<'_>, pod: &Pod<'_>, mark: Mark) -> Result<()> {
    let entries = scene.api.audit().since(mark)?.into_iter();
    let read = entries.filter(|entry| entry.user.ends_with(OPS) && entry.code == 200);
    for (resource, uri) in read
        .map(|entry| (entry.resource, entry.uri))
        .collect::<BTreeSet<_>>()
    {
        let form = match resource.as_str() {
            "" => DISCOVERY,
            _ => "application/yaml",
        };
        pod.run(pod.get(&uri).header("Accept", form))?.expect(200)?;
    }
    Ok(())
}

#[test]
fn rows_of_a_watch_go_on_across_an_outage() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    fill(&scene.api)?;
    scene.online()?;
    let pod = scene.reaching_pod(OPS)?;
    let watch = |name: &str| pod.spawn(name, asset("kubectl")?, &["get", "pods", "-w"]);
    let before = watch("before")?;
    let shown = until(&before, |rows| rows.iter().any(|row| row.starts_with(TILL)))?;
    scene.strike(Fault::BlackHole)?;
    let during = watch("during")?;
    let rows = until(&during, |rows| rows.len() >= shown.len())?;
    ensure!(rows == shown, "online {shown:#?}, offline {rows:#?}");

    restart_till(&scene, 3)?;
    scene.restore()?;
    for watch in [&before, &during] {
        let is_news = |row: &String| row.starts_with(TILL) && row.contains("Running 3");
        until(watch, |rows| rows.iter().any(is_news))?;
        restart_till(&scene, 4)?;
        let is_next = |row: &String| row.starts_with(TILL) && row.contains("Running 4");
        let rows = until(watch, |rows| rows.iter().any(is_next))?;
        let news = rows.iter().filter(|row| is_news(row)).count();
        ensure!(news == 1, "{news} rows tell the same: {rows:#?}");
    }
    Ok(())
}

fn restart_till(scene: &Scene<'_>, times: u32) -> Result<()> {
    let path = format!("/api/v1/namespaces/{SHOP}/pods/{TILL}/status");
    let status = json!({"status": {"containerStatuses": [{
        "name": "till", "image": "till:1", "imageID": "till", "ready": true, "restartCount": times,
        "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
    }]}});
    scene.api.admin("PATCH", &path, Some(&status)).map(drop)
}

/// The rows that a watch has printed, once they are what is waited for.
fn until(watch: &Process, is_it: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
    eventually("rows of a watch", SOON, || {
        ensure!(watch.runs(), "it ended: {}", watch.tail());
        let rows = timeless(&watch.stdout());
        ensure!(is_it(&rows), "it wrote: {}", watch.tail());
        Ok(rows)
    })
}

#[test]
fn a_cache_folder_of_kubectl_is_used_in_the_dark_and_holds_nothing_of_it_afterwards() -> Result<()>
{
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let folder = node.folder().join("kubectl-cache");
    // It forgets what it knows of discovery, but not the HTTP responses that taught it.
    let command = format!("api-resources --cache-dir={}", folder.display());
    let run = || Printed::by(&pod, &command);
    let online = run()?.fine()?;
    scene.strike(Fault::Refused)?;
    run()?.is_same(&online)?;
    run()?.is_same(&online)?;
    scene.online()?;
    for _ in 0..2 {
        let after = run()?.fine()?;
        ensure!(after.out == online.out, "{after:?}");
    }
    Ok(())
}

#[test]
fn discovery_is_for_those_who_read_it() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    fill(&scene.api)?;
    scene.online()?;
    let (ops, night) = (scene.reaching_pod(OPS)?, scene.reaching_pod(NIGHT)?);
    for command in ["api-resources", "version", "explain pods"] {
        Printed::by(&ops, command)?.fine()?;
    }
    night
        .run(night.get("/api").header("Accept", DISCOVERY))?
        .expect(200)?;
    scene.strike(Fault::Refused)?;
    night
        .run(night.get("/api").header("Accept", DISCOVERY))?
        .expect(200)?;
    for path in ["/apis", "/openapi/v3"] {
        let reply = night
            .run(night.get(path).header("Accept", DISCOVERY))?
            .expect(503)?;
        let status = reply.json()?;
        ensure!(
            status["details"]["causes"][0]["reason"] == "NoGrant",
            "{path}: {status}"
        );
    }
    let printed = Printed::by(&night, "get pods")?;
    ensure!(!printed.success && printed.out.is_empty(), "{printed:?}");
    ensure!(
        printed
            .err
            .iter()
            .any(|line| line.contains("unable to handle the request")),
        "{printed:?}"
    );
    Ok(())
}

/// What one run of kubectl printed, without what tells the time: `5s`, `2m3s`.
#[derive(Debug)]
struct Printed {
    command: String,
    success: bool,
    out: Vec<String>,
    err: Vec<String>,
    warnings: usize,
}

impl Printed {
    fn by(pod: &Pod<'_>, command: &str) -> Result<Self> {
        let words: Vec<&str> = command.split(' ').collect();
        let output = pod
            .kubectl(&words)?
            .output()
            .context("cannot start kubectl")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (warnings, err): (Vec<String>, Vec<String>) = timeless(&text(&output.stderr))
            .into_iter()
            .partition(|line| line.starts_with("Warning: the API server is out of reach"));
        Ok(Self {
            command: command.to_owned(),
            success: output.status.success(),
            out: timeless(&text(&output.stdout)),
            err,
            warnings: warnings.len(),
        })
    }

    fn fine(self) -> Result<Self> {
        ensure!(self.success && self.warnings == 0, "{self:?}");
        Ok(self)
    }

    fn is_same(&self, online: &Self) -> Result<()> {
        let Self { command, .. } = self;
        ensure!(
            self.success && self.out == online.out && self.err == online.err,
            "kubectl {command}\nonline:\n{}\n{}\noffline:\n{}\n{}",
            online.out.join("\n"),
            online.err.join("\n"),
            self.out.join("\n"),
            self.err.join("\n"),
        );
        ensure!(self.warnings > 0, "kubectl {command}: no warning");
        Ok(())
    }
}

/// Lines with their words one space apart, as the width of a column follows its longest age.
fn timeless(text: &str) -> Vec<String> {
    let word = |word: &str| match is_duration(word.trim_matches(['(', ')'])) {
        true => "TIME".to_owned(),
        false => word.to_owned(),
    };
    let line = |line: &str| {
        line.split_whitespace()
            .map(word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines()
        .map(line)
        .filter(|line| !line.is_empty())
        .collect()
}

/// `0s`, `2m3s`, `3d`.
fn is_duration(word: &str) -> bool {
    let mut digits = false;
    for character in word.chars() {
        match character {
            '0'..='9' => digits = true,
            's' | 'm' | 'h' | 'd' | 'y' if digits => digits = false,
            _ => return false,
        }
    }
    !word.is_empty() && !digits
}

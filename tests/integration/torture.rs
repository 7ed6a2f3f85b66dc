//! Killed with -9, again and again: see `holdfast_tests::torture`. `cargo xtask torture` kills it as often as wanted.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::Node;
use holdfast_tests::demo::{Fault, Scene};
use holdfast_tests::fixtures::{CONFIGMAPS, WEB, change, rv};
use holdfast_tests::holdfast::Settings;
use holdfast_tests::torture::{self, Torture};

/// Enough for a kill in each phase of a life; the whole takes less than a minute.
const KILLS: u64 = 20;
const SEED: u64 = 1;
const SOON: Duration = Duration::from_secs(20);

#[test]
fn killed_under_load_it_always_opens_and_no_client_sees_an_rv_go_back() -> Result<()> {
    let torture = Torture {
        kills: usize::try_from(number("HOLDFAST_TORTURE_KILLS")?.unwrap_or(KILLS))?,
        seed: number("HOLDFAST_TORTURE_SEED")?.unwrap_or(SEED),
        has_tail: env::var_os("HOLDFAST_TORTURE_WITHOUT_TAIL").is_none(),
    };
    let counts = torture::run(torture)?;
    eprintln!("{counts}");
    ensure!(counts.dark.answered > 0, "nothing was answered in the dark");
    ensure!(counts.events > 0, "no stream was heard");
    Ok(())
}

fn number(variable: &str) -> Result<Option<u64>> {
    let said = env::var(variable).ok();
    Ok(said.map(|number| number.parse()).transpose()?)
}

#[test]
fn what_a_client_was_told_is_told_again_after_a_kill_though_nothing_was_committed() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    let never = Settings::new(&scene.api).with("cache", "commitInterval: 1h");
    scene.holdfast.configure(&never)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let informer = pod.informer("informer", &["-namespace", "shop"])?;
    informer.wait_for("a synced informer", SOON, |lines| {
        let mut lines = lines.iter();
        lines.any(|line| line["event"] == "synced").then_some(())
    })?;
    pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    let changed = change(&scene.api, "menu-0", "stew")?;
    informer.wait_for("the change", SOON, |lines| {
        let mut lines = lines.iter();
        lines
            .any(|line| line["event"] == "update" && line["name"] == "menu-0")
            .then_some(())
    })?;
    let told: u64 = rv(&changed)?.parse()?;

    scene.strike(Fault::BlackHole)?;
    scene.holdfast.kill()?;
    scene.holdfast.start()?;
    holdfast_tests::eventually("the pod to reach it again", SOON, || {
        let reply = pod.run(pod.get("/version"))?;
        ensure!(reply.status != 0, "no answer: {}", reply.error);
        Ok(())
    })?;
    let read = pod.run(pod.get(CONFIGMAPS))?.expect(200)?.json()?;
    let listed: u64 = rv(&read)?.parse()?;
    ensure!(listed >= told, "told {told}, then a list of {listed}");
    let items = read["items"].as_array().context("a list")?;
    let menu = items
        .iter()
        .find(|item| item["metadata"]["name"] == "menu-0");
    let dish = menu.map(|menu| &menu["data"]["dish"]);
    ensure!(
        dish.is_some_and(|dish| dish == "stew"),
        "menu-0 has {dish:?}"
    );
    let read = pod.run(pod.get(&format!("{CONFIGMAPS}/menu-0")))?;
    let read: u64 = rv(&read.expect(200)?.json()?)?.parse()?;
    ensure!(read >= told, "told {told}, then an object of {read}");
    Ok(())
}

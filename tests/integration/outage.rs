//! Faces of an outage that the demo's lines do not show.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_tests::demo::{Fault, SLACK, Scene};
use holdfast_tests::fixtures::{CONFIGMAPS, SHOP, WEB, configmap};
use holdfast_tests::holdfast::Settings;
use holdfast_tests::{Node, eventually};

/// D7: without a sign of life for this long a read is answered from the cache.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// A probe comes every 5 s, and takes 2 s to fail.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
const ENDED_WITHIN: Duration = Duration::from_secs(10);
const SYNCED_WITHIN: Duration = Duration::from_secs(20);
/// A restarted API server does not know older resourceVersions: its objects are listed once, and nobody is told.
const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// Cuts of the flapping link, each longer than it takes to be noticed.
const FLAPS: usize = 4;
const FLAP: Duration = Duration::from_secs(2);

#[test]
fn an_api_server_that_takes_connections_and_never_answers_is_answered_for() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    scene.teach(&pod)?;
    scene.api.stop()?;
    let first = pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    ensure!(
        first.header("holdfast-origin") == Some("cache"),
        "not from the cache: {:?}",
        first.headers
    );
    ensure!(
        first.total < FIRST_ANSWER * SLACK,
        "the first answer took {:?}",
        first.total
    );
    let next = pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    ensure!(
        next.total < FIRST_ANSWER,
        "the next one waited too: {:?}",
        next.total
    );
    scene.api.resume()?;
    scene.wait_up()
}

#[test]
fn started_in_a_black_hole_that_was_there_before_it_waits_for_nobody() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    let patient = Settings::new(&scene.api).with("upstream", "answerTimeout: 20s");
    scene.holdfast.configure(&patient)?;
    scene.online()?;
    scene.teach(&scene.early)?;
    scene.strike(Fault::BlackHole)?;
    eventually("the outage to be seen", NOTICED_WITHIN, || {
        let uplink = scene.holdfast.status()?["uplink"].take();
        ensure!(uplink == "down", "the uplink is {uplink}");
        Ok(())
    })?;
    scene.holdfast.terminate(ENDED_WITHIN)?;
    scene.holdfast.start()?;
    let first = eventually("a listener in the pod", SYNCED_WITHIN, || {
        scene.early.run(scene.early.get(CONFIGMAPS))?.expect(200)
    })?;
    ensure!(
        first.header("holdfast-origin") == Some("cache") && first.total < Duration::from_secs(10),
        "it took {:?} of the 20 s of answerTimeout",
        first.total
    );
    scene.online()
}

#[test]
fn after_a_restart_of_the_api_server_an_informer_goes_on_and_knows_of_nothing() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let informer = pod.informer("informer", &["-namespace", SHOP])?;
    informer.synced(SYNCED_WITHIN)?;
    scene.strike(Fault::Refused)?;
    pod.run(pod.get("/version"))?;
    scene.online()?;
    configmap(&scene.api, "after", "soup")?;
    informer.wait_for("the new object", HEALED_WITHIN, |lines| {
        lines
            .iter()
            .any(|line| line["event"] == "add" && line["name"] == "after")
            .then_some(())
    })?;
    let troubled = informer
        .lines()
        .into_iter()
        .find(|line| line["error"].is_string());
    ensure!(troubled.is_none(), "its stream broke: {troubled:?}");
    Ok(())
}

#[test]
fn a_flapping_link_loses_no_event_and_doubles_none() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let informer = pod.informer("informer", &["-namespace", SHOP])?;
    informer.synced(SYNCED_WITHIN)?;
    for flap in 0..FLAPS {
        scene.strike(Fault::BlackHole)?;
        configmap(&scene.api, &format!("dark-{flap}"), "soup")?;
        std::thread::sleep(FLAP);
        scene.restore()?;
        configmap(&scene.api, &format!("light-{flap}"), "soup")?;
        std::thread::sleep(FLAP / 2);
    }
    let added = |name: &str| {
        informer
            .lines()
            .iter()
            .filter(|line| line["event"] == "add" && line["name"] == name)
            .count()
    };
    for flap in 0..FLAPS {
        for name in [format!("dark-{flap}"), format!("light-{flap}")] {
            eventually(&format!("{name} at the informer"), SYNCED_WITHIN, || {
                ensure!(added(&name) > 0, "not yet");
                Ok(())
            })?;
            ensure!(added(&name) == 1, "{name} was added {} times", added(&name));
        }
    }
    let troubled = informer
        .lines()
        .into_iter()
        .find(|line| line["error"].is_string());
    ensure!(troubled.is_none(), "its stream broke: {troubled:?}");
    Ok(())
}

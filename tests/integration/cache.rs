//! What the cache learns from traffic that does not come in the order of a textbook.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::demo::Scene;
use holdfast_tests::fixtures::{CONFIGMAPS, MENUS, WEB};
use holdfast_tests::{Node, eventually, fixtures};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_collection_that_a_stream_is_ahead_of_is_listed_once_and_then_follows() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    pod.run(pod.get(CONFIGMAPS))?.expect(200)?;
    eventually("the list to be learnt", SOON, || {
        let known = known_configmaps(&scene)?;
        ensure!(known == MENUS, "{known} are known");
        Ok(())
    })?;

    // Nobody watches through Holdfast while this one appears; the watch below begins after it.
    let unseen = fixtures::configmap(&scene.api, "unseen", "bread")?;
    let path = format!(
        "{CONFIGMAPS}?watch=true&timeoutSeconds=8&resourceVersion={}",
        fixtures::rv(&unseen)?
    );
    let mark = scene.api.audit().mark()?;
    let watch = std::thread::scope(|threads| -> Result<_> {
        let watching = threads.spawn(|| pod.run(pod.get(&path).at_most(SOON)));
        eventually("the watch to be open", SOON, || {
            let entries = scene.api.audit().since(mark)?;
            ensure!(entries.iter().any(|entry| entry.verb == "watch"), "not yet");
            Ok(())
        })?;
        fixtures::configmap(&scene.api, "seen", "bread")?;
        eventually("the collection to be whole again", SOON, || {
            let known = known_configmaps(&scene)?;
            ensure!(known == MENUS + 2, "{known} are known");
            Ok(())
        })?;
        watching
            .join()
            .map_err(|_| anyhow::anyhow!("the watch panicked"))?
    })?;
    ensure!(watch.text().contains("\"seen\""), "the event did not pass");
    let lists = scene
        .api
        .audit()
        .since(mark)?
        .iter()
        .filter(|entry| entry.verb == "list" && entry.resource == "configmaps")
        .count();
    ensure!(lists == 1, "{lists} LISTs for one collection");

    scene.api.kill()?;
    let offline = pod.run(pod.get(CONFIGMAPS))?.expect(200)?.json()?;
    let items = offline["items"].as_array().context("a list")?;
    ensure!(
        items.len() == MENUS + 2,
        "{} items are answered offline",
        items.len()
    );
    Ok(())
}

/// How many ConfigMaps the shop's collection has, as `/status` tells it.
fn known_configmaps(scene: &Scene<'_>) -> Result<usize> {
    let status = scene.holdfast.status()?;
    let collections = status["cache"]["collections"].as_array();
    let objects = collections
        .into_iter()
        .flatten()
        .filter(|collection| {
            collection["resource"]
                .as_str()
                .is_some_and(|resource| resource.ends_with("configmaps"))
                && collection["form"] == "json"
        })
        .filter_map(|collection| {
            collection["objects"]
                .as_u64()
                .filter(|_| collection["complete"] != Value::Bool(false))
        })
        .max();
    Ok(usize::try_from(objects.unwrap_or(0))?)
}

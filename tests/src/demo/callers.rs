//! Line 6.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::scene::{Fault, reaches};
use super::{Report, SLACK, Scene};
use crate::Pod;
use crate::curl::{Curl, Reply};
use crate::fixtures::{CONFIGMAPS, MENUS, OTHER, SHOP, WEB, WIDGETS, WIDGETS_GVR};

/// A refusal waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(1);
const SYNCED_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn grants_are_not_shared(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let teacher = scene.reaching_pod(WEB)?;
    scene.teach(&teacher)?;
    // Tokens are issued while the API server is there; the pods start when it is not.
    let (second, stranger) = (scene.admit(WEB)?, scene.admit(OTHER)?);
    scene.strike(Fault::Refused)?;
    let (second, mut stranger) = (
        Pod::start(scene.node, &second)?,
        Pod::start(scene.node, &stranger)?,
    );
    reaches(&second)?;
    reaches(&stranger)?;

    for (path, least) in [(CONFIGMAPS, MENUS), (WIDGETS, 1)] {
        for agent in [None, Some("kubelet/v1.36.3")] {
            let reply = second
                .run(with_agent(second.get(path), agent))?
                .expect(200)?;
            ensure!(
                reply.header("holdfast-origin") == Some("cache"),
                "not from the cache: {:?}",
                reply.headers
            );
            let items = reply.json()?["items"].as_array().map_or(0, Vec::len);
            ensure!(items >= least, "{path} has {items} items");
            report.saw(
                format!(
                    "new pod, same account, {}: {}",
                    name_of(path),
                    agent.unwrap_or("curl")
                ),
                format!("HTTP 200, {items} items"),
            );
        }
    }
    let informer = second.informer("widgets", &["-namespace", SHOP, "-gvr", WIDGETS_GVR])?;
    informer.synced(SYNCED_WITHIN)?;
    report.saw(
        "new pod, same account: informer of a custom resource",
        "synced",
    );

    for path in [CONFIGMAPS, WIDGETS, &format!("{CONFIGMAPS}/menu-0")] {
        for agent in [None, Some("kubelet/v1.36.3")] {
            let reply = stranger.run(with_agent(stranger.get(path), agent))?;
            let reason = refused(&reply)?;
            ensure!(reason == "NoGrant", "refused for {reason}");
            report.saw(
                format!(
                    "other account, {}: {}",
                    name_of(path),
                    agent.unwrap_or("curl")
                ),
                format!("HTTP 503 {reason}"),
            );
        }
    }
    let reason = refused(&stranger.run(stranger.anonymous(CONFIGMAPS))?)?;
    report.saw("no token", format!("HTTP 503 {reason}"));
    stranger.set_token(&second.admitted().token)?;
    let reason = refused(&stranger.run(stranger.get(CONFIGMAPS))?)?;
    report.saw("the token of another pod", format!("HTTP 503 {reason}"));
    Ok(report)
}

fn with_agent(curl: Curl, agent: Option<&str>) -> Curl {
    match agent {
        Some(agent) => curl.header("User-Agent", agent),
        None => curl,
    }
}

/// The reason of a 503 Status that came at once, tells nothing, and asks for no wait (client-go would sleep in the call).
pub(super) fn refused(reply: &Reply) -> Result<String> {
    ensure!(
        reply.status == 503,
        "HTTP {} {} {}",
        reply.status,
        reply.text(),
        reply.error
    );
    ensure!(reply.total < AT_ONCE * SLACK, "it took {:?}", reply.total);
    ensure!(reply.header("retry-after").is_none(), "it says Retry-After");
    ensure!(
        !reply.text().contains("soup"),
        "it holds data: {}",
        reply.text()
    );
    let status = reply.json()?;
    ensure!(status["kind"] == "Status", "not a Status: {status}");
    Ok(status["details"]["causes"][0]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

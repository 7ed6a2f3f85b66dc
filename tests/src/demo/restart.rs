//! Line 9.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::redirect::{common_name, connected, peer, text};
use super::scene::Fault;
use super::{Report, SLACK, Scene};
use crate::eventually;
use crate::fixtures::{CONFIGMAPS, MENUS, WEB};

/// Started in the dark, the first cached answer comes within this.
const SERVES_WITHIN: Duration = Duration::from_secs(1);
/// The default commitInterval: what was learnt longer ago is on disk.
const COMMITTED_AFTER: Duration = Duration::from_secs(1);

pub(super) fn dies_and_returns(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let rover = scene.reaching_pod(WEB)?.with_road()?;
    let hermit = scene.reaching_pod(WEB)?;
    let before = peer(&rover, &scene.holdfast)?;
    report.saw("with Holdfast: leaf issued by", text(&before, "issuer"));
    scene.teach(&hermit)?;
    // The window in which a crash may lose what was learnt is part of the promise, so it is waited out and not hidden.
    std::thread::sleep(COMMITTED_AFTER * SLACK);

    scene.holdfast.kill()?;
    let killed = Instant::now();
    let direct = connected(&rover)?;
    report.took(
        "kill -9: next connect answered, from the kill",
        killed.elapsed(),
    );
    let cluster = common_name(&fs::read(scene.api.pki().path("ca.crt"))?)?;
    ensure!(
        text(&direct, "issuer").contains(&format!("CN={cluster}"))
            && text(&direct, "subject").contains("kube-apiserver"),
        "not the API server's own: {direct}"
    );
    report.saw(
        "without Holdfast: leaf of",
        format!(
            "{}, issued by {}",
            text(&direct, "subject"),
            text(&direct, "issuer")
        ),
    );
    rover.run(rover.get(CONFIGMAPS))?.expect(200)?;

    scene.strike(Fault::Refused)?;
    let started = Instant::now();
    scene.holdfast.launch()?;
    let reply = eventually(
        "holdfast to answer in the dark",
        SERVES_WITHIN * SLACK,
        || hermit.run(hermit.get(CONFIGMAPS))?.expect(200),
    )?;
    report.took(
        "started in the dark: first cached list, from its start",
        started.elapsed(),
    );
    ensure!(
        reply.header("holdfast-origin") == Some("cache"),
        "not from the cache: {:?}",
        reply.headers
    );
    let items = reply.json()?["items"].as_array().map_or(0, Vec::len);
    ensure!(items >= MENUS, "only {items} objects survived");
    report.saw("objects that survived kill -9", items);
    Ok(report)
}

//! Line 8.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::callers::refused;
use super::scene::Fault;
use super::{Report, Scene};
use crate::fixtures::{CONFIGMAPS, SHOP, WEB, configmap, delete};

const SEEN_WITHIN: Duration = Duration::from_secs(20);

pub(super) fn no_is_said_right(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    configmap(&scene.api, "gone", "yesterday's soup")?;
    let informer = pod.informer("watcher", &["-namespace", SHOP])?;
    informer.synced(SEEN_WITHIN)?;
    delete(&scene.api, "gone")?;
    informer.wait_for("the deletion", SEEN_WITHIN, |lines| {
        lines
            .iter()
            .any(|line| line["event"] == "delete" && line["name"] == "gone")
            .then_some(())
    })?;
    scene.strike(Fault::Refused)?;

    let body = br#"{"metadata": {"name": "written"}}"#;
    for (method, path) in [
        ("POST", CONFIGMAPS),
        ("PATCH", &format!("{CONFIGMAPS}/menu-0")),
        ("DELETE", &format!("{CONFIGMAPS}/menu-0")),
    ] {
        let media_type = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let reply = pod.run(pod.get(path).method(method).body(media_type, body))?;
        let reason = refused(&reply)?;
        report.saw(format!("{method} offline"), format!("HTTP 503 {reason}"));
        report.took(format!("{method} offline: answered after"), reply.total);
    }
    for path in [
        "/api/v1/namespaces/shop/services/never",
        "/api/v1/namespaces/shop/endpoints",
    ] {
        let reason = refused(&pod.run(pod.get(path))?)?;
        report.saw(format!("never seen: {path}"), format!("HTTP 503 {reason}"));
    }
    let reply = pod
        .run(pod.get(&format!("{CONFIGMAPS}/gone")))?
        .expect(404)?;
    let status = reply.json()?;
    ensure!(
        status["kind"] == "Status" && status["reason"] == "NotFound",
        "{status}"
    );
    ensure!(status["details"]["name"] == "gone", "{status}");
    report.saw("deleted online, collection complete", "HTTP 404 NotFound");
    Ok(report)
}

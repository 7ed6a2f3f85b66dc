//! Line 1.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use x509_parser::pem::Pem;

use super::{Report, SLACK, Scene, scene};
use crate::eventually::timed;
use crate::fixtures::{SHOP, WEB};
use crate::node::VIP;
use crate::{Holdfast, Pod};

/// How soon a new pod's connects are redirected.
const FOUND_WITHIN: Duration = Duration::from_secs(1);
/// client-go tries again after 0.8 to 30 s, ever longer.
const INFORMER_RETRIES: Duration = Duration::from_secs(45);
const ONE_TRY: Duration = Duration::from_secs(20);

pub(super) fn pods_reach_holdfast(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    // A client that has been trying since before Holdfast was there.
    scene.holdfast.kill()?;
    let informer = scene.early.informer("early", &["-namespace", SHOP])?;
    if !scene.api.runs() {
        scene.api.restart()?;
    }
    report.took(
        "holdfast from its start to serving",
        scene.holdfast.start()?,
    );
    scene.wait_up()?;
    let early = peer(&scene.early, &scene.holdfast)?;
    let late = scene.pod(WEB)?;
    let (_, found) = timed("the new pod to be redirected", FOUND_WITHIN * SLACK, || {
        ensure!(late.run(late.get("/version"))?.status == 200, "not yet");
        Ok(())
    })?;
    report.took("a new pod's first answer, from its start", found);
    scene::reaches(&late)?;
    let late = peer(&late, &scene.holdfast)?;
    for (who, peer) in [("pod from before", &early), ("pod from after", &late)] {
        report.saw(format!("{who}: getpeername"), text(peer, "remote"));
        report.saw(format!("{who}: leaf issued by"), text(peer, "issuer"));
    }
    informer.synced(INFORMER_RETRIES)?;
    report.saw("informer that ran before Holdfast did", "synced");
    Ok(report)
}

/// Who answers a pod's connect, checked to be Holdfast with a leaf that the pod trusts.
pub(super) fn peer(pod: &Pod<'_>, holdfast: &Holdfast<'_>) -> Result<Value> {
    let peer = connected(pod)?;
    let signer = common_name(&fs::read(holdfast.path("ca.crt"))?)?;
    ensure!(
        peer["verified"] == true,
        "the leaf does not verify against the pod's ca.crt: {peer}"
    );
    ensure!(
        text(&peer, "issuer").contains(&signer),
        "issued by {} and not by {signer}",
        text(&peer, "issuer")
    );
    ensure!(
        text(&peer, "remote") == format!("{VIP}:443"),
        "the peer is not the VIP: {peer}"
    );
    // The same by OpenSSL's eyes.
    let reply = pod.run(pod.get("/version"))?;
    ensure!(
        reply.status == 200 && reply.remote == VIP,
        "curl: {} {} {}",
        reply.status,
        reply.remote,
        reply.error
    );
    ensure!(
        reply.certificates.contains(&signer),
        "curl sees another chain:\n{}",
        reply.certificates
    );
    Ok(peer)
}

/// Who answers a pod's connect, whoever it is.
pub(super) fn connected(pod: &Pod<'_>) -> Result<Value> {
    let peer = pod.informer("peer", &["-peer"])?;
    ensure!(
        peer.wait(ONE_TRY)?.success(),
        "nobody answered: {}",
        peer.tail()
    );
    let lines = peer.lines();
    let line = lines
        .iter()
        .find(|line| line["event"] == "peer")
        .context("a peer line")?;
    Ok(line["peer"].clone())
}

pub(super) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// The common name of the first certificate of a PEM file.
pub(super) fn common_name(pem: &[u8]) -> Result<String> {
    let pem = Pem::iter_from_buffer(pem)
        .next()
        .context("a certificate")??;
    let certificate = pem.parse_x509()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()
        .context("a common name")?;
    Ok(name.as_str()?.to_owned())
}

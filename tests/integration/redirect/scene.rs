//! A node whose control plane answers "direct" at the VIP, and pods that dial it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::apiserver::Admitted;
use holdfast_tests::node::VIP;
use holdfast_tests::process::output;
use holdfast_tests::{Node, Pod, Process, assets};
use serde_json::Value;

pub(super) struct Scene {
    pub(super) node: Node,
    pods: AtomicU32,
    _direct: Process,
}

impl Scene {
    pub(super) fn new() -> Result<Self> {
        let node = Node::new()?;
        // The node's rule turns the VIP's port 443 into 6443 for pods that have a road of their own.
        let words = ["serve", "0.0.0.0", "6443", "--word", "direct"];
        let mut command = node.control_plane_command(python(), script(&words));
        let direct = Process::spawn("direct", node.folder(), &mut command)?;
        direct.wait_for("serving", Duration::from_secs(10), |lines| {
            lines.first().map(drop)
        })?;
        Ok(Self {
            node,
            pods: AtomicU32::new(1),
            _direct: direct,
        })
    }

    /// A pod with `lo` alone: a connect that is not redirected fails at once.
    pub(super) fn lonely_pod(&self) -> Result<Pod<'_>> {
        Pod::start(&self.node, &self.admit()?)
    }

    /// A pod that can also reach the VIP by itself.
    pub(super) fn pod(&self) -> Result<Pod<'_>> {
        self.lonely_pod()?.with_road()
    }

    /// Nothing here asks an API server; a uid is all that the redirect knows of a pod.
    pub(super) fn admit(&self) -> Result<Admitted> {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        let ca = self.node.folder().join("no-ca.crt");
        std::fs::write(&ca, "")?;
        Ok(Admitted {
            namespace: "default".to_owned(),
            name: format!("pod-{number}"),
            account: "default".to_owned(),
            uid: format!("5f0c1d7e-0000-4000-8000-{number:012}"),
            token: String::new(),
            ca,
        })
    }
}

/// One dial to the VIP from a pod.
pub(super) fn dial(pod: &Pod<'_>, more: &[&str]) -> Result<Value> {
    let mut words = vec!["dial", VIP, "443"];
    words.extend(more);
    let lines = run(pod, &words)?;
    lines.into_iter().next().context("the dial said nothing")
}

/// Any verb of dial.py in a pod; all that it printed.
pub(super) fn run(pod: &Pod<'_>, words: &[&str]) -> Result<Vec<Value>> {
    let text = output(&mut pod.command(python(), script(words)))?;
    lines(&text)
}

pub(super) fn lines(text: &str) -> Result<Vec<Value>> {
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

/// A verb of dial.py that runs beside the test.
pub(super) fn spawn(pod: &Pod<'_>, name: &str, words: &[&str]) -> Result<Process> {
    let script = script(words);
    let words: Vec<&str> = script.iter().filter_map(|word| word.to_str()).collect();
    pod.spawn(name, python(), &words)
}

pub(super) fn script(words: &[&str]) -> Vec<OsString> {
    let script = assets::source("tests/python/dial.py").into_os_string();
    let words = words.iter().map(OsString::from);
    std::iter::once(script).chain(words).collect()
}

/// dial.py needs nothing but the standard library.
pub(super) fn python() -> PathBuf {
    assets::python().unwrap_or_else(|_| PathBuf::from("/usr/bin/python3"))
}

pub(super) fn was_redirected(dialled: &Value, pod: &Pod<'_>) -> Result<()> {
    let expected = format!("holdfast pod {}", pod.admitted().uid);
    ensure!(dialled["said"] == expected.as_str(), "{dialled}");
    Ok(())
}

pub(super) fn went_direct(dialled: &Value) -> Result<()> {
    ensure!(dialled["said"] == "direct", "{dialled}");
    Ok(())
}

//! Line 0.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Report, Scene};
use crate::fixtures::{CONFIGMAPS, SHOP};

/// A client without a route hears so from its own kernel, not from a timeout.
const AT_ONCE: Duration = Duration::from_secs(3);
const ONE_TRY: Duration = Duration::from_secs(30);

pub(super) fn nothing_answers(scene: &mut Scene<'_>) -> Result<Report> {
    let mut report = Report::default();
    scene.holdfast.kill()?;
    let pod = &scene.early;
    let reply = pod.run(pod.get(CONFIGMAPS))?;
    ensure!(
        reply.status == 0 && reply.total < AT_ONCE,
        "curl got an answer: {reply:?}"
    );
    report.saw("curl", reply.error);
    let go = pod.informer("control", &["-peer"])?;
    ensure!(
        !go.wait(ONE_TRY)?.success(),
        "client-go's host got an answer: {}",
        go.tail()
    );
    report.saw("Go", last_error(&go.lines()));
    let python = pod.python("control", &["get", "--namespace", SHOP, "--name", "menu-0"])?;
    ensure!(
        !python.wait(ONE_TRY)?.success(),
        "Python got an answer: {}",
        python.tail()
    );
    report.saw("Python", last_error(&python.lines()));
    let kubectl = pod.kubectl(&["get", "configmaps"])?.output()?;
    ensure!(!kubectl.status.success(), "kubectl got an answer");
    report.saw(
        "kubectl",
        String::from_utf8_lossy(&kubectl.stderr)
            .lines()
            .last()
            .unwrap_or_default(),
    );
    Ok(report)
}

fn last_error(lines: &[serde_json::Value]) -> String {
    let error = lines
        .last()
        .and_then(|line| line["error"].as_str())
        .unwrap_or("no error told");
    error
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(120)
        .collect()
}

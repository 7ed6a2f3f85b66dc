//! Lines 4 and 5: the upstream goes, one way and the other.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::report::middle_and_longest;
use super::scene::Fault;
use super::{Report, SLACK, Scene};
use crate::fixtures::{SHOP, WEB};
use crate::{Pod, Process};

/// D7: in a black hole the first cached answer comes within this; a refused connection is quicker.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// Once it is known to be down nobody waits for the upstream: far below the second a wait would take.
const NO_WAITING: Duration = Duration::from_millis(200);
/// Answers after the first that the steady latency is taken from.
const STEADY: usize = 20;
/// Python and kubectl take a second to start, and there are four clients on two cores.
const WARM: Duration = Duration::from_secs(40);

pub(super) fn refused(scene: &mut Scene<'_>) -> Result<Report> {
    reads_go_on(scene, Fault::Refused)
}

pub(super) fn black_hole(scene: &mut Scene<'_>) -> Result<Report> {
    reads_go_on(scene, Fault::BlackHole)
}

fn reads_go_on(scene: &mut Scene<'_>, fault: Fault) -> Result<Report> {
    let mut report = Report::default();
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    let clients = Clients::start(&pod)?;
    for (what, args) in KUBECTL {
        report.took(format!("{what}, online, whole run"), kubectl(&pod, args)?);
    }
    scene.strike(fault)?;
    // From here on no request can reach the API server: what begins later is answered without it.
    let (struck, since) = (now(), Instant::now());
    for (what, process, event) in clients.readers() {
        let first = first_after(process, event, struck)
            .with_context(|| format!("{what}: nothing answered after the cut"))?;
        report.took(format!("{what}: first answer, from the cut"), first);
        ensure!(
            first < FIRST_ANSWER * SLACK,
            "{what}: the first answer took {first:?}"
        );
    }
    for (what, args) in KUBECTL {
        let run = kubectl(&pod, args)?;
        report.took(format!("{what}, offline, whole run"), run);
        report.took(format!("{what}: done, from the cut"), since.elapsed());
    }
    for (what, process, event) in clients.readers() {
        let (middle, longest) = steady(process, event, struck).with_context(|| what.to_owned())?;
        report.took(format!("{what}: steady, middle of {STEADY}"), middle);
        report.took(format!("{what}: steady, longest of {STEADY}"), longest);
        ensure!(
            middle < NO_WAITING * SLACK,
            "{what}: answers take {middle:?} each"
        );
        ensure!(
            longest < NO_WAITING * SLACK,
            "{what}: one answer took {longest:?}"
        );
    }
    clients.streams_are_well(struck, &mut report)?;
    Ok(report)
}

const KUBECTL: [(&str, &[&str]); 2] = [
    ("kubectl get -o yaml", &["get", "configmaps", "-o", "yaml"]),
    ("kubectl get", &["get", "configmaps"]),
];

/// The clients that read through the cut, as their users run them.
struct Clients {
    informer: Process,
    python_get: Process,
    python_list: Process,
}

impl Clients {
    /// Starts every client and waits until each has read.
    fn start(pod: &Pod<'_>) -> Result<Self> {
        let go = [
            "-namespace",
            SHOP,
            "-informer",
            "-get",
            "menu-0",
            "-every",
            "100ms",
            "-rewatch",
            "-rewatch-for",
            "1500ms",
        ];
        let clients = Self {
            informer: pod.informer("reader", &go)?,
            python_get: pod.python(
                "get",
                &[
                    "get",
                    "--namespace",
                    SHOP,
                    "--name",
                    "menu-0",
                    "--count",
                    "0",
                ],
            )?,
            python_list: pod.python("list", &["list", "--namespace", SHOP, "--count", "0"])?,
        };
        for event in ["synced", "watch-open"] {
            clients.informer.wait_for(event, WARM, |lines| {
                lines
                    .iter()
                    .any(|line| line["event"] == event)
                    .then_some(())
            })?;
        }
        for (what, process, event) in clients.readers() {
            process.wait_for(what, WARM, |lines| {
                lines
                    .iter()
                    .any(|line| line["event"] == event && line["code"] == 200)
                    .then_some(())
            })?;
        }
        Ok(clients)
    }

    /// What is read, by whom, and the event of its lines.
    fn readers(&self) -> [(&'static str, &Process, &'static str); 4] {
        [
            ("client-go GET", &self.informer, "get"),
            ("client-go LIST", &self.informer, "list"),
            ("Python GET", &self.python_get, "get"),
            ("Python LIST", &self.python_list, "list"),
        ]
    }

    /// The informer noticed nothing; the watch that closes itself was opened again, by the cache.
    fn streams_are_well(&self, struck: f64, report: &mut Report) -> Result<()> {
        let reopened = self
            .informer
            .wait_for("a watch opened again offline", WARM, |lines| {
                lines
                    .iter()
                    .find(|line| {
                        line["event"] == "watch-open"
                            && line["origin"] == "cache"
                            && after(line, struck)
                    })
                    .map(took)
            })?;
        report.took("client-go watch closed and opened again", reopened);
        let lines = self.informer.lines();
        let troubled = lines
            .iter()
            .find(|line| after(line, struck) && line["error"].is_string());
        ensure!(
            troubled.is_none(),
            "the informer was troubled: {troubled:?}"
        );
        report.saw("errors seen by the informer program", "none");
        Ok(())
    }
}

/// How long after the cut the first read that began after it was answered.
fn first_after(process: &Process, event: &str, struck: f64) -> Result<Duration> {
    process.wait_for("an answer after the cut", WARM, |lines| {
        let mut answers = lines
            .iter()
            .filter(|line| line["event"] == event && line["code"] == 200);
        answers
            .find(|line| began(line) > struck)
            .map(|line| Duration::from_secs_f64((ended(line) - struck).max(0.0) / 1000.0))
    })
}

/// The middle and the longest of the answers that began after the first one came.
fn steady(process: &Process, event: &str, struck: f64) -> Result<(Duration, Duration)> {
    let times = process.wait_for("steady answers", WARM, |lines| {
        let answers = lines
            .iter()
            .filter(|line| line["event"] == event && began(line) > struck);
        let times: Vec<Duration> = answers.skip(1).take(STEADY).map(took).collect();
        (times.len() == STEADY).then_some(times)
    })?;
    Ok(middle_and_longest(&times))
}

/// One run of kubectl in the pod, from start to end.
fn kubectl(pod: &Pod<'_>, args: &[&str]) -> Result<Duration> {
    let started = Instant::now();
    let mut command: Command = pod.kubectl(args)?;
    let output = command.output().context("cannot start kubectl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains("menu-0") {
        bail!(
            "kubectl {}: {}\n{text}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(started.elapsed())
}

/// Milliseconds since the epoch, the clock of the clients' lines.
pub(super) fn now() -> f64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    since.as_secs_f64() * 1000.0
}

/// True when the line was written after this moment.
pub(super) fn after(line: &Value, moment: f64) -> bool {
    ended(line) > moment
}

fn ended(line: &Value) -> f64 {
    line["t"].as_f64().unwrap_or_default()
}

fn began(line: &Value) -> f64 {
    ended(line) - line["ms"].as_f64().unwrap_or_default()
}

fn took(line: &Value) -> Duration {
    Duration::from_secs_f64(line["ms"].as_f64().unwrap_or_default() / 1000.0)
}

//! The demo, narrated. `cargo xtask demo` builds what it needs and runs it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use holdfast_tests::Node;
use holdfast_tests::demo::{LINES, Report, Scene};
use holdfast_tests::fixtures::CONFIGMAPS;
use holdfast_tests::holdfast::ADMIN;
use holdfast_tests::node::VIP;
use serde::Serialize;

/// The outage of line 10, as long as the demo says.
const OUTAGE: Duration = Duration::from_secs(20);

#[derive(Parser)]
struct Args {
    /// What goes to standard output: the narration, or the evidence as JSON.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// Leave it all running at the end and print how to look around.
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier --keep left running, and stop.
    #[arg(long)]
    clean: bool,
    /// Run only these lines (0 is the control).
    #[arg(long)]
    lines: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The evidence for one line.
#[derive(Serialize)]
struct Evidence {
    line: u8,
    title: &'static str,
    passed: bool,
    seconds: f64,
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.clean {
        Node::remove_kept();
        return Ok(ExitCode::SUCCESS);
    }
    let narrator = Narrator {
        json: args.output == Output::Json,
    };
    let started = Instant::now();
    narrator.say("starting etcd, kube-apiserver, a node and a pod, each in a namespace of its own");
    let node = Node::new()?;
    let mut scene = Scene::new(&node, OUTAGE)?;
    narrator.say(&format!(
        "ready after {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    let mut evidence = Vec::new();
    for line in LINES
        .iter()
        .filter(|line| args.lines.is_empty() || args.lines.contains(&line.number))
    {
        narrator.say(&format!("\n{:>2}. {}", line.number, line.title));
        let began = Instant::now();
        let result = (line.run)(&mut scene);
        let seconds = began.elapsed().as_secs_f64();
        let (report, error) = match result {
            Ok(report) => (report, None),
            Err(error) => (
                Report::default(),
                Some(format!("{error:#}\n{}", scene.story())),
            ),
        };
        let one = Evidence {
            line: line.number,
            title: line.title,
            passed: error.is_none(),
            seconds,
            report,
            error,
        };
        narrator.tell(&one);
        evidence.push(one);
    }
    let failed = evidence.iter().filter(|one| !one.passed).count();
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&evidence)?);
    }
    narrator.say(&format!(
        "\n{} of {} lines hold, in {:.0} s",
        evidence.len() - failed,
        evidence.len(),
        started.elapsed().as_secs_f64()
    ));
    if args.keep {
        scene.online()?;
        scene.let_go()?;
        narrator.look_around(&scene);
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Speaks on standard output, or on standard error when that is for the evidence.
struct Narrator {
    json: bool,
}

impl Narrator {
    fn say(&self, line: &str) {
        if self.json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    fn tell(&self, one: &Evidence) {
        let width = one
            .report
            .rows
            .iter()
            .map(|row| row.what.len())
            .max()
            .unwrap_or_default();
        for row in &one.report.rows {
            self.say(&format!("      {:width$}  {}", row.what, row.seen));
        }
        match &one.error {
            None => self.say(&format!("    holds ({:.1} s)", one.seconds)),
            Some(error) => self.say(&format!("    FAILED ({:.1} s): {error}", one.seconds)),
        }
    }

    fn look_around(&self, scene: &Scene<'_>) {
        let (node, pod) = (scene.node, &scene.early);
        let folder = node.folder().display();
        let shell = format!(
            "sh -c 'echo $$ > {}/cgroup.procs; exec nsenter --net=/run/netns/{} bash'",
            pod.cgroup().display(),
            pod.netns()
        );
        let read = format!(
            "curl --cacert {} -H \"Authorization: Bearer $(cat {})\" https://{VIP}{CONFIGMAPS}",
            pod.projected("ca.crt").display(),
            pod.projected("token").display()
        );
        self.say("\nIt is all still running. To look around:");
        self.say(&format!(
            "  a shell in the pod (network and cgroup):\n    {shell}"
        ));
        self.say(&format!("  in it, what a pod reads:\n    {read}"));
        self.say(&format!(
            "  a shell in the node's network:\n    nsenter --net=/run/netns/{} bash",
            node.netns()
        ));
        self.say(&format!("  in it, what Holdfast tells:\n    curl -s http://{ADMIN}/status; curl -s http://{ADMIN}/metrics"));
        self.say(&format!("  config, logs, audit log:\n    {folder}/holdfast/config.yaml {folder}/log/ {folder}/control-plane/audit.log"));
        self.say("  to remove it all:\n    cargo xtask demo --clean");
    }
}

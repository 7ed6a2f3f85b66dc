//! `cargo xtask bench [NAME]`: release build, everything it needs, then the bench program. The one rig of all figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, root, say, target};
use crate::{assets, packages, shell};

/// Flags of `cargo xtask bench`; the bench program takes the same.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A part (`cache/disk`), or a group of them (`cache`); all by default.
    name: Option<String>,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// The parts of `long`, too, which take two and a half hours; without it they are run by name only.
    #[arg(long)]
    long: bool,
    /// How long each part of `long` is.
    #[arg(long)]
    minutes: Option<u32>,
    /// Put one more proxy beside the others. CA and PID are those of the cluster, and of who listens there, unless given.
    #[arg(long, value_name = "ADDRESS[,CA[,PID]]")]
    other: Option<String>,
    /// Start that proxy by this, in the node's network namespace, with UPSTREAM, CA, CERT, KEY and LISTEN set.
    #[arg(long, value_name = "COMMAND", requires = "other")]
    other_command: Option<String>,
    /// Keep the figures and the plots in tests/figures, which the README shows.
    #[arg(long)]
    publish: bool,
}

/// Installs, builds, and runs the bench; the figures go to standard output as a table, and to target/bench as CSV and SVG.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::for_bench()?;
    let links = assets::for_demo()?;
    say("building holdfast and the bench (release)");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release"]);
    build.args(["-p", "holdfast", "-p", "holdfast-tests"]);
    shell::run(build.args(["--bin", "holdfast", "--bin", "bench"]))?;
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    let group = args.name.as_deref().unwrap_or("all").replace('/', "-");
    let csv = folder.join(format!("{group}.csv"));
    let plots = folder.join(&group);
    // Those of the run before; there may be none.
    let _ = fs::remove_dir_all(&plots);
    let mut bench = Command::new(target().join("release/bench"));
    bench.args(&args.name);
    bench.arg(format!("--repeats={}", args.repeats));
    if args.long {
        bench.arg("--long");
    }
    if let Some(minutes) = args.minutes {
        bench.arg(format!("--minutes={minutes}"));
    }
    bench.arg(format!("--csv={}", csv.display()));
    bench.arg(format!("--plots={}", plots.display()));
    for (flag, value) in [
        ("other", &args.other),
        ("other-command", &args.other_command),
    ] {
        bench.args(value.iter().map(|value| format!("--{flag}={value}")));
    }
    bench.env("HOLDFAST_BIN", target().join("release/holdfast"));
    bench.env("HOLDFAST_ASSETS", links);
    bench.env("HOLDFAST_COMMIT", commit()?);
    shell::run(&mut bench)?;
    say(&format!("the figures are in {}", csv.display()));
    if args.publish {
        publish(&csv, &plots)?;
    }
    Ok(())
}

/// Copies figures and plots to where they are committed.
fn publish(csv: &Path, plots: &Path) -> Result<()> {
    let folder = root().join("tests/figures");
    fs::create_dir_all(&folder)?;
    let plots = fs::read_dir(plots)?.map(|plot| plot.map(|plot| plot.path()));
    for file in plots.chain([Ok(csv.to_owned())]) {
        let file = file?;
        fs::copy(&file, folder.join(file.file_name().unwrap_or_default()))?;
    }
    say(&format!("and in {}", folder.display()));
    Ok(())
}

/// What is measured: the commit, and whether the tree is another.
fn commit() -> Result<String> {
    let mut git = Command::new("git");
    git.current_dir(root());
    let said = git
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output()?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

//! `cargo xtask bench [NAME]`: release build, everything it needs, then the bench program. The one rig of all figures.

use std::fs;
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
    /// The parts of `long`, too, which take 80 minutes; without it they are run by name only.
    #[arg(long)]
    long: bool,
    /// How long each part of `long` is.
    #[arg(long)]
    minutes: Option<u32>,
}

/// Installs, builds, and runs the bench; the figures go to standard output as a table, and to target/bench as CSV.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::for_demo()?;
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
    bench.env("HOLDFAST_BIN", target().join("release/holdfast"));
    bench.env("HOLDFAST_ASSETS", links);
    bench.env("HOLDFAST_COMMIT", commit()?);
    shell::run(&mut bench)?;
    say(&format!("the figures are in {}", csv.display()));
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

//! `cargo xtask demo`: release build, everything it needs, then the demo program.

use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, say, target};
use crate::{assets, packages, shell};

/// Flags of `cargo xtask demo`; the demo program takes the same.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the evidence as JSON to standard output.
    #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
    output: String,
    /// Leave it all running at the end and print how to look around.
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier --keep left running, and stop.
    #[arg(long)]
    clean: bool,
    /// Run only these lines (0 is the control).
    #[arg(long, value_delimiter = ',')]
    lines: Vec<u8>,
}

/// Installs, builds, and runs the demo; ends with the demo's own exit code.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::for_demo()?;
    let links = assets::for_demo()?;
    say("building holdfast (release)");
    shell::run(cargo().args(["build", "--quiet", "--release", "-p", "holdfast"]))?;
    shell::run(cargo().args(["build", "--quiet", "-p", "holdfast-tests", "--bin", "demo"]))?;
    let mut demo = Command::new(target().join("debug/demo"));
    demo.args(words(args));
    demo.env("HOLDFAST_BIN", target().join("release/holdfast"));
    demo.env("HOLDFAST_ASSETS", links);
    let status = demo.status()?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}

fn words(args: &Args) -> Vec<String> {
    let mut words = vec![format!("--output={}", args.output)];
    if args.keep {
        words.push("--keep".to_owned());
    }
    if args.clean {
        words.push("--clean".to_owned());
    }
    words.extend(args.lines.iter().map(|line| format!("--lines={line}")));
    words
}

//! `cargo xtask test`: everything it needs, then `cargo test` over the workspace.

use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, say, target};
use crate::{assets, packages, shell};

/// Cargo builds as it likes, but this many tests run at a time: each integration test has an API server of its own
/// (about 300 MB and a core while it starts).
const TEST_THREADS: &str = "2";

/// Flags of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install and build everything, run nothing.
    #[arg(long)]
    no_run: bool,
    /// Only the integration tests whose name contains this.
    filter: Option<String>,
}

/// Installs, builds, and runs the tests.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::for_tests()?;
    let links = assets::for_tests()?;
    say("building holdfast");
    // `cargo test` alone would not link the binary that the integration tests start.
    shell::run(cargo().args(["build", "--quiet", "-p", "holdfast"]))?;
    let mut tests = cargo();
    tests.env("HOLDFAST_BIN", target().join("debug/holdfast"));
    tests.env("HOLDFAST_ASSETS", links);
    // A failed test returns its error; the frames of the test runner below it tell nothing.
    tests.env("RUST_LIB_BACKTRACE", "0");
    select(&mut tests, args);
    shell::run(&mut tests)
}

fn select(tests: &mut Command, args: &Args) {
    tests.arg("test");
    match &args.filter {
        Some(filter) => tests.args(["-p", "holdfast-tests", "--test", "integration", filter]),
        // Not the documentation's examples: there are none, and "0 tests" would be the run's last words.
        None => tests.args([
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
        ]),
    };
    if args.no_run {
        tests.arg("--no-run");
    } else {
        tests.args(["--", "--test-threads", TEST_THREADS]);
    }
}

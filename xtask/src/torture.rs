//! `cargo xtask torture`: kills the real holdfast again and again, under load, on a real API server.

use anyhow::Result;

use crate::shell::{cargo, say, target};
use crate::{assets, packages, shell};

/// Flags of `cargo xtask torture`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often it is killed.
    #[arg(long, value_name = "N", default_value_t = 500)]
    kills: u64,
    /// When it is killed, what is asked, and when the link is cut. What the machine makes of that is not the same each time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave cache.tail out: the run should fail.
    #[arg(long)]
    without_tail: bool,
}

/// Installs, builds, and runs that one test.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::for_tests()?;
    let links = assets::for_tests()?;
    say("building holdfast");
    shell::run(cargo().args(["build", "--quiet", "-p", "holdfast"]))?;
    let mut test = cargo();
    test.args([
        "test",
        "--quiet",
        "-p",
        "holdfast-tests",
        "--test",
        "integration",
    ]);
    test.args(["torture::killed", "--", "--nocapture"]);
    test.env("HOLDFAST_BIN", target().join("debug/holdfast"));
    test.env("HOLDFAST_ASSETS", links);
    test.env("HOLDFAST_TORTURE_KILLS", args.kills.to_string());
    test.env("HOLDFAST_TORTURE_SEED", args.seed.to_string());
    if args.without_tail {
        test.env("HOLDFAST_TORTURE_WITHOUT_TAIL", "1");
    }
    // What is wanted of a failure is what was seen.
    test.env("RUST_BACKTRACE", "0");
    shell::run(&mut test)
}

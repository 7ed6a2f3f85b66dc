//! `cargo xtask model`: random histories against a model of the API server, as many as wanted, or one again.

use anyhow::Result;

use crate::shell::{self, cargo};

/// Flags of `cargo xtask model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the histories of the seeds 0 to N-1.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    seeds: u64,
    /// Run the history of this seed alone, and print it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Switch on one of the bugs of proxy/src/bugs.rs, by its name: the run should fail.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

/// Builds the proxy's unit tests and runs that one.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--quiet", "-p", "holdfast", "--lib"]);
    test.args(["model::random_histories_can_be", "--", "--exact"]);
    test.arg("--nocapture");
    // What is wanted of a failure is its history.
    test.env("RUST_BACKTRACE", "0");
    match args.seed {
        Some(seed) => test.env("HOLDFAST_MODEL_SEED", seed.to_string()),
        None => test.env("HOLDFAST_MODEL_SEEDS", args.seeds.to_string()),
    };
    if let Some(bug) = &args.bug {
        test.env("HOLDFAST_MODEL_BUG", bug);
    }
    shell::run(&mut test)
}

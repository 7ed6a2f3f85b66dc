//! `cargo xtask`: the project's only build script, one file per subcommand.

mod assets;
mod bench;
mod build_ebpf;
mod check;
mod demo;
mod instructions;
mod model;
mod packages;
mod shell;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, proves and checks Holdfast.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure what Holdfast costs and how fast it is (needs root).
    Bench(bench::Args),
    /// Build the eBPF programs into proxy-ebpf/prebuilt.
    BuildEbpf(build_ebpf::Args),
    /// Run the main job, end to end, on a real API server (needs root).
    Demo(demo::Args),
    /// Count the instructions of the hot parsers, and compare them with the committed ones.
    Instructions(instructions::Args),
    /// Run random histories against a model of the API server; a failure is replayed by its seed.
    Model(model::Args),
    /// Run every test, the demo's lines among them (needs root).
    Test(test::Args),
    /// Kill the real holdfast again and again while clients read, and check what they are told (needs root).
    Torture(torture::Args),
    /// Format, lints, house rules, licences and advisories.
    Check(check::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Bench(args) => bench::run(&args),
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::Model(args) => model::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Torture(args) => torture::run(&args),
        Task::Check(args) => check::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

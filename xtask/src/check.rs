//! `cargo xtask check`: format, lints, house rules, then licences, bans, sources and advisories.

use std::process::Command;

use anyhow::Result;

use crate::shell::{self, cargo, has, say, step};
use crate::tidy;

/// Flags of `cargo xtask check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out cargo-deny (it is built from source when missing, which takes minutes).
    #[arg(long)]
    no_deny: bool,
}

/// Runs every check, the quick ones first.
pub(crate) fn run(args: &Args) -> Result<()> {
    shell::run(cargo().args(["fmt", "--all", "--check"]))?;
    say("format: ok");
    tidy::run()?;
    say("house rules: ok");
    shell::run(cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    say("clippy: ok");
    if !args.no_deny {
        deny()?;
    }
    Ok(())
}

fn deny() -> Result<()> {
    if !has("cargo-deny") && !in_cargo_home() {
        let mut install = cargo();
        install.args(["install", "cargo-deny", "--locked", "--quiet"]);
        if let Err(error) = step("installing cargo-deny (minutes, once)", &mut install) {
            say(&format!(
                "licences, bans, sources and advisories NOT checked: cargo-deny cannot be installed here: {error}"
            ));
            return Ok(());
        }
    }
    shell::run(deny_check().args(["bans", "licenses", "sources"]))?;
    say("licences, bans, sources: ok");
    advisories()
}

/// The advisory database is fetched from its home; where that cannot be reached, one line says so.
fn advisories() -> Result<()> {
    let output = deny_check().arg("advisories").output()?;
    if output.status.success() {
        say("advisories: ok");
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    if text.contains("failed to fetch advisory database")
        || text.contains("failed to load advisory database")
    {
        say("advisories NOT checked: the advisory database cannot be fetched from here");
        return Ok(());
    }
    eprint!("{text}");
    anyhow::bail!("cargo deny check advisories failed");
}

fn deny_check() -> Command {
    let mut deny = cargo();
    // The configuration is .deny.toml, which cargo-deny finds by itself.
    deny.args(["deny", "--all-features", "--log-level", "error", "check"]);
    deny
}

fn in_cargo_home() -> bool {
    let home = std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    home.is_some_and(|home| home.join("bin/cargo-deny").is_file())
}

//! The commands. Each reads its arguments, calls one function of the library, and prints.

mod ca;
mod config;
mod run;
mod status;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use holdfast::config::ConfigError;
use holdfast::{tls, upstream};

/// What the user wrote is wrong: nothing was attached, bound or changed.
const MISCONFIGURED: u8 = 2;

/// Keeps the Kubernetes API answering on an edge node when the road to the control plane is gone.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node agent in the foreground; SIGTERM drains it
    Run(run::Args),
    /// Show what the agent on this node does: uplink, servers, namespaces, collections
    Status(status::Args),
    /// Make the CA that clients on the nodes trust
    #[command(subcommand)]
    Ca(ca::Command),
    /// Print or check configuration files
    #[command(subcommand)]
    Config(config::Command),
    /// Print a completion script
    Completion { shell: clap_complete::Shell },
}

impl Cli {
    pub(crate) fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run(args) => args.execute(),
            Command::Status(args) => args.execute(),
            Command::Ca(command) => command.execute(),
            Command::Config(command) => command.execute(),
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "holdfast", &mut script);
                print(&script)
            }
        }
    }
}

/// 2 for a configuration that could not serve (as for wrong arguments), else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    let misconfigured = error.is::<ConfigError>()
        || error.is::<tls::SetupError>()
        || error.is::<upstream::SetupError>();
    ExitCode::from(if misconfigured { MISCONFIGURED } else { 1 })
}

/// To stderr. Mistakes of a file are lines of their own that begin with `file:line:column`, as editors take them.
pub(crate) fn complain(error: &anyhow::Error) {
    match error.downcast_ref() {
        Some(ConfigError::Invalid { .. }) => eprintln!("{error}"),
        _ => eprintln!("holdfast: {error:#}"),
    }
}

/// To stdout. A reader that has seen enough (`| head`) is no error.
fn print(text: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to stdout"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn several_addresses_can_follow_one_flag_or_each_its_own() {
        let files = [
            "--ca-cert",
            "a",
            "--ca-key",
            "b",
            "--out-cert",
            "c",
            "--out-key",
            "d",
        ];
        let parse = |addresses: &[&str]| {
            let words = ["holdfast", "ca", "create"]
                .iter()
                .chain(&files)
                .chain(addresses);
            Cli::try_parse_from(words)
        };
        assert!(parse(&["--address", "kubernetes", "10.96.0.1"]).is_ok());
        assert!(parse(&["--address", "kubernetes", "--address", "10.96.0.1"]).is_ok());
        assert!(parse(&["--address", "10.96.0.1:443"]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn a_misconfiguration_exits_with_2_through_any_context() {
        let wrong = ConfigError::Invalid {
            name: "f.yaml".to_owned(),
            mistakes: Vec::new(),
        };
        let code = |error| format!("{:?}", exit_code(&error));
        let two = format!("{:?}", ExitCode::from(2));
        assert_eq!(code(anyhow::Error::from(wrong).context("at start")), two);
        assert_ne!(code(anyhow::anyhow!("an occupied port")), two);
    }
}

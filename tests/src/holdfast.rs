//! The real `holdfast`, set up as a user would: its CA by `holdfast ca create`, one YAML file, run in the node's own
//! network namespace as a hostNetwork DaemonSet runs.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::assets;
use crate::curl::{Curl, Reply};
use crate::node::VIP;
use crate::pki::SERVER_NAMES;
use crate::process::{bounded, output};
use crate::{ApiServer, Node, Process, eventually};

/// Where the admin endpoints are.
pub const ADMIN: &str = "127.0.0.1:10446";
/// The explicit listener for kubeconfig clients.
pub const LISTEN: &str = "127.0.0.1:10445";
/// Threads share one arena of glibc's: what one frees the others use, and its top goes back to the system.
pub const MALLOC_ARENA_MAX: &str = "1";
/// A debug build on a busy machine of two cores.
const SERVES_WITHIN: Duration = Duration::from_secs(20);

/// What a test may set differently from what the demo's user wrote.
pub struct Settings {
    /// Each entry replaces or adds one `key: value` line of a section: `("cache", "commitInterval: 100ms")`.
    pub lines: Vec<(&'static str, String)>,
    /// The upstream's servers.
    pub servers: Vec<String>,
    /// RUST_LOG-like filter.
    pub log: String,
}

/// Holdfast on a node: its files, and its process while it runs.
pub struct Holdfast<'a> {
    node: &'a Node,
    folder: PathBuf,
    process: Option<Process>,
}

impl<'a> Holdfast<'a> {
    /// Prepares what an installation has: CA, own token, config file. Nothing runs yet.
    pub fn install(node: &'a Node, api: &ApiServer<'_>) -> Result<Self> {
        Self::install_with(node, api, &Settings::new(api))
    }

    /// As [`Holdfast::install`], with other settings.
    pub fn install_with(node: &'a Node, api: &ApiServer<'_>, settings: &Settings) -> Result<Self> {
        let holdfast = Self {
            node,
            folder: node.folder().join("holdfast"),
            process: None,
        };
        fs::create_dir_all(&holdfast.folder)?;
        holdfast.create_ca(api)?;
        fs::copy(api.pki().path("ca.crt"), holdfast.path("cluster-ca.crt"))?;
        fs::write(
            holdfast.path("token"),
            api.token("kube-system", "holdfast", None)?,
        )?;
        holdfast.configure(settings)?;
        Ok(holdfast)
    }

    fn create_ca(&self, api: &ApiServer<'_>) -> Result<()> {
        let mut command = Command::new(assets::holdfast()?);
        command.args(["ca", "create"]);
        command
            .arg("--ca-cert")
            .arg(api.pki().path("ca.crt"))
            .arg("--ca-key")
            .arg(api.pki().path("ca.key"));
        command
            .arg("--out-cert")
            .arg(self.path("ca.crt"))
            .arg("--out-key")
            .arg(self.path("ca.key"));
        for address in SERVER_NAMES.iter().chain(&[VIP, "127.0.0.1"]) {
            command.args(["--address", address]);
        }
        output(&mut command).context("holdfast ca create").map(drop)
    }

    /// Writes the config file.
    pub fn configure(&self, settings: &Settings) -> Result<()> {
        fs::write(
            self.path("config.yaml"),
            settings.yaml(self.node, &self.folder)?,
        )?;
        Ok(())
    }

    /// A file of the installation.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts it and waits until it serves; returns how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.launch()?;
        let process = self.process.as_ref().context("just launched")?;
        let ended = eventually("holdfast to serve", SERVES_WITHIN, || {
            if !process.runs() {
                return Ok(true);
            }
            let said = process.stdout() + &process.stderr();
            if said
                .lines()
                .any(|line| line.starts_with("holdfast is serving"))
            {
                Ok(false)
            } else {
                bail!("it wrote:\n{}", process.tail())
            }
        })?;
        if ended {
            bail!("holdfast ended:\n{}", process.tail());
        }
        Ok(started.elapsed())
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) -> Result<()> {
        let config = self.path("config.yaml");
        let mut command = self.node.command(assets::holdfast()?, ["run", "--config"]);
        command.arg(config).env("RUST_BACKTRACE", "1");
        // As deploy/30-daemonset.yaml has it.
        command.env("MALLOC_ARENA_MAX", MALLOC_ARENA_MAX);
        self.process = Some(Process::spawn(
            "holdfast",
            self.node.folder(),
            &mut command,
        )?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM; returns how it ended and after how long.
    pub fn terminate(&mut self, deadline: Duration) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        let process = self.process.take().context("holdfast does not run")?;
        process.signal(Signal::SIGTERM)?;
        Ok((process.wait(deadline)?, started.elapsed()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process
            .as_ref()
            .context("holdfast does not run")?
            .signal(signal)
    }

    /// The process, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// True while it runs.
    pub fn runs(&self) -> bool {
        self.process.as_ref().is_some_and(Process::runs)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map(|process| process.stdout() + &process.stderr())
            .unwrap_or_default()
    }

    /// GET of an admin endpoint.
    pub fn admin(&self, path: &str) -> Result<Reply> {
        let curl = Curl::get(
            &format!("http://{ADMIN}{path}"),
            &self.path("cluster-ca.crt"),
        )
        .at_most(Duration::from_secs(5));
        curl.run(self.node.folder(), |program, args| {
            self.node.command(program, args)
        })
    }

    /// `/status` as JSON.
    pub fn status(&self) -> Result<Value> {
        self.admin("/status")?.expect(200)?.json()
    }

    /// Another command of the binary, on the node.
    pub fn command(&self, args: &[&str]) -> Result<Output> {
        let words = bounded(&assets::holdfast()?, args);
        Ok(self.node.command("timeout", words).output()?)
    }

    /// Leaves it running when this value is dropped.
    pub fn let_go(&mut self) {
        if let Some(process) = &mut self.process {
            process.let_go();
        }
    }
}

impl Settings {
    /// What the demo's user wrote.
    pub fn new(api: &ApiServer<'_>) -> Self {
        Self {
            lines: Vec::new(),
            servers: vec![api.url()],
            log: "info".to_owned(),
        }
    }

    /// One more `key: value` line in a section.
    #[must_use]
    pub fn with(mut self, section: &'static str, line: &str) -> Self {
        self.lines.push((section, line.to_owned()));
        self
    }

    /// With another log filter, if one is given.
    #[must_use]
    pub fn logging(mut self, filter: Option<String>) -> Self {
        self.log = filter.unwrap_or(self.log);
        self
    }

    fn yaml(&self, node: &Node, folder: &Path) -> Result<String> {
        let file = |name: &str| folder.join(name).display().to_string();
        let sections: Vec<(&str, Vec<String>)> = vec![
            (
                "upstream",
                vec![
                    format!("servers: {}", serde_json::to_string(&self.servers)?),
                    format!("caFile: {}", file("cluster-ca.crt")),
                    format!("tokenFile: {}", file("token")),
                    // Ten thousand nodes spread their return; a demo of one does not wait for it.
                    "resumeJitter: 1s".to_owned(),
                ],
            ),
            (
                "intercept",
                vec![
                    format!("cgroup: {}", node.kubepods().display()),
                    format!("destinations: [\"{VIP}:443\"]"),
                ],
            ),
            (
                "tls",
                vec![
                    "mode: intermediate".to_owned(),
                    format!("caCertFile: {}", file("ca.crt")),
                    format!("caKeyFile: {}", file("ca.key")),
                    format!("clientCaFile: {}", file("cluster-ca.crt")),
                ],
            ),
            (
                "cache",
                vec![
                    format!("path: {}", file("cache.redb")),
                    format!("tail: {}", file("cache.tail")),
                ],
            ),
            ("admin", vec![format!("listen: \"{ADMIN}\"")]),
            ("log", vec![format!("filter: \"{}\"", self.log)]),
        ];
        let mut yaml =
            format!("apiVersion: holdfast.dev/v1alpha1\nkind: Config\nlisten: [\"{LISTEN}\"]\n");
        for (section, mut lines) in sections {
            for (_, line) in self.lines.iter().filter(|(name, _)| *name == section) {
                let key = line.split(':').next().unwrap_or_default();
                lines.retain(|old| old.split(':').next() != Some(key));
                lines.push(line.clone());
            }
            writeln!(yaml, "{section}:\n  {}", lines.join("\n  "))?;
        }
        Ok(yaml)
    }
}

//! The redirect in a process of its own, so that it can be killed, stopped and confined: this very test binary, started
//! again with one test selected. It runs the real `holdfast::intercept`; only what answers behind its listeners is of the
//! tests, and says "holdfast" and who it thinks is calling.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast::identity::Place;
use holdfast::intercept::{self, Intercept, Listener};
use holdfast_tests::node::VIP;
use holdfast_tests::{Node, Process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(super) const PORT: u16 = 19443;
/// How long a change of the status may take to show.
const PATIENCE: Duration = Duration::from_secs(10);

/// The one test that is this daemon.
const TEST: [&str; 4] = ["redirect::daemon", "--ignored", "--exact", "--nocapture"];

/// The running redirect of a node.
pub(super) struct Daemon(Process);

impl Daemon {
    /// Starts it in the node's namespace, outside kubepods, and waits until it is attached.
    pub(super) fn start(node: &Node) -> Result<Self> {
        Self::spawn(node, &mut Self::command(node, None)?)
    }

    /// With the programs' own log.
    pub(super) fn start_debugging(node: &Node) -> Result<Self> {
        let mut command = Self::command(node, None)?;
        Self::spawn(node, command.env("HOLDFAST_REDIRECT_DEBUG", "1"))
    }

    /// As a hostNetwork pod runs: in this cgroup.
    pub(super) fn start_in(node: &Node, cgroup: &Path) -> Result<Self> {
        Self::spawn(node, &mut Self::command(node, Some(cgroup))?)
    }

    /// In a cgroup namespace of its own whose whole tree is `root`, with no folder configured; not waited for.
    pub(super) fn start_viewing(node: &Node, root: &Path) -> Result<Self> {
        let mount = holdfast::intercept::cgroup2_mount()?;
        let view = r#"echo $$ > "$0/cgroup.procs" && exec unshare --cgroup --mount sh -c 'umount -l "$0" && mount -t cgroup2 none "$0" && exec "$@"' "$@""#;
        let mut words = vec!["-c".into(), view.into(), root.as_os_str().to_owned()];
        words.push(mount.into_os_string());
        words.push(std::env::current_exe()?.into_os_string());
        words.extend(TEST.map(Into::into));
        let mut command = node.command("sh", words);
        command.env("HOLDFAST_REDIRECT", "");
        let process = Process::spawn("redirect", node.folder(), &mut command)?;
        Ok(Self(process))
    }

    fn command(node: &Node, cgroup: Option<&Path>) -> Result<Command> {
        let own = std::env::current_exe()?;
        let mut command: Command = match cgroup {
            None => node.command(&own, TEST),
            Some(cgroup) => {
                let join = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
                let mut words = vec!["-c".into(), join.into(), cgroup.as_os_str().to_owned()];
                words.push(own.into());
                words.extend(TEST.map(Into::into));
                node.command("sh", words)
            }
        };
        command.env("HOLDFAST_REDIRECT", node.kubepods());
        Ok(command)
    }

    fn spawn(node: &Node, command: &mut Command) -> Result<Self> {
        let process = Process::spawn("redirect", node.folder(), command)?;
        let mut daemon = Self(process);
        daemon.until("attached", |status| {
            status["attachedTo"].as_array()?.first().map(drop)
        })?;
        Ok(daemon)
    }

    /// Waits until the latest status is as wanted.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        found: impl Fn(&Value) -> Option<T>,
    ) -> Result<T> {
        let latest = |lines: &[Value]| found(lines.last()?);
        self.0.wait_for(what, PATIENCE, latest)
    }

    pub(super) fn status(&self) -> Value {
        self.0.lines().pop().unwrap_or_default()
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.0
    }
}

/// The body of the test that is the daemon.
pub(super) fn main() -> Result<()> {
    let Some(kubepods) = std::env::var_os("HOLDFAST_REDIRECT") else {
        // Started by a person who asked for every ignored test.
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(serve(kubepods.into()))
}

async fn serve(kubepods: PathBuf) -> Result<()> {
    let config = holdfast::config::Intercept {
        enabled: true,
        cgroup: Some(kubepods).filter(|folder| !folder.as_os_str().is_empty()),
        port: PORT,
        host: false,
        destinations: vec![format!("{VIP}:443").parse()?, "[2001:db8::1]:443".parse()?],
    };
    let (send, mut listeners) = mpsc::channel::<Listener>(1);
    tokio::spawn(async move {
        while let Some(listener) = listeners.recv().await {
            tokio::spawn(accept(listener));
        }
    });
    let debug = std::env::var_os("HOLDFAST_REDIRECT_DEBUG").is_some();
    if debug {
        holdfast::runtime::telemetry::init(&holdfast::config::Log {
            filter: "holdfast::intercept=debug".to_owned(),
            format: holdfast::config::LogFormat::Text,
        })?;
    }
    let intercept = Intercept::start(&config, send, debug).await?;
    let dials = own_dials(&intercept).await;
    let mut told = Value::Null;
    let tell = async {
        loop {
            let mut status = json!(intercept.status());
            status["dials"] = dials.clone();
            if status != told {
                println!("\n{status}");
                told = status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = intercept.run(CancellationToken::new()) => {}
        () = tell => {}
    }
    Ok(())
}

async fn accept(from: Listener) -> Result<()> {
    let listener = TcpListener::from_std(from.listener)?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted?;
                let (place, gone) = (from.place.clone(), from.gone.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = gone.cancelled() => {}
                        _ = answer(stream, peer, place) => {}
                    }
                });
            }
            () = from.gone.cancelled() => return Ok(()),
        }
    }
}

/// Answers once, then holds the connection until the client ends it.
async fn answer(mut stream: TcpStream, peer: SocketAddr, place: Place) -> Result<()> {
    let mut heard = [0; 64];
    if stream.read(&mut heard).await? == 0 {
        return Ok(());
    }
    let caller = match place {
        Place::Pod(uid) => format!("pod {}", uid.0),
        Place::Host => match intercept::pod_of_peer(stream.local_addr()?, peer)? {
            Some(uid) => format!("host {}", uid.0),
            None => "host none".to_owned(),
        },
        Place::Explicit => "explicit".to_owned(),
    };
    stream
        .write_all(format!("holdfast {caller}\n").as_bytes())
        .await?;
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

/// What the process that redirects meets when it dials the destination itself, with its tag and without.
async fn own_dials(intercept: &Intercept) -> Value {
    let tag = intercept.tagger();
    let mut said = json!({});
    for tagged in [true, false] {
        let dial = async {
            let socket = TcpSocket::new_v4()?;
            if tagged {
                tag(socket.as_fd())?;
            }
            let mut stream = socket.connect(format!("{VIP}:443").parse()?).await?;
            stream.write_all(b"hello\n").await?;
            let mut heard = [0; 64];
            let length = stream.read(&mut heard).await?;
            let word = heard.get(..length).context("a read within its buffer")?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(word).trim().to_owned())
        };
        let heard = dial.await.unwrap_or_else(|error| format!("error: {error}"));
        said[if tagged { "tagged" } else { "untagged" }] = json!(heard);
    }
    said
}

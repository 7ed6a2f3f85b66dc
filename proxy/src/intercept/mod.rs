//! Step 0: load, attach and detach the eBPF programs; a listener in every network namespace. The only aya, the only unsafe.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::identity::{Place, PodUid};

/// A tagged listener in some network namespace, for `accept` to serve. Non-blocking.
/// When `gone` is cancelled the pod is gone: close the listener and every connection that came by it at once, they hold the namespace.
pub struct Listener {
    pub place: Place,
    pub listener: TcpListener,
    pub gone: CancellationToken,
}

/// The attached programs and the namespace watcher. Dropping it detaches the programs.
pub struct Intercept {}

/// What is missing, in one line, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    #[error("{what}; {remedy}")]
    Missing { what: String, remedy: String },
    #[error("cannot {step}: {source}")]
    Io {
        step: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the eBPF programs did not load: {0}")]
    Load(String),
}

/// For `/status` and metrics.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InterceptStatus {
    pub attached_to: Vec<String>,
    /// Pods (network namespaces) with a listener.
    pub namespaces: usize,
    /// Connections redirected since start, from the program's own counter.
    pub redirects: u64,
    /// Connections to a destination that found no listener of ours and went direct.
    pub misses: u64,
    /// A condition that wants attention, e.g. an attach folder that vanished.
    pub conditions: Vec<String>,
}

impl Intercept {
    /// Loads the programs, fills the maps, makes listeners in the namespaces found by a first scan (they arrive on `listeners`
    /// before this returns), then attaches. `debug`: carry the programs' own log into tracing.
    pub async fn start(
        config: &config::Intercept,
        listeners: mpsc::Sender<Listener>,
        debug: bool,
    ) -> Result<Self, InterceptError> {
        let _ = (config, listeners, debug);
        Ok(Self {})
    }

    /// Watches namespaces (kubepods tree, miss events, rescan), beats the heart, checks the attach folder, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// A function that marks a socket as Holdfast's own dial. Call before `connect`.
    pub fn tagger(&self) -> impl Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + use<> {
        |_fd| Ok(())
    }

    /// Drops the links: the next connect of every client goes direct. Listeners stay until dropped.
    pub fn detach(&self) {}

    pub fn status(&self) -> InterceptStatus {
        InterceptStatus::default()
    }
}

/// The pod a client in the host's network namespace runs in: one exact sock_diag query, then the cgroup's path.
/// `local` is our end, `peer` the client's. `Ok(None)`: a process outside any pod.
pub fn pod_of_peer(local: SocketAddr, peer: SocketAddr) -> std::io::Result<Option<PodUid>> {
    let _ = (local, peer);
    Ok(None)
}

/// The cgroup2 mount of this machine (`/sys/fs/cgroup`, or `.../unified` on hybrid ones).
pub fn cgroup2_mount() -> Result<PathBuf, InterceptError> {
    Ok(PathBuf::from("/sys/fs/cgroup"))
}

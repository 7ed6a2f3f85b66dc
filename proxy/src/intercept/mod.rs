//! Step 0: load, attach and detach the eBPF programs; a listener in every network namespace. The only aya, the only unsafe.

mod attachment;
mod cgroup;
mod host;
mod missing;
mod namespaces;
mod netns;
pub mod object;
mod programs;
mod ready;
mod tree;
mod watch;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::attachment::Place as AttachPlace;
use self::namespaces::Namespaces;
use self::programs::{Programs, Tags};
use self::watch::Watch;
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
pub struct Intercept {
    shared: Arc<Shared>,
    tags: Arc<Mutex<Tags>>,
    /// Held by `run` for as long as it runs.
    watch: tokio::sync::Mutex<Watch>,
}

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
    /// before this returns, so its receiver must be read meanwhile), then attaches. `debug`: carry the programs' own log into
    /// tracing. A configured attach folder that is not there yet is waited for by `run`, and is a condition until then.
    pub async fn start(
        config: &config::Intercept,
        listeners: mpsc::Sender<Listener>,
        debug: bool,
    ) -> Result<Self, InterceptError> {
        first(missing::missing())?;
        missing::raise_limits();
        let place = attachment::find(config.cgroup.as_deref())?;
        let loaded = programs::load(
            programs::OBJECT,
            &config.destinations,
            config.port,
            attachment::own_cgroup(place.as_ref().ok()),
            debug,
        )?;
        let tags = Arc::new(Mutex::new(loaded.tags));
        let namespaces = Namespaces::new(config.port, Arc::clone(&tags), listeners)?;
        let shared = Arc::new(Shared::new(loaded.programs));
        let mut watch = Watch::new(
            Arc::clone(&shared),
            config.cgroup.clone(),
            config.host,
            namespaces,
            loaded.misses,
            loaded.log,
        )?;
        watch.prepare(place.clone()).await?;
        shared.beat();
        shared.try_attach(place.as_ref().map_err(String::as_str))?;
        watch.report();
        Ok(Self {
            shared,
            tags,
            watch: tokio::sync::Mutex::new(watch),
        })
    }

    /// Watches namespaces (kubepods tree, miss events, rescan), beats the heart, checks the attach folder, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let beats = async {
            let mut beats = tokio::time::interval(watch::BEAT);
            loop {
                beats.tick().await;
                self.shared.beat();
            }
        };
        let watch = async { self.watch.lock().await.run().await };
        // Neither ends by itself; cut anywhere they leave listeners and links as they are.
        tokio::select! {
            () = stop.cancelled() => {}
            () = beats => {}
            () = watch => {}
        }
    }

    /// A function that marks a socket as Holdfast's own dial. Call before `connect`.
    pub fn tagger(&self) -> impl Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + use<> {
        let tags = Arc::clone(&self.tags);
        move |socket| lock(&tags).dial(socket)
    }

    /// Drops the links: the next connect of every client goes direct. Listeners stay until dropped.
    pub fn detach(&self) {
        self.shared.detach();
    }

    pub fn status(&self) -> InterceptStatus {
        self.shared.status()
    }
}

/// What the watch writes and the status reads.
struct Shared(Mutex<State>);

struct State {
    programs: Programs,
    attached: Option<PathBuf>,
    detached: bool,
    attach_condition: Option<String>,
    namespaces: usize,
    conditions: Vec<String>,
}

impl Shared {
    fn new(programs: Programs) -> Self {
        Self(Mutex::new(State {
            programs,
            attached: None,
            detached: false,
            attach_condition: None,
            namespaces: 0,
            conditions: Vec::new(),
        }))
    }

    fn beat(&self) {
        if let Err(error) = lock(&self.0).programs.beat() {
            tracing::warn!(%error, "cannot beat the heart: connections will go direct");
        }
    }

    /// As [`Self::try_attach`]; a failure is a condition.
    fn attach(&self, place: Result<&AttachPlace, &str>) {
        if let Err(error) = self.try_attach(place) {
            tracing::warn!(%error, "cannot attach again");
            lock(&self.0).attach_condition = Some(error.to_string());
        }
    }

    /// Attaches there, or to nothing while there is no place.
    fn try_attach(&self, place: Result<&AttachPlace, &str>) -> Result<(), InterceptError> {
        let mut state = lock(&self.0);
        if state.detached {
            return Ok(());
        }
        state.attached = None;
        state.attach_condition = None;
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                tracing::warn!("not attached: {why}");
                state.programs.detach();
                state.attach_condition = Some(why.to_owned());
                return Ok(());
            }
        };
        state.programs.attach(&place.folder)?;
        state.attached = Some(place.folder.clone());
        tracing::info!(folder = %place.folder.display(), "attached");
        Ok(())
    }

    fn detach(&self) {
        let mut state = lock(&self.0);
        state.detached = true;
        state.attached = None;
        state.programs.detach();
    }

    fn is_detached(&self) -> bool {
        lock(&self.0).detached
    }

    fn is_attached(&self) -> bool {
        lock(&self.0).attached.is_some()
    }

    fn report(&self, namespaces: usize, conditions: Vec<String>) {
        let mut state = lock(&self.0);
        state.namespaces = namespaces;
        state.conditions = conditions;
    }

    fn status(&self) -> InterceptStatus {
        let state = lock(&self.0);
        let attached = state.attached.iter();
        let conditions = state
            .attach_condition
            .iter()
            .chain(&state.programs.conditions);
        InterceptStatus {
            attached_to: attached.map(|path| path.display().to_string()).collect(),
            namespaces: state.namespaces,
            redirects: state.programs.redirects(),
            misses: state.programs.misses(),
            conditions: conditions.chain(&state.conditions).cloned().collect(),
        }
    }
}

/// A panic elsewhere leaves these values whole: each is set in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first is the error; the others get their line too.
fn first(missing: Vec<InterceptError>) -> Result<(), InterceptError> {
    let mut missing = missing.into_iter();
    let Some(first) = missing.next() else {
        return Ok(());
    };
    for other in missing {
        tracing::error!("{other}");
    }
    Err(first)
}

/// The pod a client in the host's network namespace runs in: one exact sock_diag query, then the cgroup's path.
/// `local` is our end, `peer` the client's. `Ok(None)`: a process outside any pod.
pub fn pod_of_peer(local: SocketAddr, peer: SocketAddr) -> std::io::Result<Option<PodUid>> {
    host::pod_of_peer(local, peer)
}

/// The cgroup2 mount of this machine (`/sys/fs/cgroup`, or `.../unified` on hybrid ones).
pub fn cgroup2_mount() -> Result<PathBuf, InterceptError> {
    cgroup::find_mount()
}

//! Which pods have a listener in which network namespace.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Listener;
use super::netns::{Namespace, NamespaceId, Process, loopbacks};
use super::programs::Tags;
use super::tree::Pods;
use super::{InterceptError, cgroup};
use crate::identity::{Place, PodUid};

/// A pod has one network namespace; a privileged one may make more, and each costs two sockets.
const NAMESPACES_PER_POD: usize = 4;
/// Processes of a pod that one look opens: a pod of many keeps them in one namespace, and a fork bomb must not keep us busy.
const PROCESSES_PER_LOOK: usize = 256;
/// How long a new namespace's missing listeners are tried again at every sweep: CNI brings `lo` up after the first process
/// is there. Later only the rescan tries; but a taken port, which is rare, at every sweep: it comes free in an upgrade.
const SETTLING: Duration = Duration::from_secs(10);

pub(super) struct Namespaces {
    port: u16,
    tags: Arc<Mutex<Tags>>,
    listeners: mpsc::Sender<Listener>,
    /// Holdfast's own, and that of the machine's first process: a runtime's processes are in it before they join a pod's.
    foreign: Vec<NamespaceId>,
    host: Option<Open>,
    pods: HashMap<PodUid, Pod>,
}

struct Pod {
    /// None where pods have no cgroup2 folder.
    folder: Option<PathBuf>,
    open: Vec<Open>,
}

/// A namespace with its listeners; which of the two addresses are still wanting.
struct Open {
    namespace: Namespace,
    wanting: Vec<std::net::SocketAddr>,
    last_error: Option<String>,
    /// A socket of the pod's (or another Holdfast's, in an upgrade) has the port.
    taken: bool,
    since: Instant,
    /// No process of the pod was in it at the last rescan.
    deserted: bool,
    gone: CancellationToken,
}

impl Open {
    fn new(namespace: Namespace, port: u16) -> Self {
        Self {
            namespace,
            wanting: loopbacks(port).to_vec(),
            last_error: None,
            taken: false,
            since: Instant::now(),
            deserted: false,
            gone: CancellationToken::new(),
        }
    }

    /// Opens what is wanting.
    fn listen(&mut self, tags: &Mutex<Tags>) -> Vec<TcpListener> {
        let mut opened = Vec::new();
        let mut tags = tags.lock().unwrap_or_else(PoisonError::into_inner);
        self.last_error = None;
        self.taken = false;
        let taken = &mut self.taken;
        let namespace = &self.namespace;
        let last_error = &mut self.last_error;
        self.wanting
            .retain(|address| match namespace.listen(*address, &mut tags) {
                Ok(listener) => {
                    opened.push(listener);
                    false
                }
                Err(error) => {
                    // No IPv6 there (or not yet) is nothing to report; a taken port is.
                    if error.kind() == io::ErrorKind::AddrInUse {
                        *taken = true;
                        *last_error = Some(format!("{address} is taken there"));
                    } else if address.is_ipv4() {
                        *last_error = Some(format!("cannot listen on {address}: {error}"));
                    }
                    true
                }
            });
        opened
    }
}

impl Namespaces {
    pub(super) fn new(
        port: u16,
        tags: Arc<Mutex<Tags>>,
        listeners: mpsc::Sender<Listener>,
    ) -> Result<Self, InterceptError> {
        let own = own()?;
        let mut foreign = vec![own.id];
        // Without the host's pid namespace this is our own first process, which adds nothing.
        foreign.extend(
            Process::open(1)
                .and_then(|process| process.namespace())
                .map(|namespace| namespace.id),
        );
        Ok(Self {
            port,
            tags,
            listeners,
            foreign,
            host: None,
            pods: HashMap::new(),
        })
    }

    /// The listener in Holdfast's own namespace, for hostNetwork pods.
    pub(super) async fn open_host(&mut self) -> Result<(), InterceptError> {
        if self.host.is_some() {
            return Ok(());
        }
        let mut open = Open::new(own()?, self.port);
        let opened = open.listen(&self.tags);
        if opened.is_empty() {
            let reason = open.last_error.take().unwrap_or_default();
            tracing::warn!(
                port = self.port,
                reason,
                "no listener for hostNetwork pods: they go direct"
            );
            open.last_error = Some(reason);
        }
        self.hand_out(Place::Host, &open.gone, opened).await;
        self.host = Some(open);
        Ok(())
    }

    /// Looks at processes of a pod, and listens in each namespace of the pod's own.
    /// `true` when the pod has at least one; `false` when all its processes are still, or for good, in the host's.
    pub(super) async fn look(&mut self, uid: &PodUid, folder: Option<&Path>, pids: &[i32]) -> bool {
        for pid in pids.iter().take(PROCESSES_PER_LOOK) {
            let Ok(process) = Process::open(*pid) else {
                continue;
            };
            let Ok(namespace) = process.namespace() else {
                continue;
            };
            if !self.foreign.contains(&namespace.id)
                && belongs(&process, uid)
                && self.add(uid, folder, namespace)
            {
                self.listen(uid).await;
            }
        }
        self.pods.get(uid).is_some_and(|pod| !pod.open.is_empty())
    }

    /// `true` when the namespace is new.
    fn add(&mut self, uid: &PodUid, folder: Option<&Path>, namespace: Namespace) -> bool {
        let known = self.pods.iter_mut().find_map(|(owner, pod)| {
            let open = pod
                .open
                .iter_mut()
                .find(|o| o.namespace.id == namespace.id)?;
            Some((owner, open))
        });
        if let Some((owner, open)) = known {
            open.deserted &= owner != uid;
            return false;
        }
        let pod = self.pods.entry(uid.clone()).or_insert_with(|| Pod {
            folder: folder.map(Path::to_path_buf),
            open: Vec::new(),
        });
        if pod.open.len() >= NAMESPACES_PER_POD {
            return false;
        }
        pod.open.push(Open::new(namespace, self.port));
        true
    }

    /// Opens the listeners that a pod is still wanting.
    async fn listen(&mut self, uid: &PodUid) {
        let Some(pod) = self.pods.get_mut(uid) else {
            return;
        };
        let mut opened = Vec::new();
        for open in pod.open.iter_mut().filter(|open| !open.wanting.is_empty()) {
            let before = open.last_error.clone();
            let listeners = open.listen(&self.tags);
            if let Some(reason) = &open.last_error
                && before.as_ref() != Some(reason)
            {
                tracing::warn!(pod = %uid.0, reason, "no listener in a pod's network namespace: it goes direct");
            }
            opened.push((open.gone.clone(), listeners));
        }
        for (gone, listeners) in opened {
            self.hand_out(Place::Pod(uid.clone()), &gone, listeners)
                .await;
        }
    }

    async fn hand_out(&self, place: Place, gone: &CancellationToken, opened: Vec<TcpListener>) {
        for listener in opened {
            let listener = Listener {
                place: place.clone(),
                listener,
                gone: gone.clone(),
            };
            // The receiver is gone only when Holdfast stops; then the socket closes here.
            let _ = self.listeners.send(listener).await;
        }
    }

    /// Lets go of pods that have no process any more, and tries again what young namespaces are wanting.
    /// Nothing of a pod may be held for longer: its namespace would not be freed.
    pub(super) async fn sweep(&mut self, now: Instant) {
        self.pods.retain(|uid, pod| {
            let gone = pod.folder.as_deref().is_some_and(cgroup::is_empty);
            if gone {
                tracing::debug!(pod = %uid.0, "the pod is gone");
                pod.open.drain(..).for_each(|open| open.gone.cancel());
            }
            !gone
        });
        if self.host.as_ref().is_some_and(|host| host.taken) {
            self.retry_host().await;
        }
        self.retry(|open| open.taken || now.duration_since(open.since) < SETTLING)
            .await;
    }

    async fn retry(&mut self, which: impl Fn(&Open) -> bool) {
        let wanting: Vec<PodUid> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.open.iter().any(|o| !o.wanting.is_empty() && which(o)))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in wanting {
            self.listen(&uid).await;
        }
    }

    /// Looks at every pod anew. A namespace that no process of its pod was in at two rescans in a row is let go of, and
    /// so is a pod that is not among `pods`.
    pub(super) async fn rescan(&mut self, pods: &Pods) {
        for open in self.pods.values_mut().flat_map(|pod| &mut pod.open) {
            if open.deserted {
                open.gone.cancel();
            }
            open.deserted = true;
        }
        for pod in self.pods.values_mut() {
            pod.open.retain(|open| !open.gone.is_cancelled());
        }
        for (uid, folder) in pods {
            self.look(uid, Some(folder), &cgroup::processes(folder))
                .await;
        }
        self.retry(|_| true).await;
        self.pods.retain(|_, pod| !pod.open.is_empty());
        self.retry_host().await;
    }

    async fn retry_host(&mut self) {
        if let Some(open) = self.host.as_mut().filter(|open| !open.wanting.is_empty()) {
            let opened = open.listen(&self.tags);
            let gone = open.gone.clone();
            self.hand_out(Place::Host, &gone, opened).await;
        }
    }

    /// Namespaces with at least one listener.
    pub(super) fn count(&self) -> usize {
        let pods = self.pods.values().flat_map(|pod| &pod.open);
        pods.filter(|open| open.wanting.len() < loopbacks(self.port).len())
            .count()
    }

    /// Why some connections go direct.
    pub(super) fn conditions(&self) -> Vec<String> {
        let host = self.host.iter().filter_map(|open| {
            let reason = open.last_error.as_ref()?;
            Some(format!("hostNetwork pods go direct: {reason}"))
        });
        let pods = self.pods.iter().flat_map(|(uid, pod)| {
            pod.open.iter().filter_map(|open| {
                let reason = open.last_error.as_ref()?;
                Some(format!("pod {} goes direct: {reason}", uid.0))
            })
        });
        host.chain(pods).collect()
    }
}

/// Of this thread: that of the process where threads share one.
fn own() -> Result<Namespace, InterceptError> {
    Namespace::open(Path::new("/proc/thread-self/ns/net")).map_err(|source| InterceptError::Io {
        step: "open Holdfast's own network namespace".to_owned(),
        source,
    })
}

/// The process is the pod's: read after the namespace, through the same handle, so that a process that got the id of one
/// that ended in between cannot lend the pod its namespace.
fn belongs(process: &Process, uid: &PodUid) -> bool {
    process.cgroups().is_ok_and(|cgroups| {
        cgroups.iter().any(|path| {
            let names = path.components().filter_map(|c| c.as_os_str().to_str());
            names.filter_map(cgroup::uid_of).any(|named| named == *uid)
        })
    })
}

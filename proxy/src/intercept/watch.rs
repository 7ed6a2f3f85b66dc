//! The life of the redirect: beat the heart, follow the pods, keep the programs attached.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use holdfast_common::{MISS_FOREIGN, Miss};
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

use super::attachment::{self, Place};
use super::cgroup;
use super::namespaces::Namespaces;
use super::netns::Process;
use super::programs::Log;
use super::ready::readable;
use super::tree::{Pods, Tree};
use super::{InterceptError, Shared};
use crate::identity::PodUid;
use crate::runtime::blocking;

/// An eighth of what counts as a hang, see `programs::MAX_AGE`.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// A pod's namespace must be free within 2 s of its end.
const SWEEP: Duration = Duration::from_millis(500);
/// What events lost is found again by then.
const RESCAN: Duration = Duration::from_secs(30);
/// Where pods have no folders to watch, the scan of all processes is what finds and misses them.
const RESCAN_PROCESSES: Duration = Duration::from_secs(1);
/// How often the attach folder is compared with what it was.
const ATTACH_CHECK: Duration = Duration::from_secs(3);
/// A runtime's process appears in the pod's cgroup before it joins the pod's namespace: look again this often ...
const SETTLE_STEP: Duration = Duration::from_millis(20);
/// ... and for this long after the last event. A hostNetwork pod never settles.
const SETTLE: Duration = Duration::from_secs(3);
/// The least time between two readings of miss events: a pod that dials in a loop must not keep Holdfast busy.
const MISS_PAUSE: Duration = Duration::from_millis(20);
/// Records taken per reading: what the ring holds. The kernel wakes us again only once we have read all.
const RECORDS_PER_READING: usize = 2048;
/// Misses looked at per reading, each of another process.
const MISSES_PER_READING: usize = 64;

/// All that `run` needs, alone.
pub(super) struct Watch {
    shared: Arc<Shared>,
    configured: Option<PathBuf>,
    host: bool,
    place: Result<Place, String>,
    tree: Option<Tree>,
    namespaces: Namespaces,
    misses: AsyncFd<RingBuf<MapData>>,
    /// The last reading did not come to the end of the ring.
    misses_left: bool,
    log: Option<AsyncFd<Log>>,
    /// Pods that stirred and have no namespace of their own yet, and until when to look.
    settling: BTreeMap<PodUid, (PathBuf, Instant)>,
}

impl Watch {
    pub(super) fn new(
        shared: Arc<Shared>,
        configured: Option<PathBuf>,
        host: bool,
        namespaces: Namespaces,
        misses: RingBuf<MapData>,
        log: Option<Log>,
    ) -> Result<Self, InterceptError> {
        Ok(Self {
            shared,
            configured,
            host,
            place: Err(String::new()),
            tree: None,
            namespaces,
            misses: wait_for(misses)?,
            misses_left: false,
            log: log.map(wait_for).transpose()?,
            settling: BTreeMap::new(),
        })
    }

    /// The first scan: listeners stand before anything is redirected.
    pub(super) async fn prepare(
        &mut self,
        place: Result<Place, String>,
    ) -> Result<(), InterceptError> {
        let pods = place.as_ref().ok().and_then(|place| place.pods.as_deref());
        self.tree = pods.map(Tree::watch);
        // Attached at the root, the programs also see the node's own processes: those are for `intercept.host` to ask for.
        if pods.is_some() || self.host {
            self.namespaces.open_host().await?;
        } else if place.is_ok() {
            tracing::warn!(
                "no kubepods folder in cgroup2: attached at its root, and hostNetwork pods go direct"
            );
        }
        self.place = place;
        self.rescan().await;
        Ok(())
    }

    pub(super) async fn run(&mut self) {
        let mut sweep = ticks(SWEEP);
        let mut attach = ticks(ATTACH_CHECK);
        let mut settle = ticks(SETTLE_STEP);
        let mut rescan = Instant::now();
        let mut misses_from = tokio::time::Instant::now();
        loop {
            // Each arm only waits; what it found is handled after, uncancelled.
            tokio::select! {
                stirred = stirred(&mut self.tree) => self.stirred(stirred),
                () = missed(&self.misses, self.misses_left, misses_from) => {
                    self.missed().await;
                    misses_from = tokio::time::Instant::now() + MISS_PAUSE;
                }
                () = logged(&mut self.log) => {}
                _ = settle.tick(), if !self.settling.is_empty() => {}
                _ = sweep.tick() => self.namespaces.sweep(Instant::now()).await,
                _ = attach.tick() => self.check_attachment().await,
            }
            self.settle().await;
            if rescan.elapsed() >= self.rescan_interval() {
                self.rescan().await;
                rescan = Instant::now();
            }
            self.report();
        }
    }

    fn rescan_interval(&self) -> Duration {
        if self.by_process() {
            RESCAN_PROCESSES
        } else {
            RESCAN
        }
    }

    /// Attached at the root of everything, with no folder of pods to look into.
    fn by_process(&self) -> bool {
        self.place.is_ok() && self.tree.is_none()
    }

    fn stirred(&mut self, pods: Pods) {
        let until = Instant::now() + SETTLE;
        let pods = pods.into_iter().map(|(uid, path)| (uid, (path, until)));
        self.settling.extend(pods);
    }

    async fn settle(&mut self) {
        let now = Instant::now();
        for (uid, (folder, until)) in std::mem::take(&mut self.settling) {
            let pids = cgroup::processes(&folder);
            let settled = self.namespaces.look(&uid, Some(&folder), &pids).await;
            if !settled && now < until {
                self.settling.insert(uid, (folder, until));
            }
        }
    }

    async fn rescan(&mut self) {
        let pods = self.tree.as_mut().map(Tree::pods).unwrap_or_default();
        self.namespaces.rescan(&pods).await;
        if self.by_process() {
            // All of /proc, while others wait for this thread.
            let pods = blocking(pods_by_process).await.unwrap_or_default();
            for (uid, pids) in pods {
                self.namespaces.look(&uid, None, &pids).await;
            }
        }
    }

    /// A client dialled where no listener is: make one, its next try is redirected.
    async fn missed(&mut self) {
        let mut misses: Vec<Miss> = Vec::new();
        let ring = self.misses.get_mut();
        self.misses_left = true;
        for _ in 0..RECORDS_PER_READING {
            let Some(record) = ring.next() else {
                self.misses_left = false;
                break;
            };
            let again = |miss: &Miss| {
                misses
                    .iter()
                    .any(|seen| (seen.netns_cookie, seen.tgid) == (miss.netns_cookie, miss.tgid))
            };
            if let Some(miss) = parse(&record)
                && misses.len() < MISSES_PER_READING
                && !again(&miss)
            {
                misses.push(miss);
            }
        }
        for miss in misses {
            self.one_miss(miss).await;
        }
    }

    async fn one_miss(&mut self, miss: Miss) {
        if miss.reason == MISS_FOREIGN {
            tracing::debug!(
                pid = miss.tgid,
                "a client went direct: a socket of its namespace holds the port"
            );
            return;
        }
        let Ok(pid) = i32::try_from(miss.tgid) else {
            return;
        };
        let tree = self.place.as_ref().ok();
        let tree = tree.and_then(|place| place.pods.as_deref());
        // By the cgroup's id, which the kernel gave and nobody else gets.
        let folder = tree.and_then(|tree| cgroup::find_by_id(tree, miss.cgroup_id));
        if let (Some(tree), Some(folder)) = (tree, folder) {
            let Some((uid, folder)) = pod_below(tree, &folder) else {
                return;
            };
            let mut pids = vec![pid];
            pids.extend(cgroup::processes(&folder));
            self.namespaces.look(&uid, Some(&folder), &pids).await;
        } else if let Some(uid) = pod_of_process(pid) {
            self.namespaces.look(&uid, None, &[pid]).await;
        }
    }

    /// Links to a folder that was removed are dead without a word; a kubepods folder may also come after us.
    async fn check_attachment(&mut self) {
        if self.shared.is_detached() {
            return;
        }
        let found = match attachment::find(self.configured.as_deref()) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "cannot check the attach folder");
                return;
            }
        };
        if found == self.place && (found.is_err() || self.shared.is_attached()) {
            return;
        }
        tracing::warn!("the attach folder is another than before");
        self.shared.attach(found.as_ref().map_err(String::as_str));
        if let Err(error) = self.prepare(found).await {
            tracing::warn!(%error, "no listener for hostNetwork pods");
        }
    }

    pub(super) fn report(&self) {
        self.shared
            .report(self.namespaces.count(), self.namespaces.conditions());
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn stirred(tree: &mut Option<Tree>) -> Pods {
    match tree {
        Some(tree) => tree.stirred().await,
        None => std::future::pending().await,
    }
}

async fn missed(misses: &AsyncFd<RingBuf<MapData>>, left: bool, from: tokio::time::Instant) {
    tokio::time::sleep_until(from).await;
    if left {
        return;
    }
    match misses.readable().await {
        // Cleared before the ring is read: a record that comes after that makes it readable again.
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => std::future::pending().await,
    }
}

async fn logged(log: &mut Option<AsyncFd<Log>>) {
    let Some(log) = log else {
        return std::future::pending().await;
    };
    match log.readable_mut().await {
        Ok(mut ready) => {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
        Err(_) => std::future::pending().await,
    }
}

fn wait_for<T: AsFd + AsRawFd>(source: T) -> Result<AsyncFd<T>, InterceptError> {
    readable(source).map_err(|source| InterceptError::Io {
        step: "wait for events of the eBPF programs".to_owned(),
        source,
    })
}

/// A record of `holdfast_common::Miss`: two `u64`, two `u32`, in this machine's byte order.
fn parse(record: &[u8]) -> Option<Miss> {
    let (cookie, rest) = record.split_first_chunk()?;
    let (cgroup, rest) = rest.split_first_chunk()?;
    let (tgid, rest) = rest.split_first_chunk()?;
    Some(Miss {
        netns_cookie: u64::from_ne_bytes(*cookie),
        cgroup_id: u64::from_ne_bytes(*cgroup),
        tgid: u32::from_ne_bytes(*tgid),
        reason: u32::from_ne_bytes(*rest.first_chunk()?),
    })
}

/// The pod of a folder in the pods' tree, which counts from the tree's root whatever that is called.
fn pod_below(tree: &Path, folder: &Path) -> Option<(PodUid, PathBuf)> {
    let mut path = tree.to_path_buf();
    for component in folder.strip_prefix(tree).ok()?.components() {
        path.push(component);
        if let Some(uid) = cgroup::uid_of(component.as_os_str().to_str()?) {
            return Some((uid, path));
        }
    }
    None
}

/// By any of its hierarchies: on cgroup v1 nodes the pod's name is in those of v1 alone.
fn pod_of_process(pid: i32) -> Option<PodUid> {
    let cgroups = Process::open(pid).ok()?.cgroups().ok()?;
    cgroups
        .iter()
        .find_map(|path| cgroup::pod_of(path))
        .map(|(uid, _)| uid)
}

fn pods_by_process() -> BTreeMap<PodUid, Vec<i32>> {
    let mut pods: BTreeMap<PodUid, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(uid) = pod_of_process(pid)
        {
            pods.entry(uid).or_default().push(pid);
        }
    }
    pods
}

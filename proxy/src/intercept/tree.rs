//! The kubepods tree, watched: which pods there are, and which of them stirred.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use super::cgroup::{folders, uid_of};
use super::ready::readable;
use crate::identity::PodUid;

/// Pods and their folders.
pub(super) type Pods = BTreeMap<PodUid, PathBuf>;

/// Below kubepods comes a QoS class or a pod; below a QoS class only pods.
const CLASS_DEPTH: usize = 1;

pub(super) struct Tree {
    root: PathBuf,
    /// `None`: the kernel refused; then only the rescan looks at the tree.
    inotify: Option<AsyncFd<Handle>>,
    watched: HashMap<WatchDescriptor, PathBuf>,
}

struct Handle(Inotify);

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Tree {
    pub(super) fn watch(root: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(io::Error::from)
            .and_then(|inotify| readable(Handle(inotify)))
            .inspect_err(|error| {
                tracing::warn!(%error, "cannot watch the pods' cgroup tree, only scans will find new pods");
            });
        let mut tree = Self {
            root: root.to_path_buf(),
            inotify: inotify.ok(),
            watched: HashMap::new(),
        };
        tree.pods();
        tree
    }

    /// Every pod there is now. Folders not watched yet are watched from here on, so that one whose event was lost is not
    /// lost for good.
    pub(super) fn pods(&mut self) -> Pods {
        let mut found = Pods::new();
        let root = self.root.clone();
        self.enter(&root, CLASS_DEPTH, &mut found);
        found
    }

    /// Waits until something happened in the tree; the pods it happened to.
    pub(super) async fn stirred(&mut self) -> Pods {
        let Some(inotify) = &self.inotify else {
            return std::future::pending().await;
        };
        let mut found = Pods::new();
        match events(inotify).await {
            Ok(events) => {
                for event in events {
                    self.event(&event, &mut found);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot watch the pods' cgroup tree any more, only scans will find new pods");
                self.inotify = None;
            }
        }
        found
    }

    fn event(&mut self, event: &InotifyEvent, found: &mut Pods) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            found.extend(self.pods());
            return;
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.watched.remove(&event.wd);
            return;
        }
        let Some(folder) = self.watched.get(&event.wd).cloned() else {
            return;
        };
        if let Some(uid) = uid(&folder) {
            if tells_of_processes(event) {
                found.insert(uid, folder);
            }
        } else if let Some(name) = &event.name
            && event.mask.contains(AddWatchFlags::IN_ISDIR)
        {
            let depth = if folder == self.root { CLASS_DEPTH } else { 0 };
            self.child(&folder.join(name), depth, found);
        }
    }

    /// Watches first and lists then: what appears in between is in the list, what appears later is an event.
    fn enter(&mut self, folder: &Path, depth: usize, found: &mut Pods) {
        self.add(folder);
        for child in folders(folder) {
            self.child(&child, depth, found);
        }
    }

    fn child(&mut self, folder: &Path, depth: usize, found: &mut Pods) {
        if !folder.is_dir() {
            return;
        }
        if let Some(uid) = uid(folder) {
            self.add(folder);
            found.insert(uid, folder.to_path_buf());
        } else if depth > 0 {
            self.enter(folder, depth - 1, found);
        }
    }

    fn add(&mut self, folder: &Path) {
        // A change of `cgroup.events` (the first process came) shows as a modification; so does a write to `cgroup.procs`.
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONLYDIR;
        let Some(inotify) = &self.inotify else {
            return;
        };
        match inotify.get_ref().0.add_watch(folder, flags) {
            Ok(watch) => {
                self.watched.insert(watch, folder.to_path_buf());
            }
            // Gone again already.
            Err(Errno::ENOENT) => {}
            Err(error) => tracing::warn!(
                folder = %folder.display(), %error,
                "cannot watch a pod's cgroup folder, only the rescan will see it; raise fs.inotify.max_user_watches"
            ),
        }
    }
}

async fn events(inotify: &AsyncFd<Handle>) -> io::Result<Vec<InotifyEvent>> {
    loop {
        let mut ready = inotify.readable().await?;
        match ready.get_inner().0.read_events() {
            Err(Errno::EAGAIN) => ready.clear_ready(),
            read => return Ok(read?),
        }
    }
}

/// A container was made, a process was put in, or the first came. Not `memory.events` and its like, which a pod can stir
/// as often as it wants to.
fn tells_of_processes(event: &InotifyEvent) -> bool {
    let name = event.name.as_ref().and_then(|name| name.to_str());
    event.mask.contains(AddWatchFlags::IN_ISDIR)
        || matches!(name, Some("cgroup.procs" | "cgroup.events"))
}

fn uid(folder: &Path) -> Option<PodUid> {
    uid_of(folder.file_name()?.to_str()?)
}

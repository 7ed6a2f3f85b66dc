//! The cgroup2 tree: where it is mounted, where pods are in it, and which pod a folder belongs to.

use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::InterceptError;
use crate::identity::PodUid;

/// How deep below the mount the folder of all pods is looked for: kind nests it two deep, nothing known deeper.
const KUBEPODS_DEPTH: usize = 3;
/// How deep below the mount a container may be: kubepods, QoS class, pod, container, and a nested tree of each.
const CONTAINER_DEPTH: usize = 10;
/// A pod's UID is 36 bytes, a static pod's 32; anything much longer is no UID.
const UID_MAX: usize = 64;

/// Of `/proc/self/mountinfo`.
pub(super) fn find_mount() -> Result<PathBuf, InterceptError> {
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").map_err(|source| InterceptError::Io {
            step: "read /proc/self/mountinfo".to_owned(),
            source,
        })?;
    cgroup2_mount(&mountinfo).ok_or_else(|| InterceptError::Missing {
        what: "no cgroup2 file system is mounted".to_owned(),
        remedy: "mount one (mount -t cgroup2 none /sys/fs/cgroup), or give the container the host's /sys/fs/cgroup"
            .to_owned(),
    })
}

/// The mount that shows most of the cgroup2 tree. Fields by proc_pid_mountinfo(5): root is the fourth, the mount point the
/// fifth, the type the first after the dash.
fn cgroup2_mount(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (right.split(' ').next()? == "cgroup2").then_some((root, point))
    });
    let mut mounts: Vec<_> = mounts.collect();
    mounts.sort_by_key(|(root, _)| std::cmp::Reverse(levels_above(root)));
    mounts.first().map(|(_, point)| PathBuf::from(point))
}

/// How much of the tree a mount's root shows. In a cgroup namespace of our own, `/` is our own part and the host's tree,
/// given to the container, is `/../..`; elsewhere `/` is the whole, and any other root a part of it.
fn levels_above(root: &str) -> isize {
    let mut above = 0;
    for name in root.split('/').filter(|name| !name.is_empty()) {
        if name != ".." {
            return -1;
        }
        above += 1;
    }
    above
}

/// Holdfast sees the cgroup tree from a namespace that is not the machine's first.
pub(super) fn in_own_namespace() -> bool {
    /// `PROC_CGROUP_INIT_INO` of the kernel's `linux/proc_ns.h`.
    const FIRST: u64 = 0xEFFF_FFFB;
    fs::metadata("/proc/self/ns/cgroup").is_ok_and(|namespace| namespace.ino() != FIRST)
}

/// The folder of all pods: itself `root`, or the shallowest of that name below it. `kubepods` by the cgroupfs driver,
/// `kubepods.slice` by systemd's, `kubelet-kubepods.slice` in kind.
pub(super) fn find_kubepods(root: &Path) -> Option<PathBuf> {
    if is_kubepods(root.file_name()?.to_str()?) {
        return Some(root.to_path_buf());
    }
    let mut level = vec![root.to_path_buf()];
    for _ in 0..KUBEPODS_DEPTH {
        let mut next: Vec<PathBuf> = level.iter().flat_map(|folder| folders(folder)).collect();
        next.sort();
        if let Some(found) = next.iter().find(|folder| {
            folder
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_kubepods)
        }) {
            return Some(found.clone());
        }
        level = next;
    }
    None
}

fn is_kubepods(name: &str) -> bool {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    name == "kubepods" || name.ends_with("-kubepods")
}

/// The folders in a folder; none when it is gone.
pub(super) fn folders(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect()
        },
    )
}

/// The process ids in a folder and the folders below it.
pub(super) fn processes(folder: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let mut pending = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        if let Ok(list) = fs::read_to_string(folder.join("cgroup.procs")) {
            found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        if depth < CONTAINER_DEPTH {
            pending.extend(folders(&folder).into_iter().map(|child| (child, depth + 1)));
        }
    }
    // A process of a foreign pid namespace shows as 0.
    found.retain(|pid| *pid > 0);
    found
}

/// A pod's folder holds no process, or is gone.
pub(super) fn is_empty(folder: &Path) -> bool {
    fs::read_to_string(folder.join("cgroup.events")).map_or(true, |events| {
        events.lines().any(|line| line == "populated 0")
    })
}

/// The folder with this cgroup id, which is its inode number, below `root`.
pub(super) fn find_by_id(root: &Path, id: u64) -> Option<PathBuf> {
    if fs::metadata(root).ok()?.ino() == id {
        return Some(root.to_path_buf());
    }
    let mut pending = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.ino() == id {
                return Some(entry.path());
            }
            if depth < CONTAINER_DEPTH {
                pending.push((entry.path(), depth + 1));
            }
        }
    }
    None
}

/// The pod that a cgroup path names, and the part of the path down to the pod's own folder.
///
/// The outermost match below a kubepods folder counts: a pod may own the tree below its container and make folders there
/// with any name. `podruntime`, which Talos has beside kubepods, is no pod.
pub(super) fn pod_of(path: &Path) -> Option<(PodUid, PathBuf)> {
    let mut folder = PathBuf::new();
    let mut below = false;
    for component in path.components() {
        folder.push(component);
        let name = component.as_os_str().to_str()?;
        if below && let Some(uid) = uid_of(name) {
            return Some((uid, folder));
        }
        below = below || is_kubepods(name);
    }
    None
}

/// Of a folder's own name: `pod<uid>`, or systemd's `kubepods-burstable-pod<uid with underscores>.slice`.
pub(super) fn uid_of(name: &str) -> Option<PodUid> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let valid = !uid.is_empty()
        && uid.len() <= UID_MAX
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    valid.then_some(PodUid(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f5e8a3c-6a50-4b4f-9d0e-2f1b6b6f3a10";

    fn pod(path: &str) -> Option<String> {
        pod_of(Path::new(path)).map(|(uid, _)| uid.0)
    }

    #[test]
    fn both_cgroup_drivers_and_kind_name_the_pod() {
        for path in [
            format!("/kubepods/burstable/pod{UID}/4f3c"),
            format!("/kubepods/pod{UID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-4f3c.scope",
                UID.replace('-', "_")
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{}.slice/x",
                UID.replace('-', "_")
            ),
            format!("/../../kubepods/besteffort/pod{UID}/4f3c"),
        ] {
            assert_eq!(pod(&path).as_deref(), Some(UID), "{path}");
        }
    }

    #[test]
    fn a_static_pod_has_a_uid_without_dashes() {
        let path = "/kubepods/burstable/pod3b1f0a1f2c3d4e5f60718293a4b5c6d7/abc";
        assert_eq!(
            pod(path).as_deref(),
            Some("3b1f0a1f2c3d4e5f60718293a4b5c6d7")
        );
    }

    #[test]
    fn a_folder_that_a_pod_made_below_its_container_changes_nothing() {
        let path = format!("/kubepods/pod{UID}/4f3c/kubepods/podffffffff/x");
        assert_eq!(pod(&path).as_deref(), Some(UID));
    }

    #[test]
    fn what_is_no_pod_is_none() {
        for path in [
            "/",
            "/system.slice/kubelet.service",
            "/podruntime/kubelet",
            "/kubepods/burstable",
            "/kubepods.slice/kubepods-burstable.slice",
            "/kubepods/pod",
            "/kubepods/pod..",
            "/kubepods/pod%2f",
        ] {
            assert_eq!(pod(path), None, "{path}");
        }
    }

    #[test]
    fn the_pod_s_folder_ends_where_its_name_does() {
        let path = PathBuf::from(format!("/kubepods/burstable/pod{UID}/4f3c"));
        let folder = pod_of(&path).map(|(_, folder)| folder);
        assert_eq!(folder.as_deref(), path.parent());
    }

    #[test]
    fn the_whole_tree_is_preferred_to_a_private_view() {
        let info = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
40 31 0:38 /kubepods/podx /sys/fs/cgroup/own rw - cgroup2 cgroup2 rw
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw";
        assert_eq!(
            cgroup2_mount(info),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        let own = "\
40 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
41 31 0:38 /../../.. /host/sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(
            cgroup2_mount(own),
            Some(PathBuf::from("/host/sys/fs/cgroup")),
            "the host's tree, seen from a cgroup namespace of our own"
        );
        assert_eq!(
            cgroup2_mount("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw"),
            None
        );
        assert_eq!(cgroup2_mount("nonsense - cgroup2\n\n"), None);
    }
}

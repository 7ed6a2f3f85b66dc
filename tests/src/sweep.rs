//! What a killed test left behind: found by the pid in its name, removed when that process is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Every name the harness gives (namespace, cgroup, folder) holds `<pid>-<n>` behind one of these.
pub(crate) const NETNS_PREFIX: &str = "hf-";
pub(crate) const CGROUP_PREFIX: &str = "holdfast-";
pub(crate) const FOLDER_PREFIX: &str = "holdfast-tests-";
/// A folder with this file in it belongs to a demo that was asked to leave everything running.
const KEEP: &str = "keep";
/// Killed processes leave their cgroup within milliseconds.
const GONE: Duration = Duration::from_secs(5);

/// The cgroup2 mount: `/sys/fs/cgroup` on most machines, `/sys/fs/cgroup/unified` on hybrid ones.
pub(crate) fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let point = mount.and_then(|line| line.split(' ').nth(4));
    point
        .map(PathBuf::from)
        .context("no cgroup2 mount: mount one (mount -t cgroup2 none /sys/fs/cgroup)")
}

/// Removes everything of one sandbox, `<pid>-<n>`: its processes first, since they hold the rest.
pub(crate) fn remove(sandbox: &str) {
    if let Ok(root) = cgroup2() {
        remove_cgroup(&root.join(format!("{CGROUP_PREFIX}{sandbox}")));
    }
    for name in names(Path::new("/run/netns")) {
        if name.starts_with(&format!("{NETNS_PREFIX}{sandbox}-")) {
            // Gone already is what is wanted.
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
    let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("{FOLDER_PREFIX}{sandbox}")));
}

/// Marks a sandbox as one that outlives its maker.
pub(crate) fn keep(sandbox: &str) -> Result<()> {
    Ok(fs::write(
        std::env::temp_dir()
            .join(format!("{FOLDER_PREFIX}{sandbox}"))
            .join(KEEP),
        "",
    )?)
}

/// Removes the sandboxes of dead processes; with `kept` also those that were left running on purpose.
pub(crate) fn stale(kept: bool) {
    let mut found = Vec::new();
    for (folder, prefix) in [
        (cgroup2().unwrap_or_default(), CGROUP_PREFIX),
        (std::env::temp_dir(), FOLDER_PREFIX),
        (PathBuf::from("/run/netns"), NETNS_PREFIX),
    ] {
        found.extend(
            names(&folder)
                .into_iter()
                .filter_map(|name| sandbox_of(&name, prefix)),
        );
    }
    found.sort();
    found.dedup();
    for sandbox in found {
        let pid = sandbox.split('-').next().unwrap_or_default();
        let is_kept = std::env::temp_dir()
            .join(format!("{FOLDER_PREFIX}{sandbox}"))
            .join(KEEP)
            .exists();
        if !Path::new("/proc").join(pid).exists() && (kept || !is_kept) {
            remove(&sandbox);
        }
    }
}

/// `hf-123-4-node` with prefix `hf-` -> `123-4`.
fn sandbox_of(name: &str, prefix: &str) -> Option<String> {
    let mut parts = name.strip_prefix(prefix)?.split('-');
    let (pid, n) = (
        parts.next()?.parse::<u32>().ok()?,
        parts.next()?.parse::<u32>().ok()?,
    );
    Some(format!("{pid}-{n}"))
}

/// Kills what is in a cgroup tree and removes the tree.
pub(crate) fn remove_cgroup(cgroup: &Path) {
    let started = Instant::now();
    while cgroup.is_dir() && started.elapsed() < GONE {
        kill_all(cgroup);
        remove_folders(cgroup);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill_all(cgroup: &Path) {
    for pid in fs::read_to_string(cgroup.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
    {
        if let Ok(pid) = pid.parse() {
            // Gone already is what is wanted.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
    for child in folders(cgroup) {
        kill_all(&child);
    }
}

fn remove_folders(cgroup: &Path) {
    for child in folders(cgroup) {
        remove_folders(&child);
    }
    // Busy while a killed process still leaves: tried again by the caller.
    let _ = fs::remove_dir(cgroup);
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_sandbox() {
        assert_eq!(sandbox_of("hf-12-3-node", "hf-").as_deref(), Some("12-3"));
        assert_eq!(
            sandbox_of("holdfast-12-3", "holdfast-").as_deref(),
            Some("12-3")
        );
        assert_eq!(sandbox_of("holdfast-tests-12-3", "holdfast-"), None);
        assert_eq!(sandbox_of("hf-other", "hf-"), None);
    }
}

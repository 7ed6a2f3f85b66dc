//! Where the programs are attached, and whether that folder still is the one it was.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{InterceptError, cgroup};

/// The folders that the configuration and the machine give now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Attach here.
    pub(super) folder: PathBuf,
    /// By inode: a folder that was removed and made again is another cgroup, and links to the old one are dead.
    inode: u64,
    /// The tree of pods; `None`: pods are not below a folder of their own here, they are found by their processes.
    pub(super) pods: Option<PathBuf>,
}

/// Where to attach, or why there is no place for it (yet, or any more).
pub(super) fn find(configured: Option<&Path>) -> Result<Result<Place, String>, InterceptError> {
    let mount = cgroup::find_mount()?;
    let (folder, pods) = match configured {
        Some(folder) => {
            // A folder with a name of its own holds the pods itself, unless it is the root of everything.
            let named = (folder != mount).then(|| folder.to_path_buf());
            (
                folder.to_path_buf(),
                cgroup::find_kubepods(folder).or(named),
            )
        }
        None => match cgroup::find_kubepods(&mount) {
            Some(kubepods) => (kubepods.clone(), Some(kubepods)),
            None if cgroup::in_own_namespace() => {
                return Ok(Err(format!(
                    "{} shows no kubepods, only Holdfast's own part of the cgroup tree: give the container the host's /sys/fs/cgroup",
                    mount.display()
                )));
            }
            None => (mount, None),
        },
    };
    match fs::metadata(&folder) {
        Ok(metadata) => Ok(Ok(Place {
            inode: metadata.ino(),
            folder,
            pods,
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Err(format!(
            "the attach folder {} does not exist: every connection goes direct until it does",
            folder.display()
        ))),
        Err(source) => Err(InterceptError::Io {
            step: format!("look at the attach folder {}", folder.display()),
            source,
        }),
    }
}

/// The cgroup id of Holdfast's own container, when that is below the pods' tree; else 0.
pub(super) fn own_cgroup(place: Option<&Place>) -> u64 {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut pending: Vec<PathBuf> = place.and_then(|p| p.pods.clone()).into_iter().collect();
    while let Some(folder) = pending.pop() {
        let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        if procs.lines().any(|line| line.parse() == Ok(own)) {
            return fs::metadata(&folder).map_or(0, |metadata| metadata.ino());
        }
        pending.extend(cgroup::folders(&folder));
    }
    0
}

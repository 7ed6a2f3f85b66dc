//! A disk that is full, fails, or cannot be written, at each of the calls that it gets: what becomes of the cache. The store alone
//! is tried more thoroughly in `store_faults`.

use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;

use super::trace::{Digest, Recording, Rig, judge, open_on, scanned};
use super::*;
use crate::cache::aside;
use crate::cache::store::sim_disk::{Fault, SimDisk};

const EVENTS_PER_COMMIT: usize = 5;
const COMMITS: usize = 40;

/// Of each pod: all of them together are more than redb keeps in its own memory, so answers are read from the disk.
const BEYOND_THE_PAGE_CACHE: usize = 300_000;

/// What an operating system says of a write.
const WRITE_FAULTS: [Fault; 3] = [
    Fault::Write(Errno::ENOSPC),
    Fault::Write(Errno::EIO),
    Fault::Write(Errno::EROFS),
];
const READ_FAULTS: [Fault; 2] = [Fault::Read(Errno::EIO), Fault::ShortRead];

/// A rig that has begun, and what it has committed.
struct Started {
    folder: tempfile::TempDir,
    rig: Rig,
    recording: Arc<Recording>,
}

impl Started {
    async fn new() -> Self {
        Self::with_padding(0).await
    }

    async fn with_padding(padding: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Arc::new(SimDisk::default());
        let mut rig = Rig::with_padding(&disk, &folder.path().join("cache.redb"), padding);
        let recording = Recording::of(&rig.cache);
        rig.begin();
        assert!(rig.commit().await);
        Self {
            folder,
            rig,
            recording,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cache.redb")
    }

    fn steps(&mut self, steps: usize) {
        (0..steps).for_each(|_| self.rig.step());
    }

    fn condition(&self) -> Option<String> {
        self.rig.cache.status(now()).condition
    }
}

/// What another process finds in an image of the disk.
fn found(image: Vec<u8>, path: &Path) -> Digest {
    let disk = Arc::new(SimDisk::default());
    disk.put(path, image);
    let cache = open_on(&disk, path);
    let status = cache.status(now());
    assert_eq!((status.backing.as_str(), status.condition), ("disk", None));
    let store = cache.shared.lock().store.clone();
    disk.kill();
    scanned(store.as_ref())
}

#[tokio::test]
async fn a_write_that_fails_at_any_call_loses_nothing_and_is_made_up_for() {
    let mut started = Started::new().await;
    let path = started.path();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let elsewhere = elsewhere.path().join("cache.redb");
    let mut least = started.rig.world.version;
    let mut failures = 0;
    let begun = Instant::now();
    for _ in 0..COMMITS {
        started.steps(EVENTS_PER_COMMIT);
        let mut images = Vec::new();
        for after in 0.. {
            let fault = WRITE_FAULTS[failures % WRITE_FAULTS.len()];
            let is_once = failures % 2 == 0;
            let rig = &started.rig;
            rig.disk.arm(fault, after, is_once);
            let is_done = rig.commit().await;
            if failures % 8 == 0 {
                rig.judge(least).await;
            }
            if rig.disk.disarm() == 0 {
                assert!(is_done, "nothing failed");
                break;
            }
            failures += 1;
            assert!(!is_done, "{fault:?} after {after} calls was not noticed");
            assert!(started.condition().expect("told").contains("commit failed"));
            if failures % 8 == 0 {
                let (now, medium) = rig.disk.contents(&path);
                images.push(now);
                images.push(medium.after_power_cut(failures as u64));
            }
            let store = rig.cache.shared.lock().store.clone();
            if store.is_closed() {
                store.reopen().expect("the disk works again");
            }
        }
        assert_eq!(started.condition(), None);
        let store = started.rig.cache.shared.lock().store.clone();
        let states = started.recording.after_each();
        let prefixes = &states[states.len() - 2..];
        assert_eq!(scanned(store.as_ref()), prefixes[1]);
        for image in images {
            assert!(prefixes.contains(&found(image, &elsewhere)));
        }
        least = started.rig.world.version;
        assert!(started.rig.judge(least).await > 5);
    }
    assert!(aside::existing(&path).is_empty());
    println!("{failures} failures in {:?}", begun.elapsed());
    assert!(failures > 10 * COMMITS);
}

#[tokio::test]
async fn a_fold_that_fails_at_any_call_loses_nothing() {
    let mut started = Started::new().await;
    let mut failures = 0;
    for _ in 0..5 {
        started.steps(3 * EVENTS_PER_COMMIT);
        assert!(started.rig.commit().await);
        let whole = *started.recording.after_each().last().expect("a commit");
        for after in 0.. {
            let rig = &started.rig;
            let store = rig.cache.shared.lock().store.clone();
            let fault = WRITE_FAULTS[failures % WRITE_FAULTS.len()];
            rig.disk.arm(fault, after, failures % 2 == 0);
            let folded = store.stop();
            let failed = rig.disk.disarm();
            if store.is_closed() {
                store.reopen().expect("the disk works again");
            }
            assert_eq!(scanned(store.as_ref()), whole, "{fault:?} after {after}");
            assert!(rig.judge(rig.world.version).await > 5);
            if failed == 0 {
                folded.expect("nothing failed");
                break;
            }
            failures += 1;
        }
    }
    assert!(failures > 30, "{failures}");
    assert!(aside::existing(&started.path()).is_empty());
}

#[tokio::test]
async fn a_fault_at_any_call_of_a_start_leaves_a_cache_that_works_and_a_file_that_is_whole() {
    let mut started = Started::new().await;
    started.steps(100);
    assert!(started.rig.commit().await);
    let path = started.path();
    let (image, _) = started.rig.disk.contents(&path);
    let (disk, world) = (&started.rig.disk, &started.rig.world);
    let whole = found(image.clone(), &path);
    disk.kill();
    let mut failures = 0;
    for fault in WRITE_FAULTS.into_iter().chain(READ_FAULTS) {
        for after in 0.. {
            disk.put(&path, image.clone());
            disk.arm(fault, after, after % 2 == 0);
            let cache = open_on(disk, &path);
            judge(world, &cache, 0).await;
            let failed = disk.disarm();
            disk.kill();
            drop(cache);
            assert!(aside::existing(&path).is_empty(), "{fault:?} after {after}");
            assert_eq!(
                found(disk.contents(&path).0, &path),
                whole,
                "{fault:?} after {after}"
            );
            if failed == 0 {
                break;
            }
            failures += 1;
        }
    }
    println!("{failures} failures");
    assert!(failures > 20, "{failures}");
    assert!(disk.largest_read() <= image.len());
}

#[tokio::test]
async fn a_read_that_fails_is_refused_and_what_is_there_is_told_again_without_a_commit() {
    let started = Started::with_padding(BEYOND_THE_PAGE_CACHE).await;
    let least = started.rig.world.version;
    let answers = started.rig.judge(least).await;
    // From the tables: each object in one read.
    let store = started.rig.cache.shared.lock().store.clone();
    store.stop().expect("folds");
    drop(store);
    let path = started.path();
    let Started {
        folder,
        rig,
        recording,
    } = started;
    let (disk, world) = (rig.disk.clone(), rig.world);
    drop((rig.cache, rig.feeds, recording));
    let (image, _) = disk.contents(&path);
    let mut failures = 0;
    for fault in READ_FAULTS {
        for after in 0.. {
            disk.put(&path, image.clone());
            let cache = open_on(&disk, &path);
            disk.arm(fault, after, after % 2 == 0);
            judge(&world, &cache, least).await;
            if disk.disarm() == 0 {
                break;
            }
            failures += 1;
            assert!(commit::commit(&cache.shared).await);
            let then = judge(&world, &cache, least).await;
            assert_eq!(then, answers, "{fault:?} after {after}");
            assert!(aside::existing(&path).is_empty(), "{fault:?} after {after}");
            disk.kill();
        }
    }
    println!("{failures} failures");
    assert!(failures > 10);
    drop(folder);
}

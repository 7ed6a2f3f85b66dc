//! The power is cut at each write and each sync, and again while what that left is opened.

use std::collections::HashMap;
use std::path::Path;

use super::trace::{Digest, Recording, Rig, World, judge, open_on, scanned};
use super::*;
use crate::cache::aside;
use crate::cache::store::sim_disk::{Call, Logged, Medium, SimDisk};
use crate::cache::store::{Store, Table};
use crate::cache::writes::Writes;

const EVENTS: usize = 500;
const EVENTS_PER_COMMIT: usize = 5;
/// The journal is folded so often: what every commit must be read from is not long then, and a fold is cut as well.
const EVENTS_PER_FOLD: usize = 50;
/// One in so many cuts is followed by another at each call of the opening.
const CUT_AGAIN_EVERY: usize = 4;

/// One run without any trouble.
struct Run {
    calls: Vec<Logged>,
    world: World,
    /// How many calls there had been when each commit was done, and which RV that made the collections of.
    commits: Vec<(usize, u64)>,
    /// What was in the store before the first commit, and after each.
    states: Vec<Digest>,
}

async fn run() -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(SimDisk::default());
    let path = folder.path().join("cache.redb");
    disk.start_log(&path);
    let mut rig = Rig::new(&disk, &path);
    let recording = Recording::of(&rig.cache);
    let mut commits = Vec::new();
    rig.begin();
    for n in 1..=EVENTS {
        rig.step();
        if n % EVENTS_PER_COMMIT == 0 {
            assert!(rig.commit().await);
            commits.push((disk.calls() as usize, rig.world.version));
        }
        if n % EVENTS_PER_FOLD == 0 {
            let store = rig.cache.shared.lock().store.clone();
            store.stop().expect("folds");
        }
    }
    let states = recording.after_each();
    let Rig {
        cache,
        world,
        feeds,
        ..
    } = rig;
    // That closes the file in good order; it is cut, too.
    drop((cache, feeds, recording));
    Run {
        calls: disk.take_log(),
        world,
        commits,
        states,
    }
}

impl Run {
    /// What was opened is what one of the commits left: the last that was done before the cut, or the one that was under way.
    async fn assert_prefix(&self, cut: usize, path: &Path, cache: &Arc<Cache>) {
        let status = cache.status(now());
        assert_eq!(status.backing, "disk", "{cut}: {:?}", status.condition);
        assert_eq!(status.condition, None, "{cut}");
        assert!(aside::existing(path).is_empty(), "{cut}");
        let done = self.commits.partition_point(|(calls, _)| *calls <= cut);
        let store = cache.shared.lock().store.clone();
        let found = scanned(store.as_ref());
        let under_way = (done + 1).min(self.states.len() - 1);
        let is_prefix = [done, under_way].iter().any(|n| self.states[*n] == found);
        let lost = self.states.iter().position(|state| *state == found);
        assert!(is_prefix, "{cut}: after {done} commits it holds {lost:?}");
        if let Some(last) = done.checked_sub(1) {
            let answered = judge(&self.world, cache, self.commits[last].1).await;
            assert!(answered > 5, "{cut}: {answered} answers");
        }
    }
}

/// Each on a thread of its own, which takes every n-th cut.
const THREADS: usize = 2;

#[tokio::test]
async fn a_power_cut_at_any_write_or_sync_loses_no_commit_and_half_of_none() {
    let started = std::time::Instant::now();
    let run = run().await;
    assert!(run.calls.len() > 10 * EVENTS / EVENTS_PER_COMMIT);
    let unnamed = run.calls.iter().filter(|of| of.durably_named.is_none());
    let unnamed = unnamed.count();
    assert!(unnamed > 5, "the first file has its name when it is whole");
    let run = &run;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime
                    .expect("a runtime")
                    .block_on(cut_at_each(run, thread));
            });
        }
    });
    println!(
        "{} calls, {unnamed} until the first file had its name; {:?}",
        run.calls.len(),
        started.elapsed()
    );
}

async fn cut_at_each(run: &Run, thread: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    let disk = Arc::new(SimDisk::default());
    let mut medium = Medium::default();
    for (cut, logged) in run.calls.iter().enumerate() {
        // A sync that was under way has brought any part of it to the disk.
        let is_sync = matches!(logged.call, Call::Sync);
        if !is_sync {
            medium.apply(logged.call.clone());
        }
        if cut % THREADS == thread {
            // Nothing or all of what was not synced is there; and a part of it.
            for (name, seed) in [
                (logged.named, cut as u64 / 2 % 2),
                (logged.durably_named, cut as u64 + 2),
            ] {
                let left = Left {
                    is_named: name.is_some(),
                    image: medium.after_power_cut(seed),
                };
                let opening = opened(run, cut, &disk, &path, &left).await;
                if (cut / THREADS).is_multiple_of(CUT_AGAIN_EVERY) {
                    cut_again(run, cut, &disk, &path, (left, opening)).await;
                }
            }
        }
        if is_sync {
            medium.apply(Call::Sync);
        }
    }
}

/// What a power cut leaves of a file.
struct Left {
    /// Else it was being made.
    is_named: bool,
    image: Vec<u8>,
}

impl Left {
    fn put(&self, disk: &SimDisk, path: &Path) {
        if self.is_named {
            return disk.put(path, self.image.clone());
        }
        // It is there unless another file was left before.
        let _ = std::fs::remove_file(path);
        disk.put(&path.with_extension("redb.new"), self.image.clone());
    }
}

/// What opening this does to the disk.
async fn opened(
    run: &Run,
    cut: usize,
    disk: &Arc<SimDisk>,
    path: &Path,
    left: &Left,
) -> Vec<Logged> {
    left.put(disk, path);
    disk.start_log(path);
    let cache = open_on(disk, path);
    let calls = disk.take_log();
    run.assert_prefix(cut, path, &cache).await;
    disk.kill();
    calls
}

/// The power comes back, and goes again before the store is open.
async fn cut_again(
    run: &Run,
    cut: usize,
    disk: &Arc<SimDisk>,
    path: &Path,
    (left, opening): (Left, Vec<Logged>),
) {
    let mut medium = match left.is_named {
        true => Medium::synced(left.image),
        // It is made anew.
        false => Medium::default(),
    };
    for (n, logged) in opening.into_iter().enumerate() {
        let is_sync = matches!(logged.call, Call::Sync);
        if !is_sync {
            medium.apply(logged.call);
        }
        let names = [logged.named, logged.durably_named];
        let again = Left {
            is_named: names[n % 2].is_some(),
            image: medium.after_power_cut((cut + n) as u64),
        };
        opened(run, cut, disk, path, &again).await;
        if is_sync {
            medium.apply(Call::Sync);
        }
    }
}

/// Large objects, of which a few are left: the file is much longer than what it holds.
pub(super) fn sparse(store: &dyn Store) {
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
    let commit = |keys: std::ops::Range<usize>, is_put: bool| {
        let mut writes = Writes::default();
        for key in keys {
            let value = Bytes::copy_from_slice(&noise[key * 100..][..100_000]);
            let value = is_put.then_some(value);
            writes.put(Table::Objects, key.to_be_bytes().into(), value);
        }
        store.commit(&writes.into_batch()).expect("room");
    };
    commit(0..250, true);
    commit(3..250, false);
    store.stop().expect("folds");
    // What a fold leaves free is free after the next commit.
    commit(0..1, true);
}

#[test]
fn a_power_cut_while_a_file_is_compacted_leaves_the_old_one_or_the_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    let disk = Arc::new(SimDisk::default());
    let store = disk.open(&path).expect("opens");
    sparse(&store);
    let whole = scanned(&store);
    let old = SimDisk::inode(&path).expect("a file");
    let (_, medium) = disk.contents(&path);
    disk.start_log(&path);
    store.idle().expect("room");
    let log = disk.take_log();
    let new = SimDisk::inode(&path).expect("a file");
    assert_ne!(old, new, "it was compacted");
    drop(store);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let path = elsewhere.path().join("cache.redb");
    let mut media = HashMap::from([(old, medium)]);
    for (cut, logged) in log.into_iter().enumerate() {
        let medium = media.entry(logged.inode).or_default();
        let is_sync = matches!(logged.call, Call::Sync);
        if !is_sync {
            medium.apply(logged.call);
        }
        // The new name may be on the disk as soon as it is given, and the old one until that is synced.
        let mut found = vec![logged.named, logged.durably_named];
        found.dedup();
        // The old file is as before while the new one is written.
        if found == [Some(old)] && logged.inode != old && cut % 16 != 0 {
            found.clear();
        }
        for inode in found.into_iter().flatten() {
            disk.put(&path, media[&inode].after_power_cut(cut as u64));
            let store = disk.open(&path).expect("opens");
            assert_eq!(scanned(&store), whole, "{cut}");
            disk.kill();
        }
        assert!(aside::existing(&path).is_empty(), "{cut}");
        if is_sync {
            media.entry(logged.inode).or_default().apply(Call::Sync);
        }
    }
}

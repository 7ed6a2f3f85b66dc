//! A store on a disk that fails: each of its calls, in each way that an operating system tells; and syncs that lose what they should have
//! written, which it tells once, and then takes the pages for written.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;

use super::power::sparse;
use super::trace::{Digest, Rows, digest, scanned};
use super::*;
use crate::cache::aside;
use crate::cache::store::sim_disk::{Fault, Lost, SimDisk};
use crate::cache::store::{RedbStore, Store, StoreError, Table};
use crate::cache::writes::Writes;

const LOST: [Lost; 3] = [Lost::Kept, Lost::KeptForAWhile, Lost::Dropped];
const SYNC: Fault = Fault::Sync(Errno::EIO);
const FAULTS: [Fault; 5] = [
    Fault::Write(Errno::ENOSPC),
    Fault::Write(Errno::EIO),
    Fault::Write(Errno::EROFS),
    Fault::Read(Errno::EIO),
    Fault::ShortRead,
];
/// In calls of the disk.
const CUT_EVERY: u64 = 11;

/// A new file has no room for as many bytes.
const LARGE: usize = 900_000;

/// What is done to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Commit,
    Fold,
    /// Closed in good order, and opened again.
    Restart,
    Compact,
}

/// A store on a disk that loses writes, and what may be found there.
struct Lossy {
    folder: tempfile::TempDir,
    disk: Arc<SimDisk>,
    store: Option<RedbStore>,
    random: fastrand::Rng,
    committed: Rows,
    /// To be written with the next commit; part of it may have been.
    unwritten: BTreeMap<(Table, Vec<u8>), Option<Bytes>>,
    /// After the last commit, and after each that failed since.
    possible: Vec<Digest>,
    /// For images of this disk.
    elsewhere: (tempfile::TempDir, Arc<SimDisk>),
    failures: usize,
    cuts: usize,
    most_calls: u64,
}

impl Lossy {
    fn new(lost: Lost, image: Option<(Vec<u8>, Rows)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Arc::new(SimDisk::default());
        let path = folder.path().join("cache.redb");
        let mut committed = Rows::new();
        if let Some((image, rows)) = image {
            disk.put(&path, image);
            committed = rows;
        }
        disk.lose(lost);
        Self {
            store: Some(disk.open(&path).expect("opens")),
            folder,
            random: fastrand::Rng::with_seed(1),
            possible: vec![digest(&committed)],
            committed,
            unwritten: BTreeMap::new(),
            elsewhere: (tempfile::tempdir().expect("a folder"), Arc::default()),
            disk,
            failures: 0,
            cuts: 0,
            most_calls: 0,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cache.redb")
    }

    fn store(&self) -> &RedbStore {
        self.store.as_ref().expect("open")
    }

    /// A few rows are new, others change, others go. Now and then there is so much that the file grows.
    fn learn(&mut self) {
        let random = &mut self.random;
        for _ in 0..random.usize(1..6) {
            let table = Table::ALL[random.usize(..Table::ALL.len())];
            let len = random.usize(..4000);
            let noise: Bytes = (0..len).map(|_| random.u8(..)).collect();
            let value = Some(noise).filter(|_| !len.is_multiple_of(4));
            self.unwritten.insert((table, vec![random.u8(..8)]), value);
        }
        let is_large = random.u8(..8) == 0;
        let large = is_large.then(|| (0..LARGE).map(|_| random.u8(..)).collect());
        let key = (Table::Objects, b"large".to_vec());
        if is_large || self.committed.contains_key(&key) {
            self.unwritten.insert(key, large);
        }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        let mut after = self.committed.clone();
        for ((table, key), value) in &self.unwritten {
            writes.put(*table, key.clone(), value.clone());
            match value {
                Some(value) => after.insert((*table, key.clone()), value.clone()),
                None => after.remove(&(*table, key.clone())),
            };
        }
        let of_after = digest(&after);
        self.possible.push(of_after);
        self.store().commit(&writes.into_batch())?;
        self.committed = after;
        self.unwritten.clear();
        self.possible = vec![of_after];
        Ok(())
    }

    fn work(&mut self, work: Work) -> Result<(), StoreError> {
        match work {
            Work::Commit => self.commit(),
            Work::Fold => self.store().stop(),
            Work::Compact => self.store().idle(),
            Work::Restart => {
                self.store = None;
                self.store = Some(self.disk.open(&self.path())?);
                Ok(())
            }
        }
    }

    /// Does it while one call fails, or all from one on; `false`: it has not so many.
    fn fails(&mut self, work: Work, fault: Fault, after: u64, is_once: bool) -> bool {
        let before = self.possible.clone();
        self.disk.arm(fault, after, is_once);
        let done = self.work(work);
        let failed = self.disk.disarm();
        if self.store.is_none() {
            self.store = Some(self.disk.open(&self.path()).expect("it works again"));
        }
        self.store().reopen().expect("it works again");
        self.assert_cuts(&before);
        if failed == 0 {
            done.expect("nothing failed");
            self.most_calls = self.most_calls.max(after);
            return false;
        }
        // Whoever closes a file in good order, that which was compacted too, is not told whether it could.
        let is_told = matches!(work, Work::Commit | Work::Fold);
        assert!(
            !is_told || done.is_err(),
            "{work:?}: {fault:?} after {after} calls was not noticed"
        );
        assert!(
            !matches!(done, Err(StoreError::Damaged(_))),
            "{work:?}: {fault:?} after {after} calls is no damage"
        );
        self.failures += 1;
        true
    }

    /// After each power cut since the last time, one of the states is there that may be.
    fn assert_cuts(&mut self, before: &[Digest]) {
        let (folder, disk) = &self.elsewhere;
        let path = folder.path().join("cache.redb");
        for image in self.disk.take_cuts() {
            self.cuts += 1;
            disk.put(&path, image);
            let store = disk.open(&path).expect("opens");
            let found = scanned(&store);
            disk.kill();
            let is_possible = before.contains(&found) || self.possible.contains(&found);
            assert!(is_possible, "after {} failures", self.failures);
        }
        let now = scanned(self.store());
        assert!(self.possible.contains(&now), "{} failures", self.failures);
    }

    /// Opens it anew, as after a kill, so that all is read from the disk.
    fn forget_what_was_read(&mut self) {
        self.disk.kill();
        self.store = None;
        self.store = Some(self.disk.open(&self.path()).expect("opens"));
    }

    fn go_on(&mut self, commits: usize) {
        for _ in 0..commits {
            self.learn();
            let before = self.possible.clone();
            self.commit().expect("the disk works again");
            self.assert_cuts(&before);
        }
    }

    fn assert_nothing_is_set_aside(&self) {
        assert!(aside::existing(&self.path()).is_empty());
        assert!(aside::existing(&self.elsewhere.0.path().join("cache.redb")).is_empty());
    }
}

/// Each kind of disk on a thread of its own.
fn on_each(test: impl Fn(Lost) + Sync) {
    std::thread::scope(|scope| {
        for lost in LOST {
            let test = &test;
            scope.spawn(move || test(lost));
        }
    });
}

#[test]
fn a_sync_that_fails_and_loses_what_it_should_have_written_takes_no_commit_with_it() {
    const ROUNDS: usize = 4;
    on_each(|lost| {
        let begun = Instant::now();
        let mut lossy = Lossy::new(lost, None);
        lossy.disk.cut_every(&lossy.path(), CUT_EVERY);
        for _ in 0..ROUNDS {
            for work in [Work::Commit, Work::Fold, Work::Restart] {
                for after in 0.. {
                    lossy.go_on(1);
                    lossy.learn();
                    let is_once = lossy.random.bool();
                    if !lossy.fails(work, SYNC, after, is_once) {
                        break;
                    }
                    lossy.go_on(2);
                }
            }
        }
        lossy.assert_nothing_is_set_aside();
        let (failures, cuts) = (lossy.failures, lossy.cuts);
        println!(
            "{lost:?}: {failures} failures, {cuts} power cuts in {:?}",
            begun.elapsed()
        );
        assert!(lossy.most_calls > 3 && failures > 8 * ROUNDS && cuts > failures);
    });
}

/// A file that is worth to be compacted, and what it holds.
fn long_file() -> (Vec<u8>, Rows) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    let disk = Arc::new(SimDisk::default());
    let store = disk.open(&path).expect("opens");
    sparse(&store);
    let mut rows = Rows::new();
    for table in Table::ALL {
        let scan = store.scan(table, &mut |key, value| {
            rows.insert((table, key.to_vec()), Bytes::copy_from_slice(value));
            Ok(())
        });
        scan.expect("reads");
    }
    // Whoever closes it makes it shorter.
    disk.kill();
    (disk.contents(&path).0, rows)
}

fn inode(path: &Path) -> u64 {
    SimDisk::inode(path).expect("a file")
}

#[test]
fn a_compaction_whose_sync_fails_takes_no_commit_with_it() {
    let long = &long_file();
    on_each(|lost| {
        let (mut failures, mut cuts) = (0, 0);
        for after in 0_u64.. {
            let mut lossy = Lossy::new(lost, Some(long.clone()));
            lossy.go_on(1);
            let old = inode(&lossy.path());
            lossy.disk.cut_every(&lossy.path(), 40);
            let is_once = after.is_multiple_of(2);
            if !lossy.fails(Work::Compact, SYNC, after, is_once) {
                assert_ne!(old, inode(&lossy.path()), "it was compacted");
                break;
            }
            // More often: there are few calls now, and which of the files is found matters.
            lossy.disk.cut_every(&lossy.path(), CUT_EVERY);
            lossy.go_on(3);
            lossy.assert_nothing_is_set_aside();
            failures += 1;
            cuts += lossy.cuts;
        }
        println!("{lost:?}: {failures} failures, {cuts} power cuts");
        assert!(failures > 5 && cuts > failures);
    });
}

#[test]
fn each_error_at_each_call_once_or_for_good_loses_nothing() {
    std::thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(move || {
                let begun = Instant::now();
                let mut lossy = Lossy::new(Lost::Kept, None);
                for work in [Work::Commit, Work::Fold, Work::Restart] {
                    for is_once in [true, false] {
                        for after in 0.. {
                            lossy.go_on(1);
                            lossy.learn();
                            lossy.forget_what_was_read();
                            if !lossy.fails(work, fault, after, is_once) {
                                break;
                            }
                        }
                    }
                }
                lossy.assert_nothing_is_set_aside();
                let failures = lossy.failures;
                println!("{fault:?}: {failures} failures in {:?}", begun.elapsed());
                assert!(failures > 20);
            });
        }
    });
}

#[test]
fn each_error_at_each_call_of_a_compaction_loses_nothing() {
    let long = &long_file();
    std::thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(move || {
                let begun = Instant::now();
                let mut failures = 0;
                for is_once in [true, false] {
                    for after in 0.. {
                        let mut lossy = Lossy::new(Lost::Kept, Some(long.clone()));
                        lossy.go_on(1);
                        let old = inode(&lossy.path());
                        if !lossy.fails(Work::Compact, fault, after, is_once) {
                            assert_ne!(old, inode(&lossy.path()), "it was compacted");
                            break;
                        }
                        lossy.go_on(1);
                        lossy.assert_nothing_is_set_aside();
                        failures += 1;
                    }
                }
                println!("{fault:?}: {failures} failures in {:?}", begun.elapsed());
                assert!(failures > 1);
            });
        }
    });
}

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::cache::store::{RedbStore, Snapshot};

/// A store with its tail, as one process has them.
struct Process {
    store: RedbStore,
    writes: Writes,
    replayed: usize,
}

impl Process {
    fn start(folder: &TempDir) -> Self {
        let store = RedbStore::open(&folder.path().join("cache.redb")).expect("opens");
        let (tail, replayed) = Tail::open(&path(folder), &store).expect("opens");
        let mut writes = Writes::default();
        writes.follow(tail);
        Self {
            store,
            writes,
            replayed,
        }
    }

    /// One change.
    fn put(&mut self, rows: &[(&str, Option<&str>)]) {
        for (key, value) in rows {
            let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
            self.writes
                .put(Table::Objects, key.as_bytes().to_vec(), value);
        }
        self.writes.flush();
    }

    fn commit(&mut self) {
        let batch = self.writes.begin_commit().expect("something to write");
        self.store.commit(&batch).expect("room");
        self.writes.committed();
    }

    fn get(&self, key: &str) -> Option<String> {
        let snapshot: Box<dyn Snapshot> = self.store.snapshot().expect("opens");
        let value = snapshot.get(Table::Objects, key.as_bytes());
        let value = value.expect("reads");
        value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("run/cache.tail")
}

fn part_file(folder: &TempDir, number: usize) -> PathBuf {
    folder.path().join(format!("run/cache.tail.{number}"))
}

#[test]
fn what_was_not_committed_is_there_after_a_kill_and_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1")), ("b", Some("1"))]);
    process.commit();
    process.put(&[("a", Some("2")), ("b", None)]);
    process.put(&[("c", Some("3"))]);
    drop(process);
    let process = Process::start(&folder);
    assert_eq!(process.replayed, 2);
    let known = ["a", "b", "c"].map(|key| process.get(key));
    assert_eq!(known, [Some("2".into()), None, Some("3".into())]);
    drop(process);
    assert_eq!(Process::start(&folder).replayed, 0);
}

#[test]
fn what_was_committed_before_the_kill_is_not_replayed_over_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1"))]);
    let first = process.writes.begin_commit().expect("something to write");
    // While the first is being written.
    process.put(&[("a", Some("2"))]);
    process.store.commit(&first).expect("room");
    drop(process);
    let process = Process::start(&folder);
    assert_eq!((process.replayed, process.get("a")), (1, Some("2".into())));
    drop(process);
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("3"))]);
    let all = process.writes.begin_commit().expect("something to write");
    process.store.commit(&all).expect("room");
    // Killed before the part is emptied.
    drop(process);
    let process = Process::start(&folder);
    assert_eq!((process.replayed, process.get("a")), (0, Some("3".into())));
}

#[test]
fn a_commit_that_failed_leaves_all_in_the_tail() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1"))]);
    process.writes.begin_commit().expect("something to write");
    process.put(&[("b", Some("2"))]);
    process.writes.commit_failed();
    process.writes.begin_commit().expect("something to write");
    process.put(&[("c", Some("3"))]);
    process.writes.commit_failed();
    drop(process);
    let process = Process::start(&folder);
    assert_eq!(process.replayed, 3);
    let known = ["a", "b", "c"].map(|key| process.get(key).is_some());
    assert_eq!(known, [true; 3]);
}

#[test]
fn both_parts_are_empty_after_the_last_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    for turn in 0..5 {
        process.put(&[("a", Some(&turn.to_string()))]);
        process.commit();
    }
    for number in [0, 1] {
        let file = fs::metadata(part_file(&folder, number)).expect("a file");
        assert!(file.len() < 64, "{} bytes are left", file.len());
    }
}

#[test]
fn a_torn_end_is_left_out_wherever_it_is_torn() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1"))]);
    process.commit();
    process.put(&[("a", Some("2"))]);
    process.put(&[("a", Some("3"))]);
    drop(process);
    let kept = tempfile::tempdir().expect("a folder");
    let copy = |from: &TempDir, to: &TempDir| {
        fs::create_dir_all(to.path().join("run")).expect("a folder");
        for name in ["cache.redb", "run/cache.tail.0", "run/cache.tail.1"] {
            fs::copy(from.path().join(name), to.path().join(name)).expect("copied");
        }
    };
    copy(&folder, &kept);
    let whole = fs::read(part_file(&kept, 1)).expect("a file");
    let mut seen = Vec::new();
    for len in (0..=whole.len()).step_by(3).chain([whole.len()]) {
        copy(&kept, &folder);
        fs::write(part_file(&folder, 1), &whole[..len]).expect("written");
        seen.extend(Process::start(&folder).get("a"));
    }
    assert!(seen.is_sorted(), "{seen:?}");
    seen.dedup();
    assert_eq!(seen, ["1", "2", "3"]);
    for byte in (0..whole.len()).step_by(3) {
        copy(&kept, &folder);
        let mut changed = whole.clone();
        changed[byte] ^= 0x10;
        fs::write(part_file(&folder, 1), changed).expect("written");
        let known = Process::start(&folder).get("a").expect("committed");
        assert!(*known < *"3", "byte {byte} is not checked");
    }
}

#[test]
fn the_tail_of_another_store_is_not_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1"))]);
    drop(process);
    fs::remove_file(folder.path().join("cache.redb")).expect("removed");
    let process = Process::start(&folder);
    assert_eq!((process.replayed, process.get("a")), (0, None));
}

#[test]
fn what_a_process_without_a_tail_committed_is_not_overwritten_by_an_older_tail() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1"))]);
    drop(process);
    let store = RedbStore::open(&folder.path().join("cache.redb")).expect("opens");
    let mut writes = Writes::default();
    disown(&store, &mut writes);
    writes.put(Table::Objects, b"a".to_vec(), Some("2".into()));
    store.commit(&writes.into_batch()).expect("room");
    drop(store);
    let process = Process::start(&folder);
    assert_eq!((process.replayed, process.get("a")), (0, Some("2".into())));
}

#[test]
fn what_follows_a_change_without_room_waits_for_the_commit_that_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let large = "x".repeat(MAX_PART_BYTES);
    let mut process = Process::start(&folder);
    process.put(&[("a", Some("1"))]);
    process.put(&[("large", Some(&large))]);
    process.put(&[("b", Some("2"))]);
    drop(process);
    let mut process = Process::start(&folder);
    let known = ["a", "large", "b"].map(|key| process.get(key).is_some());
    assert_eq!(known, [true, false, false], "a prefix of what was learnt");
    process.put(&[("large", Some(&large))]);
    let batch = process.writes.begin_commit().expect("something to write");
    process.put(&[("b", Some("2"))]);
    process.store.commit(&batch).expect("room");
    drop(process);
    let process = Process::start(&folder);
    let known = ["a", "large", "b"].map(|key| process.get(key).is_some());
    assert_eq!(known, [true; 3]);
}

#[test]
fn one_process_has_the_tail_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(&folder);
    let other = RedbStore::open(&folder.path().join("other.redb")).expect("opens");
    let refused = Tail::open(&path(&folder), &other).map(drop);
    assert!(matches!(refused, Err(TailError::Io { .. })), "{refused:?}");
    drop(process);
    assert!(Tail::open(&path(&folder), &other).is_ok());
}

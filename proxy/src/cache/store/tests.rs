//! Tables and journal, seen as one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::*;
use crate::cache::writes::Writes;

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path).expect("opens")
}

fn scanned(store: &RedbStore) -> Rows {
    let mut rows = Rows::new();
    for table in Table::ALL {
        let mut last = None;
        let each = &mut |key: &[u8], value: &[u8]| {
            assert!(last.as_deref() < Some(key), "in key order, and once");
            last = Some(key.to_vec());
            rows.insert((table, key.to_vec()), Bytes::copy_from_slice(value));
            Ok(())
        };
        store.scan(table, each).expect("reads");
    }
    rows
}

/// A few rows, some of them large; often of keys that were there before.
fn random_batch(random: &mut Rng, rows: &mut Rows) -> Arc<Batch> {
    let mut writes = Writes::default();
    for _ in 0..random.usize(1..20) {
        let table = Table::ALL[random.usize(..Table::ALL.len())];
        let key = vec![b'k', random.u8(..12)];
        let len = match random.u8(..10) {
            0 => 0,
            1 => random.usize(..300_000),
            _ => random.usize(..2000),
        };
        // Half of them compress well.
        let value = random.bool().then(|| match random.bool() {
            true => Bytes::from(vec![random.u8(..); len]),
            false => std::iter::repeat_with(|| random.u8(..)).take(len).collect(),
        });
        match &value {
            Some(value) => rows.insert((table, key.clone()), value.clone()),
            None => rows.remove(&(table, key.clone())),
        };
        writes.put(table, key, value);
    }
    writes.into_batch()
}

fn assert_is(snapshot: &dyn Snapshot, rows: &Rows) {
    for table in Table::ALL {
        for key in 0..12 {
            let key = vec![b'k', key];
            let found = snapshot.get(table, &key).expect("reads");
            assert!(found == rows.get(&(table, key)).cloned(), "{table:?}");
        }
    }
}

#[test]
fn whatever_is_in_the_journal_the_store_reads_as_what_was_committed() {
    for seed in 0..8 {
        let mut random = Rng::with_seed(seed);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let mut store = open(&path);
        let mut rows = Rows::new();
        let mut before = Vec::new();
        for _ in 0..30 {
            match random.u8(..10) {
                0 => store.stop().expect("folds"),
                1 => store.idle().expect("folds"),
                2 => {
                    before.clear();
                    drop(store);
                    store = open(&path);
                }
                _ => {
                    let batch = random_batch(&mut random, &mut rows);
                    store.commit(&batch).expect("room");
                }
            }
            assert!(scanned(&store) == rows, "{seed}");
            before.push((store.snapshot().expect("reads"), rows.clone()));
        }
        for (snapshot, rows) in &before {
            assert_is(snapshot.as_ref(), rows);
        }
    }
}

fn batch(table: Table, rows: &[(&str, Option<Bytes>)]) -> Arc<Batch> {
    let mut writes = Writes::default();
    for (key, value) in rows {
        writes.put(table, key.as_bytes().to_vec(), value.clone());
    }
    writes.into_batch()
}

fn incompressible(len: usize) -> Option<Bytes> {
    Some(
        std::iter::repeat_with(|| fastrand::u8(..))
            .take(len)
            .collect(),
    )
}

#[test]
fn a_long_journal_is_folded_by_the_next_commit_and_the_file_stays_small() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("cache.redb"));
    let mut last = None;
    for _ in 0..40 {
        last = incompressible(500_000);
        store
            .commit(&batch(Table::Objects, &[("a", last.clone())]))
            .expect("room");
    }
    let file_bytes = store.disk_use().file_bytes;
    assert!(file_bytes < 20 << 20, "{file_bytes} after 20 MB of writes");
    let found = store.snapshot().expect("reads").get(Table::Objects, b"a");
    assert!(found.expect("reads") == last);
}

#[test]
fn what_comes_and_goes_between_two_folds_never_reaches_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("cache.redb"));
    for n in 0..50 {
        let key = n.to_string();
        let put = [(key.as_str(), incompressible(5000))];
        store.commit(&batch(Table::Objects, &put)).expect("room");
        let gone = [(key.as_str(), None)];
        store.commit(&batch(Table::Objects, &gone)).expect("room");
    }
    let before = store.disk_use().written_bytes;
    store.stop().expect("folds");
    let written = store.disk_use().written_bytes - before;
    assert!(written < 100_000, "{written} bytes for nothing");
    assert!(scanned(&store).is_empty());
}

/// As the store opens it.
fn database(file: std::fs::File) -> Database {
    let file = FileBackend::new(file).expect("is not open");
    let pages = checked::Checked::new(file).expect("its own layout");
    Database::builder()
        .create_with_backend(pages)
        .expect("opens")
}

type Pieces<'t> = redb::Table<'t, (u64, u32), &'static [u8]>;

/// Many objects, of which one in a hundred is left.
fn sparse(store: &RedbStore) {
    let keys: Vec<String> = (0..3000).map(|n| format!("{n:04}")).collect();
    let all: Vec<_> = (keys.iter().map(|key| (key.as_str(), incompressible(8000)))).collect();
    store.commit(&batch(Table::Objects, &all)).expect("room");
    let most = all.iter().map(|(key, _)| (*key, None));
    let most: Vec<_> = most.filter(|(key, _)| !key.ends_with("99")).collect();
    store.commit(&batch(Table::Objects, &most)).expect("room");
    store.stop().expect("folds");
    // What a fold leaves free is free after the next commit.
    store
        .commit(&batch(Table::Meta, &[("a", incompressible(1))]))
        .expect("room");
}

#[test]
fn a_file_that_is_much_longer_than_what_it_holds_is_compacted_and_whoever_reads_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    let store = open(&path);
    sparse(&store);
    let rows = scanned(&store);
    let reading = store.snapshot().expect("reads");
    let before = store.disk_use().file_bytes;
    store.idle().expect("room");
    let after = store.disk_use().file_bytes;
    assert!(before > 16 << 20 && after < before / 3, "{before} {after}");
    assert_eq!(std::fs::metadata(&path).expect("a file").len(), after);
    assert!(scanned(&store) == rows && rows.len() == 31);
    let found = reading.get(Table::Objects, b"0199").expect("reads");
    assert!(found.as_ref() == rows.get(&(Table::Objects, b"0199".to_vec())));
    store
        .commit(&batch(Table::Meta, &[("a", None)]))
        .expect("room");
    drop((store, reading));
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!((scanned(&open(&path)).len(), left), (30, 1));
}

#[test]
fn a_copy_that_cannot_be_made_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    let opened = AtomicUsize::new(0);
    let backend = move |file| match opened.fetch_add(1, Ordering::SeqCst) {
        1 => Err(StoreError::Io(std::io::ErrorKind::StorageFull.into())),
        _ => Ok(Box::new(FileBackend::new(file)?) as Box<dyn StorageBackend>),
    };
    let store = RedbStore::on(&path, Arc::new(backend)).expect("opens");
    sparse(&store);
    let before = scanned(&store);
    assert!(store.idle().is_err());
    assert!(scanned(&store) == before);
    store
        .commit(&batch(Table::Meta, &[("a", None)]))
        .expect("room");
    drop(store);
    std::fs::write(folder.path().join("cache.redb.new"), "half").expect("written");
    assert_eq!(scanned(&open(&path)).len(), 30);
    let left = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 1);
}

/// Changes the journal behind the store's back.
fn damage(path: &Path, change: impl FnOnce(&mut Pieces<'_>)) {
    let file = std::fs::File::options().read(true).write(true).open(path);
    let database = database(file.expect("the store"));
    let transaction = database.begin_write().expect("writes");
    change(&mut transaction.open_table(journal::JOURNAL).expect("a table"));
    transaction.commit().expect("room");
}

/// Two commits in the journal: what is small and an object each.
fn two_commits(path: &Path) {
    let store = open(path);
    for n in ["1", "2"] {
        let mut writes = Writes::default();
        writes.put(Table::Facts, n.into(), Some("a fact".into()));
        writes.put(Table::Objects, n.into(), incompressible(20_000));
        store.commit(&writes.into_batch()).expect("room");
    }
}

#[test]
fn a_commit_that_is_missing_or_damaged_in_the_journal_is_no_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    let changes: [fn(&mut Pieces<'_>); 4] = [
        |journal| assert!(journal.remove((1, 0)).expect("removed").is_some()),
        |journal| {
            let first = journal.retain(|(commit, _), _| commit != 1);
            first.expect("removed");
        },
        |journal| {
            let rubbish = journal.insert((2, 0), &[0xff; 100][..]);
            assert!(rubbish.expect("changed").is_some());
        },
        |journal| {
            let later = journal.insert((9, 0), &b"of later"[..]);
            assert!(later.expect("changed").is_none());
        },
    ];
    for change in changes {
        two_commits(&path);
        damage(&path, change);
        let opened = RedbStore::open(&path).map(drop);
        assert!(matches!(opened, Err(StoreError::Damaged(_))), "{opened:?}");
        assert!(!path.exists(), "it was set aside");
    }
}

#[test]
fn a_value_that_is_damaged_in_the_journal_costs_that_value_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    two_commits(&path);
    damage(&path, |journal| {
        let whole = journal.get((1, 1)).expect("reads").expect("a piece");
        let mut piece = whole.value().to_vec();
        drop(whole);
        piece[10] ^= 1;
        journal.insert((1, 1), &piece[..]).expect("changed");
    });
    let store = open(&path);
    let snapshot = store.snapshot().expect("reads");
    assert!(snapshot.get(Table::Objects, b"2").expect("whole").is_some());
    assert!(!store.is_lost());
    assert!(snapshot.get(Table::Objects, b"1").is_err());
    assert!(
        store.is_lost(),
        "a fold could not write what it cannot read"
    );
    let renewed = store.renewed().expect("a new one");
    let snapshot = renewed.snapshot().expect("reads");
    assert_eq!(snapshot.get(Table::Objects, b"1").expect("reads"), None);
    assert!(snapshot.get(Table::Objects, b"2").expect("whole").is_some());
}

#[test]
fn a_store_of_another_version_is_told_and_set_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cache.redb");
    const FACTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("facts");
    const STORE: TableDefinition<'_, &str, u64> = TableDefinition::new("store");
    for version in [None, Some(6)] {
        let mut options = std::fs::File::options();
        options.read(true).write(true).create(true).truncate(true);
        let new = options.open(&path);
        let database = database(new.expect("made"));
        let transaction = database.begin_write().expect("writes");
        transaction.open_table(FACTS).expect("a table");
        if let Some(version) = version {
            let mut store = transaction.open_table(STORE).expect("a table");
            store.insert("version", version).expect("written");
        }
        transaction.commit().expect("room");
        drop(database);
        let opened = RedbStore::open(&path).map(drop);
        let told = opened.expect_err("not of this version").to_string();
        assert!(told.contains(&version.unwrap_or(4).to_string()), "{told}");
        assert!(!path.exists());
        drop(open(&path));
    }
    let file = std::fs::File::options().read(true).write(true).open(&path);
    let database = database(file.expect("made anew"));
    let tables = database.begin_read().expect("reads");
    assert_eq!(tables.list_tables().expect("reads").count(), 1);
}

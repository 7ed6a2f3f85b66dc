//! The store on a disk: one redb file.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError,
};

use super::checked::Checked;
use super::metered::{Counters, DiskUse, Metered};
use super::packed::{self, Packer, Unpacker};
use super::{Each, Snapshot, Store, StoreError, Table};
use crate::cache::aside::{self, Watched};
use crate::cache::writes::{Batch, Writes};

/// redb's own page cache; its default of 1 GiB is more than a small node has. Start-up and single reads need no more than this.
const PAGE_CACHE_BYTES: usize = 4 << 20;

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(match table {
        Table::Facts => "facts",
        Table::Objects => "objects",
        Table::Collections => "collections",
        Table::Members => "members",
        Table::Grants => "grants",
        Table::Responses => "responses",
        Table::Bodies => "bodies",
        Table::Meta => "meta",
    })
}

/// `None`: nothing was ever written to it.
fn rows(table: Table, transaction: &ReadTransaction) -> Result<Option<Rows>, StoreError> {
    match transaction.open_table(definition(table)) {
        Ok(rows) => Ok(Some(rows)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A redb database.
pub(in crate::cache) struct RedbStore {
    file: Arc<Watched>,
    /// `None` after a failed call: redb refuses everything from then on, so the file is opened anew before the next.
    open: Mutex<Option<Arc<Open>>>,
    backend: Arc<MakeBackend>,
    counters: Arc<Counters>,
}

/// An open database, and what can be read of it.
struct Open {
    /// `None` when it is closed.
    database: Option<Database>,
    /// As the last commit left it. Taken by whoever committed, not by whoever reads: redb lets none begin to read while a commit
    /// makes the file longer and waits for the disk, and readers hold the lock that all learning needs.
    latest: Mutex<Arc<ReadTransaction>>,
}

impl Open {
    fn new(database: Database) -> Result<Self, StoreError> {
        let latest = Mutex::new(Arc::new(database.begin_read()?));
        let database = Some(database);
        Ok(Self { database, latest })
    }

    fn database(&self) -> Result<&Database, StoreError> {
        self.database.as_ref().ok_or_else(closed)
    }

    fn latest(&self) -> Arc<ReadTransaction> {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn committed(&self) -> Result<(), StoreError> {
        let mut latest = Arc::new(self.database()?.begin_read()?);
        let mut before = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *before, &mut latest);
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        aside::close(self.database.take());
    }
}

fn closed() -> StoreError {
    let closed = "the disk failed, and the file is not open again yet";
    StoreError::Io(std::io::Error::other(closed))
}

/// What lies between redb and the file: for tests, a disk with faults.
pub(in crate::cache) type MakeBackend =
    dyn Fn(File) -> Result<Box<dyn StorageBackend>, StoreError> + Send + Sync;

impl RedbStore {
    /// Opens the file, or makes it; readable by its owner only.
    pub(in crate::cache) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::on(path, Arc::new(|file| Ok(Box::new(FileBackend::new(file)?))))
    }

    /// With a backend of one's own around the file, so that faults can be injected.
    pub(in crate::cache) fn on(path: &Path, backend: Arc<MakeBackend>) -> Result<Self, StoreError> {
        Self::counted(path, backend, Arc::default())
    }

    fn counted(
        path: &Path,
        backend: Arc<MakeBackend>,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let watched = Watched::new(path);
        let opened = || Open::new(database(backend(file(path, true)?)?, &counters)?);
        let open = watched.call(opened)?;
        Ok(Self {
            file: watched,
            open: Mutex::new(Some(Arc::new(open))),
            backend,
            counters,
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For those who hold a lock while they ask: never opens a file, nor closes one.
    fn latest(&self) -> Result<Arc<ReadTransaction>, StoreError> {
        let open = self.current();
        open.as_ref().map(|open| open.latest()).ok_or_else(closed)
    }

    fn reopened(&self) -> Result<Arc<Open>, StoreError> {
        if !self.file.has_failed()
            && let Some(open) = self.current().clone()
        {
            return Ok(open);
        }
        // A file is open once.
        self.set_open(None);
        self.file.is_opened_anew();
        // Never a new file: the batches that follow would be half of what it must hold. And not under the mutex: readers ask at once.
        let backend = (self.backend)(file(&self.file.path, false)?)?;
        let reopened = Arc::new(Open::new(database(backend, &self.counters)?)?);
        self.set_open(Some(reopened.clone()));
        Ok(reopened)
    }

    fn set_open(&self, open: Option<Arc<Open>>) {
        let before = std::mem::replace(&mut *self.current(), open);
        // Without the lock: closing a file may take a while.
        drop(before);
    }

    /// Copies the bytes that can be read, with what names them.
    fn copy(&self, to: &Self) -> Result<(), StoreError> {
        let snapshot = self.snapshot()?;
        for (bytes, of) in [
            (Table::Objects, Table::Facts),
            (Table::Bodies, Table::Responses),
        ] {
            let mut writes = Writes::default();
            let mut failed = Ok(());
            let scanned = self.scan(of, &mut |key, value| {
                // Unreadable, it is left out; so is what names it.
                let Ok(Some(found)) = snapshot.get(bytes, key) else {
                    return Ok(());
                };
                writes.put(bytes, key.to_vec(), Some(found));
                writes.put(of, key.to_vec(), Some(Bytes::copy_from_slice(value)));
                if writes.is_urgent() {
                    failed = to.write_all(&mut writes);
                }
                match &failed {
                    Ok(()) => Ok(()),
                    Err(_) => Err(StoreError::InUse),
                }
            });
            failed?;
            if let Err(error) = scanned {
                tracing::warn!(%error, "a part of a damaged store is lost");
            }
            to.write_all(&mut writes)?;
        }
        Ok(())
    }

    fn write_all(&self, writes: &mut Writes) -> Result<(), StoreError> {
        let Some(batch) = writes.begin_commit() else {
            return Ok(());
        };
        self.commit(&batch)?;
        writes.committed();
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let open = self.reopened()?;
        let mut packer = Packer::new()?;
        let mut transaction = open.database()?.begin_write()?;
        // Without it, opening the file after a kill reads all of it first.
        transaction.set_quick_repair(true);
        for table in Table::ALL {
            let mut rows = batch.of(table).peekable();
            if rows.peek().is_none() {
                continue;
            }
            let is_packed = packed::is_packed(table);
            let mut table = transaction.open_table(definition(table))?;
            for (key, value) in rows {
                match value {
                    Some(value) if is_packed => table.insert(key, &packer.pack(value)[..])?,
                    Some(value) => table.insert(key, &value[..])?,
                    None => table.remove(key)?,
                };
            }
        }
        transaction.commit()?;
        open.committed()
    }

    fn read(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        let transaction = self.reopened()?.latest();
        let Some(rows) = rows(table, &transaction)? else {
            return Ok(());
        };
        let mut unpacker = packed::is_packed(table).then(Unpacker::default);
        for row in rows.iter()? {
            let (key, value) = row?;
            match &mut unpacker {
                Some(unpacker) => each(key.value(), &unpacker.unpack(value.value())?)?,
                None => each(key.value(), value.value())?,
            }
        }
        Ok(())
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let transaction = self.latest()?;
        let file = self.file.clone();
        Ok(Box::new(RedbSnapshot {
            file,
            transaction,
            unpacker: RefCell::default(),
        }))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        self.file.call(|| self.read(table, each))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.is_lost() {
            return Err(StoreError::Damaged("its file was set aside".to_owned()));
        }
        let written = self.file.call(|| self.write(batch));
        if written.is_err() && !self.is_lost() {
            // Now rather than at the next commit: answers are read from it.
            let _ = self.file.call(|| {
                self.set_open(None);
                self.reopened()
            });
        }
        written
    }

    fn is_closed(&self) -> bool {
        !self.is_lost() && (self.file.has_failed() || self.current().is_none())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.file.call(|| self.reopened()).map(drop)
    }

    fn disk_use(&self) -> DiskUse {
        self.counters.read()
    }

    fn is_lost(&self) -> bool {
        self.file.is_lost()
    }

    fn aside(&self) -> Option<PathBuf> {
        self.file.aside()
    }

    fn renewed(&self) -> Result<Arc<dyn Store>, StoreError> {
        let renewed = Self::counted(&self.file.path, self.backend.clone(), self.counters.clone())?;
        if let Err(error) = self.copy(&renewed) {
            if renewed.is_lost() {
                return Err(error);
            }
            tracing::warn!(%error, "not all of a damaged store was saved");
        }
        Ok(Arc::new(renewed))
    }
}

struct RedbSnapshot {
    file: Arc<Watched>,
    transaction: Arc<ReadTransaction>,
    unpacker: RefCell<Unpacker>,
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.file.call(|| {
            let Some(rows) = rows(table, &self.transaction)? else {
                return Ok(None);
            };
            let value = rows.get(key)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })?;
        // Not in the call: a value that is damaged is lost alone.
        match found {
            Some(packed) if packed::is_packed(table) => {
                self.unpacker.borrow_mut().unpack(&packed).map(Some)
            }
            found => Ok(found),
        }
    }
}

fn file(path: &Path, create: bool) -> Result<File, StoreError> {
    if let Some(folder) = path.parent().filter(|_| create) {
        std::fs::create_dir_all(folder).map_err(StoreError::Io)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(StoreError::Io)
}

fn database(
    backend: Box<dyn StorageBackend>,
    counters: &Arc<Counters>,
) -> Result<Database, StoreError> {
    let metered = Metered::new(backend, counters.clone()).map_err(StoreError::Io)?;
    Ok(Database::builder()
        .set_cache_size(PAGE_CACHE_BYTES)
        .create_with_backend(Checked::new(metered).map_err(redb::Error::Io)?)?)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A disk on which the n-th write and all after it fail, until there is room again.
    #[derive(Debug)]
    struct FullDisk {
        inner: FileBackend,
        room: Arc<AtomicU64>,
    }

    impl FullDisk {
        fn take(&self) -> std::io::Result<()> {
            let left = self
                .room
                .try_update(Ordering::SeqCst, Ordering::SeqCst, |room| {
                    room.checked_sub(1)
                });
            left.map(drop)
                .map_err(|_| std::io::ErrorKind::StorageFull.into())
        }
    }

    impl StorageBackend for FullDisk {
        fn len(&self) -> std::io::Result<u64> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.take()?;
            self.inner.set_len(len)
        }

        fn sync_data(&self) -> std::io::Result<()> {
            self.take()?;
            self.inner.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.take()?;
            self.inner.write(offset, data)
        }

        fn close(&self) -> std::io::Result<()> {
            self.inner.close()
        }
    }

    #[test]
    fn a_store_that_is_found_damaged_is_renewed_with_all_that_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let store = RedbStore::open(&path).expect("opens");
        let mut writes = Writes::default();
        for table in [Table::Facts, Table::Objects] {
            writes.put(table, b"a".to_vec(), Some("1".into()));
        }
        store.commit(&writes.into_batch()).expect("room");
        let damaged = || Err::<(), _>(StoreError::Damaged("as redb says".to_owned()));
        assert!(store.file.call(damaged).is_err());
        assert!(store.is_lost() && !path.exists());
        assert!(store.commit(&batch(&[("a", "2")])).is_err(), "into no file");
        let renewed = store.renewed().expect("a new file");
        assert!(store.file.call(damaged).is_err(), "once more");
        assert!(!renewed.is_lost() && path.exists());
        drop((store, renewed));
        let again = RedbStore::open(&path).expect("opens");
        let object = again.snapshot().expect("opens").get(Table::Objects, b"a");
        assert_eq!(object.expect("reads"), Some("1".into()));
    }

    #[test]
    fn a_reader_never_opens_a_file_that_a_failed_write_closed() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = RedbStore::open(&folder.path().join("cache.redb")).expect("opens");
        store.set_open(None);
        assert!(matches!(store.snapshot(), Err(StoreError::Io(_))));
        store.commit(&batch(&[("a", "1")])).expect("opens it");
        assert!(store.snapshot().is_ok());
    }

    fn on_full_disk(path: &Path, room: &Arc<AtomicU64>) -> RedbStore {
        let room = room.clone();
        let backend = move |file| {
            let room = room.clone();
            let inner = FileBackend::new(file)?;
            Ok(Box::new(FullDisk { inner, room }) as Box<dyn StorageBackend>)
        };
        RedbStore::on(path, Arc::new(backend)).expect("opens")
    }

    fn batch(rows: &[(&str, &str)]) -> Batch {
        let mut writes = Writes::default();
        for (key, value) in rows {
            writes.put(
                Table::Meta,
                key.as_bytes().into(),
                Some(Bytes::copy_from_slice(value.as_bytes())),
            );
        }
        Arc::into_inner(writes.into_batch()).expect("one owner")
    }

    fn rows(store: &RedbStore) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut rows = Vec::new();
        store
            .scan(Table::Meta, &mut |key, value| {
                rows.push((text(key), text(value)));
                Ok(())
            })
            .expect("reads");
        rows
    }

    #[test]
    fn a_full_disk_loses_nothing_that_was_committed_and_commits_go_on_when_there_is_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        let plenty = u64::MAX / 2;
        for room_left in 0..40 {
            let room = Arc::new(AtomicU64::new(plenty));
            let store = on_full_disk(&path, &room);
            store
                .commit(&batch(&[("a", "1"), ("b", "1")]))
                .expect("room");
            room.store(room_left, Ordering::SeqCst);
            let half = store.commit(&batch(&[("a", "2"), ("b", "2")]));
            room.store(plenty, Ordering::SeqCst);
            let seen = rows(&store);
            let is = |n: &str| seen == [("a".into(), n.to_owned()), ("b".into(), n.to_owned())];
            // If it was the last sync that failed, what was to be synced is there: it will be written once more.
            assert!(
                is("2") || (half.is_err() && is("1")),
                "{room_left}: {seen:?}"
            );
            store
                .commit(&batch(&[("a", "3"), ("b", "3")]))
                .expect("room again");
            assert_eq!(rows(&store)[0].1, "3");
        }
    }
}

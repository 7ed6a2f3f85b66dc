//! Where records live. The only place that knows redb.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    CommitError, Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageBackend, StorageError, TableDefinition, TableError, TransactionError,
};

use super::aside::Watched;
use super::writes::{Batch, Writes};

/// redb's own page cache; its default of 1 GiB is more than a small node has. Start-up and single reads need no more than this.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// What is in one file, each in a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Table {
    Facts,
    /// The bytes of facts, under the same keys.
    Objects,
    Collections,
    Members,
    Grants,
    Responses,
    /// The bytes of responses, under the same keys.
    Bodies,
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 8] = [
        Self::Facts,
        Self::Objects,
        Self::Collections,
        Self::Members,
        Self::Grants,
        Self::Responses,
        Self::Bodies,
        Self::Meta,
    ];

    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Self::Facts => "facts",
            Self::Objects => "objects",
            Self::Collections => "collections",
            Self::Members => "members",
            Self::Grants => "grants",
            Self::Responses => "responses",
            Self::Bodies => "bodies",
            Self::Meta => "meta",
        })
    }

    /// `None`: nothing was ever written to it.
    fn of(self, transaction: &ReadTransaction) -> Result<Option<Rows>, StoreError> {
        match transaction.open_table(self.definition()) {
            Ok(rows) => Ok(Some(rows)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Why the store did not do as told.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// What is there cannot be read; a new file could.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// What is there is whole, but cannot be told as it was asked for.
    #[error("an object cannot be told in another form: {0}")]
    Untold(String),
    #[error("another process has the store open")]
    InUse,
    #[error("the store cannot be used: {0}")]
    Io(std::io::Error),
}

/// One state of the store, unchanged by later commits.
pub(super) trait Snapshot: Send {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
}

/// The seam between the cache and its disk.
pub(super) trait Store: Send + Sync {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;

    /// Every record of a table in key order, until `each` fails.
    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError>;

    /// All of it or nothing, and on the disk when this returns.
    fn commit(&self, batch: &Batch) -> Result<(), StoreError>;

    /// It was found damaged and can only be read any more, and not all of it.
    fn is_lost(&self) -> bool {
        false
    }

    /// A new store in the place of a lost one, with those objects and bodies that can still be read, and nothing else.
    fn renewed(&self) -> Result<Arc<dyn Store>, StoreError> {
        Err(StoreError::InUse)
    }
}

pub(super) type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'e;

/// A redb database.
pub(super) struct RedbStore {
    file: Arc<Watched>,
    /// `None` after a failed write: redb refuses everything from then on, so the file is opened anew before the next.
    database: Mutex<Option<Arc<Database>>>,
    backend: Arc<MakeBackend>,
}

type MakeBackend = dyn Fn(File) -> Result<Database, StoreError> + Send + Sync;

impl RedbStore {
    /// Opens the file, or makes it; readable by its owner only.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::on(path, Arc::new(|file| database(FileBackend::new(file)?)))
    }

    /// With a backend of one's own around the file, so that faults can be injected.
    fn on(path: &Path, backend: Arc<MakeBackend>) -> Result<Self, StoreError> {
        let watched = Watched::new(path);
        let database = watched.call(|| backend(file(path, true)?))?;
        Ok(Self {
            file: watched,
            database: Mutex::new(Some(Arc::new(database))),
            backend,
        })
    }

    /// For those who hold a lock while they ask: never opens a file.
    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || std::io::Error::other("a write failed, and it is not open again yet");
        database.clone().ok_or_else(|| StoreError::Io(closed()))
    }

    fn reopened(&self) -> Result<Arc<Database>, StoreError> {
        if let Ok(database) = self.database() {
            return Ok(database);
        }
        // Never a new file: the batches that follow would be half of what it must hold. And not under the mutex: readers ask at once.
        let reopened = Arc::new((self.backend)(file(&self.file.path, false)?)?);
        self.set_database(Some(reopened.clone()));
        Ok(reopened)
    }

    fn set_database(&self, database: Option<Arc<Database>>) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = database;
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
        let database = self.reopened()?;
        let mut transaction = database.begin_write()?;
        // Without it, opening the file after a kill reads all of it first.
        transaction.set_quick_repair(true);
        for table in Table::ALL {
            let mut rows = batch.of(table).peekable();
            if rows.peek().is_none() {
                continue;
            }
            let mut table = transaction.open_table(table.definition())?;
            for (key, value) in rows {
                match value {
                    Some(value) => table.insert(key, &value[..])?,
                    None => table.remove(key)?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn read(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        let transaction = self.reopened()?.begin_read()?;
        let Some(table) = table.of(&transaction)? else {
            return Ok(());
        };
        for row in table.iter()? {
            let (key, value) = row?;
            each(key.value(), value.value())?;
        }
        Ok(())
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let transaction = self.file.call(|| Ok(self.database()?.begin_read()?))?;
        let file = self.file.clone();
        Ok(Box::new(RedbSnapshot { file, transaction }))
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
            self.set_database(None);
            // Now rather than at the next commit: answers are read from it.
            let _ = self.file.call(|| self.reopened());
        }
        written
    }

    fn is_lost(&self) -> bool {
        self.file.is_lost()
    }

    fn renewed(&self) -> Result<Arc<dyn Store>, StoreError> {
        let renewed = Self::on(&self.file.path, self.backend.clone())?;
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
    transaction: ReadTransaction,
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.file.call(|| {
            let Some(table) = table.of(&self.transaction)? else {
                return Ok(None);
            };
            let value = table.get(key)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
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

fn database(backend: impl StorageBackend) -> Result<Database, StoreError> {
    Ok(Database::builder()
        .set_cache_size(PAGE_CACHE_BYTES)
        .create_with_backend(backend)?)
}

/// One `From` per error of redb's; all of them are cases of its own general one.
macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_redb!(
    DatabaseError,
    TransactionError,
    TableError,
    StorageError,
    CommitError
);

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            // redb's own words for a file that is not, or no longer, a database.
            redb::Error::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            redb::Error::Io(error) => Self::Io(error),
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                Self::Io(std::io::Error::other(error.to_string()))
            }
            error => Self::Damaged(error.to_string()),
        }
    }
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
        store.set_database(None);
        assert!(matches!(store.snapshot(), Err(StoreError::Io(_))));
        store.commit(&batch(&[("a", "1")])).expect("opens it");
        assert!(store.snapshot().is_ok());
    }

    fn on_full_disk(path: &Path, room: &Arc<AtomicU64>) -> RedbStore {
        let room = room.clone();
        let backend = move |file| {
            let room = room.clone();
            database(FullDisk {
                inner: FileBackend::new(file)?,
                room,
            })
        };
        RedbStore::on(path, Arc::new(backend)).expect("opens")
    }

    fn batch(rows: &[(&str, &str)]) -> Batch {
        let mut writes = super::super::writes::Writes::default();
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
            let expected = if half.is_ok() { "2" } else { "1" };
            let seen = rows(&store);
            assert!(
                seen == [
                    ("a".into(), expected.to_owned()),
                    ("b".into(), expected.to_owned())
                ],
                "{room_left}: {seen:?}"
            );
            store
                .commit(&batch(&[("a", "3"), ("b", "3")]))
                .expect("room again");
            assert_eq!(rows(&store)[0].1, "3");
        }
    }
}

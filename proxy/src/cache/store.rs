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

use super::aside::watched;
use super::writes::Batch;

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
}

pub(super) type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'e;

/// A redb database.
pub(super) struct RedbStore {
    path: Arc<Path>,
    /// `None` after a failed write: redb refuses everything from then on, so the file is opened anew before the next.
    database: Mutex<Option<Arc<Database>>>,
    backend: Box<MakeBackend>,
}

type MakeBackend = dyn Fn(File) -> Result<Database, StoreError> + Send + Sync;

impl RedbStore {
    /// Opens the file, or makes it; readable by its owner only.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::on(path, Box::new(|file| database(FileBackend::new(file)?)))
    }

    /// With a backend of one's own around the file, so that faults can be injected.
    fn on(path: &Path, backend: Box<MakeBackend>) -> Result<Self, StoreError> {
        let database = watched(path, || backend(file(path, true)?))?;
        Ok(Self {
            path: path.into(),
            database: Mutex::new(Some(Arc::new(database))),
            backend,
        })
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        // Never a new file: the batches that follow would be half of what it must hold.
        let reopened = Arc::new((self.backend)(file(&self.path, false)?)?);
        *database = Some(reopened.clone());
        Ok(reopened)
    }

    fn give_up_database(&self) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let database = self.database()?;
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
        let transaction = self.database()?.begin_read()?;
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
        let transaction = watched(&self.path, || Ok(self.database()?.begin_read()?))?;
        let path = self.path.clone();
        Ok(Box::new(RedbSnapshot { path, transaction }))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        watched(&self.path, || self.read(table, each))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let written = watched(&self.path, || self.write(batch));
        if written.is_err() {
            self.give_up_database();
        }
        written
    }
}

struct RedbSnapshot {
    path: Arc<Path>,
    transaction: ReadTransaction,
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        watched(&self.path, || {
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

    fn on_full_disk(path: &Path, room: &Arc<AtomicU64>) -> RedbStore {
        let room = room.clone();
        let backend = move |file| {
            let room = room.clone();
            database(FullDisk {
                inner: FileBackend::new(file)?,
                room,
            })
        };
        RedbStore::on(path, Box::new(backend)).expect("opens")
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

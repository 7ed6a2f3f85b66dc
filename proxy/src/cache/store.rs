//! Where records live. The only place that knows redb.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    StorageError, TableDefinition, TableError,
};

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
}

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
    /// `None` after a failed write: redb refuses everything from then on, so the file is opened anew before the next.
    database: Mutex<Option<Arc<Database>>>,
    open: Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>,
}

impl RedbStore {
    /// Opens the file, or makes it; readable by its owner only.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let path: PathBuf = path.to_owned();
        Self::new(Box::new(move || {
            let backend = redb::backends::FileBackend::new(open_file(&path)?)?;
            database(backend)
        }))
    }

    /// On any backend, so that faults can be injected.
    fn new(
        open: Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>,
    ) -> Result<Self, StoreError> {
        let database = open()?;
        Ok(Self {
            database: Mutex::new(Some(Arc::new(database))),
            open,
        })
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let reopened = Arc::new((self.open)()?);
        *database = Some(reopened.clone());
        Ok(reopened)
    }

    fn give_up_database(&self) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let database = self.database()?;
        let mut transaction = database.begin_write().map_err(redb::Error::from)?;
        // Without it, opening the file after a kill reads all of it first.
        transaction.set_quick_repair(true);
        for table in Table::ALL {
            let mut rows = batch.of(table).peekable();
            if rows.peek().is_none() {
                continue;
            }
            let mut table = transaction
                .open_table(table.definition())
                .map_err(redb::Error::from)?;
            for (key, value) in rows {
                match value {
                    Some(value) => table.insert(key, &value[..]).map(drop),
                    None => table.remove(key).map(drop),
                }
                .map_err(redb::Error::from)?;
            }
        }
        transaction.commit().map_err(redb::Error::from)?;
        Ok(())
    }
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let transaction = self.database()?.begin_read().map_err(redb::Error::from)?;
        Ok(Box::new(RedbSnapshot { transaction }))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        let transaction = self.database()?.begin_read().map_err(redb::Error::from)?;
        let table = match transaction.open_table(table.definition()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(redb::Error::from(error).into()),
        };
        for row in table.iter()? {
            let (key, value) = row?;
            each(key.value(), value.value())?;
        }
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let written = self.write(batch);
        if written.is_err() {
            self.give_up_database();
        }
        written
    }
}

struct RedbSnapshot {
    transaction: ReadTransaction,
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let table = match self.transaction.open_table(table.definition()) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(redb::Error::from(error).into()),
        };
        let value = table.get(key)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(StoreError::Io)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
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

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            error => redb::Error::from(error).into(),
        }
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        redb::Error::from(error).into()
    }
}

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

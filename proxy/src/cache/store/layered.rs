//! Tables and journal as one: an open file.
//!
//! A commit is written to the journal alone. When that has grown long, or there is time, it is folded: one transaction
//! writes what became of each row to its table, and empties the journal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::journal::{self, At, JOURNAL, Pieces, Reader};
use super::overlay::Overlay;
use super::packed::{self, Packer};
use super::tables::{self, begin_write, definition};
use super::{Each, StoreError, Table};
use crate::cache::aside;
use crate::cache::writes::Batch;

/// Bytes of the journal that are worth a fold. The longer it is, the more often a row was changed again before it is written
/// to its table, and the more is read when a file is opened.
const MAX_JOURNAL_BYTES: usize = 8 << 20;
/// Bytes of the journal that are worth a fold when there is time. A list is read faster from the tables, and less is read when a file
/// is opened; but a fold for each of the few things that happen on a quiet node would be twice the writing.
pub(super) const WORTH_A_FOLD: usize = 256 << 10;
/// Rows that the overlay holds at most, about: 250 bytes of memory each.
const MAX_OVERLAY_ROWS: usize = 32 << 10;
/// A batch of more (the disk was slow, or away) is not compressed as one: it goes to the tables.
const MAX_ENTRY_BYTES: usize = 16 << 20;

/// What the last commit left. Taken by whoever committed, not by whoever reads: redb lets none begin to read while a commit
/// makes the file longer and waits for the disk, and readers hold the lock that all learning needs.
struct Latest {
    overlay: Overlay,
    transaction: ReadTransaction,
    pieces: Option<Arc<Pieces>>,
}

impl Latest {
    fn new(overlay: Overlay, transaction: ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            overlay,
            pieces: journal::pieces_of(&transaction)?,
            transaction,
        })
    }
}

/// An open file. Any number of readers, one writer.
pub(super) struct Layered {
    /// `None` when it is closed.
    database: Option<Database>,
    latest: Mutex<Arc<Latest>>,
    file_bytes: Arc<AtomicU64>,
    /// Held by the one who writes, never by a reader. Bytes of the journal.
    writer: Mutex<usize>,
}

impl Layered {
    pub(super) fn new(database: Database, file_bytes: Arc<AtomicU64>) -> Result<Self, StoreError> {
        tables::check_version(&database)?;
        let transaction = database.begin_read()?;
        let folded = tables::folded(&transaction)?;
        let mut overlay = Overlay::empty(folded);
        let mut journal_bytes = 0;
        let journal = Reader::new(journal::pieces_of(&transaction)?);
        journal.replay(folded, |commit, rows, bytes| {
            overlay.commit = commit;
            journal_bytes += bytes;
            for row in rows {
                overlay.put(row.table, row.key, row.at);
            }
        })?;
        Ok(Self {
            database: Some(database),
            file_bytes,
            latest: Mutex::new(Arc::new(Latest::new(overlay, transaction)?)),
            writer: Mutex::new(journal_bytes),
        })
    }

    /// Never waits for the disk.
    pub(super) fn view(&self) -> View {
        let latest = self.latest();
        let journal = Reader::new(latest.pieces.clone());
        View { latest, journal }
    }

    fn database(&self) -> Result<&Database, StoreError> {
        let closed = || StoreError::Io(std::io::Error::other("the file is closed"));
        self.database.as_ref().ok_or_else(closed)
    }

    fn latest(&self) -> Arc<Latest> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    fn committed(&self, overlay: Overlay) -> Result<(), StoreError> {
        let mut latest = Arc::new(Latest::new(overlay, self.database()?.begin_read()?)?);
        let mut before = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *before, &mut latest);
        Ok(())
    }

    /// All of the batch or nothing, and on the disk when this returns.
    pub(super) fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut journal_bytes = self.writer();
        let is_long = *journal_bytes >= MAX_JOURNAL_BYTES
            || self.latest().overlay.rows() >= MAX_OVERLAY_ROWS
            || batch.bytes() >= MAX_ENTRY_BYTES;
        match is_long {
            true => self.through(batch, &mut journal_bytes),
            false => self.append(batch, &mut journal_bytes),
        }
    }

    /// Empties the journal, if it has as many bytes.
    pub(super) fn fold(&self, min_bytes: usize) -> Result<(), StoreError> {
        let mut journal_bytes = self.writer();
        match *journal_bytes >= min_bytes {
            true => self.through(&Batch::default(), &mut journal_bytes),
            false => Ok(()),
        }
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// Of pages that are in use. Reads all branches of all tables.
    pub(super) fn allocated_bytes(&self) -> Result<u64, StoreError> {
        let transaction = begin_write(self.database()?)?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    /// Writes all of it to a new file. Nobody may write here meanwhile, nor after.
    pub(super) fn copy_to(&self, new: &Self) -> Result<(), StoreError> {
        self.fold(1)?;
        let latest = self.latest();
        let transaction = begin_write(new.database()?)?;
        for table in Table::ALL {
            let Some(rows) = tables::rows(table, &latest.transaction)? else {
                continue;
            };
            let mut to = transaction.open_table(definition(table))?;
            for row in rows.iter()? {
                let (key, value) = row?;
                to.insert(key.value(), value.value())?;
            }
        }
        let commit = latest.overlay.commit;
        tables::set_folded(&transaction, commit)?;
        transaction.commit()?;
        new.committed(Overlay::empty(commit))
    }

    fn append(&self, batch: &Batch, journal_bytes: &mut usize) -> Result<(), StoreError> {
        let before = self.view();
        let mut overlay = before.latest.overlay.clone();
        let commit = overlay.commit + 1;
        let (entry, rows) = journal::entry(batch, commit)?;
        let transaction = begin_write(self.database()?)?;
        {
            let mut journal = transaction.open_table(JOURNAL)?;
            for (key, piece) in journal::pieces(commit, &entry) {
                journal.insert(key, piece)?;
            }
        }
        overlay.commit = commit;
        for row in rows {
            // Most states of an object come and go between two folds: of those nothing is left.
            if row.at.is_none() && before.in_table(row.table, &row.key)?.is_none() {
                overlay.remove(row.table, &row.key);
            } else {
                overlay.put(row.table, row.key, row.at);
            }
        }
        transaction.commit()?;
        *journal_bytes += entry.len();
        self.committed(overlay)
    }

    /// Writes the batch to the tables, and what the journal holds before it.
    fn through(&self, batch: &Batch, journal_bytes: &mut usize) -> Result<(), StoreError> {
        let mut before = self.view();
        let overlay = before.latest.overlay.clone();
        let commit = overlay.commit + 1;
        let transaction = begin_write(self.database()?)?;
        let mut packer = Packer::new()?;
        for table in Table::ALL {
            let mut rows: Vec<_> = (overlay.of(table))
                .filter(|(key, _)| batch.get(table, key).is_none())
                .collect();
            // Each chunk is inflated once.
            rows.sort_by_key(|(_, at)| at.map(At::place));
            let mut batch = batch.of(table).peekable();
            if rows.is_empty() && batch.peek().is_none() {
                continue;
            }
            let mut to = TableWriter {
                rows: transaction.open_table(definition(table))?,
                packer: packed::is_packed(table).then_some(&mut packer),
            };
            for (key, at) in rows {
                let value = at.map(|at| before.journal.value(at)).transpose()?;
                to.put(key, value.as_deref())?;
            }
            for (key, value) in batch {
                to.put(key, value.as_deref())?;
            }
        }
        transaction.delete_table(JOURNAL)?;
        tables::set_folded(&transaction, commit)?;
        transaction.commit()?;
        *journal_bytes = 0;
        self.committed(Overlay::empty(commit))
    }

    fn writer(&self) -> MutexGuard<'_, usize> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        aside::close(self.database.take());
    }
}

struct TableWriter<'t, 'p> {
    rows: redb::Table<'t, &'static [u8], &'static [u8]>,
    packer: Option<&'p mut Packer>,
}

impl TableWriter<'_, '_> {
    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        match (value, &mut self.packer) {
            (Some(value), Some(packer)) => self.rows.insert(key, &packer.pack(value)[..])?,
            (Some(value), None) => self.rows.insert(key, value)?,
            (None, _) => self.rows.remove(key)?,
        };
        Ok(())
    }
}

/// One state of the file, unchanged by later commits and folds.
pub(super) struct View {
    latest: Arc<Latest>,
    journal: Reader,
}

/// What was read, and how it is to be taken.
pub(super) enum Found {
    Whole(Bytes),
    Packed(Bytes),
}

impl View {
    pub(super) fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Found>, StoreError> {
        match self.latest.overlay.get(table, key) {
            Some(Some(at)) => self
                .journal
                .value(at)
                .map(|value| Some(Found::Whole(value))),
            Some(None) => Ok(None),
            None => self.in_table(table, key),
        }
    }

    fn in_table(&self, table: Table, key: &[u8]) -> Result<Option<Found>, StoreError> {
        let Some(rows) = tables::rows(table, &self.latest.transaction)? else {
            return Ok(None);
        };
        let value = rows.get(key)?;
        Ok(value.map(|value| {
            let value = Bytes::copy_from_slice(value.value());
            match packed::is_packed(table) {
                true => Found::Packed(value),
                false => Found::Whole(value),
            }
        }))
    }

    /// Every row of a table in key order. What cannot be read of the journal is left out, and told as an error at the end.
    pub(super) fn scan(&mut self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        let Self { latest, journal } = self;
        let overlay = &latest.overlay;
        let is_packed = packed::is_packed(table);
        let mut read = BTreeMap::new();
        if !is_packed {
            let mut values: Vec<&At> = overlay.of(table).filter_map(|(_, at)| at).collect();
            // Each chunk is inflated once.
            values.sort_by_key(|at| at.place());
            let value = |at: &At| Some((at.place(), journal.value(at).ok()?));
            read.extend(values.into_iter().filter_map(value));
        }
        let mut failed = Ok(());
        let mut tell = |key: &[u8], at: Option<&At>, each: &mut Each<'_>| {
            let Some(at) = at else {
                return Ok(());
            };
            let value = read.remove(&at.place());
            match value.map_or_else(|| journal.value(at), Ok) {
                Ok(value) => each(key, &value),
                Err(error) => {
                    failed = Err(error);
                    Ok(())
                }
            }
        };
        let mut changed = overlay.of(table).peekable();
        if let Some(rows) = tables::rows(table, &latest.transaction)? {
            for row in rows.iter()? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                while let Some((before, at)) = changed.next_if(|(of, _)| *of < key) {
                    tell(before, at, each)?;
                }
                match changed.next_if(|(of, _)| *of == key) {
                    Some((key, at)) => tell(key, at, each)?,
                    None if is_packed => each(key, &packed::unpack(value)?)?,
                    None => each(key, value)?,
                }
            }
        }
        changed.try_for_each(|(key, at)| tell(key, at, each))?;
        failed
    }
}

//! One commit is one entry of the journal: all that it changed, compressed together.
//!
//! To change a row of a table costs a page of 4 KiB and one on each level above it. Thirty pods of 9 KB that change their
//! status every second are 19 KB here, and 120 KB there.
//!
//! ```text
//! entry of commit n:  length of the index | index | chunk | chunk | ..     cut into rows (n, 0), (n, 1), ..
//! ```

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError};

use super::packed::Packer;
use super::{StoreError, Table, packed};
use crate::cache::record::{self, ChunkRecord, CommitRecord, RowRecord};
use crate::cache::writes::Batch;

pub(super) const JOURNAL: TableDefinition<'static, (u64, u32), &[u8]> =
    TableDefinition::new("journal");

/// Of values that are compressed together. To read one object is to inflate them all: 20 us. In chunks of 64 KiB a hundred pods
/// take a third more on the disk.
const CHUNK_BYTES: usize = 128 << 10;
/// Of an entry in one row. With its key it fills a page of 16 KiB: redb takes the next power of two.
const PIECE_BYTES: usize = (16 << 10) - 64;
/// The length of the index, in front of it.
const HEAD: usize = 4;

/// One entry, as far as a reader must know it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) commit: u64,
    /// Where each chunk is.
    chunks: Vec<Range<usize>>,
}

/// Where a value is.
#[derive(Clone, Debug)]
pub(super) struct At {
    entry: Arc<Entry>,
    chunk: u32,
    start: u32,
    len: u32,
}

/// Commit, chunk, start and length.
pub(super) type Place = (u64, u32, u32, u32);

impl At {
    /// In the order of the journal.
    pub(super) fn place(&self) -> Place {
        (self.entry.commit, self.chunk, self.start, self.len)
    }
}

/// A row that a commit changed.
pub(super) struct Row {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
    pub(super) at: Option<At>,
}

/// A batch as an entry: its bytes and its rows.
pub(super) fn entry(batch: &Batch, commit: u64) -> Result<(Vec<u8>, Vec<Row>), StoreError> {
    let mut packer = Packer::new()?;
    let mut chunks = Chunks::new(commit, &mut packer);
    let mut rows = Vec::new();
    // What is read at the start is apart from what is read for an answer.
    let small = Table::ALL.into_iter().filter(|of| !packed::is_packed(*of));
    let large = Table::ALL.into_iter().filter(|of| packed::is_packed(*of));
    for tables in [small.collect::<Vec<_>>(), large.collect()] {
        for table in tables {
            for (key, value) in batch.of(table) {
                rows.push(RowRecord {
                    table: table as u8,
                    key: key.to_vec(),
                    len: value.as_ref().map(|value| chunks.put(value)).transpose()?,
                });
            }
        }
        chunks.end()?;
    }
    let (chunks, values) = (chunks.records, chunks.stored);
    let record = CommitRecord { rows, chunks };
    let index = packer.pack(&record::encode(&commit.to_be_bytes(), &record)?);
    let rows = places(record, commit, HEAD + index.len()).ok_or_else(too_large)?;
    let head = u32::try_from(index.len()).map_err(|_| too_large())?;
    Ok(([&head.to_be_bytes()[..], &index, &values].concat(), rows))
}

/// As the rows of the journal that hold it.
pub(super) fn pieces(commit: u64, entry: &[u8]) -> impl Iterator<Item = ((u64, u32), &[u8])> {
    let pieces = entry.chunks(PIECE_BYTES);
    (0..).map(move |piece| (commit, piece)).zip(pieces)
}

/// Values on their way into an entry.
struct Chunks<'p> {
    commit: u64,
    packer: &'p mut Packer,
    values: Vec<u8>,
    stored: Vec<u8>,
    records: Vec<ChunkRecord>,
}

impl<'p> Chunks<'p> {
    fn new(commit: u64, packer: &'p mut Packer) -> Self {
        Self {
            commit,
            packer,
            values: Vec::new(),
            stored: Vec::new(),
            records: Vec::new(),
        }
    }

    /// The value's length.
    fn put(&mut self, value: &[u8]) -> Result<u32, StoreError> {
        if self.values.len() + value.len() > CHUNK_BYTES {
            self.end()?;
        }
        self.values.extend_from_slice(value);
        u32::try_from(value.len()).map_err(|_| too_large())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if self.values.is_empty() {
            return Ok(());
        }
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| too_large());
        let stored = self.packer.pack(&self.values);
        let stored = record::seal(&chunk_key(self.commit, self.records.len()), &stored);
        self.records.push(ChunkRecord {
            len: len(&self.values)?,
            stored: len(&stored)?,
        });
        self.stored.extend_from_slice(&stored);
        self.values.clear();
        Ok(())
    }
}

/// A chunk that was put in the place of another is found out by it.
fn chunk_key(commit: u64, chunk: usize) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&commit.to_be_bytes());
    key[8..].copy_from_slice(&(chunk as u64).to_be_bytes());
    key
}

/// Where the values of a commit are, the first chunk being at `start`; `None`: the record does not add up.
fn places(record: CommitRecord, commit: u64, start: usize) -> Option<Vec<Row>> {
    let mut chunks = Vec::with_capacity(record.chunks.len());
    let mut next = start;
    for chunk in &record.chunks {
        let end = next.checked_add(usize::try_from(chunk.stored).ok()?)?;
        chunks.push(next..end);
        next = end;
    }
    let entry = Arc::new(Entry { commit, chunks });
    let (mut chunk, mut start) = (0, 0);
    let mut rows = Vec::with_capacity(record.rows.len());
    for RowRecord { table, key, len } in record.rows {
        let table = *Table::ALL.get(usize::from(table))?;
        let Some(len) = len else {
            let at = None;
            rows.push(Row { table, key, at });
            continue;
        };
        if len > 0 && start > 0 && start == record.chunks.get(chunk)?.len {
            (chunk, start) = (chunk + 1, 0);
        }
        let end = start.checked_add(len)?;
        if len > 0 && end > record.chunks.get(chunk)?.len {
            return None;
        }
        let at = Some(At {
            entry: entry.clone(),
            chunk: u32::try_from(chunk).ok()?,
            start,
            len,
        });
        rows.push(Row { table, key, at });
        start = end;
    }
    Some(rows)
}

pub(super) type Pieces = ReadOnlyTable<(u64, u32), &'static [u8]>;

/// The journal as it is in one transaction; `None`: there is none.
pub(super) fn pieces_of(transaction: &ReadTransaction) -> Result<Option<Arc<Pieces>>, StoreError> {
    match transaction.open_table(JOURNAL) {
        Ok(pieces) => Ok(Some(Arc::new(pieces))),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) struct Reader {
    pieces: Option<Arc<Pieces>>,
    /// The chunk that was read last: what is written together is often read together.
    last: Option<(u64, u32, Bytes)>,
}

impl Reader {
    pub(super) fn new(pieces: Option<Arc<Pieces>>) -> Self {
        Self { pieces, last: None }
    }

    /// A value, out of the chunk that it is in.
    pub(super) fn value(&mut self, at: &At) -> Result<Bytes, StoreError> {
        if at.len == 0 {
            return Ok(Bytes::new());
        }
        let (commit, chunk, start, len) = at.place();
        let chunk = match self.last.take() {
            Some((of, number, bytes)) if (of, number) == (commit, chunk) => bytes,
            _ => self.chunk(&at.entry, chunk)?,
        };
        let value = (|| {
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            // Copied: whoever keeps it should not keep all of the chunk.
            Some(Bytes::copy_from_slice(chunk.get(start..end)?))
        })();
        self.last = Some((commit, at.chunk, chunk));
        value.ok_or_else(|| damaged(commit))
    }

    fn chunk(&self, entry: &Entry, chunk: u32) -> Result<Bytes, StoreError> {
        let commit = entry.commit;
        let number = usize::try_from(chunk).map_err(|_| damaged(commit))?;
        let range = entry.chunks.get(number).ok_or_else(|| damaged(commit))?;
        let sealed = self.read(commit, range.clone())?;
        let stored = record::open("chunk", &chunk_key(commit, number), &sealed)?;
        packed::unpack(stored)
    }

    /// A part of an entry.
    fn read(&self, commit: u64, range: Range<usize>) -> Result<Vec<u8>, StoreError> {
        let mut read = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let number = u32::try_from(at / PIECE_BYTES).map_err(|_| damaged(commit))?;
            let pieces = self.pieces.as_ref().ok_or_else(|| damaged(commit))?;
            let piece = pieces.get((commit, number))?;
            let piece = piece.ok_or_else(|| damaged(commit))?;
            let from = at % PIECE_BYTES;
            let until = (from + range.end - at).min(PIECE_BYTES);
            let part = piece.value().get(from..until);
            read.extend_from_slice(part.ok_or_else(|| damaged(commit))?);
            at += until - from;
        }
        Ok(read)
    }

    /// The rows of a commit, and how many bytes its entry has; `None`: there is none of this number.
    fn rows(&self, commit: u64) -> Result<Option<(Vec<Row>, usize)>, StoreError> {
        let Some(pieces) = &self.pieces else {
            return Ok(None);
        };
        if pieces.get((commit, 0))?.is_none() {
            return Ok(None);
        }
        let head = self.read(commit, 0..HEAD)?;
        let len = head.try_into().map(u32::from_be_bytes);
        let len = len.ok().and_then(|len| usize::try_from(len).ok());
        // No index is longer than the longest record, so a damaged length allocates no more than that.
        let len = len.filter(|len| *len <= record::MAX_RECORD_BYTES);
        let start = HEAD + len.ok_or_else(|| damaged(commit))?;
        let index = packed::unpack(&self.read(commit, HEAD..start)?)?;
        let record: CommitRecord = record::decode("commit", &commit.to_be_bytes(), &index)?;
        let stored = record.chunks.iter().map(|chunk| chunk.stored as usize);
        let bytes = start + stored.sum::<usize>();
        let rows = places(record, commit, start).ok_or_else(|| damaged(commit))?;
        Ok(Some((rows, bytes)))
    }

    /// Tells the rows of each commit that came after `folded`, in order. An error: not all of them are there.
    pub(super) fn replay(
        &self,
        folded: u64,
        mut each: impl FnMut(u64, Vec<Row>, usize),
    ) -> Result<(), StoreError> {
        let mut commit = folded;
        while let Some((rows, bytes)) = self.rows(commit + 1)? {
            commit += 1;
            each(commit, rows, bytes);
        }
        // What is beyond a gap was built on what is missing.
        let Some(pieces) = &self.pieces else {
            return Ok(());
        };
        for end in [pieces.first()?, pieces.last()?].into_iter().flatten() {
            let (of, _) = end.0.value();
            if !(folded + 1..=commit).contains(&of) {
                return Err(damaged(of));
            }
        }
        Ok(())
    }
}

fn damaged(commit: u64) -> StoreError {
    StoreError::Damaged(format!("commit {commit} of the journal cannot be read"))
}

fn too_large() -> StoreError {
    StoreError::Io(std::io::ErrorKind::FileTooLarge.into())
}

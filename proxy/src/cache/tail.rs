//! What was learnt and is not in the store yet, kept so that it outlives the process.
//!
//! A client is told of an event at once, the store of it within `commitInterval`. Killed in between and started in the
//! dark, Holdfast would tell that client something older than it has seen. So each row that waits for a commit is also
//! appended to a file, before a client can have read what it was learnt from; a start replays what the last commit lacks.
//! The file is never synced: it is for a process that is killed, not for a machine that loses its power. On a tmpfs, as
//! `/run` is, it costs a copy in memory; elsewhere most of it is taken away before the kernel writes it.
//!
//! ```text
//! part 0   header | frame 7 | frame 8 | frame 9        the batch that is being committed
//! part 1   header | frame 10 | frame 11 ..             what is learnt meanwhile
//! ```
//! A frame is what was learnt under one lock. Frames are numbered, and each commit writes the number of its last one: only
//! those after it are replayed, in order, until one is missing. What is lost here (no room, a torn end) makes a window that
//! is not protected, and nothing else.

mod part;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::record::{self, TailRecord};
use super::store::{Store, StoreError, Table};
use super::writes::Writes;
use part::{Frames, Life, Part};

/// Of each of the two parts. A batch is committed at half of it; a storm of lists may bring more meanwhile.
const MAX_PART_BYTES: usize = 8 << 20;
/// Of the buffer that frames are made in, kept from one to the next.
const KEPT_FRAME_BYTES: usize = 64 << 10;
/// Names the store, and the last frame that it holds.
const COMMITTED: &[u8] = b"tail";

/// Why there is no tail, or what it held could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TailError {
    #[error("cannot use {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("the store does not take it: {0}")]
    Store(#[from] StoreError),
}

/// The tail of one open store.
pub(super) struct Tail {
    store: u128,
    parts: [Part; 2],
    current: usize,
    /// Of the last frame, written or not.
    number: u64,
    /// The frame that is being made, with room for its header in front.
    frame: Vec<u8>,
    /// A row of this frame found no room: without it the others are of no use.
    is_torn: bool,
    has_warned: bool,
}

impl Tail {
    /// Opens the tail of this store, after what a killed process left there was committed. Says how many frames that were.
    pub(super) fn open(path: &Path, store: &dyn Store) -> Result<(Self, usize), TailError> {
        let committed = committed(store)?;
        let known = committed.clone().unwrap_or_else(|| TailRecord {
            store: fastrand::u128(1..),
            number: 0,
        });
        let mut parts = [part(path, 0)?, part(path, 1)?];
        let mut left = Vec::new();
        for part in &mut parts {
            left.push(part.read(known.store).map_err(of(path))?);
        }
        let (number, replayed) = replay(store, &known, committed.is_none(), &left)?;
        let life = Life::new(known.store);
        for part in &mut parts {
            part.begin(&life).map_err(of(path))?;
        }
        let tail = Self {
            store: known.store,
            parts,
            current: 0,
            number,
            frame: part::empty_frame(),
            is_torn: false,
            has_warned: false,
        };
        Ok((tail, replayed))
    }

    /// A row that waits for a commit from now on.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        let row = key.len() + value.map_or(0, <[u8]>::len);
        self.is_torn |= self.frame.len() + row > MAX_PART_BYTES;
        if !self.is_torn {
            part::put_row(&mut self.frame, table, key, value);
        }
    }

    /// All of one change was put: it is kept when this returns.
    pub(super) fn flush(&mut self) {
        if self.frame.len() == part::FRAME_HEADER && !self.is_torn {
            return;
        }
        self.number += 1;
        let part = &mut self.parts[self.current];
        let fits = !self.is_torn && part.len() + self.frame.len() <= MAX_PART_BYTES;
        if fits && let Err(error) = part.append(self.number, &mut self.frame) {
            if !self.has_warned {
                tracing::warn!(%error, "the tail cannot be written: what a kill takes now may have been told already");
            }
            self.has_warned = true;
        }
        self.is_torn = false;
        part::clear(&mut self.frame, KEPT_FRAME_BYTES);
    }

    /// What was put so far is committed next, together with this row; and the number of its last frame.
    pub(super) fn turn(&mut self) -> Result<(Bytes, u64), record::RecordError> {
        self.flush();
        let other = 1 - self.current;
        if self.parts[other].is_empty() {
            self.current = other;
        }
        let (store, number) = (self.store, self.number);
        let row = record::encode(COMMITTED, &TailRecord { store, number })?;
        Ok((row, number))
    }

    /// The store has all frames until this one.
    pub(super) fn committed(&mut self, number: u64) {
        for part in &mut self.parts {
            if let Err(error) = part.forget(number) {
                // Its frames are skipped by their numbers; it is full earlier.
                tracing::debug!(%error, "a part of the tail could not be emptied");
            }
        }
    }

    /// Where its row is.
    pub(super) fn key() -> Vec<u8> {
        COMMITTED.to_vec()
    }
}

/// For a process that has no tail: what an earlier one left is older than what is committed from now on.
pub(super) fn disown(store: &dyn Store, writes: &mut Writes) {
    // A store that never had one is left as it is.
    if !matches!(committed(store), Ok(None)) {
        writes.put(Table::Meta, Tail::key(), None);
    }
}

fn of(path: &Path) -> impl Fn(io::Error) -> TailError {
    move |error| TailError::Io {
        path: path.to_owned(),
        error,
    }
}

fn part(path: &Path, number: usize) -> Result<Part, TailError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    let path = PathBuf::from(name);
    Part::open(&path).map_err(of(&path))
}

/// `None`: the store never had a tail.
fn committed(store: &dyn Store) -> Result<Option<TailRecord>, StoreError> {
    let row = store.snapshot()?.get(Table::Meta, COMMITTED)?;
    Ok(row.and_then(|row| record::decode("tail", COMMITTED, &row).ok()))
}

/// Commits the frames that follow the last commit without a gap; the number of the last one, and how many.
fn replay(
    store: &dyn Store,
    known: &TailRecord,
    is_new: bool,
    left: &[Frames],
) -> Result<(u64, usize), TailError> {
    let mut frames: Vec<_> = left.iter().flat_map(Frames::all).collect();
    frames.sort_by_key(|(number, _)| *number);
    let mut writes = Writes::default();
    let mut number = known.number;
    for (of, rows) in frames {
        if of <= number {
            continue;
        }
        if of != number + 1 {
            break;
        }
        number = of;
        for (table, key, value) in part::rows(rows) {
            writes.put(table, key.to_vec(), value.map(Bytes::copy_from_slice));
        }
    }
    let replayed = usize::try_from(number - known.number).unwrap_or(usize::MAX);
    if replayed > 0 || is_new {
        let record = TailRecord {
            number,
            ..known.clone()
        };
        let row = record::encode(COMMITTED, &record).map_err(StoreError::from)?;
        writes.put(Table::Meta, COMMITTED.to_vec(), Some(row));
        if let Some(batch) = writes.begin_commit() {
            store.commit(&batch)?;
        }
    }
    Ok((number, replayed))
}

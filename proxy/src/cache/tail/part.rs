//! One file of the tail: a header that says whose it is, then frames of rows, each with its length and checksum.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::MAX_PART_BYTES;
use crate::cache::record;
use crate::cache::store::Table;

/// A process that is being replaced lets go of the tail right after the store.
const MAX_WAIT: Duration = Duration::from_secs(1);

const MAGIC: &[u8; 8] = b"hf-tail\x01";
/// Magic, version of the records, store, life, checksum.
const HEADER: usize = 8 + 1 + 16 + 8 + 4;
/// Length of its rows, checksum, number.
pub(super) const FRAME_HEADER: usize = 4 + 4 + 8;
/// Table, length of the key, length of the value.
const ROW_HEADER: usize = 1 + 4 + 4;
/// In the place of a length: the row is taken away.
const REMOVED: u32 = u32::MAX;

/// One process on one store. Frames of another life never pass for its own.
pub(super) struct Life {
    store: u128,
    nonce: u64,
}

impl Life {
    pub(super) fn new(store: u128) -> Self {
        Self {
            store,
            nonce: fastrand::u64(..),
        }
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let (body, sum) = header.split_at_mut(HEADER - 4);
        body[..8].copy_from_slice(MAGIC);
        body[8] = record::VERSION;
        body[9..25].copy_from_slice(&self.store.to_be_bytes());
        body[25..].copy_from_slice(&self.nonce.to_be_bytes());
        sum.copy_from_slice(&checksum(&[body]).to_be_bytes());
        header
    }

    /// `None`: not this store's, or of another Holdfast that writes its records differently.
    fn parse(header: &[u8; HEADER], store: u128) -> Option<Self> {
        let nonce = header[25..].first_chunk().copied()?;
        let life = Self {
            store,
            nonce: u64::from_be_bytes(nonce),
        };
        (life.header() == *header).then_some(life)
    }
}

pub(super) struct Part {
    file: File,
    nonce: u64,
    len: usize,
    /// Number of the last frame; 0 when there is none.
    last: u64,
}

impl Part {
    /// Opens the file, or makes it; readable by its owner only, and of one process at a time.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path)?;
        lock(&file)?;
        Ok(Self {
            file,
            nonce: 0,
            len: 0,
            last: 0,
        })
    }

    /// What an earlier process left of this store; nothing, if it is of another.
    pub(super) fn read(&self, store: u128) -> io::Result<Frames> {
        let nothing = Frames {
            nonce: 0,
            bytes: Vec::new(),
        };
        let most = (HEADER + MAX_PART_BYTES) as u64;
        let len = self.file.metadata()?.len().min(most);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        let Some((header, frames)) = bytes.split_first_chunk() else {
            return Ok(nothing);
        };
        let Some(life) = Life::parse(header, store) else {
            return Ok(nothing);
        };
        Ok(Frames {
            nonce: life.nonce,
            bytes: frames.to_vec(),
        })
    }

    /// Empties it, and says whose it is from now on.
    pub(super) fn begin(&mut self, life: &Life) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&life.header(), 0)?;
        self.nonce = life.nonce;
        (self.len, self.last) = (0, 0);
        Ok(())
    }

    /// Bytes of its frames.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last == 0
    }

    /// Completes the frame and appends it. Failed, it is not there.
    pub(super) fn append(&mut self, number: u64, frame: &mut [u8]) -> io::Result<()> {
        let (header, rows) = frame.split_at_mut(FRAME_HEADER);
        let len = u32::try_from(rows.len()).map_err(io::Error::other)?;
        let sum = frame_checksum(self.nonce, number, rows);
        header[..4].copy_from_slice(&len.to_be_bytes());
        header[4..8].copy_from_slice(&sum.to_be_bytes());
        header[8..].copy_from_slice(&number.to_be_bytes());
        let at = (HEADER + self.len) as u64;
        self.file.write_all_at(frame, at)?;
        self.len += frame.len();
        self.last = number;
        Ok(())
    }

    /// Empties it if all its frames are in the store.
    pub(super) fn forget(&mut self, committed: u64) -> io::Result<()> {
        if self.is_empty() || self.last > committed {
            return Ok(());
        }
        self.file.set_len(HEADER as u64)?;
        (self.len, self.last) = (0, 0);
        Ok(())
    }
}

fn lock(file: &File) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if started.elapsed() < MAX_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process has it open"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// What a part held.
pub(super) struct Frames {
    nonce: u64,
    bytes: Vec<u8>,
}

impl Frames {
    /// Number and rows of each frame that is whole, until one is not.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (len, after) = number_at(rest)?;
            let (sum, after) = number_at(after)?;
            let (number, after) = after.split_first_chunk()?;
            let number = u64::from_be_bytes(*number);
            let (rows, after) = after.split_at_checked(len as usize)?;
            rest = after;
            (frame_checksum(self.nonce, number, rows) == sum).then_some((number, rows))
        })
    }
}

/// A frame without rows.
pub(super) fn empty_frame() -> Vec<u8> {
    vec![0; FRAME_HEADER]
}

/// Takes the rows out of a frame, and the memory that a large one took.
pub(super) fn clear(frame: &mut Vec<u8>, kept: usize) {
    frame.truncate(FRAME_HEADER);
    frame.shrink_to(kept);
}

pub(super) fn put_row(frame: &mut Vec<u8>, table: Table, key: &[u8], value: Option<&[u8]>) {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(REMOVED);
    frame.push(tag(table));
    frame.extend_from_slice(&len(key).to_be_bytes());
    frame.extend_from_slice(&value.map_or(REMOVED, len).to_be_bytes());
    frame.extend_from_slice(key);
    frame.extend_from_slice(value.unwrap_or_default());
}

type Row<'f> = (Table, &'f [u8], Option<&'f [u8]>);

/// The rows of a frame.
pub(super) fn rows(mut rest: &[u8]) -> impl Iterator<Item = Row<'_>> {
    std::iter::from_fn(move || {
        let (header, after) = rest.split_first_chunk::<ROW_HEADER>()?;
        let (tag, lens) = header.split_first()?;
        let table = Table::ALL.into_iter().nth(usize::from(*tag))?;
        let (key_len, lens) = number_at(lens)?;
        let (value_len, _) = number_at(lens)?;
        let (key, after) = after.split_at_checked(key_len as usize)?;
        let (value, after) = match value_len {
            REMOVED => (None, after),
            len => {
                let (value, after) = after.split_at_checked(len as usize)?;
                (Some(value), after)
            }
        };
        rest = after;
        Some((table, key, value))
    })
}

/// Its place among all of them: another order is another version of the records.
fn tag(table: Table) -> u8 {
    let place = Table::ALL.into_iter().position(|of| of == table);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

fn number_at(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn frame_checksum(nonce: u64, number: u64, rows: &[u8]) -> u32 {
    checksum(&[&nonce.to_be_bytes(), &number.to_be_bytes(), rows])
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut crc = flate2::Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

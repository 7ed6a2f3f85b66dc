//! Finds out that a page is not what was written, before redb takes it for one.
//!
//! redb follows a page number in a damaged page wherever it leads: it makes room for up to 4 GiB, goes in circles, or panics.
//! So each of its pages has a checksum here, in pages between its own:
//!
//! ```text
//! checksums of 1023 pages | 1023 pages | checksums of 1023 pages | ..
//! ```
//! Checksums are written when their pages are synced. Those of pages that were being written when the power was cut may be
//! wrong: no commit refers to such a page, for each is in two phases (`WriteTransaction::set_quick_repair`), and the second
//! begins when the first is synced. redb's first page is its header: it is changed in place, and has checksums of its own.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: usize = 4096;
/// Begins the file; the file of another program, or of another layout, is no store.
const MAGIC: [u8; SUM] = *b"hfs\x01";
const SUM: usize = 4;
/// Pages from one page of checksums to the next.
const GROUP: u64 = (PAGE / SUM) as u64;
/// Of redb's.
const PAGES: u64 = GROUP - 1;

/// A backend of redb whose pages are checked.
#[derive(Debug)]
pub(super) struct Checked<B> {
    inner: B,
    /// All of a file's: a kilobyte for a megabyte.
    sums: Mutex<Vec<Sums>>,
    is_length_written: AtomicBool,
}

/// A page of checksums, behind four bytes of which those of the first page are the magic.
#[derive(Clone, Debug)]
struct Sums {
    page: Vec<u8>,
    is_changed: bool,
}

impl Sums {
    fn new(group: usize) -> Self {
        let mut page = vec![0; PAGE];
        if group == 0 {
            page[..SUM].copy_from_slice(&MAGIC);
        }
        Self {
            page,
            is_changed: true,
        }
    }
}

/// Where redb's page is: the group, and the place of its checksum in the group's.
fn place(page: u64) -> (usize, Range<usize>) {
    let nth = SUM * (1 + (page % PAGES) as usize);
    ((page / PAGES) as usize, nth..nth + SUM)
}

/// Where a byte of redb's is in the file.
fn in_file(offset: u64) -> u64 {
    offset + (1 + offset / PAGE as u64 / PAGES) * PAGE as u64
}

/// How many bytes a file of that length has for redb.
fn for_redb(len: u64) -> u64 {
    let sums = len.div_ceil(GROUP * PAGE as u64) * PAGE as u64;
    len.saturating_sub(sums)
}

/// Never zero: that is the checksum of a page that was never written.
fn sum(page: &[u8]) -> [u8; SUM] {
    let mut crc = flate2::Crc::new();
    crc.update(page);
    crc.sum().max(1).to_be_bytes()
}

fn is_as_written(page: &[u8], expected: &[u8]) -> bool {
    match expected {
        [0, 0, 0, 0] => page.iter().all(|byte| *byte == 0),
        expected => sum(page) == expected,
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<B: StorageBackend> Checked<B> {
    /// An empty file, or one that was made here; an error of kind `InvalidData` says that it was not.
    pub(super) fn new(inner: B) -> io::Result<Self> {
        let len = inner.len()?;
        let mut sums = Vec::new();
        for start in (0..len).step_by(GROUP as usize * PAGE) {
            let mut page = vec![0; PAGE];
            if len < start + 2 * PAGE as u64 {
                return Err(damaged("the file is too short"));
            }
            inner.read(start, &mut page)?;
            if start == 0 && page[..SUM] != MAGIC {
                return Err(damaged("the file is no store, or one of another layout"));
            }
            sums.push(Sums {
                page,
                is_changed: false,
            });
        }
        Ok(Self {
            inner,
            sums: Mutex::new(sums),
            is_length_written: AtomicBool::new(false),
        })
    }

    fn sums(&self) -> MutexGuard<'_, Vec<Sums>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the checksums of whole pages that are about to be written.
    fn remember(&self, offset: u64, data: &[u8]) {
        let mut sums = self.sums();
        for (page, bytes) in (offset / PAGE as u64..).zip(data.chunks(PAGE)) {
            // The header, or a part of it.
            if page == 0 {
                continue;
            }
            let (group, at) = place(page);
            while sums.len() <= group {
                let next = Sums::new(sums.len());
                sums.push(next);
            }
            sums[group].page[at].copy_from_slice(&sum(bytes));
            sums[group].is_changed = true;
        }
    }

    fn check(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let sums = self.sums();
        for (page, bytes) in (offset / PAGE as u64..).zip(data.chunks(PAGE)) {
            let (group, at) = place(page);
            let expected = sums.get(group).map(|sums| &sums.page[at]);
            let is_whole = expected.is_some_and(|expected| is_as_written(bytes, expected));
            if page > 0 && !is_whole {
                return Err(damaged("a page is not what was written"));
            }
        }
        Ok(())
    }

    /// Not under the lock: whoever reads does not wait for the disk to write.
    fn write_sums(&self) -> io::Result<()> {
        let mut changed = Vec::new();
        for (group, sums) in self.sums().iter_mut().enumerate() {
            if std::mem::take(&mut sums.is_changed) {
                changed.push((group, sums.page.clone()));
            }
        }
        for (group, page) in &changed {
            let start = *group as u64 * GROUP * PAGE as u64;
            if let Err(error) = self.inner.write(start, page) {
                let mut sums = self.sums();
                for (group, _) in changed {
                    sums[group].is_changed = true;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The parts of a range of redb's that are in one piece in the file.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0_usize;
    std::iter::from_fn(move || {
        let start = offset + done as u64;
        let group = PAGES * PAGE as u64;
        let left = usize::try_from(group - start % group).unwrap_or(usize::MAX);
        let piece = done..len.min(done.saturating_add(left));
        done = piece.end;
        (!piece.is_empty()).then_some((in_file(start), piece))
    })
}

/// All that redb reads and writes are whole pages, but for its header.
fn is_of_pages(offset: u64, len: usize) -> bool {
    let page = PAGE as u64;
    offset.saturating_add(len as u64) <= page
        || (offset.is_multiple_of(page) && len.is_multiple_of(PAGE))
}

fn assert_pages(offset: u64, len: usize) -> io::Result<()> {
    let parts = || io::Error::other("a part of a page is not read or written alone");
    is_of_pages(offset, len).then_some(()).ok_or_else(parts)
}

impl<B: StorageBackend> StorageBackend for Checked<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(for_redb(self.inner.len()?))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        assert_pages(offset, out.len())?;
        for (at, piece) in pieces(offset, out.len()) {
            self.inner.read(at, &mut out[piece])?;
        }
        self.check(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let in_file = len.checked_sub(1).map_or(0, |last| in_file(last) + 1);
        self.inner.set_len(in_file)?;
        let mut sums = self.sums();
        let groups = in_file.div_ceil(GROUP * PAGE as u64) as usize;
        sums.truncate(groups);
        while sums.len() < groups {
            let next = Sums::new(sums.len());
            sums.push(next);
        }
        // What grows here again is empty.
        let (group, at) = place(len.div_ceil(PAGE as u64));
        if let Some(sums) = sums.get_mut(group) {
            sums.page[at.start..].fill(0);
            sums.is_changed = true;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // A sync that failed before the file was opened may have lost its length. The first one is in the opening, behind the lock.
        if !self.is_length_written.swap(true, Ordering::SeqCst) {
            self.inner.set_len(self.inner.len()?)?;
        }
        self.write_sums()?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        assert_pages(offset, data.len())?;
        self.remember(offset, data);
        for (at, piece) in pieces(offset, data.len()) {
            self.inner.write(at, &data[piece])?;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    super::locks_of_inner!();
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn page(byte: u8, pages: usize) -> Vec<u8> {
        vec![byte; pages * PAGE]
    }

    #[test]
    fn pages_are_read_back_across_groups() {
        let checked = Checked::new(InMemoryBackend::new()).expect("empty");
        let pages = 3 * PAGES;
        checked.set_len(pages * PAGE as u64).expect("room");
        assert_eq!(checked.len().expect("its length"), pages * PAGE as u64);
        let at = (PAGES - 2) * PAGE as u64;
        let written = [page(1, 1), page(2, 1), page(3, 1), page(4, 1)].concat();
        checked.write(at, &written).expect("room");
        checked.write(0, b"header").expect("room");
        checked.sync_data().expect("memory");
        let again = Checked::new(checked.inner).expect("as it was");
        let mut read = page(0, 4);
        again.read(at, &mut read).expect("whole");
        assert!(read == written);
        let mut header = [0; 6];
        again.read(0, &mut header).expect("not checked");
        assert_eq!(&header, b"header");
        again.read(at + 4 * PAGE as u64, &mut read).expect("empty");
        assert!(read == page(0, 4));
    }

    #[test]
    fn a_flipped_byte_is_found_out_and_a_page_that_grew_again_is_empty() {
        let checked = Checked::new(InMemoryBackend::new()).expect("empty");
        checked.set_len(10 * PAGE as u64).expect("room");
        checked.write(5 * PAGE as u64, &page(7, 2)).expect("room");
        let mut byte = page(7, 1);
        byte[9] ^= 1;
        let at = in_file(5 * PAGE as u64);
        checked.inner.write(at, &byte).expect("room");
        let mut read = page(0, 1);
        let error = checked.read(5 * PAGE as u64, &mut read).expect_err("found");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        checked.read(6 * PAGE as u64, &mut read).expect("whole");
        for pages in [6, 10] {
            checked.set_len(pages * PAGE as u64).expect("room");
        }
        checked.read(6 * PAGE as u64, &mut read).expect("empty");
        assert!(read == page(0, 1));
    }

    #[test]
    fn a_file_of_somebody_else_is_none_of_ours() {
        for (bytes, len) in [
            (&b"SQLite format 3"[..], 100_000),
            (&MAGIC, 4096),
            (b"h", 9),
        ] {
            let other = InMemoryBackend::new();
            other.set_len(len).expect("memory");
            other.write(0, bytes).expect("memory");
            assert!(Checked::new(other).is_err(), "{len}");
        }
    }
}

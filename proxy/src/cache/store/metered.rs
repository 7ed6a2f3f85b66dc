//! What the disk has to do for the store, counted where redb meets the file: nothing it writes goes another way.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;

/// What the disk had to do since the process began, and what the store takes on it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cache) struct DiskUse {
    pub(in crate::cache) written_bytes: u64,
    pub(in crate::cache) writes: u64,
    pub(in crate::cache) syncs: u64,
    /// The length of the file.
    pub(in crate::cache) file_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    written_bytes: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self, file_bytes: u64) -> DiskUse {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskUse {
            written_bytes: read(&self.written_bytes),
            writes: read(&self.writes),
            syncs: read(&self.syncs),
            file_bytes,
        }
    }
}

/// A backend whose work is counted.
#[derive(Debug)]
pub(super) struct Metered {
    inner: Box<dyn StorageBackend>,
    counters: Arc<Counters>,
    /// Of this file: one that was replaced may still be read.
    len: Arc<AtomicU64>,
}

impl Metered {
    pub(super) fn new(inner: Box<dyn StorageBackend>, counters: Arc<Counters>) -> io::Result<Self> {
        let len = Arc::new(AtomicU64::new(inner.len()?));
        Ok(Self {
            inner,
            counters,
            len,
        })
    }

    /// The length of the file, as long as it is open.
    pub(super) fn file_bytes(&self) -> Arc<AtomicU64> {
        self.len.clone()
    }

    /// A file that ends before what is read is damaged, and set aside. One that seems to, but does not, has a disk that fails.
    fn unless_cut_short(&self, error: io::Error, end: u64) -> io::Error {
        match self.inner.len() {
            Ok(len) if error.kind() == io::ErrorKind::UnexpectedEof && len >= end => {
                io::Error::other("a read was cut short")
            }
            _ => error,
        }
    }
}

impl StorageBackend for Metered {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.inner.read(offset, out);
        read.map_err(|error| self.unless_cut_short(error, offset + out.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        let len = data.len() as u64;
        self.counters
            .written_bytes
            .fetch_add(len, Ordering::Relaxed);
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    super::locks_of_inner!();
}

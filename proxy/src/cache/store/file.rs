//! The store on a disk: one redb file, opened anew when a write failed.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redb::{Database, StorageBackend};

use super::checked::Checked;
use super::compact;
use super::layered::{Found, Layered, View, WORTH_A_FOLD};
use super::metered::{Counters, DiskUse, Metered};
use super::names::{self, Filesystem, RealFiles};
use super::{Each, Snapshot, Store, StoreError, Table, packed};
use crate::cache::aside::Watched;
use crate::cache::writes::{Batch, Writes};

/// redb's own page cache; its default of 1 GiB is more than a small node has. Start-up and single reads need no more than this.
const PAGE_CACHE_BYTES: usize = 4 << 20;

/// A redb database.
pub(in crate::cache) struct RedbStore {
    file: Arc<Watched>,
    /// `None` after a failed call: redb refuses everything from then on, so the file is opened anew before the next.
    opened: Mutex<Option<Arc<Layered>>>,
    files: Arc<dyn Filesystem>,
    counters: Arc<Counters>,
    /// When the file was last compared with what it holds.
    compared: Mutex<Option<Instant>>,
}

/// How often that is done: it reads a good part of the file.
const COMPARE_EVERY: Duration = Duration::from_secs(60 * 60);

fn closed() -> StoreError {
    let closed = "the disk failed, and the file is not open again yet";
    StoreError::Io(std::io::Error::other(closed))
}

impl RedbStore {
    /// Opens the file, or makes it; readable by its owner only.
    pub(in crate::cache) fn open(path: &Path) -> Result<Self, StoreError> {
        Self::on(path, Arc::new(RealFiles))
    }

    /// With files of one's own, so that faults can be injected.
    pub(in crate::cache) fn on(
        path: &Path,
        files: Arc<dyn Filesystem>,
    ) -> Result<Self, StoreError> {
        Self::counted(path, files, Arc::default())
    }

    fn counted(
        path: &Path,
        files: Arc<dyn Filesystem>,
        counters: Arc<Counters>,
    ) -> Result<Self, StoreError> {
        let watched = Watched::new(path);
        let opened = watched.call(|| open_or_make(path, files.as_ref(), &counters))?;
        // What was not copied to its end before the process did.
        let _ = std::fs::remove_file(names::of_new(path));
        Ok(Self {
            file: watched,
            opened: Mutex::new(Some(Arc::new(opened))),
            files,
            counters,
            compared: Mutex::default(),
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Layered>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For those who hold a lock while they ask: never opens a file, nor closes one.
    fn view(&self) -> Result<View, StoreError> {
        let current = self.current();
        current
            .as_ref()
            .map(|opened| opened.view())
            .ok_or_else(closed)
    }

    fn reopened(&self) -> Result<Arc<Layered>, StoreError> {
        if !self.file.has_failed()
            && let Some(opened) = self.current().clone()
        {
            return Ok(opened);
        }
        // A file is open once.
        self.set_opened(None);
        self.file.is_opened_anew();
        // Never a new file: the batches that follow would be half of what it must hold. And not under the mutex: readers ask at once.
        let reopened = open(&self.file.path, self.files.as_ref(), &self.counters)?;
        let reopened = Arc::new(reopened);
        self.set_opened(Some(reopened.clone()));
        Ok(reopened)
    }

    fn set_opened(&self, opened: Option<Arc<Layered>>) {
        let before = std::mem::replace(&mut *self.current(), opened);
        // Without the lock: closing a file may take a while.
        drop(before);
    }

    /// One call that writes. When it fails, the file is opened anew.
    fn write(
        &self,
        write: impl FnOnce(&Layered) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.is_lost() {
            return Err(StoreError::Damaged("its file was set aside".to_owned()));
        }
        let written = self.file.call(|| write(&*self.reopened()?));
        if written.is_err() && !self.is_lost() {
            // Now rather than at the next commit: answers are read from it.
            let _ = self.file.call(|| {
                self.set_opened(None);
                self.reopened()
            });
        }
        written
    }

    /// Commits and this are called one after the other: what is written during the copy would be lost.
    fn compact(&self) -> Result<(), StoreError> {
        let is_due = {
            let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = compared.is_none_or(|at| at.elapsed() >= COMPARE_EVERY);
            is_due.then(|| *compared = Some(Instant::now())).is_some()
        };
        let mut copied = None;
        self.write(|layered| {
            if is_due && compact::is_worth_it(layered)? {
                copied = Some(self.copied(layered)?);
            }
            Ok(())
        })?;
        if let Some(copied) = copied {
            let now = copied.file_bytes();
            self.set_opened(Some(Arc::new(copied)));
            tracing::info!(file_bytes = now, "the store was compacted");
        }
        Ok(())
    }

    fn copied(&self, layered: &Layered) -> Result<Layered, StoreError> {
        make_by(&self.file.path, self.files.as_ref(), |made| {
            let copy = self::layered(self.files.backend(made)?, &self.counters)?;
            layered.copy_to(&copy)?;
            Ok(copy)
        })
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
}

impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        let view = self.view()?;
        Ok(Box::new(RedbSnapshot {
            file: self.file.clone(),
            view: RefCell::new(view),
        }))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        (self.file).call(|| self.reopened()?.view().scan(table, each))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write(|layered| layered.commit(batch))
    }

    fn idle(&self) -> Result<(), StoreError> {
        self.write(|layered| layered.fold(WORTH_A_FOLD))?;
        self.compact()
    }

    fn stop(&self) -> Result<(), StoreError> {
        self.write(|layered| layered.fold(1))
    }

    fn is_closed(&self) -> bool {
        !self.is_lost() && (self.file.has_failed() || self.current().is_none())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.file.call(|| self.reopened()).map(drop)
    }

    fn disk_use(&self) -> DiskUse {
        let current = self.current();
        let file_bytes = current.as_ref().map_or(0, |layered| layered.file_bytes());
        self.counters.read(file_bytes)
    }

    fn is_lost(&self) -> bool {
        self.file.is_lost()
    }

    fn aside(&self) -> Option<PathBuf> {
        self.file.aside()
    }

    fn renewed(&self) -> Result<Arc<dyn Store>, StoreError> {
        let renewed = Self::counted(&self.file.path, self.files.clone(), self.counters.clone())?;
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
    view: RefCell<View>,
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.file.call(|| self.view.borrow_mut().get(table, key))?;
        match found {
            // Not in the call: a value that is damaged is lost alone.
            Some(Found::Packed(value)) => packed::unpack(&value).map(Some),
            Some(Found::Whole(value)) => Ok(Some(value)),
            None => Ok(None),
        }
    }
}

fn open(
    path: &Path,
    files: &dyn Filesystem,
    counters: &Arc<Counters>,
) -> Result<Layered, StoreError> {
    let file = names::open(path)?;
    // It may have been given this name by one who could not sync that.
    let folder = names::folder(path);
    files.sync_names(folder).map_err(StoreError::Io)?;
    layered(files.backend(file)?, counters)
}

fn open_or_make(
    path: &Path,
    files: &dyn Filesystem,
    counters: &Arc<Counters>,
) -> Result<Layered, StoreError> {
    if names::is_to_be_made(path) {
        let folder = names::folder(path);
        names::make_folder(folder, files).map_err(StoreError::Io)?;
        let _lock = names::lock(folder)?;
        // Another process may have made it before this one had its turn.
        if names::is_to_be_made(path) {
            return make_by(path, files, |made| layered(files.backend(made)?, counters));
        }
    }
    open(path, files, counters)
}

/// A new file, which has its name when it is whole.
fn make_by(
    path: &Path,
    files: &dyn Filesystem,
    fill: impl FnOnce(File) -> Result<Layered, StoreError>,
) -> Result<Layered, StoreError> {
    let new = names::of_new(path);
    let made = names::make(&new).and_then(fill).and_then(|filled| {
        names::put_in_place(&new, path, files)?;
        Ok(filled)
    });
    made.inspect_err(|_| drop(std::fs::remove_file(&new)))
}

fn layered(
    backend: Box<dyn StorageBackend>,
    counters: &Arc<Counters>,
) -> Result<Layered, StoreError> {
    let metered = Metered::new(backend, counters.clone()).map_err(StoreError::Io)?;
    let file_bytes = metered.file_bytes();
    let database = Database::builder()
        .set_cache_size(PAGE_CACHE_BYTES)
        .create_with_backend(Checked::new(metered).map_err(redb::Error::Io)?)?;
    Layered::new(database, file_bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::backends::FileBackend;

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
        store.set_opened(None);
        assert!(matches!(store.snapshot(), Err(StoreError::Io(_))));
        store.commit(&batch(&[("a", "1")])).expect("opens it");
        assert!(store.snapshot().is_ok());
    }

    fn on_full_disk(path: &Path, room: &Arc<AtomicU64>) -> RedbStore {
        let room = room.clone();
        let backend = move |file: File| {
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
            // When it is the last sync that failed, all of it may be there: never a half.
            let seen = rows(&store);
            let is = |value: &str| seen.len() == 2 && seen.iter().all(|(_, is)| is == value);
            assert!(is("2") || half.is_err() && is("1"), "{room_left}: {seen:?}");
            store
                .commit(&batch(&[("a", "3"), ("b", "3")]))
                .expect("room again");
            assert_eq!(rows(&store)[0].1, "3");
        }
    }
}

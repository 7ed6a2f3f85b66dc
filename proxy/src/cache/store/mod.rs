//! Where records live: the seam between the cache and its disk. Only this folder knows redb.

mod checked;
mod compact;
mod error;
mod file;
mod journal;
mod layered;
mod locks;
mod metered;
mod names;
mod overlay;
mod packed;
#[cfg(test)]
pub(super) mod sim_disk;
mod tables;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::writes::Batch;
use locks::locks_of_inner;

pub(super) use error::StoreError;
pub(super) use file::RedbStore;
pub(super) use metered::DiskUse;
#[cfg(test)]
pub(super) use names::Filesystem;

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

    /// Nothing was learnt for a while: puts in order what commits left behind, where that is worth the writing.
    fn idle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// After the last commit: the next start should find nothing to do.
    fn stop(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What its disk had to do, and holds.
    fn disk_use(&self) -> DiskUse {
        DiskUse::default()
    }

    /// Its disk failed, for a while or for good: nothing can be read until it is opened again.
    fn is_closed(&self) -> bool {
        false
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// It was found damaged and can only be read any more, and not all of it.
    fn is_lost(&self) -> bool {
        false
    }

    /// Where its file is since it is lost.
    fn aside(&self) -> Option<PathBuf> {
        None
    }

    /// A new store in the place of a lost one, with those objects and bodies that can still be read, and nothing else.
    fn renewed(&self) -> Result<Arc<dyn Store>, StoreError> {
        Err(StoreError::InUse)
    }
}

/// What is said of a store that is lost.
pub(super) fn lost(store: &dyn Store) -> String {
    match store.aside() {
        Some(aside) => format!(
            "the store was damaged and was set aside as {}",
            aside.display()
        ),
        None => "the store was damaged".to_owned(),
    }
}

pub(super) type Each<'e> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'e;

#[cfg(test)]
mod tests;

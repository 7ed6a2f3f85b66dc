//! The last that was known of an object that is gone, as its DELETED event shows it.

use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use super::object::Stored;
use super::store::{Snapshot, Store, StoreError};
use super::wire;
use crate::request_info::GroupVersionResource;

#[derive(Clone)]
pub(super) enum Last {
    /// The event itself.
    Shown(Bytes),
    /// As it is stored; to be read before its row is overwritten or taken away, see [`Kept`].
    Stored(Arc<Kept>),
}

/// An object whose row is about to go. Whoever commits the batch that ends the row fills `object` before; so a state of the
/// store that was taken while it was empty still has the row.
pub(super) struct Kept {
    stored: Stored,
    resource: GroupVersionResource,
    resource_version: u64,
    /// `None` inside: it could not be read.
    object: OnceLock<Option<Bytes>>,
}

impl Last {
    pub(super) fn stored(
        stored: Stored,
        resource: GroupVersionResource,
        resource_version: u64,
    ) -> Self {
        Self::Stored(Arc::new(Kept {
            stored,
            resource,
            resource_version,
            object: OnceLock::new(),
        }))
    }

    /// Bytes in memory, about.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Shown(object) => object.len(),
            Self::Stored(kept) => kept.stored.len as usize,
        }
    }

    /// What a protobuf event is in JSON can be told.
    pub(super) fn has_json(&self) -> bool {
        match self {
            Self::Shown(object) => wire::open_envelope(object)
                .is_ok_and(|of| wire::has_json(&of.api_version, &of.kind, &of.raw)),
            Self::Stored(kept) => kept.stored.has_json,
        }
    }

    /// What is to be read before its row is gone.
    pub(super) fn unread(&self) -> Option<Weak<Kept>> {
        match self {
            Self::Stored(kept) if !kept.stored.is_at_hand() => Some(Arc::downgrade(kept)),
            _ => None,
        }
    }

    /// Reads the disk if it must, so: without the lock, and with a state of the store that was taken under it.
    pub(super) fn read(&self, snapshot: &dyn Snapshot) -> Result<Bytes, StoreError> {
        match self {
            Self::Shown(object) => Ok(object.clone()),
            Self::Stored(kept) => kept.read(snapshot),
        }
    }
}

impl Kept {
    fn read(&self, snapshot: &dyn Snapshot) -> Result<Bytes, StoreError> {
        if let Some(object) = self.object.get() {
            return (object.clone()).ok_or_else(|| {
                StoreError::Damaged("a deleted object's bytes are lost".to_owned())
            });
        }
        self.stored
            .read_at(snapshot, &self.resource, self.resource_version)
    }
}

/// Reads what is about to go from the store, while that is possible.
pub(super) fn fill(unread: &[Weak<Kept>], store: &dyn Store) {
    let unread: Vec<Arc<Kept>> = unread.iter().filter_map(Weak::upgrade).collect();
    if unread.is_empty() {
        return;
    }
    let snapshot = store.snapshot();
    for kept in unread {
        let read = match &snapshot {
            Ok(snapshot) => kept.read(snapshot.as_ref()).ok(),
            Err(_) => None,
        };
        if read.is_none() {
            tracing::debug!("the last of a deleted object could not be read");
        }
        // It is set here alone, and once.
        let _ = kept.object.set(read);
    }
}

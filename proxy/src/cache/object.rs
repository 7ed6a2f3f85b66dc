//! Objects on their way out of the store.

use std::sync::Arc;

use bytes::Bytes;

use super::facts::Fact;
use super::form::Form;
use super::key::{GroupResource, ObjectId, fact_key};
use super::record;
use super::rendering::Rendering;
use super::state::State;
use super::store::{Snapshot, StoreError, Table};
use super::wire;
use crate::request_info::GroupVersionResource;
use crate::request_info::accept::Encoding;

/// One object to be read. Made under the lock; what is not on the disk yet is at hand.
pub(super) struct Stored {
    pub(super) key: Vec<u8>,
    unwritten: Option<Bytes>,
    pub(super) form: Form,
    kind: Arc<str>,
    bare: bool,
    pub(super) has_json: bool,
    pub(super) len: u32,
}

impl Stored {
    pub(super) fn of(state: &State, resource: &GroupResource, id: &ObjectId, fact: &Fact) -> Self {
        let key = fact_key(resource, fact.state(), id);
        Self {
            unwritten: state.writes.get(Table::Objects, &key),
            key,
            form: fact.form,
            kind: fact.kind.clone(),
            bare: fact.bare,
            has_json: fact.has_json,
            len: fact.len,
        }
    }

    /// It as a list shows it. Reads the disk, so: without the lock.
    pub(super) fn told(
        &self,
        snapshot: &dyn Snapshot,
        resource: &GroupVersionResource,
        rendering: &Rendering,
    ) -> Result<Bytes, StoreError> {
        let object = match rendering.shows_type_meta(self.form) {
            true => self.read_whole(snapshot, resource)?,
            false => self.read(snapshot)?,
        };
        let told = rendering.item(self.form, object);
        told.map_err(|error| StoreError::Untold(error.to_string()))
    }

    /// It as a GET or an event shows it.
    pub(super) fn told_whole(
        &self,
        snapshot: &dyn Snapshot,
        resource: &GroupVersionResource,
        rendering: &Rendering,
        is_first: bool,
    ) -> Result<Bytes, StoreError> {
        let told = rendering.whole(self.form, self.read_whole(snapshot, resource)?, is_first);
        told.map_err(|error| StoreError::Untold(error.to_string()))
    }

    /// It can be read whatever becomes of the store.
    pub(super) fn is_at_hand(&self) -> bool {
        self.unwritten.is_some()
    }

    fn read(&self, snapshot: &dyn Snapshot) -> Result<Bytes, StoreError> {
        let stored = match &self.unwritten {
            Some(unwritten) => unwritten.clone(),
            None => snapshot
                .get(Table::Objects, &self.key)?
                .ok_or_else(|| StoreError::Damaged("an object's bytes are missing".to_owned()))?,
        };
        record::open("object", &self.key, &stored)?;
        let bytes = stored.slice(record::HEADER..);
        if bytes.len() != self.len as usize {
            return Err(StoreError::Damaged(
                "an object's bytes are not its own".to_owned(),
            ));
        }
        Ok(bytes)
    }

    /// With TypeMeta or envelope.
    pub(super) fn read_whole(
        &self,
        snapshot: &dyn Snapshot,
        resource: &GroupVersionResource,
    ) -> Result<Bytes, StoreError> {
        Ok(self.whole(self.read(snapshot)?, resource))
    }

    /// As [`read_whole`](Self::read_whole), with another resourceVersion.
    pub(super) fn read_at(
        &self,
        snapshot: &dyn Snapshot,
        resource: &GroupVersionResource,
        resource_version: u64,
    ) -> Result<Bytes, StoreError> {
        let bytes = self.read(snapshot)?;
        let changed = match self.form {
            Form::Row | Form::WholeRow => wire::row_with_resource_version(&bytes, resource_version),
            form => wire::with_resource_version(form.encoding(), &bytes, resource_version),
        };
        let changed = changed.map_err(|error| StoreError::Damaged(error.to_string()))?;
        Ok(self.whole(changed, resource))
    }

    fn whole(&self, bytes: Bytes, resource: &GroupVersionResource) -> Bytes {
        match self.form.encoding() {
            _ if !self.bare => bytes,
            Encoding::Json => {
                wire::with_type_meta(&bytes, &self.form.api_version(resource), &self.kind)
            }
            Encoding::Protobuf => {
                wire::envelope(&self.form.api_version(resource), &self.kind, &bytes)
            }
        }
    }
}

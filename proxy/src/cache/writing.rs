//! Writes down what is known, for the next start.

use bytes::Bytes;

use super::collection::{Change, Member};
use super::form::{Form, Forms};
use super::grants::{self, Grant, Granted};
use super::key::{GroupResource, ObjectId, member_key};
use super::later::Lane;
use super::record::{CollectionRecord, FactRecord};
use super::state::{Keeping, State};
use super::store::Table;
use super::{open, persist, record};
use crate::identity::ServiceAccount;
use crate::request_info::GroupVersionResource;

impl State {
    pub(super) fn grant(&mut self, caller: &ServiceAccount, granted: Granted, now: u64) {
        self.grant_as(caller, granted, None, now);
    }

    /// The form is that in which a scope is shown.
    pub(super) fn grant_as(
        &mut self,
        caller: &ServiceAccount,
        granted: Granted,
        form: Option<Form>,
        now: u64,
    ) {
        let grant = Grant {
            at: now,
            forms: form.map(Forms::only).unwrap_or_default(),
        };
        let changes = self.grants.grant(caller, granted, grant);
        self.write_grants(changes);
    }

    pub(super) fn write_grants(&mut self, changes: Vec<grants::Change>) {
        for change in changes {
            let (caller, granted, grant) = match &change {
                grants::Change::Put(caller, granted, grant) => (caller, granted, Some(*grant)),
                grants::Change::Remove(caller, granted) => (caller, granted, None),
            };
            // After a restart nothing is known of what was in memory only; and a Secret's name is not for the disk either.
            let resource = match granted {
                Granted::Scope(scope) => Some(&scope.resource),
                Granted::Object(object) | Granted::GetRefused(object) => Some(&object.resource),
                Granted::Path(_) => None,
            };
            if resource.is_some_and(|of| self.keeping(&GroupResource::of(of)) != Keeping::Disk) {
                continue;
            }
            let Ok(key) = record::encode(b"", &persist::grant_key(caller, granted)) else {
                continue;
            };
            match grant {
                Some(grant) => {
                    let record = persist::grant(grant);
                    self.put_record(Table::Grants, key.into(), &record);
                }
                None => self.writes.put(Table::Grants, key.into(), None),
            }
        }
    }

    pub(super) fn write_columns(&mut self, resource: &GroupVersionResource, columns: &[u8]) {
        let key = [open::COLUMNS, resource.to_string().as_bytes()].concat();
        self.put_record(Table::Meta, key, &persist::columns(resource, columns));
    }

    pub(super) fn write_changes(&mut self, id: u64, changes: Vec<Change>, now: u64) {
        let Some(collection) = self.collections.get(id) else {
            return;
        };
        let resource = GroupResource::of(&collection.scope.resource);
        for change in &changes {
            let (Change::Put(member, _) | Change::Remove(member)) = change;
            self.prune(&resource, member, now);
        }
        let Some(collection) = self.collections.get(id) else {
            return;
        };
        if !collection.complete || self.keeping(&resource) != Keeping::Disk {
            return;
        }
        let written = persist::collection(collection);
        self.put_collection(&resource, id, &written, changes.is_empty());
        for change in changes {
            let (member, as_) = match change {
                Change::Put(member, as_) => (member, Some(as_)),
                Change::Remove(member) => (member, None),
            };
            // An object that is there as before may have changed by a heartbeat alone.
            if as_.is_none_or(|as_| as_.added == as_.resource_version) {
                self.hurry(&resource);
            }
            self.put_member(&resource, id, &member, as_);
        }
    }

    /// `is_progress`: nothing is new but its RV, or when it was confirmed.
    fn put_collection(
        &mut self,
        of: &GroupResource,
        id: u64,
        written: &CollectionRecord,
        is_progress: bool,
    ) {
        let key: Vec<u8> = id.to_be_bytes().into();
        let Some(bytes) = encoded(&key, written) else {
            return;
        };
        match is_progress && !of.is_nodes() {
            true => (self.writes).put_later(Lane::Progress, Table::Collections, key, Some(bytes)),
            false => self.put_row(of, Table::Collections, key, Some(bytes)),
        }
    }

    fn put_member(&mut self, of: &GroupResource, id: u64, member: &ObjectId, as_: Option<Member>) {
        let key = member_key(id, member);
        let bytes = match as_.map(persist::member) {
            Some(written) => match encoded(&key, &written) {
                Some(bytes) => Some(bytes),
                None => return,
            },
            None => None,
        };
        self.put_row(of, Table::Members, key, bytes);
    }

    /// As a whole.
    pub(super) fn write_collection(&mut self, id: u64) {
        let Some(collection) = self.collections.get(id) else {
            return;
        };
        let of = GroupResource::of(&collection.scope.resource);
        let written = persist::collection(collection);
        let members: Vec<(ObjectId, Member)> = (collection.members().iter())
            .map(|(member, as_)| (member.clone(), *as_))
            .collect();
        self.put_collection(&of, id, &written, false);
        for (member, as_) in members {
            self.put_member(&of, id, &member, Some(as_));
        }
        self.hurry(&of);
    }

    /// What is written of a resource. All of Nodes goes together, so that what is on the disk of them is of one time.
    pub(super) fn put_row(
        &mut self,
        of: &GroupResource,
        table: Table,
        key: Vec<u8>,
        value: Option<Bytes>,
    ) {
        match of.is_nodes() {
            true => (self.writes).put_later(Lane::Heartbeats, table, key, value),
            false => self.writes.put(table, key, value),
        }
    }

    /// More than a heartbeat happened to this resource.
    pub(super) fn hurry(&mut self, of: &GroupResource) {
        if of.is_nodes() {
            self.writes.hurry(Lane::Heartbeats);
        }
    }

    pub(super) fn put_fact(&mut self, of: &GroupResource, key: Vec<u8>, fact: &FactRecord) {
        if let Some(bytes) = encoded(&key, fact) {
            self.put_row(of, Table::Facts, key, Some(bytes));
        }
    }

    pub(super) fn write_issuer_keys(&mut self) {
        let Some(keys) = &self.issuer_keys else {
            return;
        };
        let record = record::IssuerKeysRecord {
            issuer: keys.issuer.clone(),
            jwks: keys.jwks.clone(),
        };
        self.put_record(Table::Meta, open::ISSUER_KEYS.into(), &record);
    }

    pub(super) fn write_dark(&mut self) {
        let key = open::DARK.into();
        match self.dark {
            true => self.put_record(Table::Meta, key, &record::DarkRecord {}),
            false => self.writes.put(Table::Meta, key, None),
        }
    }

    pub(super) fn put_record<T: record::Record>(&mut self, table: Table, key: Vec<u8>, value: &T) {
        if let Some(bytes) = encoded(&key, value) {
            self.writes.put(table, key, Some(bytes));
        }
    }
}

pub(super) fn encoded<T: record::Record>(key: &[u8], value: &T) -> Option<Bytes> {
    let encoded = record::encode(key, value);
    encoded
        .inspect_err(|error| tracing::error!(%error, "a record could not be written"))
        .ok()
}

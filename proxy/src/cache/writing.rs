//! Writes down what is known, for the next start.

use super::collection::Change;
use super::grants::{self, Granted};
use super::key::{GroupResource, member_key};
use super::state::{Keeping, State};
use super::store::Table;
use super::{open, persist, record};
use crate::identity::ServiceAccount;
use crate::request_info::GroupVersionResource;

impl State {
    pub(super) fn grant(&mut self, caller: &ServiceAccount, granted: Granted, now: u64) {
        let changes = self.grants.grant(caller, granted, now);
        self.write_grants(changes);
    }

    pub(super) fn write_grants(&mut self, changes: Vec<grants::Change>) {
        for change in changes {
            let (caller, granted, at) = match &change {
                grants::Change::Put(caller, granted, at) => (caller, granted, Some(*at)),
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
            match at {
                Some(at) => self.put_record(Table::Grants, key.into(), &record::GrantRecord { at }),
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
        self.put_record(Table::Collections, id.to_be_bytes().into(), &written);
        for change in changes {
            match change {
                Change::Put(member, as_) => {
                    self.put_record(
                        Table::Members,
                        member_key(id, &member),
                        &persist::member(as_),
                    );
                }
                Change::Remove(member) => {
                    self.writes
                        .put(Table::Members, member_key(id, &member), None)
                }
            }
        }
    }

    pub(super) fn put_record<T: record::Record>(&mut self, table: Table, key: Vec<u8>, value: &T) {
        match record::encode(&key, value) {
            Ok(bytes) => self.writes.put(table, key, Some(bytes)),
            Err(error) => tracing::error!(%error, "a record could not be written"),
        }
    }
}

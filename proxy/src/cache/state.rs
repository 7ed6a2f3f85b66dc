//! All that is known, and the rules that tie it together: what an object, a list, an event or a refusal proves about the rest.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::collection::{Change, Collection, Event, What};
use super::collections::Collections;
use super::columns::Columns;
use super::facts::{Fact, Facts, Upsert};
use super::form::Form;
use super::grants::{Granted, Grants};
use super::key::{GroupResource, ObjectId, fact_key, is_unfiltered, member_key, response_key};
use super::last::Kept;
use super::own_writes::OwnWrites;
use super::pages::{MAX_CHAIN_AGE, Pages, PartialList};
use super::responses::{ResponseFact, ResponseKey, Responses};
use super::restored::Restores;
use super::shown::Shown;
use super::store::{Store, Table};
use super::traits::Traits;
use super::writes::Writes;
use super::{open, persist, record, wire};
use crate::config::Secrets;
use crate::identity::{IssuerKeys, ServiceAccount};
use crate::request_info::{GroupVersionResource, ObjectKey, Scope};

/// Why something was not learnt. The caller's bytes were not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotLearnt {
    /// Not what the upstream said it was, or cut off.
    Malformed,
    /// Another kind or version than was asked for.
    OtherRepresentation,
    /// Something it holds was forgotten while it was being read.
    Overtaken,
    /// More than the cache was told to hold.
    Full,
    /// Its caller, or all together, have as many collections as may be, and streams keep them up.
    TooManyCollections,
    /// The disk is slower than the upstream.
    Lagging,
}

impl NotLearnt {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::OtherRepresentation => "OtherRepresentation",
            Self::Overtaken => "Overtaken",
            Self::Full => "Full",
            Self::TooManyCollections => "TooManyCollections",
            Self::Lagging => "Lagging",
        }
    }
}

/// Where the objects of a resource may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeping {
    Disk,
    Memory,
    Never,
}

/// One object, as it is to be stored.
pub(super) struct Object<'o> {
    pub(super) id: &'o ObjectId,
    pub(super) form: Form,
    pub(super) uid: &'o str,
    pub(super) resource_version: u64,
    pub(super) kind: &'o str,
    pub(super) bare: bool,
    pub(super) labels: &'o [(String, String)],
    pub(super) bytes: &'o Bytes,
    pub(super) seen: Seen,
}

impl Object<'_> {
    /// See [`Fact`]. Found out once, here: whoever asks for JSON must know before an answer begins.
    fn has_json(&self, resource: &GroupVersionResource) -> bool {
        let api_version = self.form.api_version(resource);
        self.form != Form::PROTOBUF || wire::has_json(&api_version, self.kind, self.bytes)
    }
}

/// How an object was seen: what that makes of a state that is not, or no longer, its newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// In an answer about it alone: only the newest is of use.
    Alone,
    /// In a list that is still being read, and needs it as it is there.
    Listed,
    /// In an event, which its collection takes in next.
    Streamed,
}

pub(super) struct State {
    pub(super) facts: Facts,
    pub(super) collections: Collections,
    pub(super) pages: Pages,
    pub(super) grants: Grants,
    pub(super) own_writes: OwnWrites,
    pub(super) shown: Shown,
    pub(super) restores: Restores,
    pub(super) responses: Responses,
    pub(super) columns: Columns,
    pub(super) issuer_keys: Option<IssuerKeys>,
    pub(super) writes: Writes,
    /// Objects that are to be read before what waits in `writes` is written: it takes them away.
    pub(super) unread: Vec<Weak<Kept>>,
    pub(super) store: Arc<dyn Store>,
    secrets: Secrets,
    max_bytes: u64,
    /// Something was turned away because `max_bytes` is reached.
    pub(super) is_full: bool,
    last_feed: u64,
}

impl State {
    pub(super) fn new(store: Arc<dyn Store>, secrets: Secrets, max_bytes: u64) -> Self {
        Self {
            facts: Facts::default(),
            collections: Collections::default(),
            pages: Pages::default(),
            grants: Grants::default(),
            own_writes: OwnWrites::default(),
            shown: Shown::default(),
            restores: Restores::default(),
            responses: Responses::default(),
            columns: Columns::default(),
            issuer_keys: None,
            writes: Writes::default(),
            unread: Vec::new(),
            store,
            secrets,
            max_bytes,
            is_full: false,
            last_feed: 0,
        }
    }

    pub(super) fn keeping(&self, resource: &GroupResource) -> Keeping {
        match self.secrets {
            Secrets::Never if resource.is_secrets() => Keeping::Never,
            Secrets::Memory if resource.is_secrets() => Keeping::Memory,
            _ if resource.is_heartbeat() => Keeping::Memory,
            _ => Keeping::Disk,
        }
    }

    // --- what the upstream said ---

    /// An object was seen. Never backwards: an older state is kept for the collections that hold it, and told by them alone.
    pub(super) fn learn_object(
        &mut self,
        resource: &GroupVersionResource,
        object: &Object<'_>,
        now: u64,
    ) -> Result<Upsert, NotLearnt> {
        let of = GroupResource::of(resource);
        let keeping = self.keeping(&of);
        let known_as = (resource.version.as_str(), object.form);
        let judged = self
            .facts
            .judge(&of, object.id, known_as, object.resource_version);
        let state = (known_as.0, known_as.1, object.resource_version);
        let is_held = judged != Upsert::Stored && object.seen != Seen::Alone;
        if is_held && self.facts.at(&of, object.id, state).is_some() {
            if object.seen == Seen::Listed {
                (self.facts).listed(&of, object.id, state, now + MAX_CHAIN_AGE);
            }
            return Ok(judged);
        }
        if keeping == Keeping::Never || !(judged == Upsert::Stored || is_held) {
            self.confirm(&of, object, state, now);
            return Ok(judged);
        }
        let len = self.room_for(object.bytes.len(), keeping)?;
        let traits = self.traits(&of, object)?;
        let fact = Fact {
            version: self.facts.word(&resource.version),
            form: object.form,
            uid: object.uid.into(),
            resource_version: object.resource_version,
            kind: self.facts.word(object.kind),
            bare: object.bare,
            has_json: object.has_json(resource),
            len,
            learnt: now,
            confirmed: now,
            traits,
            listed_until: match object.seen {
                Seen::Listed => now + MAX_CHAIN_AGE,
                Seen::Alone | Seen::Streamed => 0,
            },
        };
        let key = fact_key(&of, state, object.id);
        let bytes = record::seal(&key, object.bytes);
        if keeping == Keeping::Memory {
            self.writes.put_volatile(key, Some(bytes));
        } else {
            self.put_record(Table::Facts, key.clone(), &persist::fact(&fact));
            self.writes.put(Table::Objects, key, Some(bytes));
        }
        self.facts.insert(&of, object.id.clone(), fact);
        if object.seen != Seen::Streamed {
            self.prune(&of, object.id, now);
        }
        Ok(judged)
    }

    /// An answer about an object alone showed what is known: it is as old as that answer.
    fn confirm(
        &mut self,
        of: &GroupResource,
        object: &Object<'_>,
        state: super::key::StateName<'_>,
        now: u64,
    ) {
        let keeping = self.keeping(of);
        let confirmed = self.facts.confirm(of, object.id, state, now);
        if let Some(written) = confirmed.map(persist::fact)
            && keeping == Keeping::Disk
        {
            self.put_record(Table::Facts, fact_key(of, state, object.id), &written);
        }
    }

    /// Forgets the older states of an object that nothing holds any more.
    pub(super) fn prune(&mut self, resource: &GroupResource, id: &ObjectId, now: u64) {
        for fact in self.facts.outdated(resource, id, now) {
            let is_held = self
                .collections
                .of(resource)
                .any(|(_, collection)| collection.holds(id, fact.state()));
            if !is_held {
                self.forget(resource, id, fact.state());
            }
        }
    }

    fn traits(
        &mut self,
        resource: &GroupResource,
        object: &Object<'_>,
    ) -> Result<Traits, NotLearnt> {
        let labels = object.labels.iter();
        let labels = labels.map(|(name, value)| (name.as_str(), value.as_str()));
        let fields = match object.form {
            Form::Object(encoding) => {
                let of = (resource.group.as_str(), resource.resource.as_str());
                wire::read_fields(of.0, of.1, encoding, object.bytes, object.bare)
                    .map_err(|_| NotLearnt::Malformed)?
            }
            Form::Metadata(_) | Form::Row | Form::WholeRow | Form::Yaml => Vec::new(),
        };
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        Ok(self.facts.traits(labels, fields))
    }

    fn room_for(&mut self, bytes: usize, keeping: Keeping) -> Result<u32, NotLearnt> {
        let held = self.facts.bytes() + self.responses.bytes();
        if held + bytes as u64 > self.max_bytes {
            self.is_full = true;
            return Err(NotLearnt::Full);
        }
        // Not at the first byte that fits again: what is told as full should not flicker.
        self.is_full &= held > self.max_bytes / 10 * 9;
        if !self.writes.has_room(bytes, keeping == Keeping::Memory) {
            return Err(NotLearnt::Lagging);
        }
        u32::try_from(bytes).map_err(|_| NotLearnt::Full)
    }

    /// A list was read to its end: it is the collection now, unless more is known already; and what it does not hold is gone.
    pub(super) fn commit_list(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
        mut list: PartialList,
        now: u64,
    ) -> Result<(), NotLearnt> {
        let resource = GroupResource::of(&scope.resource);
        let known_as = (scope.resource.version.as_str(), form);
        let mut is_whole = true;
        list.members.retain(|id, seen| {
            let state = (known_as.0, known_as.1, *seen);
            let is_known = self.facts.at(&resource, id, state).is_some();
            // Its bytes are lost, and a list without it would say that it is gone.
            is_whole &= is_known;
            is_known
        });
        if !is_whole {
            return Err(NotLearnt::Overtaken);
        }
        let id = self.collection(caller, scope, form, &list)?;
        let resource_version = list.resource_version;
        let gone = self.lost(id, &list);
        let changes = self.collections.get_mut(id).and_then(|collection| {
            collection.commit(list.members.clone(), resource_version, now, gone)
        });
        for (member, seen) in &list.members {
            let state = (known_as.0, known_as.1, *seen);
            self.facts.listed(&resource, member, state, 0);
        }
        let Some(changes) = changes else {
            for member in list.members.keys() {
                self.prune(&resource, member, now);
            }
            return Ok(());
        };
        self.bound_deletions();
        self.write_changes(id, changes, now);
        if is_unfiltered(scope) {
            self.sweep(scope, &list.members, resource_version, now);
            return Ok(());
        }
        match self.bound_filtered().contains(&id) {
            true => Err(NotLearnt::Full),
            false => Ok(()),
        }
    }

    /// Gives up filtered collections until they hold no more than they may together; says which.
    fn bound_filtered(&mut self) -> Vec<u64> {
        let mut given_up = Vec::new();
        while let Some(id) = self.collections.too_large() {
            self.give_up(id);
            if self.collections.get(id).is_some_and(|c| !c.is_fed()) {
                self.collections.remove(id);
            }
            given_up.push(id);
        }
        given_up
    }

    /// The id of the collection of this scope, which is made if there is room.
    fn collection(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
        list: &PartialList,
    ) -> Result<u64, NotLearnt> {
        if let Some(id) = self.collections.id(scope, form)
            && let Some(collection) = self.collections.get_mut(id)
        {
            collection.asked_for_by(caller);
            if !list.kind.is_empty() {
                collection.kind = list.kind.clone();
                if !list.list_kind.is_empty() {
                    collection.list_kind = list.list_kind.clone();
                }
            }
            return Ok(id);
        }
        if let Some(crowded) = self.collections.crowded(caller) {
            let id = self.collections.least_useful(crowded);
            let id = id.ok_or(NotLearnt::TooManyCollections)?;
            self.give_up(id);
            self.collections.remove(id);
        }
        let (kind, list_kind) = (list.kind.clone(), list.list_kind.clone());
        let mut collection = Collection::new(scope.clone(), form, kind, list_kind);
        collection.asked_for_by(caller);
        Ok(self.collections.insert(collection))
    }

    /// The bytes of a fact cannot be read: it is as if it had never been seen, and what it belongs to is complete no more.
    pub(super) fn lose(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: super::key::StateName<'_>,
    ) {
        self.forget(resource, id, state);
        self.give_up_unsound(resource);
    }

    fn forget(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: super::key::StateName<'_>,
    ) {
        if self.facts.lose(resource, id, state) {
            self.unwrite(resource, id, state);
        }
    }

    /// A fact is known no more, neither is it where it was kept.
    pub(super) fn unwrite(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: super::key::StateName<'_>,
    ) {
        let key = fact_key(resource, state, id);
        self.writes.put_volatile(key.clone(), None);
        if self.keeping(resource) == Keeping::Disk {
            self.writes.put(Table::Facts, key.clone(), None);
            self.writes.put(Table::Objects, key, None);
        }
    }

    /// Whether the upstream let this caller GET the object, or read a scope that it is in.
    pub(super) fn may_get(
        &self,
        caller: &ServiceAccount,
        object: &ObjectKey,
        id: &ObjectId,
    ) -> bool {
        let resource = GroupResource::of(&object.resource);
        let is_member = |scope: &Scope| {
            let mut collections = self.collections.of(&resource);
            collections.any(|(_, c)| c.scope == *scope && c.contains(id))
        };
        self.grants.covers_object(caller, object, is_member)
    }

    /// Gives up the collections of a resource that hold a member without its fact.
    pub(super) fn give_up_unsound(&mut self, resource: &GroupResource) {
        for id in self.collections.ids_of(resource) {
            let is_sound = self.collections.get(id).is_none_or(|collection| {
                let mut members = collection.members().iter();
                members.all(|(id, member)| {
                    let held = collection.state(member);
                    self.facts.at(resource, id, held).is_some()
                })
            });
            if !is_sound {
                self.give_up(id);
            }
        }
    }

    /// A GET of the object was answered 404: what was known of it in that version is forgotten, but for what a collection vouches for.
    ///
    /// The answer has no RV. It may be older than what a stream showed since, and it may mean that the version is not served (any more, or yet):
    /// so it proves no deletion. A collection hears of those by itself, and its content is true at its RV.
    pub(super) fn object_missing(&mut self, object: &ObjectKey) {
        let Some(id) = ObjectId::of(object) else {
            return;
        };
        let resource = GroupResource::of(&object.resource);
        let facts = self.facts.get(&resource, &id).iter();
        let of_version = facts.filter(|fact| *fact.version == *object.resource.version);
        for fact in of_version.cloned().collect::<Vec<_>>() {
            let is_held = self.collections.of(&resource).any(|(_, collection)| {
                collection.scope.resource == object.resource
                    && collection.form == fact.form
                    && collection.may_hold(&id)
            });
            if !is_held {
                self.forget(&resource, &id, fact.state());
            }
        }
    }

    /// A response that is no resource's, whole.
    pub(super) fn learn_response(
        &mut self,
        key: ResponseKey,
        mut fact: ResponseFact,
        body: &[u8],
    ) -> Result<(), NotLearnt> {
        fact.len = self.room_for(body.len(), Keeping::Disk)?;
        let stored = response_key(&key.path, &key.accept);
        self.put_record(
            Table::Responses,
            stored.clone(),
            &persist::response(&key, &fact),
        );
        let sealed = record::seal(&stored, body);
        self.writes.put(Table::Bodies, stored, Some(sealed));
        for dropped in self.responses.insert(key, fact) {
            let stored = response_key(&dropped.path, &dropped.accept);
            self.writes.put(Table::Responses, stored.clone(), None);
            self.writes.put(Table::Bodies, stored, None);
        }
        Ok(())
    }

    /// A response that is known is still the current one.
    pub(super) fn confirm_response(&mut self, key: ResponseKey, etag: &str, now: u64) {
        if let Some(fact) = self.responses.confirm(&key, etag, now) {
            let stored = response_key(&key.path, &key.accept);
            self.put_record(Table::Responses, stored, &persist::response(&key, &fact));
        }
    }

    /// The columns that a Table of the resource has.
    pub(super) fn learn_columns(&mut self, resource: &GroupVersionResource, columns: &Bytes) {
        if self.columns.insert(resource, columns) {
            self.write_columns(resource, columns);
        }
    }

    pub(super) fn write_columns(&mut self, resource: &GroupVersionResource, columns: &[u8]) {
        let key = [open::COLUMNS, resource.to_string().as_bytes()].concat();
        self.put_record(Table::Meta, key, &persist::columns(resource, columns));
    }

    // --- streams ---

    /// A stream on this scope starts; its id, and that of its collection.
    pub(super) fn attach(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
        from: u64,
    ) -> Result<(u64, u64), NotLearnt> {
        let collection = self.collection(caller, scope, form, &PartialList::default())?;
        self.last_feed += 1;
        let feed = self.last_feed;
        if let Some(known) = self.collections.get_mut(collection) {
            known.attach(feed, from);
        }
        Ok((collection, feed))
    }

    pub(super) fn detach(&mut self, collection: u64, feed: u64) {
        let Some(known) = self.collections.get_mut(collection) else {
            return;
        };
        known.detach(feed);
        if !known.complete && !known.is_fed() {
            self.collections.remove(collection);
        }
    }

    pub(super) fn observe(&mut self, collection: u64, feed: u64, event: Event, now: u64) {
        let Some(known) = self.collections.get_mut(collection) else {
            return;
        };
        let before = (known.resource_version, known.confirmed);
        let members = known.members().len();
        let is_deletion = matches!(event.what, What::Deleted(..));
        let changes = known.observe(feed, event, now);
        let has_grown = known.members().len() > members && !is_unfiltered(&known.scope);
        if (known.resource_version, known.confirmed) != before {
            self.write_changes(collection, changes, now);
        }
        if has_grown {
            self.bound_filtered();
        }
        if is_deletion {
            self.bound_deletions();
        }
    }

    /// What can no longer be kept up must not be served, now or after a restart.
    pub(super) fn give_up(&mut self, id: u64) {
        let Some(collection) = self.collections.get_mut(id) else {
            return;
        };
        let on_disk = collection.complete;
        let resource = GroupResource::of(&collection.scope.resource);
        let members: Vec<ObjectId> = collection.members().keys().cloned().collect();
        collection.give_up();
        if on_disk {
            self.writes
                .put(Table::Collections, id.to_be_bytes().into(), None);
            for member in &members {
                self.writes
                    .put(Table::Members, member_key(id, member), None);
            }
        }
        for member in &members {
            self.prune(&resource, member, 0);
        }
    }

    // --- grants ---

    pub(super) fn grant(&mut self, caller: &ServiceAccount, granted: Granted, now: u64) {
        let changes = self.grants.grant(caller, granted, now);
        self.write_grants(changes);
    }

    pub(super) fn write_grants(&mut self, changes: Vec<super::grants::Change>) {
        for change in changes {
            let (caller, granted, at) = match &change {
                super::grants::Change::Put(caller, granted, at) => (caller, granted, Some(*at)),
                super::grants::Change::Remove(caller, granted) => (caller, granted, None),
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

    // --- writing ---

    fn write_changes(&mut self, id: u64, changes: Vec<Change>, now: u64) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::memory::MemoryStore;
    use crate::request_info::GroupVersionResource;

    const OBJECTS: usize = 90_000;

    fn scope(label_selector: &str) -> Scope {
        Scope {
            resource: GroupVersionResource {
                group: String::new(),
                version: "v1".to_owned(),
                resource: "pods".to_owned(),
            },
            namespace: None,
            label_selector: label_selector.to_owned(),
            field_selector: String::new(),
        }
    }

    fn id(n: usize) -> ObjectId {
        ObjectId::new("a", &n.to_string()).expect("a name")
    }

    fn state() -> State {
        let store = Arc::new(MemoryStore::default());
        let mut state = State::new(store, Secrets::Memory, 1 << 30);
        let pods = GroupResource::of(&scope("").resource);
        for n in 0..OBJECTS {
            let fact = Fact {
                version: "v1".into(),
                form: Form::JSON,
                uid: "".into(),
                resource_version: 1,
                kind: "Pod".into(),
                bare: true,
                has_json: true,
                len: 2,
                learnt: 0,
                confirmed: 0,
                traits: Traits::default(),
                listed_until: 0,
            };
            state.facts.insert(&pods, id(n), fact);
        }
        state
    }

    fn list(state: &mut State, scope: &Scope, objects: usize, now: u64) -> Result<(), NotLearnt> {
        let caller = ServiceAccount {
            namespace: "a".to_owned(),
            name: "x".to_owned(),
            uid: "1".to_owned(),
        };
        let list = PartialList {
            members: (0..objects).map(|n| (id(n), 1)).collect(),
            resource_version: 10 + now,
            ..PartialList::default()
        };
        state.commit_list(&caller, scope, Form::JSON, list, now)
    }

    #[test]
    fn the_members_of_filtered_collections_are_bounded_and_the_small_ones_stay() {
        let mut state = state();
        let listed = |state: &State, selector: &str| {
            let id = state.collections.id(&scope(selector), Form::JSON);
            id.is_some_and(|id| state.collections.get(id).is_some_and(|c| c.complete))
        };
        list(&mut state, &scope(""), OBJECTS, 0).expect("learnt");
        list(&mut state, &scope("mine"), 10, 0).expect("learnt");
        for n in 1..=4 {
            let invented = scope(&format!("x!={n}"));
            list(&mut state, &invented, OBJECTS, n).expect("learnt");
        }
        let members = state.collections.all().map(|(_, c)| c.members().len());
        assert_eq!(members.sum::<usize>(), 3 * OBJECTS + 10);
        for (selector, expected) in [("", true), ("mine", true), ("x!=1", false), ("x!=4", true)] {
            assert_eq!(listed(&state, selector), expected, "{selector}");
        }
    }
}

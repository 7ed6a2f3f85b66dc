//! All that is known, and the rules that tie it together: what an object, a list, an event or a refusal proves about the rest.

use std::num::NonZeroU64;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::collection::Collection;
use super::collections::Collections;
use super::columns::Columns;
use super::evict::Pressure;
use super::facts::{Fact, Facts, Upsert};
use super::form::Form;
use super::given_up::GivenUp;
use super::grants::Grants;
use super::key::{GroupResource, ObjectId, StateName, fact_key, is_unfiltered};
use super::last::Kept;
use super::least_rvs::LeastRvs;
use super::pages::{MAX_CHAIN_AGE, Pages, PartialList};
use super::responses::Responses;
use super::restored::Restores;
use super::shares::Callers;
use super::shown::Shown;
use super::store::{Store, Table};
use super::traits::Traits;
use super::writes::Writes;
use super::{persist, record, wire};
use crate::config::Secrets;
use crate::identity::{IssuerKeys, ServiceAccount};
use crate::request_info::accept::Encoding;
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
    /// The answer was good, and its caller has it.
    pub(super) fn is_our_own(self) -> bool {
        match self {
            Self::Malformed | Self::OtherRepresentation => false,
            Self::Overtaken | Self::Full | Self::TooManyCollections | Self::Lagging => true,
        }
    }

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
    /// Who asked for it.
    pub(super) by: &'o ServiceAccount,
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

impl Object<'_> {
    fn unbeaten(&self) -> Option<NonZeroU64> {
        let (Form::Object(encoding) | Form::Metadata(encoding)) = self.form else {
            return None;
        };
        wire::without_heartbeat(encoding, self.bytes)
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
    /// What each caller wrote lately.
    pub(super) own_writes: LeastRvs,
    /// What a GET, or the answer to a write, has shown each caller, and lists may not know yet.
    pub(super) read_alone: LeastRvs,
    pub(super) shown: Shown,
    pub(super) restores: Restores,
    pub(super) responses: Responses,
    pub(super) columns: Columns,
    pub(super) issuer_keys: Option<IssuerKeys>,
    /// The uplink is down, or was when the process before this one ended.
    pub(super) dark: bool,
    pub(super) writes: Writes,
    /// Objects that are to be read before what waits in `writes` is written: it takes them away.
    pub(super) unread: Vec<Weak<Kept>>,
    pub(super) store: Arc<dyn Store>,
    secrets: Secrets,
    pub(super) max_bytes: u64,
    /// Something was turned away because `max_bytes` is reached, and nothing was left to give way.
    pub(super) is_full: bool,
    pub(super) callers: Callers,
    pub(super) given_up: GivenUp,
    pub(super) pressure: Pressure,
    pub(super) last_feed: u64,
}

impl State {
    pub(super) fn new(store: Arc<dyn Store>, secrets: Secrets, max_bytes: u64) -> Self {
        Self {
            facts: Facts::default(),
            collections: Collections::default(),
            pages: Pages::default(),
            grants: Grants::default(),
            own_writes: LeastRvs::default(),
            read_alone: LeastRvs::default(),
            shown: Shown::default(),
            restores: Restores::default(),
            responses: Responses::default(),
            columns: Columns::default(),
            issuer_keys: None,
            dark: false,
            writes: Writes::default(),
            unread: Vec::new(),
            store,
            secrets,
            max_bytes,
            is_full: false,
            callers: Callers::default(),
            given_up: GivenUp::default(),
            pressure: Pressure::default(),
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
        let learnt = self.learn_state(resource, &of, object, now);
        if learnt.map_or_else(NotLearnt::is_our_own, |_| true) && object.seen == Seen::Alone {
            self.note_read_alone(object.by, (&of, object.id), object.resource_version);
        }
        if learnt.is_err_and(NotLearnt::is_our_own) && object.seen == Seen::Alone {
            // It was shown all the same: what is known of it is too old for its caller.
            let shown = object.resource_version;
            self.note_object(object.by, (&of, object.id), shown);
        }
        self.used_object(object.by, &of, object.id, now);
        learnt
    }

    fn learn_state(
        &mut self,
        resource: &GroupVersionResource,
        of: &GroupResource,
        object: &Object<'_>,
        now: u64,
    ) -> Result<Upsert, NotLearnt> {
        let keeping = self.keeping(of);
        let known_as = (resource.version.as_str(), object.form);
        let judged = self
            .facts
            .judge(of, object.id, known_as, object.resource_version);
        let state = (known_as.0, known_as.1, object.resource_version);
        let is_held = judged != Upsert::Stored && object.seen != Seen::Alone;
        if is_held && self.facts.at(of, object.id, state).is_some() {
            if object.seen == Seen::Listed {
                (self.facts).listed(of, object.id, state, now + MAX_CHAIN_AGE);
            }
            return Ok(judged);
        }
        if keeping == Keeping::Never || !(judged == Upsert::Stored || is_held) {
            self.confirm(of, object, state, now);
            return Ok(judged);
        }
        let len = self.room_for(object.bytes.len(), keeping, now)?;
        let traits = self.traits(of, object)?;
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
            unbeaten: match of.is_nodes() {
                true => object.unbeaten(),
                false => None,
            },
            listed_until: match object.seen {
                Seen::Listed => now + MAX_CHAIN_AGE,
                Seen::Alone | Seen::Streamed => 0,
            },
        };
        let key = fact_key(of, state, object.id);
        let bytes = record::seal(&key, object.bytes);
        if keeping == Keeping::Memory {
            self.writes.put_volatile(key, Some(bytes));
        } else {
            if !self.is_heartbeat(of, object.id, &fact) {
                self.hurry(of);
            }
            self.put_fact(of, key.clone(), &persist::fact(&fact));
            self.put_row(of, Table::Objects, key, Some(bytes));
        }
        self.facts.insert(of, object.id.clone(), fact);
        if object.seen != Seen::Streamed {
            self.prune(of, object.id, now);
        }
        Ok(judged)
    }

    /// A Node that has nothing new but what a kubelet's heartbeat changes.
    fn is_heartbeat(&self, of: &GroupResource, id: &ObjectId, fact: &Fact) -> bool {
        let before = self.facts.find(of, id, &fact.version, fact.form);
        let before = before.filter(|before| before.resource_version < fact.resource_version);
        before.is_some_and(|before| before.unbeaten.is_some() && before.unbeaten == fact.unbeaten)
    }

    /// An answer about an object alone showed what is known: it is as old as that answer.
    fn confirm(&mut self, of: &GroupResource, object: &Object<'_>, state: StateName<'_>, now: u64) {
        let keeping = self.keeping(of);
        let confirmed = self.facts.confirm(of, object.id, state, now);
        if let Some(written) = confirmed.map(persist::fact)
            && keeping == Keeping::Disk
        {
            self.put_fact(of, fact_key(of, state, object.id), &written);
        }
    }

    /// Looks through what is to be kept of an object, to its last byte. Rows and YAML were, to get here.
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
            Form::Metadata(Encoding::Json) => {
                wire::check_json(object.bytes, object.bare).map_err(|_| NotLearnt::Malformed)?;
                Vec::new()
            }
            Form::Metadata(Encoding::Protobuf) | Form::Row | Form::WholeRow | Form::Yaml => {
                Vec::new()
            }
        };
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        Ok(self.facts.traits(labels, fields))
    }

    /// A list was read to its end: it is the collection now, unless more is known already; and what it does not hold is gone.
    pub(super) fn commit_list(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
        list: PartialList,
        now: u64,
    ) -> Result<(), NotLearnt> {
        let resource = GroupResource::of(&scope.resource);
        let known_as = (scope.resource.version.as_str(), form);
        let id = self.collection(caller, scope, form, &list, now)?;
        let is_known = |(id, seen): (&ObjectId, &u64)| {
            let state = (known_as.0, known_as.1, *seen);
            self.facts.at(&resource, id, state).is_some()
        };
        if !list.members.iter().all(is_known) {
            // Some of its bytes are lost, and a list without them would say that those objects are gone.
            self.drop_empty(id);
            return Err(NotLearnt::Overtaken);
        }
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
            let is_member = |id: &ObjectId| list.members.contains_key(id);
            self.sweep(scope, is_member, resource_version, now);
            return Ok(());
        }
        match self.bound_filtered(now).contains(&id) {
            true => Err(NotLearnt::Full),
            false => Ok(()),
        }
    }

    /// The id of the collection of this scope, which is made if there is room.
    pub(super) fn collection(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
        list: &PartialList,
        now: u64,
    ) -> Result<u64, NotLearnt> {
        if let Some(id) = self.collections.id(scope, form)
            && let Some(collection) = self.collections.get_mut(id)
        {
            if !list.kind.is_empty() {
                collection.kind = list.kind.clone();
                if !list.list_kind.is_empty() {
                    collection.list_kind = list.list_kind.clone();
                }
            }
            self.used_collection(caller, id, now);
            return Ok(id);
        }
        if let Some(crowded) = self.collections.crowded(caller) {
            let id = self.collections.least_useful(crowded);
            let id = id.ok_or(NotLearnt::TooManyCollections)?;
            self.let_go(id, now);
        }
        let (kind, list_kind) = (list.kind.clone(), list.list_kind.clone());
        let mut collection = Collection::new(scope.clone(), form, kind, list_kind);
        collection.used_by(caller, true, now);
        Ok(self.collections.insert(collection))
    }

    /// A collection of which nothing came to be known.
    pub(super) fn drop_empty(&mut self, id: u64) {
        let known = self.collections.get(id);
        if known.is_some_and(|known| !known.complete && !known.is_fed()) {
            self.collections.remove(id);
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

    /// The columns that a Table of the resource has.
    pub(super) fn learn_columns(&mut self, resource: &GroupVersionResource, columns: &Bytes) {
        if self.columns.insert(resource, columns) {
            self.write_columns(resource, columns);
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
                unbeaten: None,
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

//! Facts: objects as the upstream sent them, each stored once whoever asked. This is what is known of them; their bytes are in the store.
//!
//! An object's newest state is kept, and each older one that a collection holds: a list is told as of its own RV, however far
//! other answers and streams are ahead of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU64;
use std::ops::Bound;
use std::sync::Arc;

use super::form::Form;
use super::key::{self, GroupResource, ObjectId};
use super::shares::{Owner, Shares};
use super::traits::{Interner, Traits};

/// Deletions remembered, so that an older answer still on its way cannot bring an object back: far more than die in the seconds an answer takes.
const MAX_GONE: usize = 8192;

/// That an object is still the same is written this often, in seconds: often enough for its age to mean something after a
/// restart, rarely enough for a disk.
const WRITE_AFTER: u64 = 600;

/// Older states of one object that lists under way may hold. A list that comes to lack one is not learnt; more would let a
/// client that lists and changes an object in turn fill the cache with it.
const MAX_LISTED: usize = 8;

/// One state of an object, in one version and form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) version: Arc<str>,
    pub(super) form: Form,
    pub(super) uid: Box<str>,
    pub(super) resource_version: u64,
    pub(super) kind: Arc<str>,
    /// The stored bytes have no TypeMeta (JSON) or no envelope (protobuf).
    pub(super) bare: bool,
    /// What it is in JSON can be told.
    pub(super) has_json: bool,
    /// Of the stored bytes.
    pub(super) len: u32,
    /// When the upstream last showed it, as it is written; Unix seconds.
    pub(super) learnt: u64,
    /// As it is known: brought up to date at every answer that shows it.
    pub(super) confirmed: u64,
    pub(super) traits: Traits,
    /// Of a Node: a hash of all but what a kubelet's heartbeat changes.
    pub(super) unbeaten: Option<NonZeroU64>,
    /// A list that holds it is still being read; given up at this time, in Unix seconds. 0: none is.
    pub(super) listed_until: u64,
}

/// What became of a fact that was to be learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upsert {
    /// It is new, or newer than what was known: its bytes are to be written.
    Stored,
    /// At least as new a one was known.
    Known,
    /// The object is known to be deleted since.
    Gone,
}

impl Fact {
    pub(super) fn state(&self) -> key::StateName<'_> {
        (&self.version, self.form, self.resource_version)
    }
}

/// What is known of one object.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// In all versions, encodings and states.
    pub(super) facts: Vec<Fact>,
    /// When a caller last asked for it; Unix seconds.
    pub(super) used: u64,
    /// Of those that used it, the one that held least.
    pub(super) owner: Owner,
}

impl Known {
    pub(super) fn bytes(&self) -> u64 {
        self.facts.iter().map(|fact| u64::from(fact.len)).sum()
    }
}

#[derive(Default)]
pub(super) struct Facts {
    of: HashMap<GroupResource, BTreeMap<ObjectId, Known>>,
    gone: Gone,
    interner: Interner,
    count: usize,
    bytes: u64,
    shares: Shares,
}

impl Facts {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Of all stored objects.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whose objects have how many of them.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// A caller asked for the object, or is being told of it.
    pub(super) fn used(&mut self, resource: &GroupResource, id: &ObjectId, user: Owner, now: u64) {
        let known = self.of.get_mut(resource).and_then(|of| of.get_mut(id));
        let Some(known) = known else {
            return;
        };
        known.used = known.used.max(now);
        let owner = self.shares.lighter(known.owner, user);
        if owner != known.owner {
            let bytes = known.bytes();
            self.shares.take(known.owner, bytes);
            self.shares.add(owner, bytes);
            known.owner = owner;
        }
    }

    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        self.interner.word(word)
    }

    pub(super) fn traits<'t>(
        &mut self,
        labels: impl Iterator<Item = (&'t str, &'t str)>,
        fields: impl Iterator<Item = (&'t str, &'t str)>,
    ) -> Traits {
        self.interner.traits(labels, fields)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&GroupResource, &ObjectId, &Fact)> {
        let objects = self.objects();
        objects.flat_map(|(of, id, known)| known.facts.iter().map(move |fact| (of, id, fact)))
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = (&GroupResource, &ObjectId, &Known)> {
        self.of
            .iter()
            .flat_map(|(of, objects)| objects.iter().map(move |(id, known)| (of, id, known)))
    }

    pub(super) fn object(&self, resource: &GroupResource, id: &ObjectId) -> Option<&Known> {
        self.of.get(resource)?.get(id)
    }

    /// All versions, encodings and states of one object.
    pub(super) fn get(&self, resource: &GroupResource, id: &ObjectId) -> &[Fact] {
        self.object(resource, id)
            .map_or(&[], |known| known.facts.as_slice())
    }

    /// The same id as the facts hold it: however many collections an object is in, its name is in memory once.
    pub(super) fn shared(&self, resource: &GroupResource, id: ObjectId) -> ObjectId {
        let known = self.of.get(resource).and_then(|of| of.get_key_value(&id));
        known.map_or(id, |(known, _)| known.clone())
    }

    /// The newest state.
    pub(super) fn find(
        &self,
        resource: &GroupResource,
        id: &ObjectId,
        version: &str,
        form: Form,
    ) -> Option<&Fact> {
        self.get(resource, id)
            .iter()
            .filter(|fact| &*fact.version == version && fact.form == form)
            .max_by_key(|fact| fact.resource_version)
    }

    /// One state, as a collection holds it.
    pub(super) fn at(
        &self,
        resource: &GroupResource,
        id: &ObjectId,
        state: key::StateName<'_>,
    ) -> Option<&Fact> {
        let facts = self.get(resource, id);
        facts.iter().find(|fact| fact.state() == state)
    }

    /// The states that are not the newest of their version and form, or that the object does not have any more; and that no
    /// list under way holds.
    pub(super) fn outdated(&self, resource: &GroupResource, id: &ObjectId, now: u64) -> Vec<Fact> {
        let gone = self.gone_at(resource, id);
        let facts = self.get(resource, id);
        let is_outdated = |fact: &&Fact| {
            let mut others = facts.iter();
            fact.resource_version <= gone
                || others.any(|other| {
                    (other.form, &other.version) == (fact.form, &fact.version)
                        && other.resource_version > fact.resource_version
                })
        };
        let mut outdated: Vec<&Fact> = facts.iter().filter(is_outdated).collect();
        outdated.sort_by_key(|fact| Reverse(fact.listed_until));
        let listed = outdated.iter().take_while(|fact| fact.listed_until > now);
        let listed = listed.count().min(MAX_LISTED);
        outdated.into_iter().skip(listed).cloned().collect()
    }

    /// The upstream showed this state again. When that is worth writing: the fact.
    pub(super) fn confirm(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: key::StateName<'_>,
        now: u64,
    ) -> Option<&Fact> {
        let known = self.of.get_mut(resource)?.get_mut(id)?;
        let mut facts = known.facts.iter_mut();
        let fact = facts.find(|fact| fact.state() == state)?;
        fact.confirmed = fact.confirmed.max(now);
        if fact.confirmed.saturating_sub(fact.learnt) < WRITE_AFTER {
            return None;
        }
        fact.learnt = fact.confirmed;
        Some(fact)
    }

    /// A list that holds this state is being read; given up at `until`.
    pub(super) fn listed(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: key::StateName<'_>,
        until: u64,
    ) {
        let known = self.of.get_mut(resource).and_then(|of| of.get_mut(id));
        let fact = known.and_then(|known| {
            let mut facts = known.facts.iter_mut();
            facts.find(|fact| fact.state() == state)
        });
        if let Some(fact) = fact {
            fact.listed_until = until;
        }
    }

    /// The objects of which more than one state is known.
    pub(super) fn with_history(&self) -> Vec<(GroupResource, ObjectId)> {
        let many = self.objects().filter(|(_, _, known)| known.facts.len() > 1);
        many.map(|(of, id, _)| (of.clone(), id.clone())).collect()
    }

    pub(super) fn knows(&self, resource: &GroupResource) -> bool {
        self.of.contains_key(resource)
    }

    /// Since which RV the object is known to be gone; 0 when it is not.
    pub(super) fn gone_at(&self, resource: &GroupResource, id: &ObjectId) -> u64 {
        self.gone.at(resource, id).unwrap_or(0)
    }

    /// What is to become of an object of this RV: never backwards.
    pub(super) fn judge(
        &self,
        resource: &GroupResource,
        id: &ObjectId,
        (version, form): (&str, Form),
        resource_version: u64,
    ) -> Upsert {
        if self
            .gone
            .at(resource, id)
            .is_some_and(|gone| resource_version <= gone)
        {
            return Upsert::Gone;
        }
        match self.find(resource, id, version, form) {
            Some(known) if known.resource_version >= resource_version => Upsert::Known,
            _ => Upsert::Stored,
        }
    }

    /// Takes a state in, newest or not.
    pub(super) fn insert(&mut self, resource: &GroupResource, id: ObjectId, fact: Fact) {
        if !self.of.contains_key(resource) {
            self.of.insert(resource.clone(), BTreeMap::new());
        }
        let Some(objects) = self.of.get_mut(resource) else {
            return;
        };
        let known = objects.entry(id).or_default();
        known.used = known.used.max(fact.learnt);
        self.bytes += u64::from(fact.len);
        self.shares.add(known.owner, u64::from(fact.len));
        let same = |known: &&mut Fact| known.state() == fact.state();
        if let Some(same) = known.facts.iter_mut().find(same) {
            self.bytes -= u64::from(same.len);
            self.shares.take(known.owner, u64::from(same.len));
            *same = fact;
        } else {
            self.count += 1;
            known.facts.reserve_exact(1);
            known.facts.push(fact);
        }
    }

    /// The object is gone since `resource_version`.
    pub(super) fn gone(&mut self, resource: &GroupResource, id: &ObjectId, resource_version: u64) {
        self.gone.insert(resource, id, resource_version);
    }

    /// Forgets all that is known of a resource, what is gone too.
    pub(super) fn forget(&mut self, resource: &GroupResource) -> Vec<(ObjectId, Fact)> {
        self.gone.forget(resource);
        let objects = self.of.remove(resource).unwrap_or_default();
        let mut forgotten = Vec::new();
        for (id, known) in objects {
            let bytes = known.bytes();
            self.bytes -= bytes;
            self.shares.take(known.owner, bytes);
            let facts = known.facts.into_iter();
            forgotten.extend(facts.map(|fact| (id.clone(), fact)));
        }
        self.count -= forgotten.len();
        forgotten
    }

    /// Forgets one state of an object, which may well still exist. Whether it was known.
    pub(super) fn lose(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: key::StateName<'_>,
    ) -> bool {
        let Some(objects) = self.of.get_mut(resource) else {
            return false;
        };
        let Some(known) = objects.get_mut(id) else {
            return false;
        };
        let at = known.facts.iter().position(|fact| fact.state() == state);
        let Some(at) = at else {
            return false;
        };
        let len = u64::from(known.facts.remove(at).len);
        self.count -= 1;
        self.bytes -= len;
        self.shares.take(known.owner, len);
        if known.facts.is_empty() {
            objects.remove(id);
        }
        true
    }

    /// The objects of a resource in one namespace (or in all), in list order.
    pub(super) fn within<'f>(
        &'f self,
        resource: &GroupResource,
        namespace: Option<&'f str>,
    ) -> impl Iterator<Item = (&'f ObjectId, &'f [Fact])> {
        let start = namespace.map_or(String::new(), |namespace| format!("{namespace}/"));
        self.of
            .get(resource)
            .into_iter()
            .flat_map(move |objects| {
                objects.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
            })
            .take_while(move |(id, _)| id.is_in(namespace))
            .map(|(id, known)| (id, known.facts.as_slice()))
    }
}

/// Objects known to be deleted, and since which RV. The oldest are forgotten first.
#[derive(Default)]
struct Gone {
    since: HashMap<GroupResource, HashMap<ObjectId, u64>>,
    order: VecDeque<(GroupResource, ObjectId)>,
}

impl Gone {
    fn at(&self, resource: &GroupResource, id: &ObjectId) -> Option<u64> {
        self.since.get(resource)?.get(id).copied()
    }

    fn forget(&mut self, resource: &GroupResource) {
        self.since.remove(resource);
        self.order.retain(|(of, _)| of != resource);
    }

    fn insert(&mut self, resource: &GroupResource, id: &ObjectId, resource_version: u64) {
        let since = self.since.entry(resource.clone()).or_default();
        match since.get_mut(id) {
            Some(known) => *known = (*known).max(resource_version),
            None => {
                since.insert(id.clone(), resource_version);
                self.order.push_back((resource.clone(), id.clone()));
            }
        }
        if self.order.len() > MAX_GONE
            && let Some((resource, id)) = self.order.pop_front()
            && let Some(since) = self.since.get_mut(&resource)
        {
            since.remove(&id);
            if since.is_empty() {
                self.since.remove(&resource);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> GroupResource {
        GroupResource {
            group: String::new(),
            resource: "pods".to_owned(),
        }
    }

    fn id(name: &str) -> ObjectId {
        ObjectId::from_stored(name).expect("a name")
    }

    fn put(facts: &mut Facts, name: &str, fact: Fact) -> Upsert {
        let (id, known_as) = (id(name), (&*fact.version, fact.form));
        let judged = facts.judge(&pods(), &id, known_as, fact.resource_version);
        if judged == Upsert::Stored {
            facts.insert(&pods(), id, fact);
        }
        judged
    }

    fn fact(form: Form, resource_version: u64) -> Fact {
        Fact {
            version: "v1".into(),
            form,
            uid: "u".into(),
            resource_version,
            kind: "Pod".into(),
            bare: true,
            has_json: true,
            len: 10,
            learnt: 0,
            confirmed: 0,
            traits: Traits::default(),
            unbeaten: None,
            listed_until: 0,
        }
    }

    #[test]
    fn a_fact_never_goes_backwards() {
        let mut facts = Facts::default();
        let upsert = |facts: &mut Facts, rv| put(facts, "a/b", fact(Form::JSON, rv));
        assert_eq!(upsert(&mut facts, 5), Upsert::Stored);
        assert_eq!(upsert(&mut facts, 5), Upsert::Known);
        assert_eq!(upsert(&mut facts, 4), Upsert::Known);
        assert_eq!(upsert(&mut facts, 6), Upsert::Stored);
        assert_eq!((facts.count(), facts.bytes()), (2, 20));
        let newest = facts.find(&pods(), &id("a/b"), "v1", Form::JSON);
        assert_eq!(newest.map(|fact| fact.resource_version), Some(6));
        let outdated = facts.outdated(&pods(), &id("a/b"), 0);
        assert_eq!(outdated, [fact(Form::JSON, 5)]);
        assert!(facts.lose(&pods(), &id("a/b"), ("v1", Form::JSON, 5)));
        assert_eq!((facts.count(), facts.bytes()), (1, 10));
    }

    #[test]
    fn an_answer_still_on_its_way_does_not_bring_a_deleted_object_back() {
        let mut facts = Facts::default();
        put(&mut facts, "a/b", fact(Form::JSON, 5));
        put(&mut facts, "a/b", fact(Form::PROTOBUF, 8));
        facts.gone(&pods(), &id("a/b"), 9);
        for outdated in facts.outdated(&pods(), &id("a/b"), 0) {
            assert!(facts.lose(&pods(), &id("a/b"), outdated.state()));
        }
        assert_eq!((facts.count(), facts.bytes()), (0, 0));
        let late = put(&mut facts, "a/b", fact(Form::JSON, 8));
        assert_eq!(late, Upsert::Gone);
        let recreated = put(&mut facts, "a/b", fact(Form::JSON, 10));
        assert_eq!(recreated, Upsert::Stored);
        assert_eq!((facts.count(), facts.bytes()), (1, 10));
    }

    #[test]
    fn a_namespace_is_not_its_neighbour() {
        let mut facts = Facts::default();
        for name in ["a-b/x", "a/x", "a/y", "ab/x"] {
            put(&mut facts, name, fact(Form::JSON, 1));
        }
        let names = |namespace| -> Vec<String> {
            facts
                .within(&pods(), namespace)
                .map(|(id, _)| id.as_str().to_owned())
                .collect()
        };
        assert_eq!(names(Some("a")), ["a/x", "a/y"]);
        assert_eq!(names(None), ["a-b/x", "a/x", "a/y", "ab/x"]);
    }

    #[test]
    fn a_known_object_has_its_name_in_memory_once() {
        let mut facts = Facts::default();
        let known = id("a/b");
        facts.insert(&pods(), known.clone(), fact(Form::JSON, 5));
        let shared = facts.shared(&pods(), id("a/b"));
        assert_eq!(shared.as_str().as_ptr(), known.as_str().as_ptr());
        assert_eq!(facts.shared(&pods(), id("a/c")), id("a/c"));
    }

    #[test]
    fn remembered_deletions_are_bounded() {
        let mut facts = Facts::default();
        for n in 0..=MAX_GONE {
            facts.gone(&pods(), &id(&format!("a/{n}")), 1);
        }
        assert_eq!(facts.gone.order.len(), MAX_GONE);
        assert_eq!(facts.gone.since[&pods()].len(), MAX_GONE);
    }
}

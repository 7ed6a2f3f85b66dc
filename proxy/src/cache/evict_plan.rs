//! What could make room, in its order, and what must stay because something else needs it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use super::collection::Collection;
use super::evict::Pool;
use super::facts::Known;
use super::form::Form;
use super::key::{GroupResource, ObjectId, fact_key, is_unfiltered};
use super::responses::ResponseKey;
use super::shares::{Owner, Shares};
use super::state::{Keeping, State};

/// Seconds by which a collection counts as used later than it was: to read it again takes a whole list.
const HEAD_START: u64 = 3600;

/// A state of an object: its version, form and RV.
pub(super) type Named = (Arc<str>, Form, u64);

pub(super) enum Thing {
    Object(GroupResource, ObjectId),
    /// States of an object that others, as new and held, make up for.
    Spare(GroupResource, ObjectId, Vec<Named>),
    Collection(u64),
    Response(ResponseKey),
}

/// Who goes before whom within one caller's: what a stream feeds last, then by time of use.
pub(super) type Rank = (bool, u64);

/// What could be let go of, and what holds what.
pub(super) struct Plan {
    max: u64,
    things: Vec<Option<Thing>>,
    queues: BTreeMap<Owner, BinaryHeap<Reverse<(Rank, usize)>>>,
    pub(super) shares: Shares,
    /// How many collections need each object to stay what they say of it.
    needed: HashMap<GroupResource, HashMap<ObjectId, usize>>,
    /// How many hold a state of an object that has several.
    held: HashMap<Vec<u8>, usize>,
    /// Objects that a collection lacks, being older than they.
    pub(super) lacked: HashMap<u64, Vec<ObjectId>>,
}

impl Plan {
    pub(super) fn of(state: &State, pool: Pool, max: u64) -> Self {
        let mut plan = Self {
            max,
            things: Vec::new(),
            queues: BTreeMap::new(),
            shares: Shares::default(),
            needed: HashMap::new(),
            held: HashMap::new(),
            lacked: HashMap::new(),
        };
        let is_in = |of: &GroupResource| pool == Pool::All || state.keeping(of) == Keeping::Memory;
        for (id, collection) in state.collections.all() {
            if is_in(&GroupResource::of(&collection.scope.resource)) {
                plan.add_collection(state, id, collection);
            }
        }
        for (of, id, known) in state.facts.objects() {
            if is_in(of) {
                plan.add_object(state, of, id, known);
            }
        }
        if pool == Pool::All {
            for (key, fact) in state.responses.all() {
                plan.shares.add(fact.owner, u64::from(fact.len));
                plan.push(fact.owner, (false, fact.used), Thing::Response(key));
            }
        }
        plan
    }

    fn add_collection(&mut self, state: &State, id: u64, collection: &Collection) {
        let of = GroupResource::of(&collection.scope.resource);
        let counts = self.needed.entry(of.clone()).or_default();
        for member in needed(collection) {
            *counts.entry(member).or_default() += 1;
        }
        for held in held_states(&of, collection) {
            *self.held.entry(held).or_default() += 1;
        }
        let rank = (collection.is_fed(), used(collection) + HEAD_START);
        self.push(state.owner_of(collection), rank, Thing::Collection(id));
    }

    fn add_object(&mut self, state: &State, of: &GroupResource, id: &ObjectId, known: &Known) {
        self.shares.add(known.owner, known.bytes());
        let rank = (false, known.used);
        if self.is_needed(of, id) {
            let spare = self.spare(of, id, known);
            if !spare.is_empty() {
                let spare = Thing::Spare(of.clone(), id.clone(), spare);
                self.push(known.owner, rank, spare);
            }
            return;
        }
        let mut is_lacked = false;
        for (collection, _) in state
            .collections
            .of(of)
            .filter(|(_, c)| lacks(c, id, known))
        {
            is_lacked = true;
            self.lacked.entry(collection).or_default().push(id.clone());
            let counts = self.needed.entry(of.clone()).or_default();
            *counts.entry(id.clone()).or_default() += 1;
        }
        if !is_lacked {
            self.push(known.owner, rank, Thing::Object(of.clone(), id.clone()));
        }
    }

    pub(super) fn push(&mut self, owner: Owner, rank: Rank, thing: Thing) {
        let at = self.things.len();
        self.things.push(Some(thing));
        let queue = self.queues.entry(owner).or_default();
        queue.push(Reverse((rank, at)));
    }

    fn is_needed(&self, of: &GroupResource, id: &ObjectId) -> bool {
        let counts = self.needed.get(of);
        counts.is_some_and(|counts| counts.contains_key(id))
    }

    /// One collection needs the object no more; whether another does.
    pub(super) fn release(&mut self, of: &GroupResource, id: &ObjectId) -> bool {
        let Some(counts) = self.needed.get_mut(of) else {
            return false;
        };
        match counts.get_mut(id) {
            Some(count) if *count > 1 => {
                *count -= 1;
                true
            }
            _ => {
                counts.remove(id);
                false
            }
        }
    }

    pub(super) fn release_state(&mut self, key: &[u8]) {
        if let Some(count) = self.held.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(key);
            }
        }
    }

    /// The states of an object that no collection holds, where one that is held tells as much.
    pub(super) fn spare(&self, of: &GroupResource, id: &ObjectId, known: &Known) -> Vec<Named> {
        if known.facts.len() < 2 {
            return Vec::new();
        }
        let (held, free): (Vec<_>, Vec<_>) = (known.facts.iter())
            .partition(|fact| self.held.contains_key(&fact_key(of, fact.state(), id)));
        let spare = free.into_iter().filter(|fact| {
            let mut held = held.iter().filter(|held| held.version == fact.version);
            held.any(|held| held.resource_version >= fact.resource_version)
        });
        spare
            .map(|fact| (fact.version.clone(), fact.form, fact.resource_version))
            .collect()
    }

    pub(super) fn next(&mut self) -> Option<Thing> {
        loop {
            let owner = self.choose()?;
            let queue = self.queues.get_mut(&owner)?;
            let Reverse((_, at)) = queue.pop()?;
            if queue.is_empty() {
                self.queues.remove(&owner);
            }
            if let Some(thing) = self.things.get_mut(at).and_then(Option::take) {
                return Some(thing);
            }
        }
    }

    /// Whose thing is next: all of a caller's that holds more than half; then what no stream feeds, of the callers that hold
    /// more than an equal part, the heaviest first; then of all, by time of use; then what streams feed, of the heaviest.
    fn choose(&self) -> Option<Owner> {
        let first = |queue: &BinaryHeap<Reverse<(Rank, usize)>>| queue.peek().map(|next| next.0.0);
        let heads = || {
            let queues = self.queues.iter();
            queues.filter_map(|(owner, queue)| Some((*owner, first(queue)?)))
        };
        let heaviest = |fed: bool| {
            let heads = heads()
                .filter(move |(owner, (is_fed, _))| *owner != Owner::NOBODY && (fed || !is_fed));
            heads.max_by_key(|(owner, _)| self.shares.of(*owner))
        };
        let has_more_than =
            |part: u64| move |(owner, _): &(Owner, Rank)| self.shares.of(*owner) > part;
        let equal = self.max / (self.shares.owners().max(1) as u64);
        heaviest(true)
            .filter(has_more_than(self.max / 2))
            .or_else(|| heaviest(false).filter(has_more_than(equal)))
            .or_else(|| {
                let unfed = heads().filter(|(_, (is_fed, _))| !is_fed);
                unfed.min_by_key(|(_, rank)| *rank)
            })
            .or_else(|| heaviest(true))
            .or_else(|| heads().next())
            .map(|(owner, _)| owner)
    }
}

/// When a collection was last asked for, or told of by its stream.
pub(super) fn used(collection: &Collection) -> u64 {
    collection.used.max(collection.confirmed)
}

/// The objects of which the collection tells, or will when the list comes that a stream is ahead of.
pub(super) fn needed(collection: &Collection) -> Vec<ObjectId> {
    let members = collection.members().keys();
    let ahead = collection.ahead().map(|(id, _)| id);
    let mut needed: Vec<ObjectId> = members.chain(ahead).cloned().collect();
    needed.sort_unstable();
    needed.dedup();
    needed
}

pub(super) fn held_states(of: &GroupResource, collection: &Collection) -> Vec<Vec<u8>> {
    let members = collection.members().iter();
    let members = members.map(|(id, member)| (id, member.resource_version));
    let version = collection.scope.resource.version.as_str();
    let mut states: Vec<Vec<u8>> = members
        .chain(collection.ahead())
        .map(|(id, resource_version)| {
            fact_key(of, (version, collection.form, resource_version), id)
        })
        .collect();
    states.sort_unstable();
    states.dedup();
    states
}

/// Whether the collection would say that the object does not exist, were it not for what is known of it.
fn lacks(collection: &Collection, id: &ObjectId, known: &Known) -> bool {
    let version = &collection.scope.resource.version;
    collection.complete
        && is_unfiltered(&collection.scope)
        && id.is_in(collection.scope.namespace.as_deref())
        && !collection.contains(id)
        && known.facts.iter().any(|fact| *fact.version == **version)
}

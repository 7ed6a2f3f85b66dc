//! Forgets: what nothing holds any more, what cannot be read, and whole collections that are to make room.

use std::collections::BTreeSet;

use super::facts::Fact;
use super::key::{GroupResource, ObjectId, StateName, fact_key, is_unfiltered, member_key};
use super::state::{Keeping, State};
use super::store::Table;
use crate::request_info::ObjectKey;

/// Bytes of the older states of one object that collections may hold. Each selector that a client makes up is another
/// collection, as of another time: of an object of 1 MiB that changes they would hold as many states as there are collections.
const MAX_OLDER_BYTES: u64 = 4 << 20;

impl State {
    /// Forgets the older states of an object that nothing holds any more, and bounds those that are held.
    pub(super) fn prune(&mut self, resource: &GroupResource, id: &ObjectId, now: u64) {
        let mut held = self.prune_unheld(resource, id, now);
        held.sort_by_key(|fact| fact.resource_version);
        let mut bytes: u64 = held.iter().map(|fact| u64::from(fact.len)).sum();
        for oldest in held {
            if bytes <= MAX_OLDER_BYTES {
                return;
            }
            bytes -= u64::from(oldest.len);
            let holding = self.collections.of(resource);
            let holding = holding.filter(|(_, c)| !c.is_fed() && c.holds(id, oldest.state()));
            let holding: Vec<u64> = holding.map(|(id, _)| id).collect();
            for collection in holding {
                self.let_go(collection, now);
            }
        }
    }

    /// The older states of the object that are held.
    fn prune_unheld(&mut self, resource: &GroupResource, id: &ObjectId, now: u64) -> Vec<Fact> {
        let mut held = Vec::new();
        for fact in self.facts.outdated(resource, id, now) {
            let is_held = self
                .collections
                .of(resource)
                .any(|(_, collection)| collection.holds(id, fact.state()));
            match is_held {
                true => held.push(fact),
                false => self.forget_state(resource, id, fact.state()),
            }
        }
        if self.facts.object(resource, id).is_none() {
            self.hurry(resource);
        }
        held
    }

    /// The bytes of a fact cannot be read: it is as if it had never been seen, and what it belongs to is complete no more.
    pub(super) fn lose(&mut self, resource: &GroupResource, id: &ObjectId, state: StateName<'_>) {
        self.forget(resource, id, state);
        self.give_up_unsound(resource);
    }

    pub(super) fn forget(&mut self, resource: &GroupResource, id: &ObjectId, state: StateName<'_>) {
        self.forget_state(resource, id, state);
        self.hurry(resource);
    }

    fn forget_state(&mut self, resource: &GroupResource, id: &ObjectId, state: StateName<'_>) {
        if self.facts.lose(resource, id, state) {
            self.unwrite(resource, id, state);
        }
    }

    /// A fact is known no more, neither is it where it was kept.
    pub(super) fn unwrite(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        state: StateName<'_>,
    ) {
        let key = fact_key(resource, state, id);
        self.writes.put_volatile(key.clone(), None);
        if self.keeping(resource) == Keeping::Disk {
            self.put_row(resource, Table::Facts, key.clone(), None);
            self.put_row(resource, Table::Objects, key, None);
        }
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

    /// Gives up filtered collections until they hold no more than they may together; says which.
    pub(super) fn bound_filtered(&mut self, now: u64) -> Vec<u64> {
        let mut given_up = Vec::new();
        while let Some(id) = self.collections.too_large() {
            self.let_go(id, now);
            given_up.push(id);
        }
        given_up
    }

    /// Gives up a collection to make room. Whoever is told of its scope by an older one is not to learn less than it proved.
    pub(super) fn let_go(&mut self, id: u64, now: u64) {
        let Some(collection) = self.collections.get(id) else {
            return;
        };
        let of = GroupResource::of(&collection.scope.resource);
        let is_older = |of: &GroupResource, resource_version: u64| {
            let mut others = self.collections.of(of);
            others.any(|(_, c)| c.complete && c.resource_version < resource_version)
        };
        if collection.complete && is_older(&of, collection.resource_version) {
            self.given_up.note(collection, is_older);
            if is_unfiltered(&collection.scope) {
                let (scope, until) = (collection.scope.clone(), collection.resource_version);
                let members: BTreeSet<ObjectId> = collection.members().keys().cloned().collect();
                self.sweep(&scope, |id| members.contains(id), until, now);
            }
        }
        self.pressure.evicted.collections += 1;
        self.give_up(id);
        if self.collections.get(id).is_some_and(|c| !c.is_fed()) {
            self.collections.remove(id);
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
            self.hurry(&resource);
            self.put_row(&resource, Table::Collections, id.to_be_bytes().into(), None);
            for member in &members {
                self.put_row(&resource, Table::Members, member_key(id, member), None);
            }
        }
        for member in &members {
            self.prune_unheld(&resource, member, 0);
        }
    }
}

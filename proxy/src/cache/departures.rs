//! What it takes for an object to be gone.
//!
//! A collection that has not come as far as the deletion still holds the object, and its last state is kept until it has.
//! To everybody else it is gone at once.

use std::collections::BTreeMap;

use super::collection::{Collection, Gone, Member};
use super::deletions::MAX_DELETIONS;
use super::key::{GroupResource, ObjectId};
use super::last::{Kept, Last};
use super::object::Stored;
use super::pages::PartialList;
use super::state::State;
use crate::request_info::Scope;

impl State {
    /// The members of a collection that this list of its scope proves gone, each with the last that is known of it.
    pub(super) fn lost(&mut self, id: u64, list: &PartialList) -> BTreeMap<ObjectId, Gone> {
        let Some(collection) = self.collections.get(id) else {
            return BTreeMap::new();
        };
        if collection.resource_version > list.resource_version {
            return BTreeMap::new();
        }
        let mut unread = Vec::new();
        let mut gone = BTreeMap::new();
        for (id, member) in collection.members() {
            let resource_version = match list.members.get(id) {
                None => list.resource_version,
                Some(seen) if self.is_another(collection, id, member, *seen) => seen - 1,
                Some(_) => continue,
            };
            // More than are remembered need not be read.
            let last = match gone.len() < MAX_DELETIONS {
                true => self.last(collection, id, member, resource_version),
                false => None,
            };
            unread.extend(last.as_ref().and_then(Last::unread));
            let lost = Gone {
                resource_version,
                last,
            };
            gone.insert(id.clone(), lost);
        }
        self.read_later(unread);
        gone
    }

    /// The member's name is another object's by now.
    fn is_another(
        &self,
        collection: &Collection,
        id: &ObjectId,
        member: &Member,
        seen: u64,
    ) -> bool {
        if member.resource_version == seen {
            return false;
        }
        let resource = GroupResource::of(&collection.scope.resource);
        let now = Member {
            resource_version: seen,
            ..*member
        };
        let uid = |as_: &Member| {
            let fact = self.facts.at(&resource, id, collection.state(as_))?;
            Some(&*fact.uid).filter(|uid| !uid.is_empty())
        };
        matches!((uid(member), uid(&now)), (Some(old), Some(new)) if old != new)
    }

    /// The last that is known of a member, as it will be told when it is gone.
    fn last(
        &self,
        collection: &Collection,
        id: &ObjectId,
        member: &Member,
        resource_version: u64,
    ) -> Option<Last> {
        let resource = &collection.scope.resource;
        let of = GroupResource::of(resource);
        let fact = self.facts.at(&of, id, collection.state(member))?;
        let stored = Stored::of(self, &of, id, fact);
        Some(Last::stored(stored, resource.clone(), resource_version))
    }

    fn read_later(&mut self, unread: Vec<std::sync::Weak<Kept>>) {
        // While the disk takes nothing, only what is still wanted is held on to.
        self.unread.retain(|unread| unread.strong_count() > 0);
        self.unread.extend(unread);
    }

    /// Keeps the memory of all collections' deletions bounded: the collection that remembers most forgets.
    pub(super) fn bound_deletions(&mut self) {
        while let Some(id) = self.collections.remembers_too_much() {
            if let Some(collection) = self.collections.get_mut(id) {
                collection.forget_deletions();
            }
        }
    }

    /// What an unfiltered list of its scope would hold, and does not, is gone.
    pub(super) fn sweep(
        &mut self,
        scope: &Scope,
        is_member: impl Fn(&ObjectId) -> bool,
        resource_version: u64,
        now: u64,
    ) {
        let resource = GroupResource::of(&scope.resource);
        let gone: Vec<ObjectId> = self
            .facts
            .within(&resource, scope.namespace.as_deref())
            .filter(|(id, facts)| {
                !is_member(id)
                    && facts
                        .iter()
                        .any(|fact| fact.resource_version <= resource_version)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            self.object_gone(&resource, &id, resource_version, now);
        }
    }

    /// The object does not exist at `resource_version`: what was known of it until then, in every version and form, is kept
    /// only for the collections that have not come that far.
    pub(super) fn object_gone(
        &mut self,
        resource: &GroupResource,
        id: &ObjectId,
        resource_version: u64,
        now: u64,
    ) {
        self.facts.gone(resource, id, resource_version);
        self.prune(resource, id, now);
    }
}

//! Whether a collection is behind what its caller has been shown elsewhere: an object by a GET, or another scope that holds
//! some of the same objects. A list from it would show that caller an object as it was before; so would a GET that is
//! answered with a state of which a list has shown that it is over.

use std::cell::LazyCell;
use std::cmp::Reverse;

use super::answer::Asked;
use super::collection::Collection;
use super::facts::Fact;
use super::key::{GroupResource, ObjectId, is_unfiltered};
use super::least_rvs::MAX_PER_CALLER;
use super::narrowing::Narrowing;
use super::pages::PartialList;
use super::reading::Part;
use super::state::State;
use crate::identity::ServiceAccount;
use crate::policy::Reason;
use crate::request_info::Scope;

/// Objects times lists that they may be missing from, under the lock of all: a caller that has read more selectors than that
/// is told nothing that may be older.
const LOOKED_THROUGH: usize = 500_000;

impl Asked<'_> {
    /// Those of them that show this caller nothing older than it has seen.
    pub(super) fn up_to_date<'s>(
        &self,
        state: &State,
        mut candidates: Vec<(&'s Collection, Part)>,
    ) -> Result<Vec<(&'s Collection, Part)>, Reason> {
        candidates.retain(|(collection, part)| !state.is_behind(self.caller, collection, part));
        match candidates.is_empty() {
            true => Err(Reason::ShownSince),
            false => Ok(candidates),
        }
    }
}

impl State {
    /// The caller is told of this part of a collection, which may be ahead of others.
    pub(super) fn note_told(&mut self, caller: &ServiceAccount, part: &Part) {
        let Some(told) = self.collections.get(part.collection) else {
            return;
        };
        if let Some(changes) = self.grants.shown_in(caller, &told.scope, told.form) {
            return self.write_grants(changes);
        }
        // It has not read the whole of that collection, so there is no grant to tell this by.
        let resource = GroupResource::of(&told.scope.resource);
        let members = told.members().iter();
        let members = members.filter(|(id, _)| part.narrowing.may_hold(id));
        let newer = self.newer_than_lists(
            &resource,
            members.map(|(id, member)| (id, member.resource_version)),
        );
        for (id, shown) in newer {
            self.note_newer(caller, (&resource, &id), shown);
        }
    }

    /// The caller is shown one page of a list, and may never ask for the others.
    pub(super) fn note_page(&mut self, caller: &ServiceAccount, of: &Scope, page: &PartialList) {
        let resource = GroupResource::of(&of.resource);
        let objects = page.members.iter().map(|(id, shown)| (id, *shown));
        for (id, shown) in self.newer_than_lists(&resource, objects) {
            self.note_newer(caller, (&resource, &id), shown);
        }
    }

    /// Those that a list which is known may show as they were before: the newest, as many as are kept for a caller.
    fn newer_than_lists<'o>(
        &self,
        resource: &GroupResource,
        objects: impl Iterator<Item = (&'o ObjectId, u64)>,
    ) -> Vec<(ObjectId, u64)> {
        let lists = self.collections.of(resource);
        let Some(oldest) = lists.map(|(_, list)| list.resource_version).min() else {
            return Vec::new();
        };
        let mut newer: Vec<_> = objects.filter(|(_, shown)| *shown > oldest).collect();
        newer.sort_unstable_by_key(|(_, shown)| Reverse(*shown));
        newer.truncate(MAX_PER_CALLER);
        let newer = newer.into_iter();
        newer.map(|(id, shown)| (id.clone(), shown)).collect()
    }

    fn is_behind(&self, caller: &ServiceAccount, collection: &Collection, part: &Part) -> bool {
        let resource = GroupResource::of(&collection.scope.resource);
        let mut read_alone = self.read_alone.of(caller, &resource);
        if read_alone.any(|(id, seen)| is_older(collection, part, id, seen)) {
            return true;
        }
        let newer: Vec<&Collection> = self
            .read_since(caller, &resource, collection.resource_version)
            .collect();
        let mut others = newer.iter();
        others.any(|other| shows_older(collection, part, other))
            || self.holds_more(collection, part, &newer)
    }

    /// The collections of the resource that this caller has read and that are newer than that: who has read a scope may have
    /// been shown whatever is known of it.
    fn read_since(
        &self,
        caller: &ServiceAccount,
        resource: &GroupResource,
        resource_version: u64,
    ) -> impl Iterator<Item = &Collection> {
        let lists = self.collections.of(resource).map(|(_, list)| list);
        lists.filter(move |list| {
            list.complete
                && list.resource_version > resource_version
                && self.grants.has_read(caller, &list.scope, list.form)
        })
    }

    /// Whether something in it would be in one of `newer` as well, and is not any more.
    fn holds_more(&self, collection: &Collection, part: &Part, newer: &[&Collection]) -> bool {
        if newer.len() * collection.members().len() > LOOKED_THROUGH {
            return true;
        }
        let chosen = |other: &Collection| Narrowing::of_scope(&other.scope, collection.form);
        let newer = newer
            .iter()
            .filter_map(|other| Some((chosen(other)?, *other)));
        let newer: Vec<(Narrowing, &Collection)> = newer.collect();
        let resource = GroupResource::of(&collection.scope.resource);
        let mut members = collection.members().iter();
        members.any(|(id, member)| {
            if !part.narrowing.may_hold(id) {
                return false;
            }
            let fact = LazyCell::new(|| self.facts.at(&resource, id, collection.state(member)));
            newer.iter().any(|(chosen, other)| {
                chosen.may_hold(id)
                    && !other.members().contains_key(id)
                    && fact.is_none_or(|fact| {
                        part.narrowing.holds(id, &fact.traits) && chosen.holds(id, &fact.traits)
                    })
            })
        })
    }

    /// Whether the caller may have been shown, in a list, that this state of an object was over: the state was so until this RV
    /// at least.
    pub(super) fn is_outlived(
        &self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        (fact, until): (&Fact, u64),
    ) -> bool {
        let is_over = |list: &Collection| match list.members().get(id) {
            Some(member) => member.resource_version > fact.resource_version,
            None => Narrowing::of_scope(&list.scope, fact.form)
                .is_some_and(|chosen| chosen.holds(id, &fact.traits)),
        };
        self.read_since(caller, resource, until).any(is_over)
    }
}

/// Whether an object is not in it as it was seen at this RV.
fn is_older(collection: &Collection, part: &Part, id: &ObjectId, seen: u64) -> bool {
    if seen <= collection.resource_version || !part.narrowing.may_hold(id) {
        return false;
    }
    match collection.members().get(id) {
        Some(member) => member.resource_version < seen,
        // It came since, if it is not one that the selectors leave out.
        None => is_unfiltered(&collection.scope) && !part.narrowing.looks_into_objects(),
    }
}

/// Whether something in it is not as it is in `newer`.
fn shows_older(collection: &Collection, part: &Part, newer: &Collection) -> bool {
    let mut members = newer.members().iter();
    let mut deletions = newer.deletions().after(collection.resource_version);
    members.any(|(id, member)| is_older(collection, part, id, member.resource_version))
        || deletions.any(|gone| {
            collection.members().contains_key(&gone.id)
                && is_older(collection, part, &gone.id, gone.resource_version)
        })
}

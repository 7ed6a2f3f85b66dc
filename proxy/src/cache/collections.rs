//! All collections, by their scope and form.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::collection::Collection;
use super::form::Form;
use super::key::{GroupResource, is_unfiltered};
use super::narrowing::Narrowing;
use crate::identity::ServiceAccount;
use crate::request_info::{ObjectKey, Scope};

/// A kubelet watches one scope per ConfigMap and Secret of its pods, each client a handful more; only selectors made up to fill a cache need more.
const MAX_COLLECTIONS: usize = 2048;
/// Collections that one caller's requests made: more than the kinds a controller reads in the namespaces it works in, and an eighth of all,
/// so that one pod with made up namespaces and selectors takes no room from the others.
const MAX_PER_CALLER: usize = 256;
/// Members of all filtered collections together, some 20 MiB. What is unfiltered holds each known object twice at most; but there is no end
/// of selectors that all objects match.
const MAX_FILTERED_MEMBERS: usize = 200_000;
/// Bytes of deleted objects that all collections remember together.
const MAX_REMEMBERED_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(super) struct Collections {
    all: BTreeMap<u64, Collection>,
    ids: HashMap<(Scope, Form), u64>,
    of: HashMap<GroupResource, Vec<u64>>,
    last_id: u64,
}

/// Who has as many collections as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowded<'c> {
    By(&'c ServiceAccount),
    ByAll,
}

impl Collections {
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Collection)> {
        self.all.iter().map(|(id, collection)| (*id, collection))
    }

    pub(super) fn get(&self, id: u64) -> Option<&Collection> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Collection> {
        self.all.get_mut(&id)
    }

    pub(super) fn id(&self, scope: &Scope, form: Form) -> Option<u64> {
        self.ids.get(&(scope.clone(), form)).copied()
    }

    /// The collections of a resource, in any version.
    pub(super) fn of<'c>(
        &'c self,
        resource: &GroupResource,
    ) -> impl Iterator<Item = (u64, &'c Collection)> + use<'c> {
        self.of
            .get(resource)
            .into_iter()
            .flatten()
            .filter_map(|id| self.all.get(id).map(|collection| (*id, collection)))
    }

    pub(super) fn ids_of(&self, resource: &GroupResource) -> Vec<u64> {
        self.of.get(resource).cloned().unwrap_or_default()
    }

    /// Whose collections must make room for another one of this caller; `None`: there is room.
    pub(super) fn crowded<'c>(&self, caller: &'c ServiceAccount) -> Option<Crowded<'c>> {
        let own = self.all.values().filter(|c| c.is_made_by(caller)).count();
        match own >= MAX_PER_CALLER {
            true => Some(Crowded::By(caller)),
            false => (self.all.len() >= MAX_COLLECTIONS).then_some(Crowded::ByAll),
        }
    }

    /// The one to give up: of those that no stream keeps up, one that is filtered or empty before others, and the one confirmed longest ago.
    pub(super) fn least_useful(&self, of: Crowded<'_>) -> Option<u64> {
        let is_his = |c: &Collection| match of {
            Crowded::By(caller) => c.is_made_by(caller),
            Crowded::ByAll => true,
        };
        self.all()
            .filter(|(_, c)| !c.is_fed() && is_his(c))
            .min_by_key(|(_, c)| {
                let tells_much = is_unfiltered(&c.scope) && !c.members().is_empty();
                (tells_much, c.confirmed)
            })
            .map(|(id, _)| id)
    }

    /// The filtered collection to give up while they hold more than they may together: one that no stream keeps up before others, the largest first.
    pub(super) fn too_large(&self) -> Option<u64> {
        let filtered = || self.all().filter(|(_, c)| !is_unfiltered(&c.scope));
        let members: usize = filtered().map(|(_, c)| c.members().len()).sum();
        if members <= MAX_FILTERED_MEMBERS {
            return None;
        }
        let largest = filtered()
            .filter(|(_, c)| !c.members().is_empty())
            .max_by_key(|(_, c)| (!c.is_fed(), c.members().len(), Reverse(c.confirmed)));
        largest.map(|(id, _)| id)
    }

    /// The collection that must forget its deletions while all remember more than they may together.
    pub(super) fn remembers_too_much(&self) -> Option<u64> {
        let bytes = |collection: &Collection| collection.deletions().bytes();
        let all: usize = self.all.values().map(bytes).sum();
        let most = || self.all().max_by_key(|(_, collection)| bytes(collection));
        (all > MAX_REMEMBERED_BYTES).then(most)?.map(|(id, _)| id)
    }

    pub(super) fn insert(&mut self, collection: Collection) -> u64 {
        let id = self.last_id + 1;
        self.insert_as(id, collection);
        id
    }

    pub(super) fn insert_as(&mut self, id: u64, collection: Collection) {
        self.last_id = self.last_id.max(id);
        let key = (collection.scope.clone(), collection.form);
        let resource = GroupResource::of(&collection.scope.resource);
        self.ids.insert(key, id);
        self.of.entry(resource).or_default().push(id);
        self.all.insert(id, collection);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Collection> {
        let removed = self.all.remove(&id)?;
        let key = (removed.scope.clone(), removed.form);
        self.ids.remove(&key);
        if let Some(ids) = self.of.get_mut(&GroupResource::of(&removed.scope.resource)) {
            ids.retain(|other| *other != id);
        }
        Some(removed)
    }

    /// See [`Bug::FilteredDeletedBelieved`](crate::bugs::Bug::FilteredDeletedBelieved).
    #[cfg(test)]
    pub(super) fn believe_gone(&mut self, resource: &GroupResource, id: &super::key::ObjectId) {
        for collection in self.ids_of(resource) {
            if let Some(collection) = self.get_mut(collection) {
                collection.believe_gone(id);
            }
        }
    }

    /// The complete collections that hold all of `scope`, with what to take of each.
    pub(super) fn covering<'c>(
        &'c self,
        scope: &'c Scope,
    ) -> impl Iterator<Item = (&'c Collection, Narrowing)> {
        self.of(&GroupResource::of(&scope.resource))
            .filter(|(_, collection)| collection.complete)
            .filter_map(|(_, collection)| Some((collection, Narrowing::of(collection, scope)?)))
    }

    /// The complete collections that would hold this object if it existed, and do not.
    pub(super) fn proving_absent(&self, object: &ObjectKey) -> impl Iterator<Item = &Collection> {
        let resource = GroupResource::of(&object.resource);
        let id = super::key::ObjectId::of(object);
        self.of(&resource)
            .map(|(_, collection)| collection)
            .filter(move |collection| {
                collection.complete
                    && is_unfiltered(&collection.scope)
                    && collection.scope.resource == object.resource
                    && (collection.scope.namespace.as_deref())
                        .is_none_or(|namespace| namespace == object.namespace)
                    && id.as_ref().is_some_and(|id| !collection.contains(id))
            })
    }

    /// Something of this scope was seen, if not whole.
    pub(super) fn knows(&self, resource: &GroupResource) -> bool {
        self.of.get(resource).is_some_and(|ids| !ids.is_empty())
    }
}

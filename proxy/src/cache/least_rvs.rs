//! The least RVs at which each caller may be told of single objects: what it wrote lately is not to be shown to it as it was
//! before, nor what a GET has shown it in a list that is older.
//!
//! Bounded: a stream shows most writes within a moment, and what is forgotten here makes an answer older than it need be, but
//! never wrong for its RV.

use std::collections::{HashMap, VecDeque};

use super::key::{GroupResource, ObjectId};
use super::state::State;
use crate::identity::ServiceAccount;
use crate::request_info::ObjectKey;

/// Of one caller: far more writes than are under way before a stream or a read shows them, and more objects than one client
/// reads one by one.
pub(super) const MAX_PER_CALLER: usize = 256;
/// Many times those of one node; the one that came first makes room.
const MAX_CALLERS: usize = 256;

#[derive(Default)]
pub(super) struct LeastRvs {
    of: HashMap<ServiceAccount, OfCaller>,
    order: VecDeque<ServiceAccount>,
}

#[derive(Default)]
struct OfCaller {
    /// What is seen of each object must be at least as new as this RV.
    least: HashMap<(GroupResource, ObjectId), u64>,
    order: VecDeque<Named>,
}

type Named = (GroupResource, ObjectId);

impl LeastRvs {
    /// The caller is not to be told of the object as it was before this RV. Says what made room.
    pub(super) fn note(
        &mut self,
        caller: &ServiceAccount,
        resource: &GroupResource,
        id: &ObjectId,
        resource_version: u64,
    ) -> Vec<(ServiceAccount, Named)> {
        let mut dropped = Vec::new();
        if !self.of.contains_key(caller) {
            self.order.push_back(caller.clone());
            if self.order.len() > MAX_CALLERS
                && let Some(first) = self.order.pop_front()
            {
                let of_first = self.of.remove(&first).unwrap_or_default();
                let named = of_first.order.into_iter();
                dropped.extend(named.map(|named| (first.clone(), named)));
            }
        }
        let of_caller = self.of.entry(caller.clone()).or_default();
        let key = (resource.clone(), id.clone());
        if let Some(least) = of_caller.least.get_mut(&key) {
            *least = resource_version.max(*least);
            return dropped;
        }
        of_caller.least.insert(key.clone(), resource_version);
        of_caller.order.push_back(key);
        if of_caller.order.len() > MAX_PER_CALLER
            && let Some(first) = of_caller.order.pop_front()
        {
            of_caller.least.remove(&first);
            dropped.push((caller.clone(), first));
        }
        dropped
    }

    /// The answer to a write shows the object at this RV. What was noted when the write was sent (`noted`) was a guess: a write
    /// that changes nothing leaves the RV as it was.
    pub(super) fn shown(
        &mut self,
        caller: &ServiceAccount,
        (resource, id): (&GroupResource, &ObjectId),
        noted: u64,
        resource_version: u64,
    ) {
        let of_caller = self.of.get_mut(caller);
        let least = of_caller.and_then(|of_caller| {
            let key = (resource.clone(), id.clone());
            of_caller.least.get_mut(&key)
        });
        match least {
            Some(least) if *least == noted => *least = resource_version,
            _ => drop(self.note(caller, resource, id, resource_version)),
        }
    }

    /// The RVs of this resource went back. Says what was forgotten.
    pub(super) fn forget(&mut self, resource: &GroupResource) -> Vec<(ServiceAccount, Named)> {
        let mut forgotten = Vec::new();
        for (caller, of_caller) in &mut self.of {
            let gone = of_caller.least.extract_if(|(of, _), _| of == resource);
            forgotten.extend(gone.map(|(named, _)| (caller.clone(), named)));
            of_caller.order.retain(|(of, _)| of != resource);
        }
        forgotten
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&ServiceAccount, &Named, u64)> {
        self.of.iter().flat_map(|(who, of_caller)| {
            let least = of_caller.least.iter();
            least.map(move |(named, least)| (who, named, *least))
        })
    }

    /// The objects of a resource of which there is one for this caller.
    pub(super) fn of(
        &self,
        caller: &ServiceAccount,
        resource: &GroupResource,
    ) -> impl Iterator<Item = (&ObjectId, u64)> {
        let own = self.of.get(caller).into_iter().flat_map(|own| &own.least);
        let of_resource = own.filter(move |((of, _), _)| of == resource);
        of_resource.map(|((_, id), least)| (id, *least))
    }

    /// The least RV at which this caller may be told of the object; 0 when any will do.
    pub(super) fn least(
        &self,
        caller: &ServiceAccount,
        resource: &GroupResource,
        id: &ObjectId,
    ) -> u64 {
        let key = || (resource.clone(), id.clone());
        self.of
            .get(caller)
            .and_then(|of_caller| of_caller.least.get(&key()))
            .copied()
            .unwrap_or(0)
    }
}

impl State {
    /// The RV until which it is known that the object does not exist; 0 when it is not known to be absent.
    pub(super) fn absent_until(&self, object: &ObjectKey, id: &ObjectId) -> u64 {
        let resource = GroupResource::of(&object.resource);
        let proving = self.collections.proving_absent(object);
        let proven = proving.map(|collection| collection.resource_version);
        proven.fold(self.facts.gone_at(&resource, id), u64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::caller;

    fn pods() -> GroupResource {
        GroupResource {
            group: String::new(),
            resource: "pods".to_owned(),
        }
    }

    fn id(name: &str) -> ObjectId {
        ObjectId::new("a", name).expect("a name")
    }

    #[test]
    fn a_write_counts_for_its_caller_and_never_goes_backwards() {
        let mut writes = LeastRvs::default();
        writes.note(&caller("x"), &pods(), &id("p"), 7);
        writes.note(&caller("x"), &pods(), &id("p"), 5);
        assert_eq!(writes.least(&caller("x"), &pods(), &id("p")), 7);
        assert_eq!(writes.least(&caller("y"), &pods(), &id("p")), 0);
        assert_eq!(writes.least(&caller("x"), &pods(), &id("q")), 0);
    }

    #[test]
    fn a_write_that_changed_nothing_hides_nothing() {
        let mut writes = LeastRvs::default();
        let pod = id("p");
        writes.note(&caller("x"), &pods(), &pod, 11);
        writes.shown(&caller("x"), (&pods(), &pod), 11, 5);
        assert_eq!(writes.least(&caller("x"), &pods(), &pod), 5);
        writes.note(&caller("x"), &pods(), &pod, 21);
        writes.shown(&caller("x"), (&pods(), &pod), 11, 15);
        assert_eq!(writes.least(&caller("x"), &pods(), &pod), 21);
    }

    #[test]
    fn one_caller_that_writes_much_takes_no_room_from_another() {
        let mut writes = LeastRvs::default();
        writes.note(&caller("y"), &pods(), &id("p"), 7);
        for n in 0..=MAX_PER_CALLER {
            writes.note(&caller("x"), &pods(), &id(&n.to_string()), 7);
        }
        let dropped = writes.note(&caller("x"), &pods(), &id("one more"), 7);
        assert_eq!(dropped, [(caller("x"), (pods(), id("1")))]);
        assert_eq!(writes.of[&caller("x")].least.len(), MAX_PER_CALLER);
        assert_eq!(writes.least(&caller("x"), &pods(), &id("0")), 0);
        assert_eq!(writes.least(&caller("y"), &pods(), &id("p")), 7);
        for n in 0..MAX_CALLERS {
            writes.note(&caller(&n.to_string()), &pods(), &id("p"), 7);
        }
        assert_eq!(
            (writes.of.len(), writes.order.len()),
            (MAX_CALLERS, MAX_CALLERS)
        );
    }
}

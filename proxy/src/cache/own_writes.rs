//! What each caller wrote lately: it is not to be shown an older object than its own write left behind.
//!
//! Bounded: a stream shows most writes within a moment, and what is forgotten here makes an answer older than it need be, but
//! never wrong for its RV.

use std::collections::{HashMap, VecDeque};

use super::key::{GroupResource, ObjectId};
use super::state::State;
use crate::identity::ServiceAccount;
use crate::request_info::ObjectKey;

/// Of one caller: far more than are under way before a stream or a read shows them.
const MAX_PER_CALLER: usize = 256;
/// Callers that write, many times those of one node; the one that wrote first makes room.
const MAX_CALLERS: usize = 256;

#[derive(Default)]
pub(super) struct OwnWrites {
    of: HashMap<ServiceAccount, Lately>,
    order: VecDeque<ServiceAccount>,
}

#[derive(Default)]
struct Lately {
    /// What is seen of each object must be at least as new as this RV.
    least: HashMap<(GroupResource, ObjectId), u64>,
    order: VecDeque<Written>,
}

type Written = (GroupResource, ObjectId);

impl OwnWrites {
    /// The caller changed the object, which has at least this RV since. Says what made room.
    pub(super) fn note(
        &mut self,
        caller: &ServiceAccount,
        resource: &GroupResource,
        id: &ObjectId,
        resource_version: u64,
    ) -> Vec<(ServiceAccount, Written)> {
        let mut dropped = Vec::new();
        if !self.of.contains_key(caller) {
            self.order.push_back(caller.clone());
            if self.order.len() > MAX_CALLERS
                && let Some(first) = self.order.pop_front()
            {
                let of_first = self.of.remove(&first).unwrap_or_default();
                let written = of_first.order.into_iter();
                dropped.extend(written.map(|written| (first.clone(), written)));
            }
        }
        let lately = self.of.entry(caller.clone()).or_default();
        let key = (resource.clone(), id.clone());
        if let Some(least) = lately.least.get_mut(&key) {
            *least = resource_version.max(*least);
            return dropped;
        }
        lately.least.insert(key.clone(), resource_version);
        lately.order.push_back(key);
        if lately.order.len() > MAX_PER_CALLER
            && let Some(first) = lately.order.pop_front()
        {
            lately.least.remove(&first);
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
        let lately = self.of.get_mut(caller);
        let least = lately.and_then(|lately| {
            let key = (resource.clone(), id.clone());
            lately.least.get_mut(&key)
        });
        match least {
            Some(least) if *least == noted => *least = resource_version,
            _ => drop(self.note(caller, resource, id, resource_version)),
        }
    }

    /// The RVs of this resource went back. Says what was forgotten.
    pub(super) fn forget(&mut self, resource: &GroupResource) -> Vec<(ServiceAccount, Written)> {
        let mut forgotten = Vec::new();
        for (caller, lately) in &mut self.of {
            let gone = lately.least.extract_if(|(of, _), _| of == resource);
            forgotten.extend(gone.map(|(written, _)| (caller.clone(), written)));
            lately.order.retain(|(of, _)| of != resource);
        }
        forgotten
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&ServiceAccount, &Written, u64)> {
        self.of.iter().flat_map(|(who, lately)| {
            let least = lately.least.iter();
            least.map(move |(written, least)| (who, written, *least))
        })
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
            .and_then(|lately| lately.least.get(&key()))
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
        let mut writes = OwnWrites::default();
        writes.note(&caller("x"), &pods(), &id("p"), 7);
        writes.note(&caller("x"), &pods(), &id("p"), 5);
        assert_eq!(writes.least(&caller("x"), &pods(), &id("p")), 7);
        assert_eq!(writes.least(&caller("y"), &pods(), &id("p")), 0);
        assert_eq!(writes.least(&caller("x"), &pods(), &id("q")), 0);
    }

    #[test]
    fn a_write_that_changed_nothing_hides_nothing() {
        let mut writes = OwnWrites::default();
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
        let mut writes = OwnWrites::default();
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

//! Lists that come in pages: held back until the last page, for a page is no list.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::form::Form;
use super::key::{GroupResource, ObjectId};
use crate::identity::ServiceAccount;
use crate::request_info::Scope;

/// Chains of pages at one time: a handful of clients start together.
const MAX_CHAINS: usize = 64;
/// Seconds after which nobody will ask for the next page: the API server forgets a continue token after five minutes.
pub(super) const MAX_CHAIN_AGE: u64 = 360;
/// Objects of one list. A Kubernetes cluster is specified for 150,000 pods, and an edge node reads few of them.
pub(super) const MAX_LIST_OBJECTS: usize = 200_000;

/// What a list has proved so far.
#[derive(Clone, Debug, Default)]
pub(super) struct PartialList {
    /// Each object's RV.
    pub(super) members: BTreeMap<ObjectId, u64>,
    pub(super) kind: Arc<str>,
    pub(super) list_kind: Arc<str>,
    pub(super) resource_version: u64,
    /// When its first page was answered; Unix seconds. All of it is of then.
    pub(super) since: u64,
}

/// Who will ask for the next page, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NextPage {
    pub(super) caller: ServiceAccount,
    pub(super) scope: Scope,
    pub(super) form: Form,
    pub(super) continue_token: String,
}

#[derive(Default)]
pub(super) struct Pages {
    chains: HashMap<NextPage, (PartialList, u64)>,
}

impl Pages {
    /// Holds a list back until its next page. The oldest chain of the caller that holds most makes room.
    pub(super) fn hold(&mut self, next: NextPage, list: PartialList, now: u64) {
        self.chains
            .retain(|_, (_, since)| now.saturating_sub(*since) <= MAX_CHAIN_AGE);
        self.chains.insert(next, (list, now));
        while let Some(given_up) = self.one_too_many() {
            self.chains.remove(&given_up);
        }
    }

    fn one_too_many(&self) -> Option<NextPage> {
        let mut held: HashMap<&ServiceAccount, (usize, usize)> = HashMap::new();
        for (next, (list, _)) in &self.chains {
            let (chains, objects) = held.entry(&next.caller).or_default();
            *chains += 1;
            *objects += list.members.len();
        }
        let objects: usize = held.values().map(|(_, objects)| objects).sum();
        let heaviest = if objects > MAX_LIST_OBJECTS {
            held.iter().max_by_key(|(_, (_, objects))| *objects)
        } else if self.chains.len() > MAX_CHAINS {
            held.iter().max_by_key(|(_, (chains, _))| *chains)
        } else {
            return None;
        };
        let (heaviest, _) = heaviest?;
        let own = self.chains.iter();
        let own = own.filter(|(next, _)| next.caller == **heaviest);
        let oldest = own.min_by_key(|(_, (_, since))| *since);
        oldest.map(|(next, _)| next.clone())
    }

    /// The RVs of this resource went back.
    pub(super) fn forget(&mut self, resource: &GroupResource) {
        let is_of = |next: &NextPage| GroupResource::of(&next.scope.resource) == *resource;
        self.chains.retain(|next, _| !is_of(next));
    }

    /// The pages before this one; `None` when they were not all seen.
    pub(super) fn take(&mut self, page: &NextPage) -> Option<PartialList> {
        self.chains.remove(page).map(|(list, _)| list)
    }
}

impl PartialList {
    /// The pages before and this one as one list; `None` when they are not of the same RV, so that nothing they prove is true at any.
    pub(super) fn followed_by(mut self, page: Self) -> Option<Self> {
        if self.resource_version != page.resource_version {
            return None;
        }
        self.members.extend(page.members);
        (self.members.len() <= MAX_LIST_OBJECTS).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::caller;
    use crate::request_info::GroupVersionResource;

    fn next(token: &str) -> NextPage {
        next_of("x", token)
    }

    fn next_of(who: &str, token: &str) -> NextPage {
        NextPage {
            caller: caller(who),
            scope: Scope {
                resource: GroupVersionResource {
                    group: String::new(),
                    version: "v1".to_owned(),
                    resource: "pods".to_owned(),
                },
                namespace: None,
                label_selector: String::new(),
                field_selector: String::new(),
            },
            form: Form::JSON,
            continue_token: token.to_owned(),
        }
    }

    fn page(name: &str, resource_version: u64) -> PartialList {
        PartialList {
            members: [(ObjectId::new("a", name).expect("a name"), 1)].into(),
            resource_version,
            ..PartialList::default()
        }
    }

    #[test]
    fn pages_of_one_rv_are_one_list() {
        let whole = page("x", 5).followed_by(page("y", 5)).expect("one RV");
        assert_eq!(whole.members.len(), 2);
        assert!(page("x", 5).followed_by(page("y", 6)).is_none());
    }

    #[test]
    fn chains_are_bounded_in_number_and_age() {
        let mut pages = Pages::default();
        for n in 0..=MAX_CHAINS {
            pages.hold(next(&n.to_string()), page("x", 5), n as u64);
        }
        assert_eq!(pages.chains.len(), MAX_CHAINS);
        assert!(pages.take(&next("0")).is_none());
        assert!(pages.take(&next("1")).is_some());
        assert!(pages.take(&next("1")).is_none(), "a page is followed once");
        pages.hold(next("late"), page("x", 5), 10_000);
        assert_eq!(pages.chains.len(), 1);
    }

    #[test]
    fn one_caller_that_begins_many_lists_ends_no_other_callers() {
        let mut pages = Pages::default();
        pages.hold(next_of("x", "first"), page("x", 5), 0);
        for n in 0..2 * MAX_CHAINS {
            pages.hold(next_of("hostile", &n.to_string()), page("x", 5), 1);
        }
        assert_eq!(pages.chains.len(), MAX_CHAINS);
        let many = PartialList {
            members: (0..=MAX_LIST_OBJECTS)
                .map(|n| (ObjectId::new("a", &n.to_string()).expect("a name"), 1))
                .collect(),
            ..PartialList::default()
        };
        pages.hold(next_of("hostile", "large"), many, 2);
        assert!(pages.take(&next_of("hostile", "large")).is_none());
        assert!(pages.take(&next_of("x", "first")).is_some());
    }
}

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
    /// Holds a list back until its next page. The oldest chain makes room.
    pub(super) fn hold(&mut self, next: NextPage, list: PartialList, now: u64) {
        self.chains
            .retain(|_, (_, since)| now.saturating_sub(*since) <= MAX_CHAIN_AGE);
        self.chains.insert(next, (list, now));
        while self.chains.len() > MAX_CHAINS || self.objects() > MAX_LIST_OBJECTS {
            let oldest = self.chains.iter().min_by_key(|(_, (_, since))| *since);
            let Some(oldest) = oldest.map(|(next, _)| next.clone()) else {
                return;
            };
            self.chains.remove(&oldest);
        }
    }

    fn objects(&self) -> usize {
        self.chains
            .values()
            .map(|(list, _)| list.members.len())
            .sum()
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
    use crate::request_info::GroupVersionResource;

    fn next(token: &str) -> NextPage {
        NextPage {
            caller: ServiceAccount {
                namespace: "a".to_owned(),
                name: "x".to_owned(),
                uid: "1".to_owned(),
            },
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
}

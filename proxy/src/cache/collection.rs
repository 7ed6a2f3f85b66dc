//! A collection: a scope whose complete content is known, with the RV at which it is known, and the streams that keep it so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::deletions::{Deletion, Deletions};
use super::form::Form;
use super::key::{self, ObjectId};
use super::last::Last;
use crate::bugs::{self, Bug};
use crate::identity::ServiceAccount;
use crate::request_info::Scope;

/// Events a stream may be ahead of its collection: the list they belong to is still being read.
const MAX_BACKLOG: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The object's RV, as this collection saw it.
    pub(super) resource_version: u64,
    /// Since when it is in the collection, under this name and as the same object.
    pub(super) added: u64,
}

/// A member that a list proves gone.
pub(super) struct Gone {
    /// When it was found out: the list's RV, or the one before that of another object by its name, which is in the list.
    pub(super) resource_version: u64,
    /// `None`: not at hand.
    pub(super) last: Option<Last>,
}

pub(super) struct Collection {
    pub(super) scope: Scope,
    pub(super) form: Form,
    /// Of those whose requests made and kept it, the one that holds least, for all may not make as many as they like; not
    /// known after a restart until someone asks again.
    made_by: Option<ServiceAccount>,
    /// When a caller last asked for it; Unix seconds.
    pub(super) used: u64,
    /// Without it nothing below may be served.
    pub(super) complete: bool,
    pub(super) resource_version: u64,
    /// When the upstream last confirmed it; Unix seconds.
    pub(super) confirmed: u64,
    pub(super) kind: Arc<str>,
    pub(super) list_kind: Arc<str>,
    members: BTreeMap<ObjectId, Member>,
    deletions: Deletions,
    feeds: BTreeMap<u64, Feed>,
}

/// One watch stream on the collection's scope.
struct Feed {
    /// Every event after this RV was applied, or is in `backlog`. `u64::MAX`: not known yet.
    from: u64,
    seen: u64,
    backlog: VecDeque<Event>,
}

#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) resource_version: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Put(ObjectId),
    /// With the object as the event showed it, while that is still at hand.
    Deleted(ObjectId, Option<Bytes>),
    Bookmark,
}

impl What {
    fn is_of(&self, id: &ObjectId) -> bool {
        match self {
            Self::Put(of) | Self::Deleted(of, _) => of == id,
            Self::Bookmark => false,
        }
    }
}

/// What changed in a membership, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put(ObjectId, Member),
    Remove(ObjectId),
}

impl Collection {
    pub(super) fn new(scope: Scope, form: Form, kind: Arc<str>, list_kind: Arc<str>) -> Self {
        Self {
            scope,
            form,
            made_by: None,
            used: 0,
            complete: false,
            resource_version: 0,
            confirmed: 0,
            kind,
            list_kind,
            members: BTreeMap::new(),
            deletions: Deletions::default(),
            feeds: BTreeMap::new(),
        }
    }

    /// As it was when it was written; deletions since are not known.
    pub(super) fn restore(&mut self, resource_version: u64, confirmed: u64) {
        self.complete = true;
        self.resource_version = resource_version;
        self.confirmed = confirmed;
        self.deletions.forget_until(resource_version);
    }

    pub(super) fn restore_member(&mut self, id: ObjectId, member: Member) {
        self.members.insert(id, member);
    }

    /// `is_lighter`: the caller holds less than the one it belongs to.
    pub(super) fn used_by(&mut self, caller: &ServiceAccount, is_lighter: bool, now: u64) {
        self.used = self.used.max(now);
        if is_lighter && !self.is_made_by(caller) {
            self.made_by = Some(caller.clone());
        }
    }

    pub(super) fn made_by(&self) -> Option<&ServiceAccount> {
        self.made_by.as_ref()
    }

    /// What it is of, and as of when, but not what it holds.
    pub(super) fn without_content(&self) -> Self {
        let (kind, list_kind) = (self.kind.clone(), self.list_kind.clone());
        let mut same = Self::new(self.scope.clone(), self.form, kind, list_kind);
        same.resource_version = self.resource_version;
        same
    }

    pub(super) fn is_made_by(&self, caller: &ServiceAccount) -> bool {
        self.made_by.as_ref() == Some(caller)
    }

    pub(super) fn members(&self) -> &BTreeMap<ObjectId, Member> {
        &self.members
    }

    pub(super) fn contains(&self, id: &ObjectId) -> bool {
        self.complete && self.members.contains_key(id)
    }

    /// Whether the object is a member, and was last seen at this RV.
    pub(super) fn vouches_for(&self, id: &ObjectId, resource_version: u64) -> bool {
        let member = self.members.get(id).filter(|_| self.complete);
        member.is_some_and(|member| member.resource_version == resource_version)
    }

    /// A member's state, as it is told.
    pub(super) fn state(&self, member: &Member) -> key::StateName<'_> {
        let version = &self.scope.resource.version;
        (version, self.form, member.resource_version)
    }

    /// Whether this state of an object is what the collection tells of it, or will when the list comes that a stream is ahead of.
    pub(super) fn holds(&self, id: &ObjectId, state: key::StateName<'_>) -> bool {
        let (version, form, resource_version) = state;
        // Of what a stream is ahead by, only the last of an object is ever told.
        let is_last = |feed: &Feed| {
            let mut events = feed.backlog.iter().rev();
            let last = events.find(|event| event.what.is_of(id));
            last.is_some_and(|last| {
                last.resource_version == resource_version && matches!(last.what, What::Put(_))
            })
        };
        (&*self.scope.resource.version, self.form) == (version, form)
            && (self.vouches_for(id, resource_version) || self.feeds.values().any(is_last))
    }

    /// The objects that streams showed ahead of the list that is to come, each with its RV there.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (&ObjectId, u64)> {
        let events = self.feeds.values().flat_map(|feed| feed.backlog.iter());
        events.filter_map(|event| match &event.what {
            What::Put(id) => Some((id, event.resource_version)),
            What::Deleted(..) | What::Bookmark => None,
        })
    }

    /// Whether the object is a member, or may become one when the list comes that a stream is ahead of.
    pub(super) fn may_hold(&self, id: &ObjectId) -> bool {
        let is_ahead = |feed: &Feed| !feed.backlog.is_empty();
        self.members.contains_key(id)
            || (id.is_in(self.scope.namespace.as_deref()) && self.feeds.values().any(is_ahead))
    }

    /// See [`Bug::FilteredDeletedBelieved`].
    #[cfg(test)]
    pub(super) fn believe_gone(&mut self, id: &ObjectId) {
        self.members.remove(id);
    }

    pub(super) fn is_fed(&self) -> bool {
        !self.feeds.is_empty()
    }

    /// Replaces the membership by a whole list. `gone` are the members that it proves gone: with the last of each, no client
    /// that stands where the collection stood need list again. `None`: the list is older than what is known, and nothing changed.
    pub(super) fn commit(
        &mut self,
        list: BTreeMap<ObjectId, u64>,
        resource_version: u64,
        now: u64,
        mut gone: BTreeMap<ObjectId, Gone>,
    ) -> Option<Vec<Change>> {
        if bugs::is_on(Bug::GhostAfterRelist) {
            gone.clear();
        }
        let before = self.resource_version;
        if self.complete && resource_version < before && !bugs::is_on(Bug::RvBackwards) {
            return None;
        }
        let mut changes = Vec::new();
        let mut is_exact = self.complete;
        let mut deletions = Vec::new();
        for (
            id,
            Gone {
                resource_version,
                last,
            },
        ) in gone
        {
            let Some(member) = self.members.remove(&id) else {
                continue;
            };
            match last {
                Some(object) => deletions.push(Deletion {
                    id: id.clone(),
                    resource_version,
                    added: member.added,
                    object,
                }),
                None => is_exact = false,
            }
            changes.push(Change::Remove(id));
        }
        for (id, member_version) in list {
            // One that is new, and older than what was known: whoever followed the collection until there was not told of it.
            is_exact &= member_version > before || self.members.contains_key(&id);
            changes.extend(self.put(id, member_version));
        }
        match is_exact {
            true => (self.deletions).inferred(deletions, before, resource_version),
            false => self.deletions.forget_until(resource_version),
        }
        self.complete = true;
        self.resource_version = resource_version;
        self.confirmed = self.confirmed.max(now);
        changes.extend(self.catch_up(now));
        Some(changes)
    }

    fn put(&mut self, id: ObjectId, resource_version: u64) -> Option<Change> {
        let member = match self.members.get(&id) {
            Some(known) if known.resource_version == resource_version => return None,
            Some(known) => Member {
                resource_version,
                added: known.added,
            },
            None => Member {
                resource_version,
                added: resource_version,
            },
        };
        self.members.insert(id.clone(), member);
        Some(Change::Put(id, member))
    }

    /// What can no longer be kept up must not be served.
    pub(super) fn give_up(&mut self) {
        self.complete = false;
        self.members = BTreeMap::new();
        self.deletions = Deletions::default();
        for feed in self.feeds.values_mut() {
            if feed.from != u64::MAX {
                feed.from = feed.from.max(feed.seen).max(self.resource_version);
            }
            feed.backlog.clear();
        }
    }

    // --- streams ---

    /// A stream starts that misses nothing after `from` (`u64::MAX`: not known yet).
    pub(super) fn attach(&mut self, feed: u64, from: u64) {
        let state = Feed {
            from,
            seen: if from == u64::MAX { 0 } else { from },
            backlog: VecDeque::new(),
        };
        self.feeds.insert(feed, state);
    }

    pub(super) fn detach(&mut self, feed: u64) {
        self.feeds.remove(&feed);
    }

    /// Whether a list is all that the events of this stream need to reach the collection without a gap.
    pub(super) fn lacks_list(&self, feed: u64) -> bool {
        self.feeds.get(&feed).is_some_and(|feed| {
            let follows = self.complete && feed.from <= self.resource_version;
            feed.from != u64::MAX && !follows
        })
    }

    /// The next event of a stream, in its order.
    pub(super) fn observe(&mut self, feed: u64, event: Event, now: u64) -> Vec<Change> {
        let Some(state) = self.feeds.get_mut(&feed) else {
            return Vec::new();
        };
        state.seen = state.seen.max(event.resource_version);
        if state.from == u64::MAX && matches!(event.what, What::Bookmark) {
            // All until here was sent, so that nothing after it will be missed.
            state.from = event.resource_version;
        }
        if state.from == u64::MAX
            || (self.complete && event.resource_version <= self.resource_version)
        {
            // Nothing happened: what is known is of now.
            let is_last = self.complete && event.resource_version == self.resource_version;
            if is_last && matches!(event.what, What::Bookmark) {
                self.confirmed = self.confirmed.max(now);
            }
            return Vec::new();
        }
        if self.complete && state.from <= self.resource_version && state.backlog.is_empty() {
            return self.apply(event, now).into_iter().collect();
        }
        state.push(event);
        self.catch_up(now)
    }

    /// Applies what streams had seen before the collection was known.
    fn catch_up(&mut self, now: u64) -> Vec<Change> {
        if !self.complete {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let feeds: Vec<u64> = self.feeds.keys().copied().collect();
        for feed in feeds {
            let Some(state) = self.feeds.get_mut(&feed) else {
                continue;
            };
            if state.from > self.resource_version {
                continue;
            }
            for event in std::mem::take(&mut state.backlog) {
                if event.resource_version > self.resource_version {
                    changes.extend(self.apply(event, now));
                }
            }
        }
        changes
    }

    fn apply(&mut self, event: Event, now: u64) -> Option<Change> {
        self.resource_version = event.resource_version;
        self.confirmed = self.confirmed.max(now);
        match event.what {
            What::Put(id) => self.put(id, event.resource_version),
            What::Deleted(id, object) => self.delete(id, object, event.resource_version),
            What::Bookmark => None,
        }
    }

    fn delete(
        &mut self,
        id: ObjectId,
        object: Option<Bytes>,
        resource_version: u64,
    ) -> Option<Change> {
        let member = self.members.remove(&id)?;
        match object {
            Some(object) => self.deletions.told(Deletion {
                id: id.clone(),
                resource_version,
                added: member.added,
                object: Last::Shown(object),
            }),
            None => self.deletions.forget_until(resource_version),
        }
        Some(Change::Remove(id))
    }

    /// What is known of its deletions.
    pub(super) fn deletions(&self) -> &Deletions {
        &self.deletions
    }

    pub(super) fn forget_deletions(&mut self) {
        self.deletions.forget_until(self.resource_version);
    }
}

impl Feed {
    fn push(&mut self, mut event: Event) {
        if let What::Deleted(_, object) = &mut event.what {
            // A backlog is bounded by count, so it holds no bytes.
            *object = None;
        }
        if matches!(event.what, What::Bookmark)
            && let Some(last) = self.backlog.back_mut()
            && matches!(last.what, What::Bookmark)
        {
            *last = event;
        } else {
            self.backlog.push_back(event);
        }
        if self.backlog.len() > MAX_BACKLOG
            && let Some(dropped) = self.backlog.pop_front()
        {
            self.from = self.from.max(dropped.resource_version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_info::GroupVersionResource;

    const FEED: u64 = 1;

    fn pods() -> Collection {
        let scope = Scope {
            resource: GroupVersionResource {
                group: String::new(),
                version: "v1".to_owned(),
                resource: "pods".to_owned(),
            },
            namespace: None,
            label_selector: String::new(),
            field_selector: String::new(),
        };
        Collection::new(scope, Form::JSON, "Pod".into(), "PodList".into())
    }

    fn id(name: &str) -> ObjectId {
        ObjectId::new("a", name).expect("a name")
    }

    fn list(members: &[(&str, u64)]) -> BTreeMap<ObjectId, u64> {
        members.iter().map(|(name, rv)| (id(name), *rv)).collect()
    }

    fn put(name: &str, resource_version: u64) -> Event {
        Event {
            resource_version,
            what: What::Put(id(name)),
        }
    }

    fn deleted(name: &str, resource_version: u64) -> Event {
        Event {
            resource_version,
            what: What::Deleted(id(name), Some(Bytes::from_static(b"{}"))),
        }
    }

    /// A list is read, with the last of whatever it lacks at hand.
    fn commit(pods: &mut Collection, rv: u64, members: &[(&str, u64)]) -> Option<Vec<Change>> {
        let list = list(members);
        let lacking = pods.members.keys().filter(|id| !list.contains_key(*id));
        let gone = lacking.map(|id| (id.clone(), gone_at(rv))).collect();
        pods.commit(list, rv, 0, gone)
    }

    fn gone_at(resource_version: u64) -> Gone {
        Gone {
            resource_version,
            last: Some(Last::Shown(Bytes::from_static(b"{}"))),
        }
    }

    /// The deletions after an RV, and since when each was in the collection.
    fn gone(pods: &Collection, since: u64) -> Option<Vec<(String, u64, u64)>> {
        let deletions = pods.deletions();
        let told = |d: &Deletion| (d.id.name().to_owned(), d.resource_version, d.added);
        (deletions.are_known_since(since)).then(|| deletions.after(since).map(told).collect())
    }

    fn names(collection: &Collection) -> Vec<&str> {
        collection.members.keys().map(ObjectId::name).collect()
    }

    #[test]
    fn events_after_the_list_are_applied_and_older_ones_are_not() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5)]);
        pods.attach(FEED, 10);
        pods.observe(FEED, put("old", 9), 0);
        pods.observe(FEED, put("y", 11), 0);
        pods.observe(FEED, deleted("x", 12), 0);
        assert_eq!((names(&pods), pods.resource_version), (vec!["y"], 12));
    }

    #[test]
    fn a_stream_with_a_gap_before_it_is_not_applied() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5)]);
        pods.attach(FEED, 20);
        pods.observe(FEED, put("y", 21), 0);
        assert_eq!((names(&pods), pods.resource_version), (vec!["x"], 10));
        commit(&mut pods, 20, &[("x", 5), ("z", 15)]).expect("newer");
        assert_eq!(
            (names(&pods), pods.resource_version),
            (vec!["x", "y", "z"], 21)
        );
    }

    #[test]
    fn events_that_came_before_their_list_was_read_are_applied_after_it() {
        let mut pods = pods();
        pods.attach(FEED, 10);
        pods.observe(FEED, put("y", 11), 0);
        pods.observe(FEED, deleted("x", 12), 0);
        commit(&mut pods, 10, &[("x", 5)]);
        assert_eq!((names(&pods), pods.resource_version), (vec!["y"], 12));
    }

    #[test]
    fn a_list_older_than_the_stream_changes_nothing() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5)]);
        pods.attach(FEED, 10);
        pods.observe(FEED, put("y", 12), 0);
        assert_eq!(commit(&mut pods, 11, &[("x", 5)]), None);
        assert_eq!((names(&pods), pods.resource_version), (vec!["x", "y"], 12));
    }

    #[test]
    fn of_two_streams_of_one_scope_the_rv_decides() {
        let mut pods = pods();
        commit(&mut pods, 10, &[]);
        pods.attach(1, 10);
        pods.attach(2, 10);
        pods.observe(1, put("x", 11), 0);
        pods.observe(1, deleted("x", 12), 0);
        pods.observe(2, put("x", 11), 0);
        assert_eq!((names(&pods), pods.resource_version), (vec![], 12));
    }

    #[test]
    fn a_stream_that_ran_too_far_ahead_counts_from_what_it_still_holds() {
        let mut pods = pods();
        pods.attach(FEED, 1);
        for n in 0..=MAX_BACKLOG as u64 {
            pods.observe(FEED, put("x", 100 + n), 0);
        }
        commit(&mut pods, 50, &[]);
        assert_eq!((names(&pods), pods.resource_version), (vec![], 50));
        commit(&mut pods, 100, &[]);
        assert_eq!(pods.resource_version, 100 + MAX_BACKLOG as u64);
    }

    #[test]
    fn a_bookmark_moves_the_rv() {
        let mut pods = pods();
        commit(&mut pods, 10, &[]);
        pods.attach(FEED, 10);
        let bookmark = Event {
            resource_version: 15,
            what: What::Bookmark,
        };
        assert_eq!(pods.observe(FEED, bookmark, 77), vec![]);
        assert_eq!((pods.resource_version, pods.confirmed), (15, 77));
    }

    #[test]
    fn a_collection_given_up_needs_a_list_from_where_its_stream_is() {
        let mut pods = pods();
        commit(&mut pods, 10, &[]);
        pods.attach(FEED, 10);
        pods.observe(FEED, put("x", 12), 0);
        pods.give_up();
        commit(&mut pods, 11, &[]);
        pods.observe(FEED, put("y", 13), 0);
        assert_eq!((names(&pods), pods.resource_version), (vec![], 11));
        commit(&mut pods, 12, &[("x", 12)]);
        assert_eq!((names(&pods), pods.resource_version), (vec!["x", "y"], 13));
    }

    #[test]
    fn deletions_are_known_from_the_first_list_on() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5), ("y", 6)]);
        pods.attach(FEED, 10);
        pods.observe(FEED, deleted("x", 11), 0);
        pods.observe(FEED, deleted("y", 12), 0);
        let since = |rv| gone(&pods, rv).map(|gone| gone.len());
        assert_eq!((since(9), since(10), since(11)), (None, Some(2), Some(1)));
    }

    #[test]
    fn what_a_later_list_lacks_was_deleted_by_then() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5), ("y", 6), ("z", 7)]);
        commit(&mut pods, 20, &[("y", 15)]);
        let (x, z) = (("x".to_owned(), 20, 5), ("z".to_owned(), 20, 7));
        assert_eq!(gone(&pods, 10), Some(vec![x, z]));
        assert_eq!(gone(&pods, 20), Some(vec![]));
        assert_eq!(gone(&pods, 9), None, "before the first list");
        // It may hold what came after 10 and was gone before 20.
        assert_eq!(gone(&pods, 15), None, "between the lists");
        commit(&mut pods, 30, &[]);
        let of = |since| gone(&pods, since).map(|gone| gone.len());
        assert_eq!((of(10), of(20), of(30)), (Some(3), Some(1), Some(0)));
    }

    #[test]
    fn another_object_by_the_same_name_is_new() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5), ("y", 6), ("z", 7)]);
        let replaced = [(id("x"), gone_at(17)), (id("z"), gone_at(20))].into();
        let changes = pods.commit(list(&[("x", 18), ("y", 19)]), 20, 0, replaced);
        assert!(changes.expect("newer").contains(&Change::Remove(id("z"))));
        let told = [("x", 17, 5), ("z", 20, 7)].map(|(n, rv, added)| (n.to_owned(), rv, added));
        assert_eq!(gone(&pods, 10), Some(told.to_vec()));
        let added = |name| pods.members[&id(name)].added;
        assert_eq!((added("x"), added("y")), (18, 6));
    }

    #[test]
    fn a_member_whose_last_is_not_at_hand_leaves_a_list_to_everybody() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5)]);
        let lost = Gone {
            resource_version: 20,
            last: None,
        };
        pods.commit(list(&[]), 20, 0, [(id("x"), lost)].into());
        assert_eq!((gone(&pods, 10), gone(&pods, 20)), (None, Some(vec![])));
    }

    #[test]
    fn one_that_is_new_and_older_than_what_was_known_leaves_a_list_to_everybody() {
        let mut pods = pods();
        commit(&mut pods, 10, &[]);
        commit(&mut pods, 20, &[("x", 5)]);
        assert_eq!((gone(&pods, 10), gone(&pods, 20)), (None, Some(vec![])));
    }

    #[test]
    fn a_deletion_that_was_seen_ahead_of_a_list_leaves_a_list_to_those_before_it() {
        let mut pods = pods();
        commit(&mut pods, 10, &[("x", 5)]);
        pods.attach(FEED, 20);
        pods.observe(FEED, deleted("x", 25), 0);
        commit(&mut pods, 20, &[("x", 5)]);
        assert_eq!(pods.resource_version, 25);
        assert_eq!((gone(&pods, 20), gone(&pods, 25)), (None, Some(vec![])));
    }
}

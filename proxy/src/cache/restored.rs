//! An etcd that was restored from a backup: its RVs went back, and what was learnt of later ones never was.
//!
//! It is noticed for one resource at a time, by an answer that is of now and older than what was known before it was asked
//! for. What is known of that resource is forgotten, and its streams end with a 410, as the API server would lead their
//! clients to list again. The other resources are in doubt from then on: each is checked, by one of its own streams.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::before::Before;
use super::key::GroupResource;
use super::state::State;
use super::{Cache, Shared};
use crate::request_info::GroupVersionResource;
use crate::runtime::latest::{Follower, Latest};

/// A check tells enough for this long, whoever asks for another.
const CHECKED_FOR: Duration = Duration::from_secs(60);

/// What became of a resource since a stream of it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    Nothing,
    /// It may have been restored: one of its streams is to find out.
    Doubted,
    /// What the stream showed never was.
    Restored,
}

/// Which resources were found restored, and which may be. Counted by a number that only grows.
pub(super) struct Restores {
    turn: Latest<u64>,
    restored: HashMap<GroupResource, u64>,
    doubted: HashMap<GroupResource, u64>,
    all_doubted: u64,
    checked: HashMap<GroupResource, (u64, Instant)>,
    under_check: HashSet<GroupResource>,
}

impl Default for Restores {
    fn default() -> Self {
        Self {
            turn: Latest::new(0),
            restored: HashMap::new(),
            doubted: HashMap::new(),
            all_doubted: 0,
            checked: HashMap::new(),
            under_check: HashSet::new(),
        }
    }
}

impl Restores {
    pub(super) fn count(&self) -> u64 {
        self.turn.get()
    }

    fn next(&self) -> u64 {
        self.count() + 1
    }

    pub(super) fn became(&self, resource: &GroupResource, since: u64) -> Became {
        let turn = |of: &HashMap<GroupResource, u64>| of.get(resource).copied().unwrap_or(0);
        let checked = self.checked.get(resource).map_or(0, |(turn, _)| *turn);
        if turn(&self.restored) > since {
            Became::Restored
        } else if turn(&self.doubted).max(self.all_doubted) > since.max(checked) {
            Became::Doubted
        } else {
            Became::Nothing
        }
    }

    fn begin_check(&mut self, resource: &GroupResource) -> bool {
        let is_fresh = self.checked.get(resource).is_some_and(|(turn, at)| {
            let doubted = self.doubted.get(resource).copied().unwrap_or(0);
            *turn >= doubted.max(self.all_doubted) && at.elapsed() < CHECKED_FOR
        });
        !is_fresh && self.under_check.insert(resource.clone())
    }
}

impl State {
    /// The upstream's RVs of this resource went back: all that is known of it is forgotten, but for who may read it.
    pub(super) fn restored(&mut self, resource: &GroupResource) {
        tracing::warn!(
            group = resource.group,
            resource = resource.resource,
            "the resourceVersions of the API server went back, as after a restore of its etcd: what was known of this resource is forgotten"
        );
        for id in self.collections.ids_of(resource) {
            self.give_up(id);
            self.collections.remove(id);
        }
        for (id, fact) in self.facts.forget(resource) {
            self.unwrite(resource, &id, fact.state());
        }
        self.hurry(resource);
        self.pages.forget(resource);
        self.forget_least(resource);
        self.given_up.forget(resource);
        let turn = self.restores.next();
        self.restores.restored.insert(resource.clone(), turn);
        self.restores.all_doubted = turn;
        let now = Instant::now();
        self.restores.checked.insert(resource.clone(), (turn, now));
        self.restores.turn.set(turn);
    }

    /// The upstream does not know an RV that it said before.
    pub(super) fn doubt(&mut self, resource: &GroupResource) {
        let turn = self.restores.next();
        self.restores.doubted.insert(resource.clone(), turn);
        self.restores.turn.set(turn);
    }
}

/// A turn at checking one resource: its RV of now is asked for, by a LIST without a resourceVersion.
pub struct Check {
    shared: Arc<Shared>,
    resource: GroupVersionResource,
    before: Before,
    turn: u64,
}

impl Check {
    /// The upstream's answer is of this RV.
    pub fn answered(self, resource_version: u64) {
        let mut state = self.shared.lock();
        let of = GroupResource::of(&self.resource);
        let checked = (self.turn, Instant::now());
        state.restores.checked.insert(of, checked);
        (self.before).compare(&mut state, &self.resource, resource_version);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        let of = GroupResource::of(&self.resource);
        self.shared.lock().restores.under_check.remove(&of);
    }
}

impl Cache {
    /// Counts what was found or doubted so far, and tells when there is more.
    pub fn restores(&self) -> Follower<u64> {
        self.shared.lock().restores.turn.follow()
    }

    /// What became of a resource since `restores` told this count.
    pub fn became(&self, resource: &GroupVersionResource, since: u64) -> Became {
        let state = self.shared.lock();
        state.restores.became(&GroupResource::of(resource), since)
    }

    /// To be asked for before the LIST is sent. `None`: somebody else is at it, or was just now.
    pub fn check(&self, resource: &GroupVersionResource) -> Option<Check> {
        let mut state = self.shared.lock();
        let of = GroupResource::of(resource);
        state.restores.begin_check(&of).then(|| Check {
            shared: self.shared.clone(),
            resource: resource.clone(),
            before: Before::of_list(&state, resource),
            turn: state.restores.count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> GroupResource {
        GroupResource {
            group: String::new(),
            resource: name.to_owned(),
        }
    }

    fn doubt(restores: &mut Restores, name: &str) {
        let turn = restores.next();
        restores.doubted.insert(resource(name), turn);
        restores.turn.set(turn);
    }

    fn checked(restores: &mut Restores, name: &str) {
        let turn = restores.turn.get();
        restores.under_check.remove(&resource(name));
        restores
            .checked
            .insert(resource(name), (turn, Instant::now()));
    }

    #[test]
    fn a_doubt_lasts_until_it_was_checked_and_a_later_one_is_another() {
        let mut restores = Restores::default();
        doubt(&mut restores, "pods");
        assert_eq!(restores.became(&resource("pods"), 0), Became::Doubted);
        assert_eq!(restores.became(&resource("nodes"), 0), Became::Nothing);
        assert!(restores.begin_check(&resource("pods")));
        assert!(!restores.begin_check(&resource("pods")), "one at a time");
        checked(&mut restores, "pods");
        assert_eq!(restores.became(&resource("pods"), 0), Became::Nothing);
        assert!(!restores.begin_check(&resource("pods")), "just checked");
        doubt(&mut restores, "pods");
        assert_eq!(restores.became(&resource("pods"), 0), Became::Doubted);
        assert!(restores.begin_check(&resource("pods")));
    }

    #[test]
    fn a_check_that_failed_is_left_to_another() {
        let mut restores = Restores::default();
        doubt(&mut restores, "pods");
        assert!(restores.begin_check(&resource("pods")));
        restores.under_check.remove(&resource("pods"));
        assert_eq!(restores.became(&resource("pods"), 0), Became::Doubted);
        assert!(restores.begin_check(&resource("pods")));
    }
}

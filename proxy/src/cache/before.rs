//! What was known before a request was sent. An answer that is of now cannot be older than that, unless the upstream's own
//! storage went back: an etcd that was restored from a backup.

use super::Shared;
use super::key::{GroupResource, ObjectId};
use super::restored::Became;
use super::state::State;
use crate::request_info::{GroupVersionResource, RequestInfo, Verb};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// The highest RV that the upstream had said of what is asked for: of the object for a GET, else of its whole resource.
    /// 0: nothing is known of it.
    pub(super) newest: u64,
    /// The answer is of now, or of later: the API server asks its storage before it answers without a resourceVersion
    /// (`apiserver:pkg/storage/cacher/delegator/interface.go`), and what is created is new. Where the client is content with
    /// something older, an API server may well lag behind another.
    is_of_now: bool,
    /// How many restores had been found; what was known before one is void.
    restores: u64,
}

impl Before {
    pub(super) fn of(shared: &Shared, info: &RequestInfo) -> Self {
        if let Some(written) = info.written() {
            let resource = GroupResource::of(&written.object.resource);
            let id = ObjectId::of(&written.object);
            let is_of_now = info.verb == Verb::Create && written.shown;
            let state = shared.lock();
            return Self::new(&state, state.newest(&resource, id.as_ref()), is_of_now);
        }
        let options = &info.options;
        let is_of_now = options.resource_version.is_empty()
            && options.resource_version_match.is_empty()
            && options.continue_token.is_empty();
        if let Some(scope) = info.scope() {
            let is_of_now = match info.verb {
                // Unless all is asked for in so many words, an older API server begins with what it has at hand.
                Verb::Watch => {
                    options.send_initial_events == Some(true) && options.resource_version.is_empty()
                }
                _ => is_of_now,
            };
            let state = shared.lock();
            let newest = state.newest(&GroupResource::of(&scope.resource), None);
            return Self::new(&state, newest, is_of_now);
        }
        let Some(object) = info.object() else {
            return Self::default();
        };
        let resource = GroupResource::of(&object.resource);
        let state = shared.lock();
        let newest = ObjectId::of(&object).map(|id| {
            let facts = state.facts.get(&resource, &id).iter();
            let facts = facts.map(|fact| fact.resource_version);
            facts.fold(state.facts.gone_at(&resource, &id), u64::max)
        });
        Self::new(&state, newest.unwrap_or(0), is_of_now)
    }

    fn new(state: &State, newest: u64, is_of_now: bool) -> Self {
        Self {
            newest,
            is_of_now,
            restores: state.restores.count(),
        }
    }

    /// Of a LIST without a resourceVersion.
    pub(super) fn of_list(state: &State, resource: &GroupVersionResource) -> Self {
        let newest = state.newest(&GroupResource::of(resource), None);
        Self::new(state, newest, true)
    }

    /// An answer of this RV (0: it says none) is of a storage in which there never was what was known.
    pub(super) fn is_refuted_by(self, resource_version: u64) -> bool {
        self.is_of_now && (1..self.newest).contains(&resource_version)
    }

    /// How many restores had been found, as [`super::Cache::restores`] counts them.
    pub fn restores(self) -> u64 {
        self.restores
    }

    /// The answer is of this RV. `true`: what was known of the resource was of a storage that is no more,
    /// and is forgotten.
    pub(super) fn compare(
        self,
        state: &mut State,
        resource: &GroupVersionResource,
        resource_version: u64,
    ) -> bool {
        if !self.is_refuted_by(resource_version) {
            return false;
        }
        let resource = GroupResource::of(resource);
        let went_back = state.restores.became(&resource, self.restores) != Became::Restored;
        if went_back {
            state.restored(&resource);
        }
        went_back
    }

    /// The upstream does not know this RV (yet): it lags, or it was restored.
    pub(super) fn doubts(self, info: &RequestInfo) -> bool {
        let asked = info.options.resource_version.parse::<u64>();
        asked.is_ok_and(|asked| (1..=self.newest).contains(&asked))
    }
}

impl State {
    /// The highest RV that the upstream has said of this resource, as far as collections tell, and of this object.
    pub(super) fn newest(&self, resource: &GroupResource, id: Option<&ObjectId>) -> u64 {
        let collections = self.collections.of(resource);
        let newest = collections.map(|(_, c)| c.resource_version).max();
        let facts = id.map_or(&[][..], |id| self.facts.get(resource, id));
        let facts = facts.iter().map(|fact| fact.resource_version);
        facts.fold(newest.unwrap_or(0), u64::max)
    }
}

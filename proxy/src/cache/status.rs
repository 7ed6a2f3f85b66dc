//! What the cache says of itself.

use std::sync::PoisonError;

use super::Shared;
use super::aside;
use super::collection::Collection;
pub use super::evict::Evicted;
use super::evict::SAID_FOR;
use super::state::State;
use super::store;

/// Whether what was learnt outlives the process, for `/status`.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// `disk`, or `memory` when the store could not be used.
    pub backing: String,
    /// Why not `disk`, where a damaged file was set aside, why the last commit failed, or that the cache is full or lets go of things.
    pub condition: Option<String>,
    pub facts: usize,
    pub grants: usize,
    pub responses: usize,
    /// Damaged files that were moved out of the way since the process began.
    pub set_aside: u64,
    /// What the disk had to do since the process began.
    pub written_bytes: u64,
    pub syncs: u64,
    /// What the store takes on the disk.
    pub file_bytes: u64,
    /// Of all objects and responses, as the upstream sent them; `max_bytes` at most.
    pub bytes: u64,
    pub max_bytes: u64,
    /// What made room for something else since the process began.
    pub evicted: Evicted,
    /// The complete ones.
    pub collections: Vec<CollectionStatus>,
}

#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionStatus {
    pub resource: String,
    /// Empty: all namespaces.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
    pub form: String,
    pub resource_version: u64,
    pub objects: usize,
    /// Seconds since the upstream last confirmed it.
    pub age_seconds: u64,
}

pub(super) fn status(shared: &Shared, now: u64) -> CacheStatus {
    let commit_error = shared
        .commit_error
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let opened = shared
        .opened
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let state = shared.lock();
    // Until there is a new one, what is learnt is in memory.
    let on_disk = shared.late_disk().is_none() && !state.store.is_lost();
    let disk = state.store.disk_use();
    let full = pressure(&state, now).map(str::to_owned);
    let lost = (state.store.is_lost()).then(|| store::lost(state.store.as_ref()));
    let closed = (state.store)
        .is_closed()
        .then(|| "the disk failed: nothing is read from it until it is opened again".to_owned());
    let conditions: Vec<String> = [opened, commit_error, lost, closed, full]
        .into_iter()
        .flatten()
        .collect();
    CacheStatus {
        backing: if on_disk { "disk" } else { "memory" }.to_owned(),
        condition: (!conditions.is_empty()).then(|| conditions.join("; ")),
        facts: state.facts.count(),
        grants: state.grants.count(),
        responses: state.responses.count(),
        set_aside: aside::count(),
        written_bytes: disk.written_bytes,
        syncs: disk.syncs,
        file_bytes: disk.file_bytes,
        bytes: state.bytes(),
        max_bytes: state.max_bytes,
        evicted: state.pressure.evicted,
        collections: state
            .collections
            .all()
            .filter(|(_, collection)| collection.complete)
            .map(|(_, collection)| collection_status(collection, now))
            .collect(),
    }
}

/// What is to be said of the room that is left.
fn pressure(state: &State, now: u64) -> Option<&'static str> {
    let evicting = (state.pressure.last).is_some_and(|last| now.saturating_sub(last) < SAID_FOR);
    if state.is_full {
        Some("full: what is new is not learnt, see cache.maxBytes")
    } else if evicting {
        Some("evicting: what was used longest ago makes room for what is new, see cache.maxBytes")
    } else {
        None
    }
}

fn collection_status(collection: &Collection, now: u64) -> CollectionStatus {
    let scope = &collection.scope;
    CollectionStatus {
        resource: scope.resource.to_string(),
        namespace: scope.namespace.clone().unwrap_or_default(),
        label_selector: scope.label_selector.clone(),
        field_selector: scope.field_selector.clone(),
        form: collection.form.word().to_owned(),
        resource_version: collection.resource_version,
        objects: collection.members().len(),
        age_seconds: now.saturating_sub(collection.confirmed),
    }
}

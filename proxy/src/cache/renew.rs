//! A store that was found damaged while it was used is replaced by a new one: what can be read of the old is copied, what is
//! known in memory is written again, and what is left of neither is given up, so that it is believed when it is shown again.

use std::sync::{Arc, PoisonError};

use super::collection::Collection;
use super::key::{GroupResource, fact_key, parse_fact_key};
use super::state::{Keeping, State};
use super::store::{Store, StoreError, Table};
use super::{Shared, store};

/// Of facts, as they are stored.
type Keys = Vec<Vec<u8>>;

/// `false`: the store is lost, and a new one cannot be made; to be tried again.
pub(super) async fn renew(shared: &Arc<Shared>) -> bool {
    let lost = shared.lock().store.clone();
    if !lost.is_lost() {
        return true;
    }
    let keys = on_disk_only(&shared.lock());
    let what = store::lost(lost.as_ref());
    let renewed = tokio::task::spawn_blocking(move || renewed(lost.as_ref(), keys)).await;
    let renewed = renewed.unwrap_or_else(|panicked| Err(StoreError::Damaged(panicked.to_string())));
    let is_renewed = renewed.is_ok();
    let condition = match renewed {
        Ok((store, missing)) => {
            // No commit ran meanwhile: what changed since is still to be written, and goes to the new one.
            let mut state = shared.lock();
            state.store = store;
            let lost = give_up(&mut state, missing);
            write_again(&mut state);
            format!("{what}; {lost} objects are lost, the others are in a new one")
        }
        Err(error) => {
            format!("{what}, and a new one cannot be made: {error}")
        }
    };
    if shared.commit_failed.is_due() {
        tracing::warn!("{condition}");
    }
    *shared.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(condition);
    is_renewed
}

/// The facts whose bytes are nowhere else.
fn on_disk_only(state: &State) -> Keys {
    let keys = state
        .facts
        .all()
        .map(|(of, id, fact)| fact_key(of, fact.state(), id));
    keys.filter(|key| state.writes.get(Table::Objects, key).is_none())
        .collect()
}

/// The new store, and which of the facts it does not have.
fn renewed(lost: &dyn Store, mut keys: Keys) -> Result<(Arc<dyn Store>, Keys), StoreError> {
    let store = lost.renewed()?;
    let snapshot = store.snapshot()?;
    keys.retain(|key| !matches!(snapshot.get(Table::Objects, key), Ok(Some(_))));
    Ok((store, keys))
}

fn give_up(state: &mut State, missing: Keys) -> usize {
    let mut resources: Vec<GroupResource> = Vec::new();
    let mut lost = 0;
    for key in missing {
        let Some((resource, known, id)) = parse_fact_key(&key) else {
            continue;
        };
        // Seen anew since it was found missing.
        if state.writes.get(Table::Objects, &key).is_some() {
            continue;
        }
        lost += usize::from(state.facts.lose(&resource, &id, known));
        resources.push(resource);
    }
    resources.sort();
    resources.dedup();
    resources
        .iter()
        .for_each(|resource| state.give_up_unsound(resource));
    lost
}

fn write_again(state: &mut State) {
    let is_on_disk = |collection: &Collection| {
        let resource = GroupResource::of(&collection.scope.resource);
        collection.complete && state.keeping(&resource) == Keeping::Disk
    };
    let collections = state.collections.all().filter(|(_, c)| is_on_disk(c));
    let collections: Vec<u64> = collections.map(|(id, _)| id).collect();
    for id in collections {
        state.write_collection(id);
    }
    let columns: Vec<_> = (state.columns.all())
        .map(|(resource, columns)| (resource.clone(), columns.clone()))
        .collect();
    for (resource, columns) in columns {
        state.write_columns(&resource, &columns);
    }
    let grants = state.grants.all();
    state.write_grants(grants);
    state.write_least_again();
    state.write_issuer_keys();
    state.write_dark();
}

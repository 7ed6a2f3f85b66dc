//! Writes what was learnt, in batches: a disk wears out by the write, not by the byte.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::store::StoreError;
use super::{Shared, last, renew};
use crate::runtime::blocking;

/// Commits a batch every `interval` (or earlier when much waits) until `stop`, then once more.
pub(super) async fn run(shared: &Arc<Shared>, interval: Duration, stop: CancellationToken) {
    loop {
        // Each arm may be cancelled: none has done anything yet.
        tokio::select! {
        biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
                () = shared.commit_now.notified() => {}
            }
        if !commit(shared).await {
            // What woke us is still there; a disk that fails is not asked again at once.
            tokio::select! {
            biased;
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(interval) => {}
                    }
        }
    }
    shared.lock().writes.hurry_all();
    commit(shared).await;
}

/// A disk that failed a read may do better now. Without this, nothing could be told until something is learnt again.
async fn reopen(shared: &Arc<Shared>) {
    let store = shared.lock().store.clone();
    if !store.is_closed() {
        return;
    }
    if let Ok(Err(error)) = blocking(move || store.reopen()).await
        && shared.commit_failed.is_due()
    {
        tracing::warn!(%error, "the store cannot be read; what is in it is told when it can be again");
    }
}

/// Writes what waits; `false` when that failed, and it waits still.
pub(super) async fn commit(shared: &Arc<Shared>) -> bool {
    if !renew::renew(shared).await {
        return false;
    }
    reopen(shared).await;
    let (batch, unread, store) = {
        let mut state = shared.lock();
        // Taken under the lock that all of one change is made under: a batch never holds half a list.
        let Some(batch) = state.writes.begin_commit() else {
            return true;
        };
        let unread = std::mem::take(&mut state.unread);
        (batch, unread, state.store.clone())
    };
    let written = blocking(move || {
        last::fill(&unread, store.as_ref());
        store.commit(&batch)
    });
    let written = written.await;
    let written = written.unwrap_or_else(|panicked| Err(StoreError::Damaged(panicked.to_string())));
    let mut error = shared
        .commit_error
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let mut state = shared.lock();
    match written {
        Ok(()) => {
            state.writes.committed();
            *error = None;
            true
        }
        Err(failed) => {
            state.writes.commit_failed();
            if shared.commit_failed.is_due() {
                tracing::warn!(error = %failed, "what was learnt could not be written; it is kept in memory and tried again");
            }
            *error = Some(format!("the last commit failed: {failed}"));
            false
        }
    }
}

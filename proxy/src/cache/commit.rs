//! Writes what was learnt, in batches: a disk wears out by the write, not by the byte.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::store::{Store, StoreError};
use super::{Shared, last, late_disk, renew};
use crate::runtime::blocking;

/// How long nothing was written until there is time to put the store in order. Longer than the second in which a controller
/// answers an event.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Commits a batch every `interval` (or earlier when much waits) until `stop`, then once more.
pub(super) async fn run(shared: &Arc<Shared>, interval: Duration, stop: CancellationToken) {
    // When something was written, unless the store is in order since. It may not be when it is opened.
    let mut written = Some(Instant::now());
    loop {
        // Each arm may be cancelled: none has done anything yet.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
            () = shared.commit_now.notified() => {}
        }
        late_disk::settle_when_due(shared).await;
        match write(shared).await {
            Written::All => written = Some(Instant::now()),
            Written::Nothing if written.is_some_and(|at| at.elapsed() >= IDLE_AFTER) => {
                order(shared, |store| store.idle()).await;
                written = None;
            }
            Written::Nothing => {}
            // What woke us is still there; a disk that fails is not asked again at once.
            Written::Failed => tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
            },
        }
    }
    shared.lock().writes.hurry_all();
    write(shared).await;
    order(shared, |store| store.stop()).await;
}

enum Written {
    All,
    Nothing,
    /// It waits still.
    Failed,
}

/// What is not done now is done another time: the store is whole as it is.
async fn order(
    shared: &Arc<Shared>,
    order: impl FnOnce(&dyn Store) -> Result<(), StoreError> + Send + 'static,
) {
    let store = shared.lock().store.clone();
    if let Ok(Err(error)) = blocking(move || order(store.as_ref())).await {
        tracing::warn!(%error, "the store could not be put in order");
    }
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

/// Writes what waits.
async fn write(shared: &Arc<Shared>) -> Written {
    if !renew::renew(shared).await {
        return Written::Failed;
    }
    reopen(shared).await;
    let (batch, unread, store) = {
        let mut state = shared.lock();
        // Taken under the lock that all of one change is made under: a batch never holds half a list.
        let Some(batch) = state.writes.begin_commit() else {
            return Written::Nothing;
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
            Written::All
        }
        Err(failed) => {
            state.writes.commit_failed();
            if shared.commit_failed.is_due() {
                tracing::warn!(error = %failed, "what was learnt could not be written; it is kept in memory and tried again");
            }
            *error = Some(format!("the last commit failed: {failed}"));
            Written::Failed
        }
    }
}

/// Writes what waits; `false` when that failed.
#[cfg(test)]
pub(super) async fn commit(shared: &Arc<Shared>) -> bool {
    !matches!(write(shared).await, Written::Failed)
}

//! A disk that could not be used when Holdfast was started is tried again until it can.
//!
//! What was learnt meanwhile is in memory, and newer than what is on that disk: it takes its place there, in one commit. If
//! nothing was heard of the upstream, what is on the disk is the newest there is: it is loaded, as at a start. The two are never
//! mixed: of what was known before, nobody could say what has been taken back since.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::open::{self, OpenStore, Opened};
use super::state::State;
use super::store::{Store, StoreError, Table};
use super::tail::Tail;
use super::writes::Writes;
use crate::config;
use crate::runtime::blocking;

/// A disk is often there a moment later: a mount, a device that is slow to come up.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Twice as long after each try, up to this. A try opens a file or two, and reads what is in them.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// It holds more than was learnt in the moment in which it could not be had.
const LEFT_ALONE: &str = "another process held the store when Holdfast was started: it is left as it is, and what is learnt is \
                          kept in memory only, until the next start";

pub(super) struct LateDisk {
    config: config::Cache,
    open_store: Arc<OpenStore>,
    was_in_use: bool,
    next: Mutex<Next>,
}

#[derive(Clone, Copy)]
struct Next {
    at: Instant,
    pause: Duration,
}

impl LateDisk {
    /// `error`: why it could not be used.
    pub(super) fn new(
        config: &config::Cache,
        open_store: &Arc<OpenStore>,
        error: &StoreError,
    ) -> Self {
        Self {
            config: config.clone(),
            open_store: open_store.clone(),
            was_in_use: matches!(error, StoreError::InUse),
            next: Mutex::new(Next {
                at: Instant::now() + FIRST_PAUSE,
                pause: FIRST_PAUSE,
            }),
        }
    }

    /// Whether it is time; the next time is later.
    fn take_turn(&self) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now < next.at {
            return false;
        }
        let pause = (2 * next.pause).min(LONGEST_PAUSE);
        *next = Next {
            at: now + pause,
            pause,
        };
        true
    }
}

/// If there is such a disk, and it is time.
pub(super) async fn settle_when_due(shared: &Arc<Shared>) {
    if shared.late_disk().is_some_and(|late| late.take_turn()) {
        settle(shared).await;
    }
}

/// No commit may run meanwhile. `false`: the disk cannot be used still.
pub(super) async fn settle(shared: &Arc<Shared>) -> bool {
    let Some(late) = shared.late_disk() else {
        return true;
    };
    let was_in_use = late.was_in_use;
    let opened = blocking(move || open::open_once(&late.config, late.open_store.as_ref()));
    let opened = opened.await.unwrap_or_else(panicked);
    let settled = match opened {
        Ok(opened) => moved(shared, opened, was_in_use).await,
        Err(error) => Err(error),
    };
    let condition = match settled {
        Ok(condition) => {
            shared.set_late_disk(None);
            condition
        }
        Err(error) => Some(open::in_memory_only(&error)),
    };
    *shared.opened.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    shared.late_disk().is_none()
}

fn panicked<T>(panicked: tokio::task::JoinError) -> Result<T, StoreError> {
    Err(StoreError::Damaged(panicked.to_string()))
}

/// From memory to what was opened; what is to be said of that.
async fn moved(
    shared: &Arc<Shared>,
    opened: Opened,
    was_in_use: bool,
) -> Result<Option<String>, StoreError> {
    let Opened {
        state: mut on_disk,
        condition,
        ..
    } = opened;
    let memory = {
        let mut state = shared.lock();
        // Whoever tells of the upstream says so before it waits for the lock.
        if !shared.has_heard.load(Ordering::SeqCst) {
            adopt(&mut state, on_disk);
            tracing::info!("the disk can be used: what is on it is known");
            return Ok(condition);
        }
        state.store.clone()
    };
    if was_in_use {
        tracing::warn!("{LEFT_ALONE}");
        // Closing a file may take a while.
        let _ = blocking(move || drop(on_disk)).await;
        return Ok(Some(LEFT_ALONE.to_owned()));
    }
    let disk = on_disk.store.clone();
    let replaced = blocking(move || replace(memory.as_ref(), disk.as_ref()));
    if let Err(error) = replaced.await.unwrap_or_else(panicked) {
        // Closing a file may take a while.
        let _ = blocking(move || drop(on_disk)).await;
        return Err(error);
    }
    let mut state = shared.lock();
    state.store = on_disk.store;
    state.max_bytes = on_disk.max_bytes;
    match on_disk.writes.take_tail() {
        Some(tail) => state.writes.follow(tail),
        None => state.writes.put(Table::Meta, Tail::key(), None),
    }
    tracing::info!("the disk can be used: what is learnt is kept there");
    Ok(condition)
}

/// All that is known is what is on the disk.
fn adopt(state: &mut State, mut on_disk: State) {
    // There are those who follow them.
    std::mem::swap(&mut state.restores, &mut on_disk.restores);
    let keys = state.issuer_keys.take();
    let dark = state.dark;
    *state = on_disk;
    if state.dark != dark {
        state.dark = dark;
        state.write_dark();
    }
    if keys.is_some() {
        state.issuer_keys = keys;
        state.write_issuer_keys();
    }
}

/// All that is on the disk is what is in memory, and how far its tail is.
fn replace(memory: &dyn Store, disk: &dyn Store) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    for table in Table::ALL {
        let mut known = HashSet::new();
        memory.scan(table, &mut |key, value| {
            known.insert(key.to_vec());
            writes.put(table, key.to_vec(), Some(value.to_vec().into()));
            Ok(())
        })?;
        disk.scan(table, &mut |key, _| {
            let is_of_tail = table == Table::Meta && key == Tail::key();
            if !is_of_tail && !known.contains(key) {
                writes.put(table, key.to_vec(), None);
            }
            Ok(())
        })?;
    }
    match writes.begin_commit() {
        Some(batch) => disk.commit(&batch),
        None => Ok(()),
    }
}

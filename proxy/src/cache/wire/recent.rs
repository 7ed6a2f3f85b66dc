//! Events that were read a moment ago. What thirty pods watch comes in thirty streams, byte for byte the same: it is read once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{EventType, ObjectMeta, WatchEvent};

/// So many events a stream may be behind another.
const MAX_EVENTS: usize = 16;
/// A longer one is read again. With [`MAX_EVENTS`], of frames 512 KiB are held at most; what was read of them is less, unless they are
/// mostly labels.
const MAX_BYTES: usize = 32 * 1024;

/// JSON events, the newest first. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RecentEvents(Arc<Mutex<VecDeque<Recent>>>);

#[derive(Debug)]
struct Recent {
    frame: Box<[u8]>,
    object: Range<usize>,
    kind: EventType,
    meta: Arc<ObjectMeta>,
}

impl RecentEvents {
    /// The event that `chunk` starts with, cut off it, if it is one of these.
    pub(super) fn cut_off(&self, chunk: &mut Bytes) -> Option<WatchEvent> {
        let events = self.lock();
        let recent = events
            .iter()
            .find(|recent| chunk.starts_with(&recent.frame))?;
        let frame = chunk.split_to(recent.frame.len());
        Some(WatchEvent {
            kind: recent.kind,
            object: frame.slice(recent.object.clone()),
            meta: Arc::clone(&recent.meta),
            frame,
        })
    }

    pub(super) fn keep(&self, event: &WatchEvent) {
        // Its splitter has one; whoever is to read it again has another, beside the cache's.
        let is_shared = Arc::strong_count(&self.0) > 2;
        if !is_shared {
            self.lock().clear();
            return;
        }
        if event.frame.len() > MAX_BYTES {
            return;
        }
        let start = event.object.as_ptr() as usize - event.frame.as_ptr() as usize;
        let mut events = self.lock();
        events.truncate(MAX_EVENTS - 1);
        events.push_front(Recent {
            // Its own allocation: a slice would keep all that was read with it.
            frame: event.frame.as_ref().into(),
            object: start..start + event.object.len(),
            kind: event.kind,
            meta: Arc::clone(&event.meta),
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Recent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

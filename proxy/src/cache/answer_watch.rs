//! Answers to WATCH: what comes first on a stream that is then held.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::answer::Asked;
use super::changes::Changes;
use super::collection::Collection;
use super::headers;
use super::learn::granted;
use super::reading::{Cursor, Part, Pulled, Reading};
use super::state::State;
use super::watch_feed::{Start, start};
use super::wire::{bookmark, watch_event};
use super::{Granted, Shared, WatchAnswer, WatchFormat};
use crate::bugs::{self, Bug};
use crate::policy::Reason;

type Chunks = Box<dyn Iterator<Item = Result<Bytes, Reason>> + Send>;

/// Whole frames of a stream, read from the store as they are asked for.
pub struct Frames {
    frames: Pulled<Chunks>,
    reached: Arc<AtomicU64>,
}

impl Frames {
    /// The next frame. After an error there is none: the stream must end there, since the client has not seen what is known.
    /// Not to be dropped half-way.
    pub async fn next(&mut self) -> Option<Result<Bytes, Reason>> {
        self.frames.next().await
    }

    /// What the client has seen once it has read all of them.
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }
}

pub(super) fn watch(asked: &Asked<'_>) -> Result<WatchAnswer, Reason> {
    let Some(Granted::Scope(scope)) = granted(asked.info) else {
        return Err(Reason::NotCacheable);
    };
    let start = start(asked.info).ok_or(Reason::BadRequest)?;
    let mut state = asked.shared.lock();
    let mut candidates = asked.collections(&state, &scope)?;
    if let Start::Everything = start {
        candidates = asked.up_to_date(&state, candidates)?;
    }
    let (collection, part) = candidates.into_iter().next().ok_or(Reason::Incomplete)?;
    let api_version = collection.form.api_version(&scope.resource);
    let (api_version, kind) = part.rendering.type_meta(api_version, &collection.kind);
    let format = WatchFormat {
        encoding: part.rendering.encoding(part.form),
        api_version,
        kind,
    };
    let mut resource_version = collection.resource_version;
    if let Start::After(after) = start {
        // What the client has seen and we have not is the upstream's to tell.
        resource_version = resource_version.max(after);
    }
    let content_type = part.rendering.watch_content_type(part.form);
    let headers = headers::cached(content_type, asked.age(collection.confirmed), asked.request);
    let (cursor, end) = replay(asked, &state, collection, &part, start)?;
    state.used_collection(asked.caller, part.collection, asked.now);
    state.note_told(asked.caller, &part);
    if resource_version == part.resource_version {
        state.keep_part(asked.caller, &scope, &part);
    }
    Ok(WatchAnswer {
        headers,
        frames: frames(asked.shared, part, (cursor, resource_version), &format, end),
        format,
        resource_version,
    })
}

fn last_frame(format: &WatchFormat, resource_version: u64, initial_events_end: bool) -> Bytes {
    bookmark(
        format.encoding,
        &format.api_version,
        &format.kind,
        resource_version,
        initial_events_end,
    )
}

/// `end`: whether a bookmark follows, and whether it is the one that ends initial events.
pub(super) fn frames(
    shared: &Arc<Shared>,
    part: Part,
    (cursor, resource_version): (Option<Cursor>, u64),
    format: &WatchFormat,
    end: Option<bool>,
) -> Frames {
    let encoding = format.encoding;
    let events = cursor.map(|cursor| Reading::new(shared.clone(), part, cursor, true));
    let reached = match &events {
        Some(events) => events.reached(),
        None => Arc::new(AtomicU64::new(resource_version)),
    };
    let frames = events
        .into_iter()
        .flatten()
        .map(move |event| event.map(|event| watch_event(encoding, event.kind, &event.object)));
    let (format, at) = (format.clone(), reached.clone());
    let end = end.into_iter().map(move |initial_events_end| {
        Ok(last_frame(
            &format,
            at.load(Ordering::Relaxed),
            initial_events_end,
        ))
    });
    let frames: Chunks = Box::new(frames.chain(end));
    Frames {
        frames: Pulled::new(shared.clone(), frames),
        reached,
    }
}

/// Where the events to begin with are, and whether a bookmark follows them (`Some(true)`: the one that ends initial events).
fn replay(
    asked: &Asked<'_>,
    state: &State,
    collection: &Collection,
    part: &Part,
    start: Start,
) -> Result<(Option<Cursor>, Option<bool>), Reason> {
    let options = &asked.info.options;
    match start {
        Start::Now => Ok((None, None)),
        Start::Everything => {
            if let Ok(least) = options.resource_version.parse::<u64>()
                && least > collection.resource_version
            {
                return Err(Reason::ResourceVersionTooLarge);
            }
            for member in part.after(state, collection, None) {
                member?;
            }
            // Initial events or not: who wants no bookmarks gets none (`apiserver:pkg/storage/cacher/cacher.go`).
            let is_wanted = options.allow_watch_bookmarks && !bugs::is_on(Bug::MissingBookmark);
            let end = is_wanted.then_some(true);
            Ok((Some(Cursor::Members(None)), end))
        }
        Start::After(after) if after >= collection.resource_version => Ok((None, None)),
        Start::After(after) => {
            part.can_tell(collection, after)?;
            let mut deletions = collection.deletions().after(after);
            if part.rendering.transcodes(part.form) && !deletions.all(|gone| gone.object.has_json())
            {
                // A list does without them.
                return Err(Reason::Expired);
            }
            let cursor = Cursor::Changes(Changes::since(after));
            Ok((Some(cursor), options.allow_watch_bookmarks.then_some(false)))
        }
    }
}

//! Answers to WATCH: what comes first on a stream that is then held.

use bytes::Bytes;

use super::answer::{Asked, read_failed, snapshot};
use super::collection::Collection;
use super::collections::Narrowing;
use super::headers;
use super::key::{GroupResource, api_version};
use super::learn::granted;
use super::object::Stored;
use super::state::State;
use super::store::Snapshot;
use super::watch_feed::{Start, start};
use super::wire::{EventType, bookmark, watch_event};
use super::{Granted, Shared, WatchAnswer, WatchFormat};
use crate::policy::Reason;
use crate::request_info::{GroupVersionResource, Scope};

/// One event to be sent.
struct Replayed {
    resource_version: u64,
    kind: EventType,
    object: Object,
}

enum Object {
    Stored(Stored),
    /// Of a deletion, as its event showed it.
    AtHand(Bytes),
}

pub(super) fn watch(asked: &Asked<'_>) -> Result<WatchAnswer, Reason> {
    let Some(Granted::Scope(scope)) = granted(asked.info) else {
        return Err(Reason::NotCacheable);
    };
    let start = start(asked.info).ok_or(Reason::BadRequest)?;
    let (mut answer, events, end, snapshot) = {
        let state = asked.shared.lock();
        let (collection, narrowing) = asked.collection(&state, &scope)?;
        let (events, end) = replay(asked, &state, collection, &narrowing, start)?;
        let mut answer = empty(asked, &scope, collection);
        if let Start::After(after) = start {
            // What the client has seen and we have not is the upstream's to tell.
            answer.resource_version = answer.resource_version.max(after);
        }
        (answer, events, end, snapshot(&state)?)
    };
    for event in events {
        answer.frames.push(frame(
            asked.shared,
            event,
            &answer.format,
            snapshot.as_ref(),
            &scope.resource,
        )?);
    }
    if let Some(initial_events_end) = end {
        let WatchFormat {
            encoding,
            api_version,
            kind,
        } = &answer.format;
        let resource_version = answer.resource_version;
        answer.frames.push(bookmark(
            *encoding,
            api_version,
            kind,
            resource_version,
            initial_events_end,
        ));
    }
    Ok(answer)
}

fn empty(asked: &Asked<'_>, scope: &Scope, collection: &Collection) -> WatchAnswer {
    let content_type = headers::watch_content_type(collection.encoding);
    WatchAnswer {
        headers: headers::cached(content_type, asked.age(collection.confirmed), asked.request),
        format: WatchFormat {
            encoding: collection.encoding,
            api_version: api_version(&scope.resource),
            kind: collection.kind.to_string(),
        },
        frames: Vec::new(),
        resource_version: collection.resource_version,
    }
}

fn frame(
    shared: &Shared,
    event: Replayed,
    format: &WatchFormat,
    snapshot: &dyn Snapshot,
    resource: &GroupVersionResource,
) -> Result<Bytes, Reason> {
    let object = match event.object {
        Object::AtHand(object) => object,
        Object::Stored(stored) => stored
            .read_whole(snapshot, resource)
            .map_err(|error| read_failed(shared, &stored, &error))?,
    };
    Ok(watch_event(format.encoding, event.kind, &object))
}

/// The events to begin with, and whether a bookmark follows them (`Some(true)`: the one that ends initial events).
fn replay(
    asked: &Asked<'_>,
    state: &State,
    collection: &Collection,
    narrowing: &Narrowing,
    start: Start,
) -> Result<(Vec<Replayed>, Option<bool>), Reason> {
    let options = &asked.info.options;
    match start {
        Start::Now => Ok((Vec::new(), None)),
        Start::Everything => {
            if let Ok(least) = options.resource_version.parse::<u64>()
                && least > collection.resource_version
            {
                return Err(Reason::ResourceVersionTooLarge);
            }
            let wants_end =
                options.allow_watch_bookmarks || options.send_initial_events == Some(true);
            let members = Asked::members(state, collection, narrowing)?;
            let events = members.into_iter().map(|stored| Replayed {
                resource_version: stored.resource_version,
                kind: EventType::Added,
                object: Object::Stored(stored),
            });
            Ok((events.collect(), wants_end.then_some(true)))
        }
        Start::After(after) if after >= collection.resource_version => Ok((Vec::new(), None)),
        Start::After(after) => {
            let events = since(state, collection, narrowing, after)?;
            Ok((events, options.allow_watch_bookmarks.then_some(false)))
        }
    }
}

/// Every change after an RV, in order; [`Reason::Expired`] when one of them may not be known.
fn since(
    state: &State,
    collection: &Collection,
    narrowing: &Narrowing,
    after: u64,
) -> Result<Vec<Replayed>, Reason> {
    let resource = GroupResource::of(&collection.scope.resource);
    let version = &collection.scope.resource.version;
    let deletions = collection.deletions_since(after).ok_or(Reason::Expired)?;
    let mut events: Vec<Replayed> = deletions
        .filter(|deletion| narrowing.holds(&deletion.id))
        .map(|deletion| Replayed {
            resource_version: deletion.resource_version,
            kind: EventType::Deleted,
            object: Object::AtHand(deletion.object.clone()),
        })
        .collect();
    let changed = collection
        .members()
        .iter()
        .filter(|(id, member)| member.resource_version > after && narrowing.holds(id));
    for (id, member) in changed {
        let fact = state
            .facts
            .find(&resource, id, version, collection.encoding);
        // Another stream is ahead of this collection: sent now, the object's RV would make the client skip what is between.
        let fact = fact.filter(|fact| fact.resource_version == member.resource_version);
        let fact = fact.ok_or(Reason::Expired)?;
        events.push(Replayed {
            resource_version: member.resource_version,
            kind: if member.added > after {
                EventType::Added
            } else {
                EventType::Modified
            },
            object: Object::Stored(Stored::of(state, &resource, id, fact)),
        });
    }
    events.sort_by_key(|event| event.resource_version);
    Ok(events)
}

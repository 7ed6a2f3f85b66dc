//! What a stream missed: the difference between where its client stands and where its collection is.

use http::HeaderMap;

use super::answer_watch::{Frames, frames};
use super::changes::Changes;
use super::collection::Collection;
use super::form::Form;
use super::grants::Granted;
use super::learn::{form, granted};
use super::narrowing::Narrowing;
use super::pages::PartialList;
use super::reading::{Cursor, Part};
use super::rendering::Rendering;
use super::state::State;
use super::{Cache, WatchFormat};
use crate::identity::ServiceAccount;
use crate::policy::Reason;
use crate::request_info::{RequestInfo, Scope};

/// What a stream is about: its scope, in the form in which the upstream tells it. Streams of one topic share a collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    scope: Scope,
    form: Form,
}

/// See [`Cache::missed`].
pub struct Missed {
    pub frames: Frames,
    pub format: WatchFormat,
}

impl Cache {
    /// The topic of a watch, from its request and the answer to it. `None`: nothing the cache could tell of it: rows are for
    /// human eyes, which list by themselves.
    pub fn topic(
        &self,
        info: &RequestInfo,
        request: &HeaderMap,
        response: &HeaderMap,
    ) -> Option<Topic> {
        let Some(Granted::Scope(scope)) = granted(info) else {
            return None;
        };
        let form = form(info, request, response).filter(|form| !form.is_row())?;
        Some(Topic { scope, form })
    }

    /// The RV of a topic's collection, if every change since `seen` is known.
    pub fn known_since(&self, topic: &Topic, seen: u64) -> Option<u64> {
        let state = self.shared.lock();
        let (collection, part) = find(&state, topic)?;
        part.can_tell(collection, seen).ok()?;
        (seen <= collection.resource_version).then_some(collection.resource_version)
    }

    /// Every change since `seen`, as a stream tells it, and a bookmark if one is wanted. To be asked for only when the
    /// upstream has accepted the very watch that goes on from there.
    pub fn missed(&self, topic: &Topic, seen: u64, with_bookmark: bool) -> Result<Missed, Reason> {
        let state = self.shared.lock();
        let (collection, part) = find(&state, topic).ok_or(Reason::Incomplete)?;
        part.can_tell(collection, seen)?;
        let format = WatchFormat {
            encoding: topic.form.encoding(),
            api_version: topic.form.api_version(&topic.scope.resource),
            kind: collection.kind.to_string(),
        };
        let start = (
            Some(Cursor::Changes(Changes::since(seen))),
            collection.resource_version,
        );
        drop(state);
        let end = with_bookmark.then_some(false);
        let frames = frames(&self.shared, part, start, &format, end);
        Ok(Missed { frames, format })
    }
}

impl State {
    /// A stream was answered from a wider collection, or from a fresher one than its own: what it was told is what its own
    /// scope held at that RV, as a list would have said. So it can be told what it missed, should the upstream not know the RV.
    pub(super) fn keep_part(&mut self, caller: &ServiceAccount, scope: &Scope, part: &Part) {
        let Some(wide) = self.collections.get(part.collection) else {
            return;
        };
        let own = self.collections.id(scope, part.form);
        let own = own.and_then(|id| self.collections.get(id));
        let is_known =
            own.is_some_and(|own| own.complete && own.resource_version >= part.resource_version);
        if is_known || !part.rendering.is_same() || part.form.is_row() {
            return;
        }
        let members = part.after(self, wide, None);
        let members = members.map(|member| {
            let (id, fact) = member?;
            Ok((id.clone(), fact.resource_version))
        });
        let Ok(members) = members.collect::<Result<_, Reason>>() else {
            return;
        };
        let list = PartialList {
            members,
            kind: wide.kind.clone(),
            list_kind: wide.list_kind.clone(),
            resource_version: part.resource_version,
            since: wide.confirmed,
        };
        let confirmed = wide.confirmed;
        if let Err(reason) = self.commit_list(caller, scope, part.form, list, confirmed) {
            tracing::debug!(
                reason = reason.as_str(),
                "a part of a collection was not kept"
            );
        }
    }
}

fn find<'s>(state: &'s State, topic: &Topic) -> Option<(&'s Collection, Part)> {
    let id = state.collections.id(&topic.scope, topic.form)?;
    let collection = state.collections.get(id)?;
    let part = Part {
        collection: id,
        narrowing: Narrowing::default(),
        resource_version: collection.resource_version,
        resource: topic.scope.resource.clone(),
        form: topic.form,
        rendering: Rendering::Same,
    };
    collection.complete.then_some((collection, part))
}

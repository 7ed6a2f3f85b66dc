//! Learns from the events of one watch stream.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode, response};

use super::before::Before;
use super::collection::{Event, What};
use super::form::Form;
use super::grants::Granted;
use super::key::{GroupResource, ObjectId, is_unfiltered};
use super::learn::{Bare, bare_object, form, granted};
use super::pages::{MAX_LIST_OBJECTS, PartialList};
use super::restored::Became;
use super::state::{Keeping, NotLearnt, Object, Seen, State};
use super::wire::{self, EventType, WatchEvent};
use super::{Shared, unix_seconds};
#[cfg(test)]
use crate::bugs::{self, Bug};
use crate::identity::ServiceAccount;
use crate::request_info::accept::Encoding;
use crate::request_info::{RequestInfo, Scope, Verb};

/// Learns from one watch stream.
pub struct WatchFeed {
    shared: Arc<Shared>,
    caller: ServiceAccount,
    scope: Box<Scope>,
    form: Form,
    collection: u64,
    feed: u64,
    /// `None` once that is whole, when the stream began at an RV, or when it will not say that it is whole.
    initial: Option<Box<Initial>>,
    /// The RV that was asked for, if any, and what was known before that.
    asked: u64,
    before: Before,
    began_anew: Option<u64>,
    /// How many restores had been found when it began: what was shown before a later one is void.
    restores: u64,
    failed: bool,
}

/// What a stream has shown so far of the content it began with.
struct Initial {
    list: PartialList,
    /// The bookmark that ends it says so. An API server that knows no such bookmarks sends a plain one, which is as good:
    /// all until its RV was sent before.
    end_is_marked: bool,
}

impl WatchFeed {
    pub(super) fn new(
        shared: &Arc<Shared>,
        caller: &ServiceAccount,
        info: &RequestInfo,
        request: &HeaderMap,
        response: &response::Parts,
        now: SystemTime,
    ) -> Option<Self> {
        if response.status != StatusCode::OK || info.verb != Verb::Watch {
            return None;
        }
        let Some(Granted::Scope(scope)) = granted(info) else {
            return None;
        };
        let mut state = shared.lock();
        let form = form(info, request, &response.headers);
        let granted = Granted::Scope(scope.clone());
        state.grant_as(caller, granted, form, unix_seconds(now));
        Self::attach(shared, &mut state, caller, scope, form?, info)
    }

    fn attach(
        shared: &Arc<Shared>,
        state: &mut State,
        caller: &ServiceAccount,
        scope: Scope,
        form: Form,
        info: &RequestInfo,
    ) -> Option<Self> {
        if state.keeping(&GroupResource::of(&scope.resource)) == Keeping::Never {
            return None;
        }
        let (initial, from) = match start(info)? {
            Start::After(resource_version) => (None, resource_version),
            // Held back without a bookmark to come, a membership would be held back for ever.
            Start::Everything if !info.options.allow_watch_bookmarks => (None, u64::MAX),
            Start::Everything => {
                let initial = Initial {
                    list: PartialList::default(),
                    end_is_marked: info.options.send_initial_events == Some(true),
                };
                (Some(Box::new(initial)), u64::MAX)
            }
            Start::Now => (None, u64::MAX),
        };
        let attached = state.attach(caller, &scope, form, from);
        let (collection, feed) = attached
            .inspect_err(|reason| shared.not_learnt(*reason))
            .ok()?;
        Some(Self {
            shared: shared.clone(),
            caller: caller.clone(),
            scope: Box::new(scope),
            form,
            collection,
            feed,
            initial,
            asked: info.options.resource_version.parse().unwrap_or(0),
            before: Before::default(),
            began_anew: None,
            restores: state.restores.count(),
            failed: false,
        })
    }

    /// What was known before the watch was asked for: an upstream that went back since is noticed.
    #[must_use]
    pub fn since(mut self, before: Before) -> Self {
        self.before = before;
        self
    }

    /// One event, in the order of the stream.
    pub fn event(&mut self, event: &WatchEvent) {
        let now = unix_seconds(crate::runtime::now());
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if self.failed {
            self.note(&mut state, event);
            return;
        }
        // Forgotten with what it showed: the upstream went back. One that is still beginning may have begun after that.
        if state.collections.get(self.collection).is_none() {
            self.failed = self.initial.is_none();
            if self.failed || event.kind != EventType::Bookmark {
                return;
            }
        }
        let learnt = match event.kind {
            EventType::Error => {
                self.refused(&mut state, event);
                Ok(())
            }
            EventType::Bookmark => self.bookmark(&mut state, event, now),
            EventType::Added | EventType::Modified | EventType::Deleted => {
                self.object(&mut state, event, now)
            }
        };
        if learnt.is_err() {
            // The collection stays as true as it was, at its RV; this stream just cannot move it any more.
            self.failed = true;
            state.detach(self.collection, self.feed);
        }
        self.note(&mut state, event);
        drop(state);
        if let Err(reason) = learnt {
            shared.not_learnt(reason);
        }
        shared.wake_if_urgent();
    }

    /// Said once: what it began with is of an upstream that went back before, so that no restore of this count or a lower one
    /// is news to its client.
    pub fn began_anew(&mut self) -> Option<u64> {
        self.began_anew.take()
    }

    /// What its client has seen and the collection has not, nothing older is told of. Rows are for human eyes, which see that.
    fn note(&self, state: &mut State, event: &WatchEvent) {
        let until = event.meta.resource_version;
        if self.initial.is_some() || self.form.is_row() || event.kind == EventType::Error {
            return;
        }
        let resource = GroupResource::of(&self.scope.resource);
        if state.restores.became(&resource, self.restores) == Became::Restored {
            return;
        }
        let collection = state.collections.get(self.collection);
        if collection.is_some_and(|c| !c.complete || c.resource_version < until) {
            state.note_shown(&self.caller, &self.scope, until);
        }
    }

    /// Its collection cannot follow it: what was before the stream is not known, and no event will tell.
    /// A LIST of its scope, learnt from, would help. Rows are for human eyes, which list by themselves: they are not worth one.
    pub fn is_behind(&self) -> bool {
        if self.form.is_row() {
            return false;
        }
        let state = self.shared.lock();
        let collection = state.collections.get(self.collection);
        !self.failed
            && self.initial.is_none()
            && collection.is_some_and(|collection| collection.lacks_list(self.feed))
    }

    fn bookmark(
        &mut self,
        state: &mut State,
        event: &WatchEvent,
        now: u64,
    ) -> Result<(), NotLearnt> {
        self.check_kind(event)?;
        let resource_version = event.meta.resource_version;
        if resource_version == 0 {
            return Err(NotLearnt::Malformed);
        }
        self.check_json(event)?;
        let is_marked = event.meta.initial_events_end;
        let ended = self
            .initial
            .take_if(|initial| is_marked || !initial.end_is_marked);
        if ended.is_some() && self.went_back(state, resource_version) {
            return Ok(());
        }
        if state.collections.get(self.collection).is_none() {
            return Err(NotLearnt::Overtaken);
        }
        if let Some(mut list) = ended.map(|initial| initial.list) {
            list.resource_version = resource_version;
            list.kind = state.facts.word(&event.meta.kind);
            let learnt = state.commit_list(&self.caller, &self.scope, self.form, list, now);
            if let Err(reason) = learnt {
                self.shared.not_learnt(reason);
            }
        }
        if self.initial.is_some() {
            return Ok(());
        }
        let event = Event {
            resource_version,
            what: What::Bookmark,
        };
        state.observe(self.collection, self.feed, event, now);
        Ok(())
    }

    /// The content that the stream began with is older than what was known before it was asked for. What was learnt of it is
    /// forgotten with the rest; its stream goes on, behind a list that is to be read.
    fn went_back(&mut self, state: &mut State, resource_version: u64) -> bool {
        let before = std::mem::take(&mut self.before);
        if !before.is_refuted_by(resource_version) {
            return false;
        }
        before.compare(state, &self.scope.resource, resource_version);
        self.restores = state.restores.count();
        self.began_anew = Some(self.restores);
        let attached = state.attach(&self.caller, &self.scope, self.form, resource_version);
        if let Ok((collection, feed)) = attached {
            (self.collection, self.feed) = (collection, feed);
        }
        true
    }

    /// Of an event whose object is not kept, but changes what is known.
    fn check_json(&self, event: &WatchEvent) -> Result<(), NotLearnt> {
        match self.form.encoding() {
            Encoding::Json => {
                wire::check_json(&event.object, false).map_err(|_| NotLearnt::Malformed)
            }
            Encoding::Protobuf => Ok(()),
        }
    }

    /// The stream ends: the upstream does not know the RV that it was to be not older than.
    fn refused(&self, state: &mut State, event: &WatchEvent) {
        let is_known = (1..=self.before.newest).contains(&self.asked);
        if event.meta.status_code == Some(504) && is_known {
            state.doubt(&GroupResource::of(&self.scope.resource));
        }
    }

    fn object(&mut self, state: &mut State, event: &WatchEvent, now: u64) -> Result<(), NotLearnt> {
        self.check_kind(event)?;
        let meta = &event.meta;
        let resource_version = meta.resource_version;
        let id = ObjectId::new(&meta.namespace, &meta.name).ok_or(NotLearnt::Malformed)?;
        if !id.is_in(self.scope.namespace.as_deref()) || resource_version == 0 {
            return Err(NotLearnt::Malformed);
        }
        if event.kind == EventType::Deleted {
            self.check_json(event)?;
            self.deleted(state, event, id, now);
            return Ok(());
        }
        let Bare {
            bytes,
            bare,
            columns,
        } = bare_object(self.form, &event.object)?;
        state.learn_columns(&self.scope.resource, &columns);
        let object = Object {
            by: &self.caller,
            id: &id,
            form: self.form,
            uid: &meta.uid,
            resource_version,
            kind: &meta.kind,
            bare,
            labels: &meta.labels,
            bytes: &bytes,
            seen: match &self.initial {
                Some(_) => Seen::Listed,
                None => Seen::Streamed,
            },
        };
        state.learn_object(&self.scope.resource, &object, now)?;
        let id = (state.facts).shared(&GroupResource::of(&self.scope.resource), id);
        if let Some(initial) = &mut self.initial {
            initial.list.members.insert(id, resource_version);
            return match initial.list.members.len() {
                ..=MAX_LIST_OBJECTS => Ok(()),
                _ => Err(NotLearnt::Full),
            };
        }
        let event = Event {
            resource_version,
            what: What::Put(id.clone()),
        };
        state.observe(self.collection, self.feed, event, now);
        let resource = GroupResource::of(&self.scope.resource);
        state.prune(&resource, &id, now);
        Ok(())
    }

    /// On an unfiltered stream the object is gone. On a filtered one it may only have left the selection.
    fn deleted(&mut self, state: &mut State, event: &WatchEvent, id: ObjectId, now: u64) {
        let resource_version = event.meta.resource_version;
        if let Some(initial) = &mut self.initial {
            initial.list.members.remove(&id);
        }
        let observed = Event {
            resource_version,
            // Its own allocation: a slice of the frame would keep the whole of what was read with it.
            what: What::Deleted(
                id.clone(),
                Some(bytes::Bytes::copy_from_slice(&shown(self.form, event))),
            ),
        };
        state.observe(self.collection, self.feed, observed, now);
        #[cfg(test)]
        if bugs::is_on(Bug::FilteredDeletedBelieved) {
            (state.collections).believe_gone(&GroupResource::of(&self.scope.resource), &id);
        }
        if is_unfiltered(&self.scope) {
            state.object_gone(
                &GroupResource::of(&self.scope.resource),
                &id,
                resource_version,
                now,
            );
        }
    }

    /// Something else than was asked for says another version or kind.
    fn check_kind(&self, event: &WatchEvent) -> Result<(), NotLearnt> {
        let api_version = self.form.api_version(&self.scope.resource);
        match event.meta.api_version == api_version && self.form.is_kind(&event.meta.kind) {
            true => Ok(()),
            false => Err(NotLearnt::OtherRepresentation),
        }
    }
}

/// What a replay shows of a deleted object: it as it was told, or its row.
fn shown(form: Form, event: &WatchEvent) -> bytes::Bytes {
    let row = match form {
        Form::Row | Form::WholeRow => wire::open_table(&event.object).ok(),
        _ => None,
    };
    row.map_or_else(|| event.object.clone(), |table| table.row)
}

impl Drop for WatchFeed {
    fn drop(&mut self) {
        self.shared.lock().detach(self.collection, self.feed);
    }
}

/// What a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The events after this RV.
    After(u64),
    /// All there is, then a bookmark, then the events after it.
    Everything,
    /// Whatever comes next: only `sendInitialEvents=false` without an RV.
    Now,
}

/// `None`: an RV that is none.
pub(super) fn start(info: &RequestInfo) -> Option<Start> {
    let options = &info.options;
    let after = match options.resource_version.as_str() {
        "" | "0" => None,
        number => Some(number.parse().ok().filter(|after| *after != u64::MAX)?),
    };
    Some(match (options.send_initial_events, after) {
        (Some(true), _) | (None, None) => Start::Everything,
        (_, Some(after)) => Start::After(after),
        (Some(false), None) => Start::Now,
    })
}

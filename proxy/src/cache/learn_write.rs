//! Learns from the answer to one write.
//!
//! An answer that shows the object updates what is known of it, by RV, where that is of use to someone. It grants nothing:
//! to be let write is not to be let read. It moves no collection: those follow their lists and streams alone.
//! Whatever the answer shows, its caller is not told anything older of that object from then on.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode, response};

use super::before::Before;
use super::form::Form;
use super::inflate::Inflate;
use super::key::{GroupResource, ObjectId};
use super::learn::{append, form, learn_object, trimmed};
use super::state::{Keeping, NotLearnt, State};
use super::wire::{self, MAX_OBJECT_BYTES};
use super::{Shared, unix_seconds};
use crate::identity::ServiceAccount;
use crate::request_info::accept::Encoding;
use crate::request_info::{ObjectKey, RequestInfo, Verb};

/// Learns from the body of one 2xx answer to a write. Dropped without `finish`, only the write itself is remembered.
pub struct WriteLearner {
    shared: Arc<Shared>,
    caller: ServiceAccount,
    /// `name` is empty for a CREATE.
    object: ObjectKey,
    before: Before,
    /// What was noted of the write when it was answered.
    noted: u64,
    form: Form,
    inflate: Inflate,
    body: Vec<u8>,
    failed: Option<NotLearnt>,
    now: u64,
}

impl WriteLearner {
    pub(super) fn new(
        shared: &Arc<Shared>,
        caller: &ServiceAccount,
        info: &RequestInfo,
        before: Before,
        (request, response): (&HeaderMap, &response::Parts),
        now: SystemTime,
    ) -> Option<Self> {
        if !response.status.is_success() {
            return None;
        }
        let written = info.written()?;
        let resource = GroupResource::of(&written.object.resource);
        let (noted, keeping) = {
            let mut state = shared.lock();
            let noted = state.written(caller, &written.object, info.verb, before);
            (noted, state.keeping(&resource))
        };
        let is_object = matches!(response.status, StatusCode::OK | StatusCode::CREATED);
        if !written.shown || !is_object || keeping == Keeping::Never {
            return None;
        }
        let form = form(info, request, &response.headers)?;
        let mut inflate = Inflate::new(request, &response.headers)?;
        if form.encoding() == Encoding::Protobuf {
            inflate.leave_indentation();
        }
        Some(Self {
            shared: shared.clone(),
            caller: caller.clone(),
            object: written.object,
            before,
            noted,
            form,
            inflate,
            body: Vec::new(),
            failed: None,
            now: unix_seconds(now),
        })
    }

    /// The next bytes as they came from the upstream.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let body = &mut self.body;
        let fed = self
            .inflate
            .feed(chunk, &mut |bytes| append(body, bytes, MAX_OBJECT_BYTES));
        self.failed = fed.err();
    }

    /// The body ended cleanly.
    pub fn finish(self) {
        let shared = self.shared.clone();
        if let Err(reason) = self.learn() {
            shared.not_learnt(reason);
        }
        shared.wake_if_urgent();
    }

    fn learn(self) -> Result<(), NotLearnt> {
        let Self {
            shared,
            caller,
            mut object,
            before,
            noted,
            form,
            inflate,
            mut body,
            failed,
            now,
        } = self;
        failed.map_or(Ok(()), Err)?;
        inflate.finish(&mut |bytes| append(&mut body, bytes, MAX_OBJECT_BYTES))?;
        let body = trimmed(body);
        let encoding = form.encoding();
        let meta = wire::read_meta(encoding, &body).map_err(|_| NotLearnt::Malformed)?;
        // A Status is of the core group's version, too.
        if meta.kind == "Status" || meta.resource_version == 0 {
            return Err(NotLearnt::OtherRepresentation);
        }
        if object.name.is_empty() {
            object.name = meta.name.clone();
            let created = meta.resource_version;
            before.compare(&mut shared.lock(), &object.resource, created);
        }
        let may_be_deleted = wire::may_be_deleted(encoding, &body);
        if may_be_deleted.map_err(|_| NotLearnt::Malformed)? {
            return Ok(());
        }
        let id = ObjectId::of(&object).ok_or(NotLearnt::Malformed)?;
        let resource = GroupResource::of(&object.resource);
        if !is_of_use(&shared.lock(), &caller, &object, &meta.kind, form) {
            return Ok(());
        }
        learn_object(&shared, &caller, &object, (form, &body), (&meta, now))?;
        let mut state = shared.lock();
        let shown = meta.resource_version;
        state.note_answer(&caller, (&resource, &id), noted, shown);
        Ok(())
    }
}

/// Whether anyone may be told of the object: its writer, or whoever read it before. What a controller only ever writes
/// (events, above all) would fill the disk for nobody. And whether it is of the kind that the resource is known to have.
fn is_of_use(
    state: &State,
    caller: &ServiceAccount,
    object: &ObjectKey,
    kind: &str,
    form: Form,
) -> bool {
    let Some(id) = ObjectId::of(object) else {
        return false;
    };
    let resource = GroupResource::of(&object.resource);
    let of_form = |(_, collection): &(u64, &super::collection::Collection)| {
        collection.scope.resource == object.resource && collection.form == form
    };
    let mut collections = state.collections.of(&resource).filter(of_form);
    let is_kind = collections.all(|(_, c)| c.kind.is_empty() || &*c.kind == kind);
    let is_known = !state.facts.get(&resource, &id).is_empty();
    is_kind && (is_known || state.may_get(caller, object, &id))
}

impl State {
    /// The caller changed the object; how is not known yet, and may never be. The RV it has at least.
    fn written(
        &mut self,
        caller: &ServiceAccount,
        object: &ObjectKey,
        verb: Verb,
        before: Before,
    ) -> u64 {
        let resource = GroupResource::of(&object.resource);
        let least = before.newest + 1;
        let Some(id) = ObjectId::of(object) else {
            return least;
        };
        if verb == Verb::Delete {
            // Most likely gone; if not, it is shown again by whoever asks next.
            self.object_missing(object);
        }
        // Of what nothing is known, nothing old can be told.
        if before.newest > 0 {
            self.note_object(caller, (&resource, &id), least);
        }
        least
    }
}

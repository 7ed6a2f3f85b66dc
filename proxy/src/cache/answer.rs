//! Answers to GET and LIST, and with whole responses.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response};

use super::answer_response;
use super::collection::Collection;
use super::facts::Fact;
use super::form::Form;
use super::headers;
use super::key::{GroupResource, ObjectId, parse_fact_key};
use super::learn::granted;
use super::object::Stored;
use super::reading::Part;
use super::rendering::Rendering;
use super::responses::kept_path;
use super::rows::Rows;
use super::state::State;
use super::store::{Snapshot, StoreError};
use super::{Granted, Shared, unix_seconds};
use crate::body::{self, Body};
use crate::config;
use crate::identity::ServiceAccount;
use crate::policy::Reason;
use crate::request_info::accept::{self, Encoding, Representation};
use crate::request_info::{ObjectKey, RequestInfo, Scope, Verb};

/// A read that may be answered, if its caller may and if it is known.
pub(super) struct Asked<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) caller: &'a ServiceAccount,
    pub(super) info: &'a RequestInfo,
    pub(super) request: &'a HeaderMap,
    /// Best first.
    pub(super) accepted: Vec<Representation>,
    /// For a client that takes a Table.
    rows: Option<Arc<Rows>>,
    pub(super) now: u64,
    /// Seconds; what was confirmed longer ago is not told.
    max_age: Option<u64>,
}

/// A clock that is behind by more than this was set back: how old anything is cannot be told.
const CLOCK_SKEW: u64 = 60;

impl<'a> Asked<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        caller: &'a ServiceAccount,
        info: &'a RequestInfo,
        request: &'a HeaderMap,
        now: SystemTime,
    ) -> Result<Self, Reason> {
        if !info.is_read() || !info.method_is_get || !info.subresource.is_empty() {
            return Err(Reason::NotCacheable);
        }
        if info.options.unknown.is_some() || info.unmodelled_query.is_some() {
            return Err(Reason::UnmodelledQuery);
        }
        let accepted = accept::of_request(request);
        // Nothing is read for who is told nothing.
        let wants_rows =
            accepted.contains(&Representation::Table) && may_read(&shared.lock(), caller, info);
        let rows = wants_rows
            .then(|| Rows::of(shared, &info.group_version_resource(), info.whole_rows, now))
            .flatten();
        Ok(Self {
            shared,
            caller,
            info,
            request,
            accepted,
            rows: rows.map(Arc::new),
            now: unix_seconds(now),
            max_age: max_age(shared, info),
        })
    }

    /// What can be told of a form, as the client likes it best, and how much that is: 0 is best. `None`: nothing.
    /// `has_json`: what it is in JSON can be told, if it is protobuf.
    pub(super) fn rendering(
        &self,
        form: Form,
        has_json: impl Fn() -> bool,
    ) -> Option<(usize, Rendering)> {
        let mut accepted = self.accepted.iter().enumerate();
        accepted.find_map(|(preference, wanted)| {
            let rendering = Rendering::of(form, wanted, self.rows.as_ref())?;
            // A stream has no form in YAML: what comes next in the list of what is accepted counts.
            let is_told = (self.info.verb != Verb::Watch || !rendering.is_yaml(form))
                && (!rendering.transcodes(form) || has_json());
            is_told.then_some((preference, rendering))
        })
    }

    pub(super) fn age(&self, confirmed: u64) -> u64 {
        self.now.saturating_sub(confirmed)
    }

    pub(super) fn is_too_old(&self, confirmed: u64) -> bool {
        self.max_age.is_some_and(|max_age| {
            self.age(confirmed) > max_age || confirmed > self.now + CLOCK_SKEW
        })
    }

    /// The complete collections that hold the scope and that this caller may read and can decode; the freshest first.
    pub(super) fn collections<'s>(
        &self,
        state: &'s State,
        scope: &'s Scope,
    ) -> Result<Vec<(&'s Collection, Part)>, Reason> {
        if !state.grants.covers_scope(self.caller, scope) {
            return Err(no_grant(state, &GroupResource::of(&scope.resource)));
        }
        let mut is_known = false;
        let covering = state.collections.covering(scope);
        let mut found: Vec<_> = covering
            .inspect(|_| is_known = true)
            .filter_map(|(collection, narrowing)| {
                let mut part = Part {
                    collection: state.collections.id(&collection.scope, collection.form)?,
                    narrowing,
                    resource_version: collection.resource_version,
                    resource: collection.scope.resource.clone(),
                    form: collection.form,
                    rendering: Rendering::Same,
                };
                let has_json = || part.has_json(state, collection);
                let (preference, rendering) = self.rendering(collection.form, has_json)?;
                part.rendering = rendering;
                Some((preference, collection, part))
            })
            .collect();
        if found.is_empty() {
            return Err(match is_known {
                true => Reason::NotAcceptable,
                false => Reason::Incomplete,
            });
        }
        let given_up = state.given_up.least(scope);
        found.retain(|(_, collection, _)| collection.resource_version >= given_up);
        if found.is_empty() {
            return Err(Reason::Incomplete);
        }
        let least = state.shown.least(self.caller, scope);
        found.retain(|(_, collection, _)| collection.resource_version >= least);
        if found.is_empty() {
            return Err(Reason::ShownSince);
        }
        found.retain(|(_, collection, _)| !self.is_too_old(collection.confirmed));
        if found.is_empty() {
            return Err(Reason::TooOld);
        }
        found.sort_by_key(|(preference, collection, part)| {
            let freshest = Reverse(collection.resource_version);
            (freshest, *preference, !part.rendering.is_exact(part.form))
        });
        let found = found.into_iter();
        Ok(found
            .map(|(_, collection, part)| (collection, part))
            .collect())
    }
}

/// Whether the caller was let read what it asks for, if that is of a resource.
fn may_read(state: &State, caller: &ServiceAccount, info: &RequestInfo) -> bool {
    match granted(info) {
        Some(Granted::Scope(scope)) => state.grants.covers_scope(caller, &scope),
        Some(Granted::Object(key)) => {
            ObjectId::of(&key).is_some_and(|id| state.may_get(caller, &key, &id))
        }
        _ => false,
    }
}

/// Of the resource that is asked for.
fn max_age(shared: &Shared, info: &RequestInfo) -> Option<u64> {
    let of_resource = |max_age: &&config::MaxAge| {
        info.is_resource_request
            && (max_age.group == info.api_group && max_age.resource == info.resource)
    };
    let found = shared.max_age.iter().find(of_resource);
    found.map(|found| found.max_age.as_secs())
}

/// To someone without a grant nothing is said of what is known, but for whether the resource was ever seen at all.
fn no_grant(state: &State, resource: &GroupResource) -> Reason {
    if state.facts.knows(resource) || state.collections.knows(resource) {
        Reason::NoGrant
    } else {
        Reason::NeverSeen
    }
}

pub(super) fn store_failed(error: &StoreError) -> Reason {
    tracing::warn!(%error, "an answer could not be read from the store");
    Reason::Store
}

/// An object could not be read. One that is damaged is forgotten, so that the upstream is believed when it shows it again.
pub(super) fn read_failed(shared: &Shared, stored: &Stored, error: &StoreError) -> Reason {
    if let StoreError::Damaged(_) = error
        && let Some((resource, known, id)) = parse_fact_key(&stored.key)
    {
        shared.lock().lose(&resource, &id, known);
    }
    store_failed(error)
}

// --- GET ---

pub(super) fn get(asked: &Asked<'_>) -> Result<Response<Body>, Reason> {
    if let Some(path) = kept_path(asked.info) {
        return answer_response::response(asked, &path);
    }
    let Some(Granted::Object(key)) = granted(asked.info) else {
        return Err(Reason::NotCacheable);
    };
    let id = ObjectId::of(&key).ok_or(Reason::BadRequest)?;
    let (stored, rendering, confirmed, snapshot) = {
        let mut state = asked.shared.lock();
        let (fact, rendering, confirmed) = find(asked, &state, &key, &id)?;
        let of = GroupResource::of(&key.resource);
        let resource_version = fact.resource_version;
        let stored = Stored::of(&state, &of, &id, fact);
        state.note_read_alone(asked.caller, (&of, &id), resource_version);
        state.used_object(asked.caller, &of, &id, asked.now);
        (stored, rendering, confirmed, snapshot(&state)?)
    };
    let object = stored.told_whole(snapshot.as_ref(), &key.resource, &rendering, true);
    let object = object.map_err(|error| read_failed(asked.shared, &stored, &error))?;
    let body = match rendering.encoding(stored.form) {
        Encoding::Json if !rendering.is_yaml(stored.form) => line(&object),
        Encoding::Json | Encoding::Protobuf => object,
    };
    let content_type = rendering.content_type(stored.form);
    let headers = headers::cached(content_type, asked.age(confirmed), asked.request);
    Ok(with_headers(body::full(body), headers))
}

/// The API server ends a JSON object with a line feed.
fn line(object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + 1);
    line.put_slice(object);
    line.put_u8(b'\n');
    line.freeze()
}

/// Opened under the lock, so that everything known is either in the snapshot or at hand.
pub(super) fn snapshot(state: &State) -> Result<Box<dyn Snapshot>, Reason> {
    state.store.snapshot().map_err(|error| store_failed(&error))
}

/// The freshest form of an object that the client can decode, and when the upstream last confirmed it.
fn find<'s>(
    asked: &Asked<'_>,
    state: &'s State,
    key: &ObjectKey,
    id: &ObjectId,
) -> Result<(&'s Fact, Rendering, u64), Reason> {
    let resource = GroupResource::of(&key.resource);
    let of_version = || {
        let collections = state
            .collections
            .of(&resource)
            .map(|(_, collection)| collection);
        collections.filter(|collection| collection.scope.resource == key.resource)
    };
    if !state.may_get(asked.caller, key, id) {
        return Err(no_grant(state, &resource));
    }
    let vouching = |fact: &Fact| {
        let form = fact.form;
        let seen = (id.clone(), fact.resource_version);
        of_version().filter(move |c| c.form == form && c.vouches_for(&seen.0, seen.1))
    };
    // The RV at which it is known to be so: a collection that went on without a change of it says that it is the same.
    let known_until = |fact: &Fact| {
        let until = vouching(fact).map(|collection| collection.resource_version);
        until.fold(fact.resource_version, u64::max)
    };
    let least = state.own_writes.least(asked.caller, &resource, id);
    let absent_until = state.absent_until(key, id);
    let facts = state.facts.get(&resource, id);
    let mut known = facts
        .iter()
        .filter(|fact| {
            let until = known_until(fact);
            // A collection that is behind may still hold what is gone.
            *fact.version == *key.resource.version && until >= least && until > absent_until
        })
        .peekable();
    if known.peek().is_none() {
        let proving = state.collections.proving_absent(key);
        let proving = proving.map(|collection| collection.confirmed);
        return Err(if absent_until < least {
            Reason::WrittenSince
        } else if let Some(confirmed) = proving.max() {
            match asked.is_too_old(confirmed) {
                true => Reason::TooOld,
                false => Reason::NotFound,
            }
        } else if of_version().next().is_some() {
            Reason::Incomplete
        } else {
            Reason::NeverSeen
        });
    }
    let of = (&resource, id);
    let known: Vec<&Fact> = known.collect();
    // What is over in one form is over in all, and so is what was before it.
    let is_over = |fact: &&&Fact| state.is_outlived(asked.caller, of, (fact, known_until(fact)));
    let over = known
        .iter()
        .filter(is_over)
        .map(|fact| fact.resource_version);
    let over = over.max().unwrap_or(0);
    let mut known = known
        .into_iter()
        .filter(|fact| fact.resource_version > over)
        .peekable();
    if known.peek().is_none() {
        return Err(Reason::ShownSince);
    }
    let (fact, (_, rendering)) = known
        .filter_map(|fact| Some((fact, asked.rendering(fact.form, || fact.has_json)?)))
        .min_by_key(|(fact, (preference, rendering))| {
            let freshest = Reverse(fact.resource_version);
            (freshest, *preference, !rendering.is_exact(fact.form))
        })
        .ok_or(Reason::NotAcceptable)?;
    let confirmed = vouching(fact)
        .map(|collection| collection.confirmed)
        .fold(fact.confirmed, u64::max);
    match asked.is_too_old(confirmed) {
        true => Err(Reason::TooOld),
        false => Ok((fact, rendering, confirmed)),
    }
}

pub(super) fn with_headers(body: Body, headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}

//! Learns from the body of one 2xx answer to a GET or LIST.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, StatusCode, response};

use super::before::Before;
use super::form::Form;
use super::grants::Granted;
use super::inflate::Inflate;
use super::key::{GroupResource, ObjectId};
use super::pages::{MAX_LIST_OBJECTS, NextPage, PartialList};
use super::responses::{
    MAX_ACCEPT_BYTES, MAX_RESPONSE_BYTES, ResponseFact, ResponseKey, granted_path, kept_path,
    normalised,
};
use super::shares::Owner;
use super::state::{Keeping, NotLearnt, Object, Seen, State};
use super::wire::{
    self, ListHead, ListItem, ListSplitter, MAX_OBJECT_BYTES, ObjectMeta, WireError,
};
use super::{Shared, unix_seconds};
use crate::bugs::{self, Bug};
use crate::identity::ServiceAccount;
use crate::request_info::accept::{self, Encoding, Representation};
use crate::request_info::{ObjectKey, RequestInfo, Scope, Verb};

/// Learns from one body. `finish` commits; dropped without it, everything it would have proved (a complete list, a whole response) is discarded.
pub struct Learner {
    shared: Arc<Shared>,
    caller: ServiceAccount,
    inflate: Inflate,
    what: What,
    before: Before,
    failed: Option<NotLearnt>,
    now: u64,
}

/// What a body holds.
enum What {
    List(Box<List>),
    Object(ObjectKey, Form, Vec<u8>),
    Response(ResponseKey, ResponseFact, Vec<u8>),
}

struct List {
    scope: Scope,
    form: Form,
    splitter: ListSplitter,
    continue_token: String,
    list: PartialList,
}

impl Learner {
    pub(super) fn new(
        shared: &Arc<Shared>,
        caller: &ServiceAccount,
        info: &RequestInfo,
        request: &HeaderMap,
        response: &response::Parts,
        now: SystemTime,
    ) -> Option<Self> {
        let now = unix_seconds(now);
        if response.status == StatusCode::NOT_MODIFIED {
            not_modified(shared, caller, info, request, &response.headers, now);
        }
        if response.status != StatusCode::OK || !info.method_is_get {
            return None;
        }
        let granted = granted(info)?;
        let form = form(info, request, &response.headers);
        (shared.lock()).grant_as(caller, granted.clone(), form, now);
        let mut inflate = Inflate::new(request, &response.headers)?;
        let what = match &granted {
            Granted::Scope(scope) => list(shared, scope, form?, info)?,
            Granted::Object(object) => {
                let form = form.or_else(|| is_yaml(&response.headers).then_some(Form::Yaml))?;
                single(shared, object, form)?
            }
            Granted::Path(_) => {
                inflate.leave_indentation();
                whole(kept_path(info)?, request, &response.headers, now)?
            }
            Granted::GetRefused(_) => return None,
        };
        if encoding(&response.headers) != Some(Encoding::Json) {
            inflate.leave_indentation();
        }
        Some(Self {
            shared: shared.clone(),
            caller: caller.clone(),
            inflate,
            what,
            before: Before::default(),
            failed: None,
            now,
        })
    }

    /// What was known before the request was sent: an upstream that went back since is noticed.
    #[must_use]
    pub fn since(mut self, before: Before) -> Self {
        self.before = before;
        self
    }

    /// The next bytes as they came from the upstream (gzip included). Bounded memory: never the whole list.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let Self {
            shared,
            inflate,
            caller,
            what,
            before,
            now,
            ..
        } = self;
        let fed = inflate.feed(chunk, &mut |bytes| {
            what.feed(shared, caller, bytes, before, *now)
        });
        self.failed = fed.err();
    }

    /// `Some`: as many bytes at a time may become as much work as a plain body of a hundred times the length.
    pub fn step(&self) -> Option<usize> {
        self.inflate.is_packed().then_some(PACKED_STEP)
    }

    /// The body ended cleanly.
    pub fn finish(self) {
        let Self {
            shared,
            caller,
            inflate,
            mut what,
            mut before,
            failed,
            now,
        } = self;
        let shown = what.shown();
        let learnt = match failed {
            Some(reason) => Err(reason),
            None => inflate
                .finish(&mut |bytes| what.feed(&shared, &caller, bytes, &mut before, now))
                .and_then(|()| what.finish(&shared, &caller, before, now)),
        };
        if let Err(reason) = learnt {
            if let Some((scope, resource_version)) = shown.filter(|_| reason.is_our_own()) {
                let mut state = shared.lock();
                state.note_shown(&caller, &scope, resource_version);
            }
            shared.not_learnt(reason);
        }
    }
}

/// Of a packed body at a time: some 40 KB of JSON.
const PACKED_STEP: usize = 4 * 1024;

/// Of a scope's words together. Selectors that people write are a tenth of it; a client that makes up longer ones fills no memory with them.
const MAX_SCOPE_BYTES: usize = 2048;

/// The client has what it asked for: the upstream let it read that, and says which edition is still the current one.
fn not_modified(
    shared: &Shared,
    caller: &ServiceAccount,
    info: &RequestInfo,
    request: &HeaderMap,
    response: &HeaderMap,
    now: u64,
) {
    let Some(path) = kept_path(info).filter(|_| info.method_is_get) else {
        return;
    };
    let mut state = shared.lock();
    let granted = Granted::Path(granted_path(&path).to_owned());
    state.grant(caller, granted, now);
    if let Some(etag) = response.get(ETAG).and_then(|etag| etag.to_str().ok()) {
        let accept = normalised(&accept::of_request(request));
        let key = ResponseKey { path, accept };
        state.used_response(caller, &key, now);
        state.confirm_response(key, etag, now);
    }
}

/// What a 2xx answer to this request lets its caller read. `None`: a request whose answer says nothing the cache could tell again.
pub(super) fn granted(info: &RequestInfo) -> Option<Granted> {
    if info.options.unknown.is_some()
        || info.unmodelled_query.is_some()
        || !info.subresource.is_empty()
    {
        return None;
    }
    if let Some(path) = kept_path(info) {
        return Some(Granted::Path(granted_path(&path).to_owned()));
    }
    match info.verb {
        Verb::List | Verb::Watch => {
            let scope = info
                .scope()
                .filter(|scope| scope_bytes(scope) <= MAX_SCOPE_BYTES);
            scope.map(Granted::Scope)
        }
        Verb::Get => info.object().map(Granted::Object),
        _ => None,
    }
}

fn scope_bytes(scope: &Scope) -> usize {
    let selectors = scope.label_selector.len() + scope.field_selector.len();
    selectors + scope.namespace.as_ref().map_or(0, String::len)
}

/// The form of an answer, if it is one the cache keeps. The answer's type does not tell objects from their metadata or
/// from rows, so the request does; the kind in the body must say the same.
pub(super) fn form(info: &RequestInfo, request: &HeaderMap, response: &HeaderMap) -> Option<Form> {
    let answered = encoding(response)?;
    let mut asked = accept::of_request(request).into_iter();
    let form = asked.find_map(|asked| {
        Form::of(&asked).filter(|form| *form != Form::Yaml && form.encoding() == answered)
    });
    form.map(|form| match form {
        Form::Row if info.whole_rows => Form::WholeRow,
        form => form,
    })
}

/// The encoding of an answer, if it is one the cache keeps.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    match accept::of_content_type(headers.get(CONTENT_TYPE)?.to_str().ok()?) {
        Representation::Plain(encoding) => Some(encoding),
        _ => None,
    }
}

fn is_yaml(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| accept::of_content_type(value) == Representation::Yaml)
}

/// `None` here and below: an answer the cache does not keep.
fn list(shared: &Shared, scope: &Scope, form: Form, info: &RequestInfo) -> Option<What> {
    let keeping = shared.lock().keeping(&GroupResource::of(&scope.resource));
    (keeping != Keeping::Never).then(|| {
        What::List(Box::new(List {
            scope: scope.clone(),
            form,
            splitter: ListSplitter::new(form.encoding()),
            continue_token: info.options.continue_token.clone(),
            list: PartialList::default(),
        }))
    })
}

fn single(shared: &Shared, object: &ObjectKey, form: Form) -> Option<What> {
    let keeping = shared.lock().keeping(&GroupResource::of(&object.resource));
    (keeping != Keeping::Never).then(|| What::Object(object.clone(), form, Vec::new()))
}

fn whole(path: String, request: &HeaderMap, headers: &HeaderMap, now: u64) -> Option<What> {
    let text = |name| {
        let value: Option<&str> = headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok());
        value.map(str::to_owned)
    };
    let content_type = text(CONTENT_TYPE)?;
    let accept = normalised(&accept::of_request(request));
    if accept.len() > MAX_ACCEPT_BYTES {
        return None;
    }
    let key = ResponseKey { path, accept };
    let fact = ResponseFact {
        content_type,
        etag: text(ETAG),
        len: 0,
        learnt: now,
        used: now,
        owner: Owner::NOBODY,
    };
    Some(What::Response(key, fact, Vec::new()))
}

impl What {
    fn feed(
        &mut self,
        shared: &Shared,
        caller: &ServiceAccount,
        bytes: &[u8],
        before: &mut Before,
        now: u64,
    ) -> Result<(), NotLearnt> {
        match self {
            Self::List(list) => list.feed(shared, caller, bytes, before, now),
            Self::Object(_, _, body) => append(body, bytes, MAX_OBJECT_BYTES),
            Self::Response(_, _, body) => append(body, bytes, MAX_RESPONSE_BYTES),
        }
    }

    /// What a list shows to its caller, whether it is learnt or not. Rows are for human eyes.
    fn shown(&self) -> Option<(Scope, u64)> {
        let Self::List(list) = self else {
            return None;
        };
        let resource_version = list.splitter.head().resource_version;
        (resource_version > 0 && !list.form.is_row())
            .then(|| (list.scope.clone(), resource_version))
    }

    fn finish(
        self,
        shared: &Shared,
        caller: &ServiceAccount,
        before: Before,
        now: u64,
    ) -> Result<(), NotLearnt> {
        match self {
            Self::List(list) => list.finish(shared, caller, before, now),
            Self::Object(key, form, body) => {
                let body = match form {
                    Form::Yaml => body.into(),
                    _ => trimmed(body),
                };
                let meta = read_meta(form, &body).map_err(|_| NotLearnt::Malformed)?;
                before.compare(&mut shared.lock(), &key.resource, meta.resource_version);
                learn_object(shared, caller, &key, (form, &body), (&meta, now))
            }
            Self::Response(key, fact, body) => {
                let learnt = shared.lock().learn_response(caller, key, fact, &body);
                shared.wake_if_urgent();
                learnt
            }
        }
    }
}

pub(super) fn append(body: &mut Vec<u8>, bytes: &[u8], max: usize) -> Result<(), NotLearnt> {
    if body.len() + bytes.len() > max {
        return Err(NotLearnt::Full);
    }
    body.extend_from_slice(bytes);
    Ok(())
}

impl List {
    fn feed(
        &mut self,
        shared: &Shared,
        caller: &ServiceAccount,
        bytes: &[u8],
        before: &mut Before,
        now: u64,
    ) -> Result<(), NotLearnt> {
        let mut items = Vec::new();
        let fed = self.splitter.feed(bytes, &mut |item| items.push(item));
        if !items.is_empty() {
            let mut state = shared.lock();
            let resource_version = self.splitter.head().resource_version;
            // Before its items are compared with what never was.
            if before.compare(&mut state, &self.scope.resource, resource_version) {
                *before = Before::default();
            }
            for item in items {
                self.item(&mut state, caller, &item, now)?;
            }
        }
        shared.wake_if_urgent();
        fed.map_err(|_| NotLearnt::Malformed)
    }

    fn item(
        &mut self,
        state: &mut State,
        caller: &ServiceAccount,
        item: &ListItem,
        now: u64,
    ) -> Result<(), NotLearnt> {
        let head = self.splitter.head();
        let meta = &item.meta;
        // A built-in item says nothing of its kind: then its list must, before it.
        let (said, kind, bare) = match meta.api_version.as_str() {
            "" => (head.api_version.as_str(), head.item_kind(), true),
            said => (said, meta.kind.as_str(), false),
        };
        if said != self.form.item_api_version(&self.scope.resource) || !self.form.is_item_kind(kind)
        {
            return Err(NotLearnt::OtherRepresentation);
        }
        let kind = match self.form {
            Form::Row | Form::WholeRow => wire::TABLE_KIND,
            _ => kind,
        };
        let id = ObjectId::new(&meta.namespace, &meta.name).ok_or(NotLearnt::Malformed)?;
        if !id.is_in(self.scope.namespace.as_deref()) || meta.resource_version == 0 {
            return Err(NotLearnt::Malformed);
        }
        if self.list.members.len() >= MAX_LIST_OBJECTS {
            return Err(NotLearnt::Full);
        }
        let object = Object {
            by: caller,
            id: &id,
            form: self.form,
            uid: &meta.uid,
            resource_version: meta.resource_version,
            kind,
            bare,
            labels: &meta.labels,
            bytes: &item.bytes,
            seen: Seen::Listed,
        };
        state.learn_object(&self.scope.resource, &object, now)?;
        if self.list.kind.is_empty() {
            self.list.kind = state.facts.word(kind);
        }
        let id = (state.facts).shared(&GroupResource::of(&self.scope.resource), id);
        self.list.members.insert(id, meta.resource_version);
        Ok(())
    }

    fn finish(
        self,
        shared: &Shared,
        caller: &ServiceAccount,
        before: Before,
        now: u64,
    ) -> Result<(), NotLearnt> {
        let Self {
            scope,
            form,
            splitter,
            continue_token,
            mut list,
        } = self;
        let head = splitter.finish().map_err(|_| NotLearnt::Malformed)?;
        if !is_list_of(&head, &scope, form) {
            return Err(NotLearnt::OtherRepresentation);
        }
        list.resource_version = head.resource_version;
        list.since = now;
        list.list_kind = head.kind.as_str().into();
        if list.kind.is_empty() {
            list.kind = head.item_kind().into();
        }
        let page = |continue_token| NextPage {
            caller: caller.clone(),
            scope: scope.clone(),
            form,
            continue_token,
        };
        let mut state = shared.lock();
        before.compare(&mut state, &scope.resource, head.resource_version);
        if !(continue_token.is_empty() && head.continue_token.is_empty()) {
            state.note_page(caller, &scope, &list);
        }
        if !continue_token.is_empty() {
            let before = state.pages.take(&page(continue_token));
            let Some(whole) = before.and_then(|before| before.followed_by(list)) else {
                return Ok(());
            };
            list = whole;
        }
        state.learn_columns(&scope.resource, &head.columns);
        if head.continue_token.is_empty() || bugs::is_on(Bug::PartialListCommitted) {
            let since = list.since;
            return state.commit_list(caller, &scope, form, list, since);
        }
        state.pages.hold(page(head.continue_token), list, now);
        Ok(())
    }
}

/// Something else says another version; a list without an RV is true at no time.
fn is_list_of(head: &ListHead, scope: &Scope, form: Form) -> bool {
    head.api_version == form.api_version(&scope.resource)
        && head.resource_version > 0
        && !head.kind.is_empty()
}

fn read_meta(form: Form, object: &Bytes) -> Result<ObjectMeta, WireError> {
    match form {
        Form::Yaml => wire::read_meta(Encoding::Json, &wire::json_of(object)?),
        _ => wire::read_meta(form.encoding(), object),
    }
}

/// Without the line feed that ends a JSON object.
pub(super) fn trimmed(mut body: Vec<u8>) -> Bytes {
    body.truncate(body.trim_ascii_end().len());
    body.into()
}

/// Learns an object from an answer about it alone; `meta` is what was read of `body`.
pub(super) fn learn_object(
    shared: &Shared,
    caller: &ServiceAccount,
    key: &ObjectKey,
    (form, body): (Form, &Bytes),
    (meta, now): (&ObjectMeta, u64),
) -> Result<(), NotLearnt> {
    if meta.api_version != form.api_version(&key.resource) || !form.is_kind(&meta.kind) {
        return Err(NotLearnt::OtherRepresentation);
    }
    let is_it =
        meta.name == key.name && meta.namespace == key.namespace && meta.resource_version > 0;
    let id = ObjectId::of(key)
        .filter(|_| is_it)
        .ok_or(NotLearnt::Malformed)?;
    let Bare {
        bytes,
        bare,
        columns,
    } = bare_object(form, body)?;
    let mut state = shared.lock();
    state.learn_columns(&key.resource, &columns);
    let object = Object {
        by: caller,
        id: &id,
        form,
        uid: &meta.uid,
        resource_version: meta.resource_version,
        kind: &meta.kind,
        bare,
        labels: &meta.labels,
        bytes: &bytes,
        seen: Seen::Alone,
    };
    state.learn_object(&key.resource, &object, now).map(drop)
}

/// See [`bare_object`].
pub(super) struct Bare {
    pub(super) bytes: Bytes,
    /// That took its TypeMeta or envelope away.
    pub(super) bare: bool,
    /// What a Table of one row says its columns are; empty if it does not.
    pub(super) columns: Bytes,
}

/// An object as a list shows it.
pub(super) fn bare_object(form: Form, object: &Bytes) -> Result<Bare, NotLearnt> {
    let columns = Bytes::new();
    Ok(match form {
        // A list of metadata shows each item's TypeMeta.
        Form::Metadata(Encoding::Json) | Form::Yaml => Bare {
            bytes: object.clone(),
            bare: false,
            columns,
        },
        Form::Row | Form::WholeRow => {
            let table = wire::open_table(object).map_err(|_| NotLearnt::Malformed)?;
            Bare {
                bytes: table.row,
                bare: false,
                columns: table.columns,
            }
        }
        Form::Object(Encoding::Json) => {
            let bytes = wire::without_type_meta(object);
            Bare {
                bare: bytes.len() != object.len(),
                bytes,
                columns,
            }
        }
        Form::Object(Encoding::Protobuf) | Form::Metadata(Encoding::Protobuf) => {
            let envelope = wire::open_envelope(object).map_err(|_| NotLearnt::Malformed)?;
            Bare {
                bytes: envelope.raw,
                bare: true,
                columns,
            }
        }
    })
}

//! Answers to LIST: a complete collection, or the part of it that is asked for, read from the store while it is sent.

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};

use super::Granted;
use super::answer::{Asked, with_headers};
use super::collection::Collection;
use super::headers;
use super::key::{ObjectId, is_unfiltered};
use super::learn::granted;
use super::list_stream::ListStream;
use super::paging::Continue;
use super::reading::Part;
use super::state::State;
use super::wire::ListHead;
use crate::body::Body;
use crate::policy::Reason;
use crate::request_info::{ListOptions, Scope};

pub(super) fn list(asked: &Asked<'_>) -> Result<Response<Body>, Reason> {
    let Some(Granted::Scope(scope)) = granted(asked.info) else {
        return Err(Reason::NotCacheable);
    };
    let page = Page::asked(&asked.info.options, &scope)?;
    let mut state = asked.shared.lock();
    let mut candidates = asked.collections(&state, &scope)?;
    // Who asks for one RV knows what it is of.
    if page.exactly.is_none() {
        candidates = asked.up_to_date(&state, candidates)?;
    }
    let (collection, part) = page.choose(&state, candidates)?;
    let mut head = ListHead {
        api_version: collection.form.api_version(&scope.resource),
        kind: list_kind(collection),
        resource_version: part.resource_version,
        ..ListHead::default()
    };
    let sizes = page.cut(&state, collection, &part, &scope, &mut head)?;
    let age = asked.age(collection.confirmed);
    state.used_collection(asked.caller, part.collection, asked.now);
    state.note_told(asked.caller, &part);
    drop(state);
    let content_type = part.rendering.content_type(part.form);
    let mut headers = headers::cached(content_type, age, asked.request);
    let list = ListStream {
        head: part.rendering.head(head),
        sizes,
        part,
        after: page.after,
    };
    let (body, len) = list.body(asked.shared);
    if let Some(len) = len {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
    Ok(with_headers(body, headers))
}

/// Which part of a list is asked for, and as of when.
struct Page {
    /// At this very RV.
    exactly: Option<u64>,
    not_older_than: u64,
    after: Option<ObjectId>,
    /// Objects; `None`: all.
    limit: Option<usize>,
}

impl Page {
    /// By the rules of `apiserver:pkg/storage/interfaces.go` (`ValidateListOptions`) and `pkg/storage/cacher/delegator`.
    fn asked(options: &ListOptions, scope: &Scope) -> Result<Self, Reason> {
        let version: u64 = match options.resource_version.as_str() {
            "" => 0,
            number => number.parse().map_err(|_| Reason::BadRequest)?,
        };
        let limit = options.limit.and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0);
        let mut page = Self {
            exactly: None,
            not_older_than: version,
            after: None,
            limit,
        };
        if !options.continue_token.is_empty() {
            if version > 0 || !options.resource_version_match.is_empty() {
                return Err(Reason::BadRequest);
            }
            let token = Continue::decode(&options.continue_token, scope.namespace.as_deref())
                .ok_or(Reason::BadRequest)?;
            page.exactly = token.resource_version;
            page.after = Some(token.last);
            return Ok(page);
        }
        match options.resource_version_match.as_str() {
            "Exact" if version == 0 => return Err(Reason::BadRequest),
            "Exact" => page.exactly = Some(version),
            "NotOlderThan" if options.resource_version.is_empty() => {
                return Err(Reason::BadRequest);
            }
            "NotOlderThan" => {}
            // What was meant before there was a word for it.
            "" if limit.is_some() && version > 0 => page.exactly = Some(version),
            "" => {}
            _ => return Err(Reason::BadRequest),
        }
        // "At any age" is told whole, whatever the limit.
        if options.resource_version == "0" {
            page.limit = None;
        }
        Ok(page)
    }

    /// The first of the collections, best first, that is or still knows what is asked for.
    fn choose<'s>(
        &self,
        state: &State,
        candidates: Vec<(&'s Collection, Part)>,
    ) -> Result<(&'s Collection, Part), Reason> {
        let newest = candidates
            .iter()
            .map(|(collection, _)| collection.resource_version)
            .max();
        let newest = newest.ok_or(Reason::Incomplete)?;
        let Some(exactly) = self.exactly else {
            let best = candidates.into_iter().next();
            return best
                .filter(|_| newest >= self.not_older_than)
                .ok_or(Reason::ResourceVersionTooLarge);
        };
        if exactly > newest {
            return Err(Reason::ResourceVersionTooLarge);
        }
        let mut then = candidates.into_iter().map(|(collection, part)| {
            let part = Part {
                resource_version: exactly,
                ..part
            };
            (collection, part)
        });
        then.find(|(_, part)| part.find(state).is_ok())
            .ok_or(Reason::Expired)
    }

    /// The sizes of the objects of this page; the head learns what follows it.
    fn cut(
        &self,
        state: &State,
        collection: &Collection,
        part: &Part,
        scope: &Scope,
        head: &mut ListHead,
    ) -> Result<Vec<usize>, Reason> {
        let mut members = part.after(state, collection, self.after.as_ref());
        let mut sizes = Vec::new();
        let mut last = None;
        for member in members.by_ref().take(self.limit.unwrap_or(usize::MAX)) {
            let (id, fact) = member?;
            sizes.push(fact.len as usize);
            last = Some(id);
        }
        let remaining = members.count() as u64;
        if let Some(last) = last.filter(|_| remaining > 0) {
            let next = Continue {
                resource_version: Some(part.resource_version),
                last: last.clone(),
            };
            head.continue_token = next.encode(scope.namespace.as_deref());
            head.remaining = is_unfiltered(scope).then_some(remaining);
        }
        Ok(sizes)
    }
}

/// A collection that was only ever watched has not said what its list is called; but for some custom resources it is this.
fn list_kind(collection: &Collection) -> String {
    match &*collection.list_kind {
        "" => format!("{}List", collection.kind),
        known => known.to_owned(),
    }
}

//! Answers with whole responses: discovery, the version, OpenAPI, the issuer's keys.

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer::{Asked, snapshot, store_failed, with_headers};
use super::headers;
use super::key::response_key;
use super::record;
use super::responses::{ResponseFact, granted_path};
use super::store::Table;
use crate::body::{self, Body};
use crate::policy::Reason;

pub(super) fn response(asked: &Asked<'_>, path: &str) -> Result<Response<Body>, Reason> {
    let (key, fact, unwritten, snapshot) = {
        let mut state = asked.shared.lock();
        if !state.responses.knows(path) {
            return Err(Reason::NeverSeen);
        }
        if !(state.grants).covers_path(asked.caller, granted_path(path)) {
            return Err(Reason::NoGrant);
        }
        let found = state.responses.find(path, &asked.accepted);
        let (key, fact) = found.ok_or(Reason::NotAcceptable)?;
        let fact = fact.clone();
        state.used_response(asked.caller, &key, asked.now);
        let key = response_key(&key.path, &key.accept);
        let unwritten = state.writes.get(Table::Bodies, &key);
        (key, fact, unwritten, snapshot(&state)?)
    };
    let headers = response_headers(asked, &fact);
    if has_it(asked.request, headers.get(ETAG)) {
        let mut not_modified = with_headers(body::empty(), headers);
        *not_modified.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(not_modified);
    }
    let stored = match unwritten {
        Some(unwritten) => Some(unwritten),
        None => snapshot
            .get(Table::Bodies, &key)
            .map_err(|error| store_failed(&error))?,
    };
    let stored = stored
        .filter(|stored| record::open("body", &key, stored).is_ok())
        .ok_or(Reason::Store)?;
    let body = body::full(stored.slice(record::HEADER..));
    Ok(with_headers(body, headers))
}

fn response_headers(asked: &Asked<'_>, fact: &ResponseFact) -> HeaderMap {
    let age = asked.age(fact.learnt);
    let mut headers = headers::cached(&fact.content_type, age, asked.request);
    // kubectl keeps these responses in an HTTP cache on its disk, headers included (`client-go:third_party/forked/httpcache`).
    // Once the API server is back it would go on warning that it is out of reach, for as long as the document stays the same.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    let etag = fact.etag.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(etag)) = etag {
        headers.insert(ETAG, etag);
    }
    headers
}

/// Whether the client says that it holds this very edition.
fn has_it(request: &HeaderMap, etag: Option<&HeaderValue>) -> bool {
    let Some(etag) = etag.and_then(|etag| etag.to_str().ok()) else {
        return false;
    };
    let opaque = |etag: &str| etag.strip_prefix("W/").unwrap_or(etag).to_owned();
    let lines = request.get_all(IF_NONE_MATCH).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|known| known == "*" || opaque(known) == opaque(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_which_editions_it_has() {
        let etag = HeaderValue::from_static("\"B6\"");
        for (said, expected) in [
            ("\"B6\"", true),
            ("W/\"B6\"", true),
            ("\"A1\", \"B6\"", true),
            ("*", true),
            ("\"A1\"", false),
            ("B6", false),
            ("", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, said.parse().expect("a header"));
            assert_eq!(has_it(&request, Some(&etag)), expected, "{said}");
            assert!(!has_it(&request, None), "{said}");
        }
        assert!(!has_it(&HeaderMap::new(), Some(&etag)));
    }
}

//! Whole responses, for what is no resource: discovery, the version, OpenAPI, the issuer's keys.

use std::collections::HashMap;

use super::shares::{Owner, Shares};
use crate::request_info::RequestInfo;
use crate::request_info::accept::{Encoding, Representation, of_content_type};

/// One response: OpenAPI v2 of a cluster with many CRDs is about this large.
pub(super) const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// All responses. One OpenAPI v3 document per group and version is the most a client asks for, several hundred KiB together.
const MAX_TOTAL_BYTES: u64 = 32 << 20;
/// Responses, whatever their size.
const MAX_RESPONSES: usize = 512;

/// A path with its query; the longest is that of a group's OpenAPI with its hash of 128 digits.
const MAX_PATH_BYTES: usize = 1024;

/// What a client accepts, as it is kept: several times what any stock client names. A header may be as long as a megabyte.
pub(super) const MAX_ACCEPT_BYTES: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ResponseKey {
    /// With the part of its query that matters.
    pub(super) path: String,
    /// As [`normalised`] writes it: one path has a document per representation.
    pub(super) accept: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResponseFact {
    /// As the upstream wrote it, parameters included: clients trust them.
    pub(super) content_type: String,
    pub(super) etag: Option<String>,
    pub(super) len: u32,
    /// Unix seconds.
    pub(super) learnt: u64,
    /// When a caller last asked for it; Unix seconds.
    pub(super) used: u64,
    /// Of those that used it, the one that held least.
    pub(super) owner: Owner,
}

#[derive(Default)]
pub(super) struct Responses {
    of: HashMap<String, HashMap<String, ResponseFact>>,
    count: usize,
    bytes: u64,
    shares: Shares,
}

impl Responses {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whose responses have how many bytes.
    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Takes a response in; returns those that had to make room.
    pub(super) fn insert(&mut self, key: ResponseKey, mut fact: ResponseFact) -> Vec<ResponseKey> {
        if let Some(known) = self.get(&key) {
            fact.owner = self.shares.lighter(known.owner, fact.owner);
        }
        self.remove(&key);
        self.count += 1;
        self.bytes += u64::from(fact.len);
        self.shares.add(fact.owner, u64::from(fact.len));
        self.of
            .entry(key.path)
            .or_default()
            .insert(key.accept, fact);
        let mut dropped = Vec::new();
        while self.count > MAX_RESPONSES || self.bytes > MAX_TOTAL_BYTES {
            let Some(least) = self.least_useful() else {
                break;
            };
            self.remove(&least);
            dropped.push(least);
        }
        dropped
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (ResponseKey, &ResponseFact)> {
        self.of.iter().flat_map(|(path, by_accept)| {
            by_accept.iter().map(move |(accept, fact)| {
                let key = ResponseKey {
                    path: path.clone(),
                    accept: accept.clone(),
                };
                (key, fact)
            })
        })
    }

    /// Of the caller that holds most, by bytes or by number, the one that was used longest ago.
    fn least_useful(&self) -> Option<ResponseKey> {
        let mut counts: HashMap<Owner, u64> = HashMap::new();
        for (_, fact) in self.all() {
            *counts.entry(fact.owner).or_default() += 1;
        }
        let is_too_many = self.count > MAX_RESPONSES;
        let holds = |owner: &Owner| match is_too_many {
            true => counts.get(owner).copied().unwrap_or(0),
            false => self.shares.of(*owner),
        };
        let most = counts
            .keys()
            .copied()
            .max_by_key(|owner| (holds(owner), *owner))?;
        let own = self.all().filter(|(_, fact)| fact.owner == most);
        own.min_by_key(|(_, fact)| fact.used).map(|(key, _)| key)
    }

    fn get(&self, key: &ResponseKey) -> Option<&ResponseFact> {
        self.of.get(&key.path)?.get(&key.accept)
    }

    /// A caller asked for it.
    pub(super) fn used(&mut self, key: &ResponseKey, user: Owner, now: u64) {
        let by_accept = self.of.get_mut(&key.path);
        let Some(fact) = by_accept.and_then(|by_accept| by_accept.get_mut(&key.accept)) else {
            return;
        };
        fact.used = fact.used.max(now);
        let owner = self.shares.lighter(fact.owner, user);
        self.shares.take(fact.owner, u64::from(fact.len));
        self.shares.add(owner, u64::from(fact.len));
        fact.owner = owner;
    }

    pub(super) fn remove(&mut self, key: &ResponseKey) -> Option<ResponseFact> {
        let by_accept = self.of.get_mut(&key.path)?;
        let removed = by_accept.remove(&key.accept);
        if let Some(removed) = &removed {
            self.count -= 1;
            self.bytes -= u64::from(removed.len);
            self.shares.take(removed.owner, u64::from(removed.len));
        }
        if by_accept.is_empty() {
            self.of.remove(&key.path);
        }
        removed
    }

    /// The upstream says that the edition with this tag is still the current one; the response as it is now, if it is known.
    pub(super) fn confirm(
        &mut self,
        key: &ResponseKey,
        etag: &str,
        now: u64,
    ) -> Option<ResponseFact> {
        let fact = self.of.get_mut(&key.path)?.get_mut(&key.accept)?;
        if fact.etag.as_deref() != Some(etag) {
            return None;
        }
        fact.learnt = now;
        Some(fact.clone())
    }

    pub(super) fn knows(&self, path: &str) -> bool {
        self.of.contains_key(path)
    }

    /// What the upstream answered to this very `Accept`, else what it answered to another, in a type this client takes.
    pub(super) fn find(
        &self,
        path: &str,
        accepted: &[Representation],
    ) -> Option<(ResponseKey, &ResponseFact)> {
        let by_accept = self.of.get(path)?;
        let key = |accept: &str| ResponseKey {
            path: path.to_owned(),
            accept: accept.to_owned(),
        };
        let same = normalised(accepted);
        if let Some(fact) = by_accept.get(&same) {
            return Some((key(&same), fact));
        }
        let taken = |fact: &ResponseFact| {
            let representation = of_content_type(&fact.content_type);
            accepted
                .iter()
                .position(|accepted| accepts(accepted, &representation))
        };
        by_accept
            .iter()
            .filter_map(|(accept, fact)| Some((taken(fact)?, accept, fact)))
            .min_by_key(|(preference, _, fact)| (*preference, std::cmp::Reverse(fact.learnt)))
            .map(|(_, accept, fact)| (key(accept), fact))
    }
}

/// A client that takes JSON takes no aggregated discovery for it: that is another document.
fn accepts(accepted: &Representation, stored: &Representation) -> bool {
    accepted == stored
}

/// An `Accept` header, written the same whoever wrote it.
pub(super) fn normalised(accepted: &[Representation]) -> String {
    let words: Vec<String> = accepted.iter().map(word).collect();
    words.join(",")
}

fn word(representation: &Representation) -> String {
    match representation {
        Representation::Plain(Encoding::Json) => "json".to_owned(),
        Representation::Plain(Encoding::Protobuf) => "protobuf".to_owned(),
        Representation::Table => "table".to_owned(),
        Representation::PartialObjectMetadata(Encoding::Json) => "metadata-json".to_owned(),
        Representation::PartialObjectMetadata(Encoding::Protobuf) => "metadata-protobuf".to_owned(),
        Representation::Discovery(version) => format!("discovery-{version}"),
        Representation::Yaml => "yaml".to_owned(),
        Representation::Cbor => "cbor".to_owned(),
        Representation::Other(text) => text.clone(),
    }
}

/// The key of a path that may be kept whole; `None` for every other.
pub(super) fn kept_path(info: &RequestInfo) -> Option<String> {
    if info.is_resource_request || !info.is_read() || info.unmodelled_query.is_some() {
        return None;
    }
    let path = format!("/{}", info.path.trim_matches('/'));
    let parts: Vec<&str> = path[1..].split('/').collect();
    let is_kept = matches!(
        parts.as_slice(),
        ["api" | "apis" | "version"]
            | ["api" | "apis", _]
            | ["apis", _, _]
            | ["openapi", "v2"]
            | ["openapi", "v3", ..]
            | [".well-known", "openid-configuration"]
            | ["openid", "v1", "jwks"]
    );
    if !is_kept || parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    let terms = info.query.split('&');
    let query: Vec<&str> = terms
        .filter(|term| !term.is_empty() && !term.starts_with("timeout="))
        .collect();
    match query.as_slice() {
        [] => Some(path),
        // Which edition of a document is asked for. Another query would only make many copies of one.
        [hash] if is_openapi_hash(&parts, hash) => Some(format!("{path}?{hash}")),
        _ => None,
    }
    .filter(|path| path.len() <= MAX_PATH_BYTES)
}

/// What the API server let somebody read who was answered under `kept`, a [`kept_path`]: it authorizes the path alone
/// (`apiserver:pkg/authorization/authorizer/interfaces.go`, `GetPath`), whichever edition the query asks for. And no other path: that
/// `/api` and `/apis` are in the same ClusterRole by default (`system:discovery`) is the administrator's to change.
pub(super) fn granted_path(kept: &str) -> &str {
    kept.split_once('?').map_or(kept, |(path, _)| path)
}

fn is_openapi_hash(parts: &[&str], term: &str) -> bool {
    matches!(parts, ["openapi", "v3", ..]) && term.starts_with("hash=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::shares::Callers;
    use crate::cache::tests::caller;
    use crate::request_info::accept::negotiate;

    const LEGACY: &str = "application/json";
    const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

    fn kept(uri: &str) -> Option<String> {
        let uri = uri.parse().expect("a URI");
        kept_path(&RequestInfo::parse(&http::Method::GET, &uri).expect("parses"))
    }

    fn learnt(responses: &mut Responses, accept: &str, content_type: &str) {
        let key = ResponseKey {
            path: "/apis".to_owned(),
            accept: normalised(&negotiate(Some(accept))),
        };
        let fact = ResponseFact {
            content_type: content_type.to_owned(),
            etag: None,
            len: 1,
            learnt: 0,
            used: 0,
            owner: Owner::NOBODY,
        };
        responses.insert(key, fact);
    }

    fn found(responses: &Responses, accept: &str) -> Option<String> {
        let (_, fact) = responses.find("/apis", &negotiate(Some(accept)))?;
        Some(fact.content_type.clone())
    }

    #[test]
    fn discovery_version_openapi_and_issuer_keys_are_kept_and_nothing_else() {
        for (uri, expected) in [
            ("/api", Some("/api")),
            ("/apis/", Some("/apis")),
            ("/apis/apps/v1?timeout=32s", Some("/apis/apps/v1")),
            ("/version", Some("/version")),
            (
                "/openapi/v3/apis/apps/v1?hash=AB&timeout=5s",
                Some("/openapi/v3/apis/apps/v1?hash=AB"),
            ),
            ("/openid/v1/jwks", Some("/openid/v1/jwks")),
            ("/version?x=1", None),
            ("/api/v1/pods", None),
            ("/metrics", None),
            ("/healthz", None),
            ("/logs/kube-apiserver.log", None),
        ] {
            assert_eq!(kept(uri).as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn aggregated_and_legacy_discovery_are_never_mixed_up() {
        let mut responses = Responses::default();
        learnt(&mut responses, LEGACY, LEGACY);
        assert_eq!(found(&responses, AGGREGATED), None);
        learnt(
            &mut responses,
            &format!("{AGGREGATED},{LEGACY}"),
            AGGREGATED,
        );
        assert_eq!(found(&responses, LEGACY).as_deref(), Some(LEGACY));
        assert_eq!(found(&responses, AGGREGATED).as_deref(), Some(AGGREGATED));
        assert_eq!(
            found(&responses, &format!("{AGGREGATED}, {LEGACY}")).as_deref(),
            Some(AGGREGATED)
        );
        assert_eq!(found(&responses, "application/yaml"), None);
    }

    #[test]
    fn responses_are_bounded_in_number_and_in_bytes() {
        let mut responses = Responses::default();
        for n in 0..600 {
            let key = ResponseKey {
                path: format!("/apis/{n}"),
                accept: "json".to_owned(),
            };
            let fact = ResponseFact {
                content_type: LEGACY.to_owned(),
                etag: None,
                len: 1 << 20,
                learnt: n,
                used: n,
                owner: Owner::NOBODY,
            };
            responses.insert(key, fact);
        }
        assert_eq!(
            (responses.count(), responses.bytes()),
            (32, MAX_TOTAL_BYTES)
        );
        assert!(responses.knows("/apis/599"));
        assert!(!responses.knows("/apis/0"));
    }

    #[test]
    fn who_holds_most_makes_room_first() {
        let (mut callers, mut responses) = (Callers::default(), Responses::default());
        let mut learn = |who: &str, path: String, used| {
            let accept = "json".to_owned();
            let fact = ResponseFact {
                content_type: LEGACY.to_owned(),
                etag: None,
                len: 1 << 20,
                learnt: used,
                used,
                owner: callers.owner(&caller(who), |_| true),
            };
            responses.insert(ResponseKey { path, accept }, fact)
        };
        learn("x", "/apis".to_owned(), 0);
        for n in 1..100 {
            let dropped = learn("hostile", format!("/apis/{n}"), n);
            assert!(dropped.iter().all(|key| key.path != "/apis"));
        }
        assert!(responses.knows("/apis") && responses.knows("/apis/99"));
    }
}

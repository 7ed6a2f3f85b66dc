//! Discovery, the version, OpenAPI: who may read them, which edition, and what a client's own HTTP cache makes of an answer.

use http::StatusCode;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};

use super::*;

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const DISCOVERY_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const OPENAPI: &str = "/openapi/v3/apis/apps/v1";

impl Bench {
    fn learn_tagged(&self, who: &str, uri: &str, content_type: &str, etag: &str, body: &str) {
        let mut response = ok(content_type);
        response
            .headers
            .insert(ETAG, etag.parse().expect("a header"));
        let request = headers(ACCEPT, DISCOVERY);
        let learner = self
            .cache
            .learner(&caller(who), &info(uri), &request, &response, now());
        let mut learner = learner.expect("is learnt from");
        learner.feed(body.as_bytes());
        learner.finish();
    }

    /// The upstream told a client that asked with `If-None-Match` that it has the current edition.
    fn not_modified(&self, who: &str, uri: &str, etag: &str, when: SystemTime) {
        let mut response = ok(DISCOVERY_TYPE);
        response.status = StatusCode::NOT_MODIFIED;
        response
            .headers
            .insert(ETAG, etag.parse().expect("a header"));
        let request = headers(ACCEPT, DISCOVERY);
        let learner = self
            .cache
            .learner(&caller(who), &info(uri), &request, &response, when);
        assert!(learner.is_none(), "there is no body");
    }

    fn discovery(&self, who: &str, uri: &str, known: Option<&str>) -> Response<Body> {
        let mut request = headers(ACCEPT, DISCOVERY);
        if let Some(known) = known {
            request.insert(IF_NONE_MATCH, known.parse().expect("a header"));
        }
        match self.cache.answer(&caller(who), &info(uri), &request, now()) {
            Ok(Answer::Response(response)) => response,
            _ => panic!("{uri} is answered"),
        }
    }
}

#[tokio::test]
async fn a_path_is_granted_to_who_read_it_and_no_other_path_with_it() {
    let bench = Bench::new();
    for path in ["/api", "/apis", "/apis/apps/v1", "/openapi/v2", "/version"] {
        bench.learn("x", path, "{}");
    }
    bench.learn("y", "/api", "{}");
    assert!(bench.get("y", "/api").await.is_ok());
    for path in ["/apis", "/apis/apps/v1", "/openapi/v2", "/version"] {
        assert_eq!(
            reason(bench.get("y", path).await),
            Some(Reason::NoGrant),
            "{path}"
        );
        assert!(bench.get("x", path).await.is_ok(), "{path}");
    }
}

#[tokio::test]
async fn a_grant_of_openapi_is_for_whichever_edition() {
    let bench = Bench::new();
    bench.learn("y", &format!("{OPENAPI}?hash=A1&timeout=32s"), "old");
    // A CustomResourceDefinition changed, and somebody else read what is new.
    bench.learn("x", &format!("{OPENAPI}?hash=B2"), "new");
    let new = bench
        .get("y", &format!("{OPENAPI}?timeout=32s&hash=B2"))
        .await;
    assert_eq!(new.as_deref(), Ok("new"));
    let old = bench.get("x", &format!("{OPENAPI}?hash=A1")).await;
    assert_eq!(old.as_deref(), Ok("old"));
    let unseen = bench.get("x", &format!("{OPENAPI}?hash=C3")).await;
    assert_eq!(reason(unseen), Some(Reason::NeverSeen));
    let stranger = bench.get("z", &format!("{OPENAPI}?hash=B2")).await;
    assert_eq!(reason(stranger), Some(Reason::NoGrant));

    // Taken back, too, for every edition.
    let refused = info(&format!("{OPENAPI}?hash=C3"));
    let cache = &bench.cache;
    cache.refused(&caller("y"), &refused, StatusCode::FORBIDDEN);
    let refused = bench.get("y", &format!("{OPENAPI}?hash=B2")).await;
    assert_eq!(reason(refused), Some(Reason::NoGrant));
}

#[tokio::test]
async fn a_client_that_has_the_current_edition_is_granted_it_without_a_body() {
    let bench = Bench::new();
    bench.learn_tagged("x", "/apis", DISCOVERY_TYPE, "\"B6\"", "{\"groups\":6}");
    assert_eq!(
        reason(bench.get_as("y", "/apis", DISCOVERY).await),
        Some(Reason::NoGrant)
    );
    bench.not_modified("y", "/apis?timeout=32s", "\"B6\"", now());
    let body = bench.get_as("y", "/apis", DISCOVERY).await;
    assert_eq!(body.as_deref(), Ok("{\"groups\":6}"));
}

#[tokio::test]
async fn an_edition_that_is_still_current_is_as_old_as_that_news() {
    let bench = Bench::new();
    bench.learn_tagged("x", "/apis", DISCOVERY_TYPE, "\"B6\"", "{}");
    let later = now() + Duration::from_secs(3600);
    let age = || {
        let request = headers(ACCEPT, DISCOVERY);
        let apis = info("/apis");
        match bench.cache.answer(&caller("x"), &apis, &request, later) {
            Ok(Answer::Response(response)) => {
                let age = response.headers()["age"].to_str().expect("ascii");
                age.parse::<u64>().expect("seconds")
            }
            _ => panic!("it is answered"),
        }
    };
    bench.not_modified("x", "/apis", "\"another\"", later);
    assert!(age() >= 3600, "that was another edition's news");
    bench.not_modified("x", "/apis", "\"B6\"", later);
    assert_eq!(age(), 0);
}

#[tokio::test]
async fn a_client_that_has_the_edition_is_told_so() {
    let bench = Bench::new();
    bench.learn_tagged("x", "/apis", DISCOVERY_TYPE, "\"B6\"", "{}");
    let same = bench.discovery("x", "/apis", Some("\"B6\""));
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(same.headers()[ETAG], "\"B6\"");
    assert_eq!(text(same).await, "");
    let other = bench.discovery("x", "/apis", Some("\"A1\""));
    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(text(other).await, "{}");
}

/// kubectl's HTTP cache would keep the warning, and show it after the outage.
#[tokio::test]
async fn no_client_keeps_an_answer_of_the_dark_for_later() {
    let bench = Bench::new();
    bench.learn_tagged("x", "/apis", DISCOVERY_TYPE, "\"B6\"", "{}");
    for known in [None, Some("\"B6\"")] {
        let answer = bench.discovery("x", "/apis", known);
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(answer.headers()[VARY], "Accept");
        assert_eq!(answer.headers()[CONTENT_TYPE], DISCOVERY_TYPE);
    }
}

#[tokio::test]
async fn openapi_is_answered_in_the_encoding_that_was_asked_for() {
    const PROTO: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let bench = Bench::new();
    bench.try_learn("x", "/openapi/v2", JSON, b"{}", true);
    assert_eq!(
        reason(bench.get_as("x", "/openapi/v2", PROTO).await),
        Some(Reason::NotAcceptable)
    );
    bench.try_learn("x", "/openapi/v2", PROTO, b"proto", true);
    let proto = bench.get_as("x", "/openapi/v2", PROTO).await;
    assert_eq!(proto.as_deref(), Ok("proto"));
    let json = bench
        .get_as("x", "/openapi/v2", "application/json, */*")
        .await;
    assert_eq!(json.as_deref(), Ok("{}"));
}

#[tokio::test]
async fn a_client_that_makes_up_what_it_accepts_fills_no_memory_with_it() {
    let bench = Bench::new();
    let made_up = format!("text/{}", "a".repeat(600));
    bench.try_learn("x", "/version", &made_up, b"{}", true);
    assert_eq!(bench.cache.status(now()).responses, 0);
}

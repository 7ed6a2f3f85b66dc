//! What goes wrong in caches of this API: each test is named for one of the ways. Those that concern streams across an
//! outage are in `relay` and in the integration tests, those of subresources, pages and deletions beside their rules here.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, TRANSFER_ENCODING};

use super::*;

fn known() -> Bench {
    let bench = Bench::new();
    let pods = [item("a", "p", 5), item("b", "q", 7)];
    bench.learn("x", PODS, &pod_list(10, &pods));
    bench
}

#[tokio::test]
async fn watches_that_differ_in_rv_and_timeout_are_of_one_scope() {
    let bench = Bench::new();
    let begun = format!("{PODS}?{WATCH_LIST}&timeoutSeconds=301&timeout=5m1s");
    let mut feed = bench.watch("x", &begun);
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    feed.event(&bookmark(10, true));
    drop(feed);
    let again = format!("{PODS}?{WATCH_LIST}&timeoutSeconds=599&timeout=9m59s");
    let answer = bench.open_watch("x", &again).expect("the same scope");
    assert_eq!(told(answer).await, ["ADDED p@5", "BOOKMARK 10 end"]);
    assert!(
        bench
            .list("x", &format!("{PODS}?timeout=32s"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn what_was_never_seen_whole_is_never_an_empty_list() {
    let bench = Bench::new();
    bench.learn("x", "/api/v1/namespaces/a/pods/p", &pod("a", "p", 5));
    bench.try_learn("x", PODS, JSON, pod_list(10, &[]).as_bytes(), false);
    for uri in [PODS, PODS_IN_A, "/api/v1/nodes"] {
        let answer = bench.list("x", uri).await;
        assert!(answer.is_err(), "{uri}: {answer:?}");
    }
}

#[tokio::test]
async fn a_list_by_another_selector_is_not_the_list() {
    let bench = Bench::new();
    let selected = format!("{PODS}?labelSelector=app%3Dx");
    bench.learn("x", &selected, &pod_list(10, &[item("a", "p", 5)]));
    assert!(bench.list("x", &selected).await.is_ok());
    let wider = bench.list("x", PODS).await;
    assert!(wider.is_err(), "{wider:?}");
    let other = bench
        .list("x", &format!("{PODS}?labelSelector=app%3Dy"))
        .await;
    assert!(other.is_err(), "{other:?}");
}

#[tokio::test]
async fn a_selected_list_does_not_replace_the_full_one() {
    let bench = known();
    let selected = format!("{PODS}?labelSelector=app%3Dx");
    bench.learn("x", &selected, &pod_list(11, &[item("a", "p", 5)]));
    let (_, pods) = bench.list("x", PODS).await.expect("the full one");
    assert_eq!(pods, ["p@5", "q@7"]);
}

#[tokio::test]
async fn an_optional_object_that_is_missing_takes_no_sibling_away() {
    let bench = known();
    let missing = format!("{PODS_IN_A}?fieldSelector=metadata.name%3Dnone");
    bench.learn("x", &missing, &pod_list(11, &[]));
    let missing = info("/api/v1/namespaces/a/pods/none");
    bench
        .cache
        .refused(&caller("x"), &missing, http::StatusCode::NOT_FOUND);
    let (_, pods) = bench.list("x", PODS).await.expect("the siblings");
    assert_eq!(pods, ["p@5", "q@7"]);
}

#[tokio::test]
async fn a_watch_list_without_an_rv_is_never_told_that_it_is_too_old() {
    let bench = known();
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 15)]));
    for version in ["", "&resourceVersion=0", "&resourceVersion=3"] {
        let uri = format!("{PODS}?{WATCH_LIST}{version}");
        let answer = bench.open_watch("x", &uri).expect("what there is");
        assert_eq!(told(answer).await, ["ADDED p@15", "BOOKMARK 20 end"]);
    }
}

#[tokio::test]
async fn after_a_410_the_list_that_the_client_then_asks_for_is_answered() {
    let bench = known();
    let old = format!("{PODS}?watch=1&resourceVersion=3");
    assert_eq!(bench.open_watch("x", &old).err(), Some(Reason::Expired));
    for follow_up in [
        "resourceVersion=0&limit=500",
        "resourceVersion=3&limit=0",
        "",
    ] {
        let uri = format!("{PODS}?{follow_up}");
        assert!(bench.list("x", &uri).await.is_ok(), "{follow_up}");
    }
}

#[tokio::test]
async fn no_rv_is_made_up() {
    let bench = known();
    bench.learn(
        "x",
        "/api/v1/nodes",
        &list_of("NodeList", "v1", r#""resourceVersion":"90""#, &[]),
    );
    // Whatever else was seen since, these pods are known as of 10.
    let (version, _) = bench.list("x", PODS_IN_A).await.expect("known");
    assert_eq!(version, "10");
    let too_new = format!("{PODS}?resourceVersion=90");
    assert_eq!(
        reason(bench.list("x", &too_new).await),
        Some(Reason::ResourceVersionTooLarge)
    );
}

#[tokio::test]
async fn a_refusal_is_not_told_again_to_anyone() {
    let bench = known();
    for status in [401_u16, 403, 404, 429, 500, 503] {
        let status = http::StatusCode::from_u16(status).expect("a code");
        let mut response = ok(JSON);
        response.status = status;
        let learner = bench.cache.learner(
            &caller("x"),
            &info(PODS),
            &headers(ACCEPT, JSON),
            &response,
            now(),
        );
        assert!(learner.is_none(), "{status}");
    }
    assert!(bench.list("x", PODS).await.is_ok());
}

#[tokio::test]
async fn nothing_is_told_over_a_403() {
    let bench = known();
    bench
        .cache
        .refused(&caller("x"), &info(PODS), http::StatusCode::FORBIDDEN);
    assert_eq!(reason(bench.list("x", PODS).await), Some(Reason::NoGrant));
}

#[tokio::test]
async fn what_came_compressed_is_told_plain_and_with_its_own_length() {
    let bench = Bench::new();
    let list = pod_list(10, &[item("a", "p", 5)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, list.as_bytes()).expect("in memory");
    let body = gzip.finish().expect("in memory");
    let mut request = headers(ACCEPT, JSON);
    request.insert(
        http::header::ACCEPT_ENCODING,
        HeaderValue::from_static("gzip"),
    );
    let mut response = ok(JSON);
    for (name, value) in [
        (CONTENT_ENCODING, "gzip"),
        (CONTENT_LENGTH, "1"),
        (ETAG, "\"of-the-upstream\""),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers.insert(name, value);
    }
    let learner = bench
        .cache
        .learner(&caller("x"), &info(PODS), &request, &response, now());
    let mut learner = learner.expect("a list");
    learner.feed(&body);
    learner.finish();
    let Ok(Answer::Response(response)) = bench.ask("x", PODS, JSON) else {
        panic!("known");
    };
    let length = response.headers()[CONTENT_LENGTH].clone();
    for stale in [CONTENT_ENCODING, ETAG, TRANSFER_ENCODING] {
        assert!(!response.headers().contains_key(&stale), "{stale}");
    }
    let told = text(response).await;
    assert_eq!(
        (told.len().to_string().as_str(), told.as_str()),
        (length.to_str().expect("ascii"), list.as_str())
    );
}

#[tokio::test]
async fn an_item_of_a_list_has_its_type_meta_in_a_get_and_in_an_event() {
    let bench = known();
    let got = bench.get("x", "/api/v1/namespaces/a/pods/p").await;
    assert_eq!(got, Ok(pod("a", "p", 5) + "\n"));
    // `told` looks for the TypeMeta of each event.
    let answer = bench.open_watch("x", &format!("{PODS_IN_A}?{WATCH_LIST}"));
    assert_eq!(
        told(answer.expect("known")).await,
        ["ADDED p@5", "BOOKMARK 10 end"]
    );
}

#[tokio::test]
async fn a_namespace_is_an_object_without_a_namespace() {
    let bench = Bench::new();
    let namespace = r#"{"metadata":{"name":"a","uid":"u","resourceVersion":"3"}}"#;
    let list = list_of(
        "NamespaceList",
        "v1",
        r#""resourceVersion":"10""#,
        &[namespace.to_owned()],
    );
    bench.learn("x", "/api/v1/namespaces", &list);
    let got = bench.get("x", "/api/v1/namespaces/a").await.expect("known");
    assert!(got.contains(r#""kind":"Namespace""#), "{got}");
    assert_eq!(
        reason(bench.get("x", "/api/v1/namespaces/b").await),
        Some(Reason::NotFound)
    );
}

#[tokio::test]
async fn objects_behind_a_subresource_of_another_kind_are_not_mixed_up() {
    let bench = Bench::new();
    let scale = r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"d","namespace":"a","uid":"u","resourceVersion":"5"}}"#;
    let deployment = "/apis/apps/v1/namespaces/a/deployments/d";
    bench.learn("x", &format!("{deployment}/scale"), scale);
    assert!(bench.get("x", deployment).await.is_err());
    assert!(
        bench
            .get("x", &format!("{deployment}/scale"))
            .await
            .is_err()
    );
}

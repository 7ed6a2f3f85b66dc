//! What an answer teaches, and what it does not.

use std::io::Write;

use http::header::CONTENT_ENCODING;

use super::*;

const POD: &str = "/api/v1/namespaces/a/pods/p";

fn names(list: Result<(String, Vec<String>), Reason>) -> Result<Vec<String>, Reason> {
    list.map(|(_, names)| names)
}

#[tokio::test]
async fn a_list_is_remembered_and_answered() {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[item("a", "p", 5), item("b", "q", 7)]),
    );
    let expected = ("10".to_owned(), vec!["p@5".to_owned(), "q@7".to_owned()]);
    assert_eq!(bench.list("x", PODS).await, Ok(expected));
    let get = bench.get("x", "/api/v1/namespaces/a/pods/p").await;
    assert_eq!(get, Ok(pod("a", "p", 5) + "\n"));
}

#[tokio::test]
async fn a_truncated_list_leaves_the_collection_as_it_was() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    let second = pod_list(20, &[item("a", "p", 5), item("a", "q", 15)]);
    for end in 0..second.len() - 1 {
        bench.try_learn("x", PODS, JSON, &second.as_bytes()[..end], false);
        // An upstream that closes the connection in order, in the middle of a body without a length.
        bench.try_learn("x", PODS, JSON, &second.as_bytes()[..end], true);
    }
    let expected = ("10".to_owned(), vec!["p@5".to_owned()]);
    assert_eq!(bench.list("x", PODS).await, Ok(expected));
}

/// Its metadata is all that is read of an object that is known; of one that is new, every byte is.
#[tokio::test]
async fn an_object_that_is_not_json_to_its_end_or_has_two_heads_is_not_kept() {
    const MAPS: &str = "/api/v1/configmaps";
    let meta = r#""metadata":{"name":"p","namespace":"a","uid":"u","resourceVersion":"5"}"#;
    for after in [
        r#""spec":{x}"#,
        r#""metadata":{"name":"q"}"#,
        r#""kind":"Other""#,
        r#""apiVersion":7"#,
    ] {
        let broken = format!("{{{meta},{after}}}");
        let maps = pod_list(10, std::slice::from_ref(&broken)).replace("PodList", "ConfigMapList");
        let pods = pod_list(10, &[item("a", "q", 5), broken]);
        let bench = Bench::new();
        for (path, list) in [(PODS, pods), (MAPS, maps)] {
            bench.try_learn("x", path, JSON, list.as_bytes(), true);
            let answer = bench.list("x", path).await;
            assert_eq!(reason(answer), Some(Reason::Incomplete), "{path}: {after}");
        }
    }
}

#[tokio::test]
async fn a_list_never_seen_whole_is_incomplete_and_not_empty() {
    let bench = Bench::new();
    let body = pod_list(10, &[item("a", "p", 5)]);
    bench.try_learn("x", PODS, JSON, &body.as_bytes()[..body.len() - 3], true);
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn pages_are_one_list_when_the_last_has_come() {
    let bench = Bench::new();
    bench.learn(
        "x",
        "/api/v1/pods?limit=1",
        &page(10, "t1", &[item("a", "p", 5)]),
    );
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
    bench.learn(
        "x",
        "/api/v1/pods?limit=1&continue=t1",
        &page(10, "t2", &[item("a", "q", 6)]),
    );
    bench.learn(
        "x",
        "/api/v1/pods?limit=1&continue=t2",
        &pod_list(10, &[item("a", "r", 7)]),
    );
    let expected = (
        "10".to_owned(),
        vec!["p@5".to_owned(), "q@6".to_owned(), "r@7".to_owned()],
    );
    assert_eq!(bench.list("x", PODS).await, Ok(expected));
}

#[tokio::test]
async fn a_page_without_those_before_it_proves_nothing() {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    bench.learn(
        "x",
        "/api/v1/pods?limit=1&continue=t9",
        &pod_list(20, &[item("a", "r", 7)]),
    );
    assert_eq!(
        names(bench.list("x", PODS).await),
        Ok(vec!["p@5".to_owned(), "q@6".to_owned()])
    );
    // Another caller's chain is not continued either.
    bench.learn(
        "y",
        "/api/v1/pods?limit=1",
        &page(30, "t1", &[item("a", "p", 5)]),
    );
    bench.learn(
        "x",
        "/api/v1/pods?limit=1&continue=t1",
        &pod_list(30, &[item("a", "r", 7)]),
    );
    assert_eq!(
        names(bench.list("x", PODS).await),
        Ok(vec!["p@5".to_owned(), "q@6".to_owned()])
    );
}

#[tokio::test]
async fn what_an_unfiltered_list_does_not_hold_is_gone_everywhere() {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS_IN_A,
        &pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    bench.learn(
        "x",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn",
        &pod_list(11, &[item("a", "q", 6)]),
    );
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 5)]));
    assert_eq!(
        reason(bench.get("x", "/api/v1/namespaces/a/pods/q").await),
        Some(Reason::NotFound)
    );
    let filtered = bench
        .list("x", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn")
        .await;
    assert_eq!(names(filtered), Ok(vec![]));
}

#[tokio::test]
async fn a_list_of_one_object_cannot_touch_its_siblings() {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS_IN_A,
        &pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    bench.learn(
        "y",
        "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp",
        &pod_list(20, &[item("a", "p", 15)]),
    );
    bench.learn(
        "y",
        "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dz",
        &pod_list(21, &[]),
    );
    assert_eq!(
        names(bench.list("x", PODS_IN_A).await),
        Ok(vec!["p@5".to_owned(), "q@6".to_owned()])
    );
}

#[tokio::test]
async fn an_older_list_changes_nothing() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 15)]));
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    let expected = ("20".to_owned(), vec!["p@15".to_owned()]);
    assert_eq!(bench.list("x", PODS).await, Ok(expected));
}

#[tokio::test]
async fn a_table_is_never_stored_as_an_object() {
    let bench = Bench::new();
    let table = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"10"},"columnDefinitions":[],"rows":[]}"#;
    bench.learn("x", PODS, table);
    bench.learn("x", "/api/v1/namespaces/a/pods/p", table);
    let status = bench.cache.status(now());
    assert_eq!((status.facts, status.collections.len()), (0, 0));
    assert_eq!(status.grants, 2, "but the upstream did answer");
}

#[tokio::test]
async fn metadata_alone_is_never_stored_as_an_object() {
    let bench = Bench::new();
    let partial = item("a", "p", 5).replacen(
        '{',
        r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","#,
        1,
    );
    bench.learn(
        "x",
        PODS,
        &list_of(
            "PartialObjectMetadataList",
            "meta.k8s.io/v1",
            r#""resourceVersion":"10""#,
            std::slice::from_ref(&partial),
        ),
    );
    bench.learn("x", "/api/v1/namespaces/a/pods/p", &partial);
    let mut feed = bench.watch("x", "/api/v1/pods?watch=1&resourceVersion=1");
    feed.event(&event("ADDED", &partial));
    assert_eq!(bench.cache.status(now()).facts, 0);
}

#[tokio::test]
async fn a_table_on_a_watch_leaves_the_collection_alone() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    let mut feed = bench.watch("x", "/api/v1/pods?watch=1&resourceVersion=10");
    let table = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"12"},"columnDefinitions":null,"rows":[{"cells":["q"],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"q","namespace":"a","resourceVersion":"12"}}}]}"#;
    feed.event(&event("ADDED", table));
    bench.learn("y", PODS, &pod_list(9, &[]));
    let expected = ("10".to_owned(), vec!["p@5".to_owned()]);
    assert_eq!(bench.list("y", PODS).await, Ok(expected));
}

#[tokio::test]
async fn unknown_list_options_teach_nothing() {
    let bench = Bench::new();
    bench.learn(
        "x",
        "/api/v1/pods?shardSelector=a",
        &pod_list(10, &[item("a", "p", 5)]),
    );
    bench.learn(
        "x",
        "/api/v1/pods?pretty=true",
        &pod_list(10, &[item("a", "p", 5)]),
    );
    let status = bench.cache.status(now());
    assert_eq!((status.facts, status.grants), (0, 0));
    assert_eq!(
        reason(bench.list("x", "/api/v1/pods?shardSelector=a").await),
        Some(Reason::UnmodelledQuery)
    );
}

#[tokio::test]
async fn gzip_is_learnt_from_and_a_cut_one_is_not() {
    let bench = Bench::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed
        .write_all(pod_list(10, &[item("a", "p", 5)]).as_bytes())
        .expect("into memory");
    let packed = packed.finish().expect("into memory");
    let mut response = ok(JSON);
    response
        .headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    for (bytes, expected) in [
        (&packed[..packed.len() - 2], Err(Reason::Incomplete)),
        (&packed[..], Ok(vec!["p@5".to_owned()])),
    ] {
        let learner = bench.cache.learner(
            &caller("x"),
            &info(PODS),
            &HeaderMap::new(),
            &response,
            now(),
        );
        let mut learner = learner.expect("to learn");
        bytes.chunks(3).for_each(|chunk| learner.feed(chunk));
        learner.finish();
        assert_eq!(names(bench.list("x", PODS).await), expected);
    }
}

#[tokio::test]
async fn what_curl_was_shown_indented_is_kept_as_others_see_it() {
    let bench = Bench::new();
    let value: serde_json::Value = serde_json::from_str(&pod("a", "p", 5)).expect("JSON");
    let indented = serde_json::to_string_pretty(&value).expect("JSON");
    let path = "/api/v1/namespaces/a/pods/p";
    let learner = bench.cache.learner(
        &caller("x"),
        &info(path),
        &agent("curl/8"),
        &ok(JSON),
        now(),
    );
    let mut learner = learner.expect("to learn");
    learner.feed(indented.as_bytes());
    learner.finish();
    let told = bench.get("x", path).await.expect("known");
    assert_eq!(told, value.to_string() + "\n");
}

fn not_found(bench: &Bench, path: &str) {
    bench
        .cache
        .refused(&caller("y"), &info(path), http::StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_404_takes_nothing_from_a_complete_collection() {
    let bench = Bench::new();
    let pods = pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]);
    bench.learn("x", PODS_IN_A, &pods);
    not_found(&bench, "/api/v9/namespaces/a/pods/p");
    not_found(&bench, POD);
    let both = Ok(vec!["p@5".to_owned(), "q@6".to_owned()]);
    assert_eq!(names(bench.list("x", PODS_IN_A).await), both);
    bench.learn("x", PODS_IN_A, &pods);
    assert_eq!(names(bench.list("x", PODS_IN_A).await), both);
}

#[tokio::test]
async fn a_404_forgets_an_object_known_by_itself_until_it_is_seen_again() {
    let bench = Bench::new();
    bench.learn("x", POD, &pod("a", "p", 5));
    not_found(&bench, "/api/v9/namespaces/a/pods/p");
    assert!(bench.get("x", POD).await.is_ok(), "of another version");
    not_found(&bench, POD);
    assert_eq!(reason(bench.get("x", POD).await), Some(Reason::NeverSeen));
    bench.learn("x", POD, &pod("a", "p", 5));
    assert!(bench.get("x", POD).await.is_ok());
}

#[tokio::test]
async fn a_404_while_a_list_is_being_read_does_not_shorten_the_list() {
    let bench = Bench::new();
    let response = ok(JSON);
    let mut learner = bench
        .cache
        .learner(
            &caller("x"),
            &info(PODS_IN_A),
            &agent("curl/8"),
            &response,
            now(),
        )
        .expect("to learn");
    learner.feed(pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]).as_bytes());
    not_found(&bench, POD);
    learner.finish();
    assert_eq!(
        reason(bench.list("x", PODS_IN_A).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn a_404_that_was_on_its_way_when_a_stream_showed_the_object_changes_nothing() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS_IN_A}?watch=1&resourceVersion=10"));
    feed.event(&event("ADDED", &pod("a", "p", 11)));
    not_found(&bench, POD);
    bench.learn("x", PODS_IN_A, &pod_list(10, &[]));
    assert_eq!(
        names(bench.list("x", PODS_IN_A).await),
        Ok(vec!["p@11".to_owned()])
    );
}

#[tokio::test]
async fn a_custom_resource_is_kept_as_it_came() {
    let bench = Bench::new();
    let uri = "/apis/example.dev/v1/namespaces/a/widgets";
    let widget = r#"{"apiVersion":"example.dev/v1","kind":"Widget","metadata":{"name":"w","namespace":"a","resourceVersion":"5","uid":"u"},"spec":{"size":1}}"#;
    let list = format!(
        "{{\"apiVersion\":\"example.dev/v1\",\"items\":[{widget}],\"kind\":\"WidgetList\",\"metadata\":{{\"continue\":\"\",\"resourceVersion\":\"10\"}}}}\n"
    );
    bench.learn("x", uri, &list);
    assert_eq!(
        bench.get("x", &format!("{uri}/w")).await,
        Ok(format!("{widget}\n"))
    );
    let told = bench.get("x", uri).await.expect("known");
    assert!(
        told.contains(widget) && told.contains(r#""kind":"WidgetList""#),
        "{told}"
    );
}

#[tokio::test]
async fn another_namespaces_object_in_a_list_spoils_it() {
    let bench = Bench::new();
    bench.learn("x", PODS_IN_A, &pod_list(10, &[item("b", "p", 5)]));
    assert_eq!(
        reason(bench.list("x", PODS_IN_A).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn an_answer_is_a_grant_from_its_head_on_whatever_becomes_of_its_body() {
    let bench = Bench::new();
    let pods = pod_list(10, &[item("a", "p", 5)]);
    bench.learn("x", PODS, &pods);
    bench.learn("x", "/version", "{}");
    bench.try_learn("list", PODS, JSON, &pods.as_bytes()[..20], false);
    bench.try_learn("get", POD, JSON, b"{", false);
    bench.try_learn("path", "/version", JSON, b"{", false);
    assert!(bench.list("list", PODS).await.is_ok());
    assert!(bench.get("get", POD).await.is_ok());
    assert!(bench.get("path", "/version").await.is_ok());
}

#[tokio::test]
async fn one_caller_cannot_keep_the_collections_of_others_from_being_learnt() {
    let bench = Bench::new();
    let watch = |n| {
        let uri = format!("/api/v1/namespaces/invented-{n}/pods?watch=1&resourceVersion=5");
        let response = ok(JSON);
        bench.cache.watch_feed(
            &caller("x"),
            &info(&uri),
            &headers(ACCEPT, JSON),
            &response,
            now(),
        )
    };
    let feeds: Vec<_> = (0..2100).map(watch).collect();
    bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
    assert!(bench.list("y", PODS).await.is_ok());
    drop(feeds);
    bench.learn("x", PODS_IN_A, &pod_list(10, &[item("a", "p", 5)]));
    assert!(
        bench.list("x", PODS_IN_A).await.is_ok(),
        "there is room again"
    );
}

#[tokio::test]
async fn a_caller_with_as_many_collections_as_it_may_have_gives_up_its_oldest() {
    let bench = Bench::new();
    let in_namespace = |n| format!("/api/v1/namespaces/invented-{n}/pods");
    bench.learn("y", PODS_IN_A, &pod_list(10, &[item("a", "p", 5)]));
    for n in 0..1000 {
        bench.learn("x", &in_namespace(n), &pod_list(10, &[]));
    }
    assert!(bench.list("y", PODS_IN_A).await.is_ok());
    assert!(bench.list("x", &in_namespace(999)).await.is_ok());
    assert!(bench.cache.status(now()).collections.len() < 500);
}

#[tokio::test]
async fn a_cache_full_of_old_empty_lists_learns_new_ones() {
    let bench = Bench::new();
    for n in 0..2100 {
        let who = format!("x{}", n / 200);
        let uri = format!("/api/v1/namespaces/invented-{n}/pods");
        bench.learn(&who, &uri, &pod_list(10, &[]));
    }
    bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
    assert!(bench.list("y", PODS).await.is_ok());
}

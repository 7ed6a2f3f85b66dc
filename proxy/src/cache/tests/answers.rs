//! Who gets what from the cache, and what the others are told.

use super::*;

const P: &str = "/api/v1/namespaces/a/pods/p";
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn known() -> Bench {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[item("a", "p", 5), item("b", "q", 7)]),
    );
    bench
}

#[tokio::test]
async fn another_caller_gets_nothing_of_it() {
    let bench = known();
    for uri in [PODS, PODS_IN_A, P, "/api/v1/namespaces/a/pods/none"] {
        assert_eq!(
            reason(bench.get("y", uri).await),
            Some(Reason::NoGrant),
            "{uri}"
        );
    }
    let watch = bench.open_watch("y", &format!("{PODS}?watch=1"));
    assert_eq!(reason(watch), Some(Reason::NoGrant));
}

#[tokio::test]
async fn a_user_agent_changes_nothing() {
    let bench = known();
    for name in ["kubelet/v1.36.3", "kubectl/v1.36.3", ""] {
        let answer = |who| {
            bench
                .cache
                .answer(&caller(who), &info(PODS), &agent(name), now())
        };
        assert!(answer("x").is_ok(), "{name}");
        assert_eq!(reason(answer("y")), Some(Reason::NoGrant), "{name}");
    }
}

#[tokio::test]
async fn a_grant_covers_what_is_inside_it() {
    let bench = known();
    assert_eq!(
        bench.list("x", PODS_IN_A).await,
        Ok(("10".to_owned(), vec!["p@5".to_owned()]))
    );
    let by_name = format!("{PODS}?fieldSelector=metadata.name%3Dq");
    assert_eq!(
        bench.list("x", &by_name).await,
        Ok(("10".to_owned(), vec!["q@7".to_owned()]))
    );
}

#[tokio::test]
async fn two_callers_share_the_objects_and_not_the_right_to_them() {
    let bench = known();
    bench.learn("y", PODS_IN_A, &pod_list(8, &[item("a", "p", 5)]));
    // y may read namespace a only, and gets it from the fresher list of x.
    assert_eq!(
        bench.list("y", PODS_IN_A).await,
        Ok(("10".to_owned(), vec!["p@5".to_owned()]))
    );
    assert_eq!(reason(bench.list("y", PODS).await), Some(Reason::NoGrant));
    assert_eq!(
        reason(bench.get("y", "/api/v1/namespaces/b/pods/q").await),
        Some(Reason::NoGrant)
    );
}

#[tokio::test]
async fn only_a_complete_granted_collection_says_404() {
    let bench = known();
    assert_eq!(
        reason(bench.get("x", "/api/v1/namespaces/a/pods/none").await),
        Some(Reason::NotFound)
    );
    let other = Bench::new();
    other.learn("x", P, &pod("a", "p", 5));
    assert_eq!(
        reason(other.get("x", "/api/v1/namespaces/a/pods/none").await),
        Some(Reason::NoGrant)
    );
    other.learn(
        "x",
        &format!("{PODS_IN_A}?labelSelector=app"),
        &pod_list(10, &[]),
    );
    assert_eq!(
        reason(other.get("x", "/api/v1/namespaces/a/pods/none").await),
        Some(Reason::NoGrant)
    );
    assert_eq!(
        reason(other.get("x", "/api/v1/nodes/none").await),
        Some(Reason::NeverSeen)
    );
}

#[tokio::test]
async fn objects_known_one_by_one_are_no_list() {
    let bench = Bench::new();
    bench.learn("x", P, &pod("a", "p", 5));
    bench.watch("x", &format!("{PODS_IN_A}?watch=1&resourceVersion=5"));
    assert_eq!(
        reason(bench.list("x", PODS_IN_A).await),
        Some(Reason::Incomplete)
    );
    assert_eq!(bench.get("x", P).await, Ok(pod("a", "p", 5) + "\n"));
}

#[tokio::test]
async fn a_refused_caller_is_served_no_more() {
    let bench = known();
    bench
        .cache
        .refused(&caller("x"), &info(PODS_IN_A), http::StatusCode::FORBIDDEN);
    for uri in [PODS, PODS_IN_A, P] {
        assert_eq!(
            reason(bench.get("x", uri).await),
            Some(Reason::NoGrant),
            "{uri}"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_no_longer_accepted_takes_nothing_from_those_with_a_good_one() {
    let bench = known();
    for uri in [PODS, P] {
        let status = http::StatusCode::UNAUTHORIZED;
        bench.cache.refused(&caller("x"), &info(uri), status);
    }
    for uri in [PODS, P] {
        assert!(bench.get("x", uri).await.is_ok(), "{uri}");
    }
}

#[tokio::test]
async fn each_client_gets_an_encoding_it_accepts() {
    let bench = known();
    let content_type = |accept| match bench.ask("x", PODS, accept) {
        Ok(Answer::Response(response)) => Ok(response.headers()[CONTENT_TYPE].clone()),
        Ok(Answer::Watch(_)) => panic!("no watch"),
        Err(reason) => Err(reason),
    };
    let json = || Ok(HeaderValue::from_static(JSON));
    assert_eq!(
        content_type("application/vnd.kubernetes.protobuf,application/json"),
        json()
    );
    assert_eq!(
        content_type("application/vnd.kubernetes.protobuf, */*"),
        json()
    );
    assert_eq!(content_type(KUBECTL_GET), json());
    assert_eq!(content_type(PROTOBUF), Err(Reason::NotAcceptable));
    let yaml = HeaderValue::from_static("application/yaml");
    assert_eq!(content_type("application/yaml"), Ok(yaml));
    assert_eq!(
        reason(bench.get_as("x", P, PROTOBUF).await),
        Some(Reason::NotAcceptable)
    );
}

#[tokio::test]
async fn protobuf_is_kept_and_answered_as_it_came() {
    use crate::cache::wire::{ListHead, envelope, list_body};
    let bench = Bench::new();
    // ObjectMeta{name 1, namespace 3, uid 5, resourceVersion 6}, then a spec.
    let raw = b"\x0a\x0c\x0a\x01p\x1a\x01a\x2a\x01u\x32\x015\x12\x00".to_vec();
    let object = envelope("v1", "Pod", &raw);
    bench.try_learn("x", P, PROTOBUF, &object, true);
    let answer = |uri: &'static str| match bench.ask("x", uri, PROTOBUF) {
        Ok(Answer::Response(response)) => response,
        Ok(Answer::Watch(_)) => panic!("no watch"),
        Err(reason) => panic!("{reason:?}"),
    };
    let got = answer(P)
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(got, object);
    let head = ListHead {
        api_version: "v1".to_owned(),
        kind: "PodList".to_owned(),
        resource_version: 10,
        ..ListHead::default()
    };
    let items = vec![Bytes::from(raw.clone())];
    let list: Vec<u8> = list_body(Encoding::Protobuf, &head, [raw.len()].into_iter(), items)
        .flatten()
        .collect();
    bench.try_learn("x", PODS, PROTOBUF, &list, true);
    let listed = answer(PODS);
    assert_eq!(
        listed.headers()["content-length"],
        list.len().to_string().as_str()
    );
    let got = listed
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(got, list);
    assert_eq!(
        reason(bench.get("x", PODS).await),
        Some(Reason::NotAcceptable)
    );
}

#[tokio::test]
async fn an_rv_is_answered_as_far_as_it_is_known() {
    let bench = known();
    let list = |query: &str| format!("{PODS}?{query}");
    for (query, expected) in [
        ("resourceVersion=0&limit=1", None),
        ("resourceVersion=10", None),
        ("resourceVersion=9&resourceVersionMatch=NotOlderThan", None),
        ("resourceVersion=11", Some(Reason::ResourceVersionTooLarge)),
        ("resourceVersion=10&resourceVersionMatch=Exact", None),
        (
            "resourceVersion=9&resourceVersionMatch=Exact",
            Some(Reason::Expired),
        ),
        ("continue=abc", Some(Reason::BadRequest)),
        ("resourceVersion=x", Some(Reason::BadRequest)),
    ] {
        assert_eq!(
            reason(bench.list("x", &list(query)).await),
            expected,
            "{query}"
        );
    }
}

/// A pod with labels, as a list shows it.
fn labelled(name: &str, resource_version: u64, labels: &str) -> String {
    let item = item("a", name, resource_version);
    item.replacen(r#""uid""#, &format!(r#""labels":{{{labels}}},"uid""#), 1)
}

#[tokio::test]
async fn a_label_selector_is_told_from_a_wider_list() {
    let bench = Bench::new();
    let items = [
        labelled("p", 5, r#""app":"web","tier":"front""#),
        labelled("q", 6, r#""app":"db""#),
        labelled("r", 7, r#""tier":"back""#),
    ];
    bench.learn("x", PODS, &pod_list(10, &items));
    for (selector, expected) in [
        ("app%3Dweb", "p"),
        ("app", "pq"),
        ("!app", "r"),
        ("app!%3Dweb", "qr"),
        ("app%20notin%20(web,db)", "r"),
        ("app%20in%20(web,db),tier", "p"),
        ("app%3Dnone", ""),
    ] {
        let uri = format!("{PODS_IN_A}?labelSelector={selector}");
        let (version, names) = bench.list("x", &uri).await.expect(selector);
        let names: String = names.iter().map(|name| &name[..1]).collect();
        assert_eq!(
            (version.as_str(), names.as_str()),
            ("10", expected),
            "{selector}"
        );
    }
    let refused = format!("{PODS}?labelSelector=app%20in%20x");
    assert_eq!(
        reason(bench.list("x", &refused).await),
        Some(Reason::Incomplete)
    );
    // What it was granted for a selection says nothing of the rest.
    let selected = format!("{PODS_IN_A}?labelSelector=app");
    bench.learn("y", &selected, &pod_list(10, &items[..2]));
    assert!(bench.list("y", &selected).await.is_ok());
    let other = format!("{PODS_IN_A}?labelSelector=tier");
    assert_eq!(reason(bench.list("y", &other).await), Some(Reason::NoGrant));
}

#[tokio::test]
async fn metadata_alone_is_told_from_the_objects() {
    const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    const METADATA_ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let bench = known();
    let list = bench
        .get_as("x", PODS_IN_A, METADATA)
        .await
        .expect("a list");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["metadata"]["resourceVersion"], "10");
    let item = &list["items"][0];
    assert_eq!(
        (&item["kind"], &item["metadata"]["name"]),
        (&"PartialObjectMetadata".into(), &"p".into())
    );
    assert!(item["spec"].is_null());
    let one = bench.get_as("x", P, METADATA_ONE).await.expect("an object");
    assert!(one.starts_with(r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"p""#), "{one}");
    let uri = format!("{PODS_IN_A}?{WATCH_LIST}");
    let Ok(Answer::Watch(mut watch)) = bench.ask("x", &uri, METADATA) else {
        panic!("a watch");
    };
    let told = frames(&mut watch).await.expect("all of them").concat();
    let told = String::from_utf8(told).expect("text");
    assert_eq!(
        told.matches(r#""kind":"PartialObjectMetadata""#).count(),
        2,
        "{told}"
    );
    assert!(!told.contains("spec"), "{told}");
}

#[tokio::test]
async fn yaml_is_told_of_json_and_json_of_yaml() {
    const YAML: &str = "application/yaml";
    let bench = known();
    let one = bench.get_as("x", P, YAML).await.expect("an object");
    assert!(
        one.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n"),
        "{one}"
    );
    let list = bench.get_as("x", PODS, YAML).await.expect("a list");
    assert!(
        list.starts_with("apiVersion: v1\nitems:\n- metadata:\n    name: p\n"),
        "{list}"
    );
    assert!(
        list.ends_with("kind: PodList\nmetadata:\n  resourceVersion: \"10\"\n"),
        "{list}"
    );
    // There is no YAML on a watch.
    let watch = bench.ask("x", &format!("{PODS}?watch=1"), YAML);
    assert_eq!(watch.err(), Some(Reason::NotAcceptable));

    let other = Bench::new();
    let yaml = one.replace("resourceVersion: \"5\"", "resourceVersion: \"6\"");
    other.try_learn("x", P, YAML, yaml.as_bytes(), true);
    assert_eq!(other.get_as("x", P, YAML).await, Ok(yaml));
    let json = other.get("x", P).await.expect("the same in JSON");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["metadata"]["resourceVersion"], "6");
    assert_eq!(
        reason(other.get_as("x", P, PROTOBUF).await),
        Some(Reason::NotAcceptable)
    );
}

#[tokio::test]
async fn a_protobuf_list_of_metadata_is_as_long_as_it_says() {
    const METADATA: &str =
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let bench = known();
    let Ok(Answer::Response(response)) = bench.ask("x", PODS, METADATA) else {
        panic!("a list");
    };
    let body = response.into_body().collect().await.expect("a whole body");
    let mut splitter = crate::cache::wire::ListSplitter::new(Encoding::Protobuf);
    let mut names = Vec::new();
    splitter
        .feed(&body.to_bytes(), &mut |item| names.push(item.meta.name))
        .expect("a list");
    assert_eq!(
        splitter.finish().expect("whole").kind,
        "PartialObjectMetadataList"
    );
    assert_eq!(names, ["p", "q"]);
}

#[tokio::test]
async fn a_field_selector_is_told_from_a_wider_list_also_after_a_restart() {
    let bench = Bench::new();
    let on = |name: &str, node: &str, phase: &str| {
        let filled = format!(r#""spec":{{"nodeName":"{node}"}},"status":{{"phase":"{phase}"}}"#);
        item("a", name, 5).replacen(r#""spec":{}"#, &filled, 1)
    };
    let items = [
        on("p", "n1", "Running"),
        on("q", "n1", "Failed"),
        on("r", "", "Pending"),
    ];
    bench.learn("x", PODS, &pod_list(10, &items));
    bench.commit().await;
    let bench = bench.killed();
    for (selector, expected) in [
        ("spec.nodeName%3Dn1", vec!["p@5", "q@5"]),
        ("spec.nodeName%3D", vec!["r@5"]),
        ("spec.nodeName%3Dn1,status.phase!%3DFailed", vec!["p@5"]),
        ("metadata.name!%3Dp", vec!["q@5", "r@5"]),
        ("metadata.namespace%3Db", vec![]),
    ] {
        let uri = format!("{PODS}?fieldSelector={selector}");
        let (_, names) = bench.list("x", &uri).await.expect(selector);
        assert_eq!(names, expected, "{selector}");
    }
    let unknown = format!("{PODS}?fieldSelector=spec.color%3Dred");
    assert_eq!(
        reason(bench.list("x", &unknown).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn a_watch_with_a_selector_is_replayed_only_as_far_as_it_is_known_who_left_it() {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[labelled("p", 5, r#""app":"web""#), item("a", "q", 6)]),
    );
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    let watch = |since| format!("{PODS}?watch=1&labelSelector=app&resourceVersion={since}");
    let new = labelled("r", 11, r#""app":"db""#);
    feed.event(&event(
        "ADDED",
        &format!(r#"{{"kind":"Pod","apiVersion":"v1",{}"#, &new[1..]),
    ));
    feed.event(&event("ADDED", &pod("a", "s", 12)));
    let answer = bench.open_watch("x", &watch(10)).expect("only new ones");
    assert_eq!(told(answer).await, ["ADDED r@11"]);
    // It had the label, or it never did: the event does not say.
    feed.event(&event("MODIFIED", &pod("a", "p", 13)));
    assert_eq!(
        bench.open_watch("x", &watch(12)).err(),
        Some(Reason::Expired)
    );
    assert!(bench.open_watch("x", &watch(13)).is_ok());
    let again = format!("{PODS}?{WATCH_LIST}&labelSelector=app");
    let answer = bench.open_watch("x", &again).expect("what there is now");
    assert_eq!(told(answer).await, ["ADDED r@11", "BOOKMARK 13 end"]);
}

fn page_of(body: &str) -> (Vec<String>, String, Option<u64>) {
    let list: serde_json::Value = serde_json::from_str(body).expect("a list");
    let items = list["items"].as_array().expect("items").iter();
    let names = items
        .map(|item| {
            item["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect();
    let metadata = &list["metadata"];
    let token = metadata["continue"].as_str().unwrap_or_default().to_owned();
    (names, token, metadata["remainingItemCount"].as_u64())
}

#[tokio::test]
async fn a_list_is_told_in_pages_to_those_who_ask_for_them() {
    let bench = Bench::new();
    let items: Vec<String> = ["p", "q", "r", "s", "t"]
        .map(|name| item("a", name, 5))
        .to_vec();
    bench.learn("x", PODS, &pod_list(10, &items));
    let mut uri = format!("{PODS}?limit=2");
    let mut pages = Vec::new();
    loop {
        let body = bench.get("x", &uri).await.expect("a page");
        let (names, token, remaining) = page_of(&body);
        pages.push((names.join(""), remaining));
        if token.is_empty() {
            break;
        }
        uri = format!("{PODS}?limit=2&continue={token}");
    }
    assert_eq!(
        pages,
        [
            ("pq".to_owned(), Some(3)),
            ("rs".to_owned(), Some(1)),
            ("t".to_owned(), None)
        ]
    );
}

#[tokio::test]
async fn a_page_that_would_not_follow_the_one_before_is_expired() {
    let bench = Bench::new();
    let items = ["p", "q", "r"].map(|name| item("a", name, 5));
    bench.learn("x", PODS, &pod_list(10, &items));
    let first = bench.get("x", &format!("{PODS}?limit=1")).await;
    let (_, token, _) = page_of(&first.expect("a page"));
    let next = format!("{PODS}?limit=1&continue={token}");
    // What is new since does not matter: it is not in the list that was begun.
    let grown = [
        item("a", "p", 5),
        item("a", "q", 5),
        item("a", "qq", 11),
        item("a", "r", 5),
    ];
    bench.learn("x", PODS, &pod_list(11, &grown));
    let body = bench.get("x", &next).await.expect("the page of then");
    assert_eq!(page_of(&body).0, ["q"]);
    assert!(body.contains(r#""resourceVersion":"10""#), "{body}");
    let changed = [item("a", "p", 5), item("a", "q", 12), item("a", "r", 5)];
    bench.learn("x", PODS, &pod_list(12, &changed));
    assert_eq!(reason(bench.get("x", &next).await), Some(Reason::Expired));
}

#[tokio::test]
async fn subresources_are_not_in_the_cache() {
    let bench = known();
    for tail in ["status", "log", "scale"] {
        let answer = bench.get("x", &format!("{P}/{tail}")).await;
        assert_eq!(reason(answer), Some(Reason::NotCacheable), "{tail}");
    }
}

#[tokio::test]
async fn discovery_is_answered_in_the_form_that_was_asked_for() {
    let bench = Bench::new();
    bench.learn("x", "/apis", r#"{"kind":"APIGroupList"}"#);
    bench.try_learn(
        "x",
        "/apis",
        DISCOVERY,
        br#"{"kind":"APIGroupDiscoveryList"}"#,
        true,
    );
    assert_eq!(
        bench.get("x", "/apis?timeout=32s").await.as_deref(),
        Ok(r#"{"kind":"APIGroupList"}"#)
    );
    let aggregated = bench.get_as("x", "/apis", DISCOVERY).await;
    assert_eq!(
        aggregated.as_deref(),
        Ok(r#"{"kind":"APIGroupDiscoveryList"}"#)
    );
    assert_eq!(
        reason(bench.get_as("x", "/apis", "application/yaml").await),
        Some(Reason::NotAcceptable)
    );
    assert_eq!(reason(bench.get("y", "/apis").await), Some(Reason::NoGrant));
    assert_eq!(
        reason(bench.get("x", "/version").await),
        Some(Reason::NeverSeen)
    );
    assert_eq!(
        reason(bench.get("x", "/healthz").await),
        Some(Reason::NotCacheable)
    );
}

#[tokio::test]
async fn an_answer_is_as_old_as_its_last_confirmation() {
    let bench = known();
    let later = now() + Duration::from_secs(100);
    let answer = bench
        .cache
        .answer(&caller("x"), &info(P), &HeaderMap::new(), later);
    let Ok(Answer::Response(response)) = answer else {
        panic!("known");
    };
    let age: u64 = response.headers()["age"]
        .to_str()
        .expect("ascii")
        .parse()
        .expect("seconds");
    assert!((99..=101).contains(&age), "{age}");
    assert_eq!(response.headers()["holdfast-origin"], "cache");
}

#[tokio::test]
async fn a_filtered_grant_reads_its_members() {
    let bench = Bench::new();
    bench.learn(
        "x",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn",
        &pod_list(10, &[item("a", "p", 5)]),
    );
    bench.learn(
        "y",
        PODS,
        &pod_list(9, &[item("a", "p", 5), item("b", "q", 7)]),
    );
    assert!(bench.get("x", P).await.is_ok());
    assert_eq!(
        reason(bench.get("x", "/api/v1/namespaces/b/pods/q").await),
        Some(Reason::NoGrant)
    );
}

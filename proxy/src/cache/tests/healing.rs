//! What a client is told of the time that nobody watched: the difference between what it had and a later list.

use super::*;
use crate::cache::Frames;
use crate::cache::deletions::MAX_DELETIONS;

const NAMED_P: &str = "/api/v1/pods?fieldSelector=metadata.name%3Dp";

/// Pods `p`, `q` in `a` and `r` in `b`, at RV 10.
fn known() -> Bench {
    let bench = Bench::new();
    let pods = [item("a", "p", 5), item("a", "q", 6), item("b", "r", 7)];
    bench.learn("x", PODS, &pod_list(10, &pods));
    bench
}

/// Another pod by the same name.
fn reborn(namespace: &str, name: &str, resource_version: u64) -> String {
    item(namespace, name, resource_version).replace("-uid", "-uid-2")
}

fn watch(scope: &str, resource_version: u64) -> String {
    let and = if scope.contains('?') { '&' } else { '?' };
    format!("{scope}{and}watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}")
}

async fn since(bench: &Bench, scope: &str, resource_version: u64) -> Result<Vec<String>, Reason> {
    let answer = bench.open_watch("x", &watch(scope, resource_version))?;
    Ok(told(answer).await)
}

#[tokio::test]
async fn what_a_later_list_lacks_is_told_as_deleted_at_its_rv() {
    let bench = known();
    let pods = [item("a", "p", 15), item("a", "s", 16)];
    bench.learn("x", PODS, &pod_list(20, &pods));
    let expected = [
        "MODIFIED p@15",
        "ADDED s@16",
        "DELETED q@20",
        "DELETED r@20",
        "BOOKMARK 20",
    ];
    assert_eq!(since(&bench, PODS, 10).await.expect("known"), expected);
    bench.commit().await;
    let again = since(&bench, PODS, 10).await.expect("known");
    assert_eq!(again, expected, "their rows are gone");
    assert_eq!(
        since(&bench, PODS, 20).await.expect("known"),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn the_last_of_a_deleted_object_is_read_before_its_row_is_gone() {
    let bench = known();
    bench.commit().await;
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 5)]));
    bench.commit().await;
    let mut answer = bench.open_watch("x", &watch(PODS, 10)).expect("known");
    let frames = frames(&mut answer).await.expect("all of them");
    let deleted = format!(
        "{{\"type\":\"DELETED\",\"object\":{}}}\n",
        pod("a", "q", 20)
    );
    assert_eq!(frames[0], deleted);
}

#[tokio::test]
async fn an_object_that_was_replaced_by_another_is_deleted_before_that_is_added() {
    let bench = known();
    bench.commit().await;
    let pods = [reborn("a", "p", 15), item("a", "q", 16)];
    bench.learn("x", PODS, &pod_list(20, &pods));
    bench.commit().await;
    let told = since(&bench, PODS, 10).await.expect("known");
    let expected = [
        "DELETED p@14",
        "ADDED p@15",
        "MODIFIED q@16",
        "DELETED r@20",
        "BOOKMARK 20",
    ];
    assert_eq!(told, expected);
    let mut answer = bench.open_watch("x", &watch(PODS, 10)).expect("known");
    let frames = frames(&mut answer).await.expect("all of them");
    let text = |frame: &Bytes| String::from_utf8_lossy(frame).into_owned();
    assert!(text(&frames[0]).contains(r#""p-uid""#), "the old one");
    assert!(text(&frames[1]).contains(r#""p-uid-2""#), "the new one");
}

#[tokio::test]
async fn another_scope_that_was_listed_before_takes_nothing_from_the_difference() {
    let bench = known();
    bench.learn(
        "x",
        PODS_IN_A,
        &pod_list(11, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    bench.learn("x", NAMED_P, &pod_list(12, &[item("a", "p", 5)]));
    bench.commit().await;
    // The whole is healed first: that proves `q` gone, and `p` another one, before the narrower ones come that far.
    let pods = [reborn("a", "p", 25), item("b", "r", 7)];
    bench.learn("x", PODS, &pod_list(30, &pods));
    bench.commit().await;
    assert_eq!(names(&bench, PODS_IN_A).await, ["p@25"]);
    bench.learn("x", PODS_IN_A, &pod_list(40, &[reborn("a", "p", 25)]));
    bench.learn("x", NAMED_P, &pod_list(50, &[reborn("a", "p", 25)]));
    bench.commit().await;
    for (scope, seen, expected) in [
        (
            PODS,
            10,
            ["DELETED p@24", "ADDED p@25", "DELETED q@30", "BOOKMARK 30"].as_slice(),
        ),
        (
            PODS_IN_A,
            11,
            &["DELETED p@24", "ADDED p@25", "DELETED q@40", "BOOKMARK 40"],
        ),
        (NAMED_P, 12, &["DELETED p@24", "ADDED p@25", "BOOKMARK 50"]),
    ] {
        let told = since(&bench, scope, seen).await.expect("known");
        assert_eq!(told, expected, "{scope}");
    }
}

async fn names(bench: &Bench, scope: &str) -> Vec<String> {
    bench.list("x", scope).await.expect("known").1
}

#[tokio::test]
async fn what_another_stream_saw_deleted_is_told_by_each_collection_in_its_turn() {
    let bench = known();
    bench.learn(
        "x",
        PODS_IN_A,
        &pod_list(10, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    bench.commit().await;
    let mut feed = bench.watch("x", &watch(PODS, 10));
    feed.event(&event("DELETED", &pod("a", "q", 12)));
    assert_eq!(names(&bench, PODS_IN_A).await, ["p@5"]);
    let told = since(&bench, PODS_IN_A, 10).await;
    assert_eq!(
        told.expect("known"),
        ["DELETED q@12", "BOOKMARK 12"],
        "as the wider one tells"
    );
    bench.learn("x", PODS_IN_A, &pod_list(20, &[item("a", "p", 5)]));
    let told = since(&bench, PODS_IN_A, 10).await;
    assert_eq!(told.expect("known"), ["DELETED q@12", "BOOKMARK 20"]);
}

#[tokio::test]
async fn what_came_and_went_while_nobody_looked_is_not_told() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(PODS, 10));
    feed.event(&event("ADDED", &pod("a", "s", 11)));
    feed.event(&event("DELETED", &pod("a", "s", 12)));
    let told = since(&bench, PODS, 10).await.expect("known");
    assert_eq!(told, ["BOOKMARK 12"]);
    let told = since(&bench, PODS, 11).await.expect("known");
    assert_eq!(told, ["DELETED s@12", "BOOKMARK 12"]);
}

#[tokio::test]
async fn deletions_at_one_rv_are_told_once_each_however_many() {
    let bench = Bench::new();
    let many: Vec<String> = (0..300)
        .map(|n| item("a", &format!("p{n:03}"), 5))
        .collect();
    bench.learn("x", PODS, &pod_list(10, &many));
    bench.commit().await;
    bench.learn("x", PODS, &pod_list(20, &[]));
    let told = since(&bench, PODS, 10).await.expect("known");
    let expected: Vec<String> = (0..300)
        .map(|n| format!("DELETED p{n:03}@20"))
        .chain(["BOOKMARK 20".to_owned()])
        .collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn more_deletions_than_are_remembered_leave_a_list_to_the_client() {
    let bench = Bench::new();
    let many: Vec<String> = (0..=MAX_DELETIONS)
        .map(|n| item("a", &format!("p{n}"), 5))
        .collect();
    bench.learn("x", PODS, &pod_list(10, &many));
    bench.learn("x", PODS, &pod_list(20, &[]));
    assert_eq!(since(&bench, PODS, 10).await, Err(Reason::Expired));
    assert_eq!(since(&bench, PODS, 20).await, Ok(Vec::new()));
}

// --- while the collection moves on ---

/// What a stream of all pods in JSON missed since an RV.
fn missed(bench: &Bench, seen: u64) -> Frames {
    missed_of(bench, PODS, seen)
}

fn missed_of(bench: &Bench, scope: &str, seen: u64) -> Frames {
    let uri = watch(scope, seen);
    let (request, response) = (headers(ACCEPT, JSON), headers(CONTENT_TYPE, JSON));
    let topic = bench.cache.topic(&info(&uri), &request, &response);
    let missed = bench
        .cache
        .missed(&topic.expect("told in JSON"), seen, true);
    missed.expect("known").frames
}

async fn next(frames: &mut Frames) -> String {
    let frame = frames.next().await.expect("more").expect("known");
    told_frame(&frame)
}

fn told_frame(frame: &Bytes) -> String {
    let event: serde_json::Value = serde_json::from_slice(frame).expect("JSON");
    let meta = &event["object"]["metadata"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}@{}",
        text(&event["type"]),
        text(&meta["name"]),
        text(&meta["resourceVersion"])
    )
}

async fn rest(frames: &mut Frames) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(frame) = frames.next().await {
        told.push(told_frame(&frame.expect("known")));
    }
    told
}

/// A list of `count` new pods from RV 11 on, at RV 1000.
fn grown(bench: &Bench, count: u64) {
    let new = (0..count).map(|n| item("a", &format!("n{n:03}"), 11 + n));
    let pods: Vec<String> = [item("a", "p", 5)].into_iter().chain(new).collect();
    bench.learn("x", PODS, &pod_list(1000, &pods));
}

#[tokio::test]
async fn what_changes_while_the_difference_is_told_is_told_once_and_as_what_it_is_to_the_client() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    grown(&bench, 200);
    let mut frames = missed(&bench, 10);
    assert_eq!(next(&mut frames).await, "ADDED n000@11");
    let mut feed = bench.watch("x", &watch(PODS, 1000));
    // Told, and changed since; not told yet, and changed or deleted since; new; and one that it had all along.
    feed.event(&event("MODIFIED", &pod("a", "n000", 1001)));
    feed.event(&event("MODIFIED", &pod("a", "n199", 1002)));
    feed.event(&event("DELETED", &pod("a", "n198", 1003)));
    feed.event(&event("DELETED", &pod("a", "n001", 1004)));
    feed.event(&event("ADDED", &pod("a", "new", 1005)));
    feed.event(&event("MODIFIED", &pod("a", "p", 1006)));
    let told = rest(&mut frames).await;
    let (before, after) = told.split_at(told.len() - 6);
    let expected: Vec<String> = (1..198)
        .map(|n| format!("ADDED n{n:03}@{}", 11 + n))
        .collect();
    assert_eq!(before, expected);
    assert_eq!(
        after,
        [
            "MODIFIED n000@1001",
            "ADDED n199@1002",
            "DELETED n001@1004",
            "ADDED new@1005",
            "MODIFIED p@1006",
            "BOOKMARK @1006",
        ]
    );
    assert_eq!(frames.reached(), 1006);
}

#[tokio::test]
async fn a_list_that_comes_while_the_difference_is_told_is_a_part_of_it() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    grown(&bench, 200);
    let mut frames = missed(&bench, 10);
    assert_eq!(next(&mut frames).await, "ADDED n000@11");
    bench.learn(
        "x",
        PODS,
        &pod_list(2000, &[item("a", "n199", 210), reborn("a", "n150", 1500)]),
    );
    let told = rest(&mut frames).await;
    let unread: Vec<&String> = told
        .iter()
        .filter(|event| event.starts_with("ADDED"))
        .collect();
    assert_eq!(unread.last().expect("some"), &"ADDED n150@1500");
    // Those that were told before, and `p`; of the others the client never heard.
    let deleted = told.iter().filter(|event| event.starts_with("DELETED"));
    let deleted = deleted.map(String::as_str).collect::<Vec<_>>();
    let read = told.len() - deleted.len() - unread.len();
    assert_eq!(read, 1, "the bookmark");
    assert!(deleted.contains(&"DELETED p@2000") && deleted.contains(&"DELETED n000@2000"));
    assert_eq!(deleted.len(), unread.len() - 2 + 1 + 1, "{told:?}");
}

#[tokio::test]
async fn a_collection_that_is_given_up_while_the_difference_is_told_breaks_it_off() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    grown(&bench, 200);
    let mut frames = missed(&bench, 10);
    assert_eq!(next(&mut frames).await, "ADDED n000@11");
    {
        let mut state = bench.cache.shared.lock();
        let ids: Vec<u64> = state.collections.all().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| state.give_up(id));
    }
    while let Some(frame) = frames.next().await {
        match frame {
            Ok(frame) => assert!(told_frame(&frame).starts_with("ADDED")),
            Err(reason) => return assert_eq!(reason, Reason::Incomplete),
        }
    }
    panic!("it was told to its end");
}

#[tokio::test]
async fn a_topic_knows_how_far_it_can_tell() {
    let bench = known();
    let uri = watch(PODS, 10);
    let topic = |accept: &str, content_type: &str| {
        let (request, response) = (headers(ACCEPT, accept), headers(CONTENT_TYPE, content_type));
        bench.cache.topic(&info(&uri), &request, &response)
    };
    assert_eq!(topic(KUBECTL_GET, JSON), None, "rows are for human eyes");
    let protobuf = topic(PROTOBUF, PROTOBUF).expect("a form of its own");
    assert_eq!(bench.cache.known_since(&protobuf, 10), None);
    let json = topic(JSON, JSON).expect("a form of its own");
    let since = |seen| bench.cache.known_since(&json, seen);
    assert_eq!((since(9), since(10), since(11)), (None, Some(10), None));
    bench.learn("x", PODS, &pod_list(20, &[]));
    assert_eq!(
        (since(10), since(15), since(20)),
        (Some(20), None, Some(20))
    );
}

#[tokio::test]
async fn a_stream_that_was_answered_from_a_wider_collection_is_told_what_it_missed_by_a_list_of_its_own()
 {
    let bench = known();
    let labelled = |name: &str, rv: u64, labels: &str| {
        item("a", name, rv).replace(r#""uid""#, &format!(r#""labels":{{{labels}}},"uid""#))
    };
    let web = [
        labelled("p", 15, r#""app":"web""#),
        labelled("q", 16, r#""app":"db""#),
    ];
    bench.learn("x", PODS, &pod_list(20, &web));
    let scope = format!("{PODS_IN_A}?labelSelector=app%3Dweb");
    let opened = bench
        .open_watch("x", &format!("{scope}&{WATCH_LIST}"))
        .expect("known");
    assert_eq!(told(opened).await, ["ADDED p@15", "BOOKMARK 20 end"]);
    let opened = bench.open_watch("x", &watch(PODS_IN_A, 20)).expect("known");
    assert!(told(opened).await.is_empty());
    bench.commit().await;
    let bench = bench.killed();
    // The wider one goes on. It is the stream's own scope that is listed.
    let mut feed = bench.watch("x", &watch(PODS, 20));
    feed.event(&event("MODIFIED", &pod("a", "p", 25)));
    bench.learn(
        "x",
        &scope,
        &pod_list(30, &[labelled("s", 28, r#""app":"web""#)]),
    );
    bench.learn(
        "x",
        PODS_IN_A,
        &pod_list(40, &[labelled("q", 16, r#""app":"db""#)]),
    );
    for (scope, expected) in [
        (
            &scope[..],
            ["ADDED s@28", "DELETED p@30", "BOOKMARK @30"].as_slice(),
        ),
        (PODS_IN_A, &["DELETED p@40", "BOOKMARK @40"]),
    ] {
        let mut frames = missed_of(&bench, scope, 20);
        assert_eq!(rest(&mut frames).await, expected, "{scope}");
    }
}

#[tokio::test]
async fn a_stream_that_was_answered_from_a_fresher_collection_than_its_own_is_told_from_there() {
    let bench = known();
    bench.learn(
        "x",
        PODS_IN_A,
        &pod_list(11, &[item("a", "p", 5), item("a", "q", 6)]),
    );
    bench.learn(
        "x",
        PODS,
        &pod_list(20, &[item("a", "p", 15), item("b", "r", 7)]),
    );
    let told_first = since(&bench, PODS_IN_A, 11).await;
    assert_eq!(
        told_first,
        Err(Reason::Expired),
        "the wider one was not followed then"
    );
    let opened = bench
        .open_watch("x", &format!("{PODS_IN_A}?{WATCH_LIST}"))
        .expect("known");
    assert_eq!(told(opened).await, ["ADDED p@15", "BOOKMARK 20 end"]);
    bench.learn("x", PODS_IN_A, &pod_list(30, &[]));
    for (seen, expected) in [
        (20, ["DELETED p@30", "BOOKMARK @30"].as_slice()),
        (11, &["DELETED q@20", "DELETED p@30", "BOOKMARK @30"]),
    ] {
        let mut frames = missed_of(&bench, PODS_IN_A, seen);
        assert_eq!(rest(&mut frames).await, expected, "{seen}");
    }
}

#[tokio::test]
async fn a_refused_stream_takes_the_grant_of_its_scope() {
    let bench = known();
    bench
        .cache
        .stream_refused(&caller("x"), &info(&watch(PODS, 10)));
    assert_eq!(reason(bench.list("x", PODS).await), Some(Reason::NoGrant));
    assert!(
        bench.list("x", PODS_IN_A).await.is_err(),
        "and of what is inside"
    );
}

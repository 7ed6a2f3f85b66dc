//! What a client is told of the time that nobody watched: the difference between what it had and a later list.

use super::*;
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
    assert_eq!(told.expect("known"), ["DELETED q@20", "BOOKMARK 20"]);
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

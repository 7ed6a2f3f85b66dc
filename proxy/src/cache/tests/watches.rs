//! What streams teach, and how a watch is answered without an upstream.

use super::*;
use crate::cache::store::Table;

fn names(list: Result<(String, Vec<String>), Reason>) -> (String, Vec<String>) {
    list.expect("known")
}

fn known() -> Bench {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[item("a", "p", 5), item("b", "q", 7)]),
    );
    bench
}

fn watch(resource_version: u64) -> String {
    format!("{PODS}?watch=1&allowWatchBookmarks=true&resourceVersion={resource_version}")
}

#[tokio::test]
async fn a_watch_keeps_its_list_up_to_date() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(10));
    feed.event(&event("MODIFIED", &pod("a", "p", 11)));
    feed.event(&event("ADDED", &pod("a", "r", 12)));
    feed.event(&event("DELETED", &pod("b", "q", 13)));
    feed.event(&bookmark(20, false));
    let (resource_version, pods) = names(bench.list("x", PODS).await);
    assert_eq!(
        (resource_version.as_str(), pods),
        ("20", vec!["p@11".to_owned(), "r@12".to_owned()])
    );
    assert_eq!(
        reason(bench.get("x", "/api/v1/namespaces/b/pods/q").await),
        Some(Reason::NotFound)
    );
    assert_eq!(
        bench.get("x", "/api/v1/namespaces/a/pods/r").await,
        Ok(pod("a", "r", 12) + "\n")
    );
}

/// What is deleted is told again to who watches from before that.
#[tokio::test]
async fn a_deleted_object_that_is_not_json_is_not_kept() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(10));
    let broken = pod("b", "q", 13).replace("\"metadata\"", "\"spec\":{x},\"metadata\"");
    feed.event(&event("DELETED", &broken));
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::ShownSince)
    );
}

#[tokio::test]
async fn a_watch_list_counts_once_its_end_has_come() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS}?{WATCH_LIST}"));
    feed.event(&event("ADDED", &pod("b", "q", 7)));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
    feed.event(&bookmark(10, true));
    feed.event(&event("ADDED", &pod("a", "r", 12)));
    let (resource_version, pods) = names(bench.list("x", PODS).await);
    assert_eq!(resource_version, "12");
    assert_eq!(pods, ["p@5", "r@12", "q@7"]);
}

#[tokio::test]
async fn a_watch_list_cut_before_its_end_proves_nothing() {
    let bench = known();
    let mut feed = bench.watch("x", &format!("{PODS}?{WATCH_LIST}"));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    drop(feed);
    let (resource_version, pods) = names(bench.list("x", PODS).await);
    assert_eq!((resource_version.as_str(), pods.len()), ("10", 2));
}

#[tokio::test]
async fn a_filtered_deletion_is_not_a_deletion() {
    let bench = known();
    let scope = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn";
    bench.learn("y", scope, &pod_list(10, &[item("a", "p", 5)]));
    let mut feed = bench.watch("y", &format!("{scope}&watch=1&resourceVersion=10"));
    feed.event(&event("DELETED", &pod("a", "p", 11)));
    assert_eq!(names(bench.list("y", scope).await).1, Vec::<String>::new());
    assert!(bench.get("x", "/api/v1/namespaces/a/pods/p").await.is_ok());
    assert_eq!(names(bench.list("x", PODS).await).1.len(), 2);
}

#[tokio::test]
async fn a_stream_with_a_gap_does_not_move_the_collection() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(15));
    feed.event(&event("ADDED", &pod("a", "r", 16)));
    bench.learn("y", PODS, &pod_list(9, &[]));
    assert_eq!(names(bench.list("y", PODS).await).0, "10");
}

#[tokio::test]
async fn a_stream_that_is_ahead_of_its_list_loses_nothing() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &watch(10));
    feed.event(&event("ADDED", &pod("a", "r", 11)));
    feed.event(&event("DELETED", &pod("b", "q", 12)));
    bench.learn(
        "x",
        PODS,
        &pod_list(10, &[item("a", "p", 5), item("b", "q", 7)]),
    );
    let (resource_version, pods) = names(bench.list("x", PODS).await);
    assert_eq!(
        (resource_version.as_str(), pods),
        ("12", vec!["p@5".to_owned(), "r@11".to_owned()])
    );
}

#[tokio::test]
async fn a_stream_says_when_only_a_list_would_let_its_collection_follow() {
    let bench = Bench::new();
    let initial = bench.watch("x", &format!("{PODS}?{WATCH_LIST}"));
    assert!(!initial.is_behind(), "it brings its own");
    let feed = bench.watch("x", &watch(15));
    assert!(feed.is_behind());
    bench.learn("x", PODS, &pod_list(10, &[]));
    assert!(feed.is_behind());
    bench.learn("x", PODS, &pod_list(20, &[]));
    assert!(!feed.is_behind());
}

#[tokio::test]
async fn an_error_event_teaches_nothing() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(10));
    feed.event(&event(
        "ERROR",
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"code":410,"reason":"Expired"}"#,
    ));
    feed.event(&event("ADDED", &pod("a", "r", 11)));
    assert_eq!(names(bench.list("x", PODS).await).0, "11");
}

#[tokio::test]
async fn a_watch_that_was_held_and_resumed_teaches_again() {
    let bench = known();
    let answer = bench
        .open_watch("x", &format!("{PODS}?{WATCH_LIST}"))
        .expect("known");
    // The upstream is back: the same stream goes on there.
    let mut feed = bench.watch("x", &watch(answer.resource_version));
    feed.event(&event("ADDED", &pod("a", "r", 11)));
    assert_eq!(names(bench.list("x", PODS).await).0, "11");
    let mut feed = bench.watch("x", &watch(11));
    feed.event(&event("ADDED", &pod("a", "s", 12)));
    assert_eq!(names(bench.list("x", PODS).await).0, "12");
}

#[tokio::test]
async fn a_watch_that_will_not_say_when_it_has_shown_all_is_no_list() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1"));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    feed.event(&bookmark(10, true));
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete),
        "nothing was held back"
    );
    let one = bench.get("x", "/api/v1/namespaces/a/pods/p").await;
    assert!(one.is_ok(), "its objects are known");
}

#[tokio::test]
async fn a_watch_that_no_list_would_help_does_not_ask_for_one() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1"));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    assert!(!feed.is_behind(), "it does not know where it is");
}

#[tokio::test]
async fn a_plain_bookmark_ends_what_a_legacy_watch_began_with() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&allowWatchBookmarks=true"));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    feed.event(&event("ADDED", &pod("b", "q", 7)));
    feed.event(&event("DELETED", &pod("b", "q", 9)));
    feed.event(&bookmark(10, false));
    feed.event(&event("ADDED", &pod("a", "r", 11)));
    let (resource_version, pods) = names(bench.list("x", PODS).await);
    assert_eq!(resource_version, "11");
    assert_eq!(pods, ["p@5", "r@11"]);
}

#[tokio::test]
async fn a_bookmark_without_an_rv_ends_nothing() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS}?{WATCH_LIST}"));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    feed.event(&bookmark(0, true));
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn a_bookmark_that_is_not_json_ends_nothing() {
    let bench = Bench::new();
    let mut feed = bench.watch("x", &format!("{PODS}?{WATCH_LIST}"));
    feed.event(&event("ADDED", &pod("a", "p", 5)));
    let end = r#""resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}"#;
    let broken = format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{{end},"x":nul}}}}"#);
    feed.event(&event("BOOKMARK", &broken));
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn a_watch_from_now_on_follows_from_its_first_bookmark() {
    let bench = known();
    let from_now = "watch=1&sendInitialEvents=false&allowWatchBookmarks=true";
    let mut feed = bench.watch("x", &format!("{PODS}?{from_now}"));
    feed.event(&bookmark(12, false));
    assert!(feed.is_behind());
    bench.learn("x", PODS, &pod_list(12, &[item("a", "p", 5)]));
    feed.event(&event("ADDED", &pod("a", "r", 13)));
    assert_eq!(names(bench.list("x", PODS).await).0, "13");
}

#[tokio::test]
async fn an_accepted_watch_is_a_grant() {
    let bench = known();
    drop(bench.watch("y", &format!("{PODS_IN_A}?watch=1")));
    assert!(bench.list("y", PODS_IN_A).await.is_ok());
    assert!(bench.list("y", PODS).await.is_err());
}

// --- answered from the cache ---

#[tokio::test]
async fn a_watch_list_is_answered_with_its_end() {
    let bench = known();
    let answer = bench
        .open_watch("x", &format!("{PODS}?{WATCH_LIST}"))
        .expect("known");
    assert_eq!(
        (answer.resource_version, answer.format.kind.as_str()),
        (10, "Pod")
    );
    assert_eq!(answer.headers["holdfast-origin"], "cache");
    assert_eq!(
        told(answer).await,
        ["ADDED p@5", "ADDED q@7", "BOOKMARK 10 end"]
    );
    let narrow = bench
        .open_watch("x", &format!("{PODS_IN_A}?watch=1"))
        .expect("known");
    assert_eq!(
        told(narrow).await,
        ["ADDED p@5"],
        "no bookmarks were asked for"
    );
}

#[tokio::test]
async fn a_watch_of_an_empty_collection_is_answered_with_its_end() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[]));
    let answer = bench
        .open_watch("x", &format!("{PODS}?{WATCH_LIST}"))
        .expect("known");
    assert_eq!(told(answer).await, ["BOOKMARK 10 end"]);
}

#[tokio::test]
async fn a_watch_from_an_rv_gets_what_came_after_it() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(10));
    feed.event(&event("MODIFIED", &pod("a", "p", 11)));
    feed.event(&event("ADDED", &pod("a", "r", 12)));
    feed.event(&event("DELETED", &pod("b", "q", 13)));
    let since = async |rv| {
        let answer = bench.open_watch("x", &watch(rv)).expect("known");
        let resource_version = answer.resource_version;
        (told(answer).await, resource_version)
    };
    let all = ["MODIFIED p@11", "ADDED r@12", "DELETED q@13", "BOOKMARK 13"];
    assert_eq!(since(10).await, (all.map(str::to_owned).to_vec(), 13));
    assert_eq!(
        since(12).await,
        (all[2..].iter().map(|s| (*s).to_owned()).collect(), 13)
    );
    assert_eq!(since(13).await, (vec![], 13));
}

#[tokio::test]
async fn a_watch_from_before_what_is_known_is_expired() {
    let bench = known();
    assert_eq!(
        reason(bench.open_watch("x", &watch(9))),
        Some(Reason::Expired)
    );
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 5)]));
    // What came after 10 and was gone before 20 was not seen.
    assert_eq!(
        reason(bench.open_watch("x", &watch(15))),
        Some(Reason::Expired)
    );
}

#[tokio::test]
async fn a_watch_from_the_future_is_held_where_the_client_is() {
    let bench = known();
    let answer = bench.open_watch("x", &watch(30)).expect("known");
    assert_eq!(answer.resource_version, 30);
    assert!(told(answer).await.is_empty());
    let initial = bench.open_watch("x", &format!("{PODS}?{WATCH_LIST}&resourceVersion=30"));
    assert_eq!(reason(initial), Some(Reason::ResourceVersionTooLarge));
}

#[tokio::test]
async fn an_event_that_another_answer_was_ahead_of_is_replayed_as_it_was() {
    let bench = known();
    let mut feed = bench.watch("x", &watch(10));
    feed.event(&event("MODIFIED", &pod("a", "p", 11)));
    bench.learn("x", "/api/v1/namespaces/a/pods/p", &pod("a", "p", 15));
    let answer = bench.open_watch("x", &watch(10)).expect("known");
    assert_eq!(told(answer).await, ["MODIFIED p@11", "BOOKMARK 11"]);
    assert!(bench.open_watch("x", &watch(11)).is_ok());
}

#[tokio::test]
async fn nobody_is_told_anything_older_than_its_own_stream_has_shown() {
    let bench = known();
    bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
    // What happened between 10 and 20 no event will tell.
    let mut feed = bench.watch("x", &watch(20));
    feed.event(&event("MODIFIED", &pod("a", "p", 21)));
    drop(feed);
    for uri in [PODS, PODS_IN_A] {
        assert_eq!(
            reason(bench.list("x", uri).await),
            Some(Reason::ShownSince),
            "{uri}"
        );
        let watch_list = format!("{uri}?{WATCH_LIST}");
        assert_eq!(
            bench.open_watch("x", &watch_list).err(),
            Some(Reason::ShownSince)
        );
        assert!(
            bench.list("y", uri).await.is_ok(),
            "who has not seen it is told what is known"
        );
    }
    bench.learn("x", PODS, &pod_list(22, &[item("a", "p", 21)]));
    assert!(bench.list("x", PODS).await.is_ok());
}

#[tokio::test]
async fn no_list_shows_an_object_older_than_its_caller_has_seen_it_alone() {
    let bench = known();
    bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.learn("x", "/api/v1/namespaces/a/pods/p", &pod("a", "p", 15));
    // Not selected by what is labelled; nobody can tell that of what is new.
    bench.learn("x", "/api/v1/namespaces/b/pods/new", &pod("b", "new", 16));
    bench.commit().await;
    let bench = bench.killed();
    for uri in [PODS, PODS_IN_A] {
        let list = bench.list("x", uri).await;
        assert_eq!(list.err(), Some(Reason::ShownSince), "{uri}");
        let watch_list = bench.open_watch("x", &format!("{uri}?{WATCH_LIST}"));
        assert_eq!(watch_list.err(), Some(Reason::ShownSince), "{uri}");
        assert!(bench.list("y", uri).await.is_ok(), "{uri}: who has not");
    }
    for within_what_it_has_seen in ["c/pods", "b/pods?labelSelector=a%3Db"] {
        let uri = format!("/api/v1/namespaces/{within_what_it_has_seen}");
        assert!(bench.list("x", &uri).await.is_ok(), "{uri}");
    }
    assert!(bench.list("x", "/api/v1/namespaces/b/pods").await.is_err());
    let after = bench.open_watch("x", &watch(10));
    assert!(after.is_ok(), "it says itself what it has seen");
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 15)]));
    assert!(bench.list("x", PODS).await.is_ok());
}

#[tokio::test]
async fn no_list_shows_an_object_older_than_its_caller_has_seen_it_in_another() {
    let changed = pod_list(20, &[item("a", "p", 15)]);
    let gone = pod_list(20, &[]);
    let same = pod_list(20, &[item("a", "p", 5)]);
    let refused = Err(Reason::ShownSince);
    for (newer, expected) in [(changed, refused), (gone, refused), (same, Ok(()))] {
        let bench = known();
        bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
        bench.learn("x", PODS_IN_A, &newer);
        bench.commit().await;
        let bench = bench.killed();
        let list = bench.list("x", PODS).await.map(drop);
        assert_eq!(list, expected, "{newer}");
        assert!(bench.list("x", PODS_IN_A).await.is_ok(), "{newer}");
        assert!(bench.list("y", PODS).await.is_ok(), "{newer}");
    }
}

#[tokio::test]
async fn what_a_list_of_a_selector_has_shown_to_be_over_is_not_told_again() {
    let front = format!("{PODS}?labelSelector=tier%3Dfront");
    let labelled = |tier: &str| {
        let labels = format!(r#""labels":{{"tier":"{tier}"}},"name""#);
        item("a", "p", 11).replacen(r#""name""#, &labels, 1)
    };
    let refused = Err(Reason::ShownSince);
    for (tier, expected) in [("front", refused), ("back", Ok(()))] {
        let bench = known();
        for reader in ["x", "y"] {
            bench.learn(reader, PODS, &pod_list(12, &[labelled(tier)]));
        }
        bench.learn("x", &front, &pod_list(20, &[]));
        bench.commit().await;
        let bench = bench.killed();
        for uri in [PODS, PODS_IN_A] {
            let list = bench.list("x", uri).await.map(drop);
            assert_eq!(list, expected, "{tier}: {uri}");
            assert!(bench.list("y", uri).await.is_ok(), "{tier}: who has not");
        }
        let pod = "/api/v1/namespaces/a/pods/p";
        assert_eq!(bench.get("x", pod).await.map(drop), expected, "{tier}");
        assert!(bench.get("y", pod).await.is_ok(), "{tier}: who has not");
    }
}

#[tokio::test]
async fn what_the_cache_itself_has_told_of_counts_as_well() {
    let both = |bench: &Bench| bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
    // x may read all pods, and has never asked for those of a.
    for ask in ["/api/v1/namespaces/a/pods/p", PODS_IN_A] {
        let bench = known();
        both(&bench);
        bench.learn("y", PODS_IN_A, &pod_list(20, &[item("a", "p", 15)]));
        bench.learn("y", "/api/v1/namespaces/a/pods/p", &pod("a", "p", 15));
        assert!(bench.list("x", PODS).await.is_ok(), "{ask}");
        assert!(bench.get("x", ask).await.is_ok(), "{ask}");
        bench.commit().await;
        let bench = bench.killed();
        let older = bench.list("x", PODS).await;
        assert_eq!(older.err(), Some(Reason::ShownSince), "{ask}");
    }
}

#[tokio::test]
async fn a_watch_that_leaves_objects_out_by_name_or_namespace_is_not_told_of_their_deletion() {
    let bench = Bench::new();
    let pods = [item("a", "p", 5), item("b", "q", 7)];
    bench.learn("x", PODS, &pod_list(10, &pods));
    let mut feed = bench.watch("x", &watch(10));
    feed.event(&event("DELETED", &pod("b", "q", 11)));
    feed.event(&event("MODIFIED", &pod("a", "p", 12)));
    for selector in [
        "metadata.namespace%21%3Db",
        "metadata.namespace%3Da",
        "metadata.name%21%3Dq",
        "metadata.name%3Dp",
    ] {
        let uri = format!("{}&fieldSelector={selector}", watch(10));
        let answer = bench.open_watch("x", &uri).expect("known");
        let expected = ["MODIFIED p@12", "BOOKMARK 12"];
        assert_eq!(told(answer).await, expected, "{selector}");
    }
}

#[tokio::test]
async fn a_page_that_is_long_costs_no_more_notes_than_are_kept_and_the_same_again_none() {
    let bench = known();
    let many: Vec<String> = (0..600)
        .map(|n| item("a", &format!("p{n}"), 20 + n))
        .collect();
    let page = pod_list(700, &many).replacen(
        r#""resourceVersion":"700""#,
        r#""resourceVersion":"700","continue":"next""#,
        1,
    );
    let notes = |bench: &Bench| {
        let store = bench.cache.shared.lock().store.clone();
        let mut notes = 0;
        let scanned = store.scan(Table::Meta, &mut |key, _| {
            notes += usize::from(key.starts_with(b"least list"));
            Ok(())
        });
        scanned.expect("reads");
        notes
    };
    for _ in 0..2 {
        bench.learn("x", &format!("{PODS}?limit=600"), &page);
        bench.commit().await;
        assert_eq!(notes(&bench), 256);
    }
    let older = bench.list("x", PODS).await;
    assert_eq!(older.err(), Some(Reason::ShownSince));
}

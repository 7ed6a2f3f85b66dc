//! An upstream whose RVs went back, as those of a restored etcd do.

use super::super::Became;
use super::*;

const POD: &str = "/api/v1/namespaces/a/pods/p";
const QUEUE: &str = "/api/v1/namespaces/a/pods/q";

fn pods() -> crate::request_info::GroupVersionResource {
    info(PODS).group_version_resource()
}

/// What was known before the etcd was put back to 30.
async fn bench() -> Bench {
    let bench = Bench::new();
    bench.learn(
        "x",
        PODS,
        &pod_list(50, &[item("a", "p", 45), item("a", "q", 6)]),
    );
    bench.learn("x", POD, &pod("a", "p", 45));
    bench.learn(
        "x",
        "/api/v1/nodes",
        &list_of("NodeList", "v1", r#""resourceVersion":"51""#, &[]),
    );
    bench.commit().await;
    bench
}

impl Bench {
    /// A read that is sent now, and answered.
    fn read(&self, uri: &str, body: &str) {
        let before = self.cache.before(&info(uri));
        self.read_since(before, uri, body);
    }

    fn read_since(&self, before: super::super::Before, uri: &str, body: &str) {
        let (request, response) = (headers(ACCEPT, JSON), ok(JSON));
        let learner = self
            .cache
            .learner(&caller("x"), &info(uri), &request, &response, now());
        let mut learner = learner.expect("to be learnt").since(before);
        body.as_bytes()
            .chunks(7)
            .for_each(|chunk| learner.feed(chunk));
        learner.finish();
    }

    fn became(&self) -> Became {
        self.cache.became(&pods(), 0)
    }
}

fn known(resource_version: &str, pods: &[&str]) -> Result<(String, Vec<String>), Reason> {
    let pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
    Ok((resource_version.to_owned(), pods))
}

#[tokio::test]
async fn a_list_of_now_that_is_older_than_what_was_known_replaces_it() {
    let bench = bench().await;
    // The very RV that an object had before, with another content.
    let p = item("a", "p", 30).replace("{}", r#"{"restored":true}"#);
    bench.learn("x", POD, &pod("a", "p", 45));
    bench.read(PODS, &pod_list(31, &[p.clone(), item("a", "r", 20)]));
    assert_eq!(bench.became(), Became::Restored);
    assert_eq!(bench.list("x", PODS).await, known("31", &["p@30", "r@20"]));
    let got = bench.get("x", POD).await.expect("known");
    assert!(got.contains("restored"), "{got}");
    assert_eq!(reason(bench.get("x", QUEUE).await), Some(Reason::NotFound));
    bench.commit().await;
    let bench = bench.killed();
    assert_eq!(bench.list("x", PODS).await, known("31", &["p@30", "r@20"]));
    assert_eq!(reason(bench.get("x", QUEUE).await), Some(Reason::NotFound));
}

#[tokio::test]
async fn whoever_asked_before_the_restore_was_found_finds_no_other() {
    let bench = bench().await;
    let before = bench.cache.before(&info(PODS));
    bench.read(PODS, &pod_list(31, &[item("a", "p", 30)]));
    let found = bench.cache.restores().get();
    bench.read_since(before, PODS, &pod_list(32, &[item("a", "p", 32)]));
    assert_eq!(bench.cache.restores().get(), found);
    assert_eq!(bench.list("x", PODS).await, known("32", &["p@32"]));
}

#[tokio::test]
async fn a_read_that_may_be_old_proves_nothing() {
    for query in [
        "resourceVersion=0",
        "resourceVersion=20",
        "resourceVersion=31&resourceVersionMatch=Exact",
    ] {
        let bench = bench().await;
        bench.read(
            &format!("{PODS}?{query}"),
            &pod_list(31, &[item("a", "p", 30)]),
        );
        assert_eq!(bench.became(), Became::Nothing, "{query}");
        assert_eq!(bench.list("x", PODS).await, known("50", &["p@45", "q@6"]));
    }
    let bench = bench().await;
    bench.read(&format!("{POD}?resourceVersion=0"), &pod("a", "p", 30));
    assert_eq!(bench.became(), Became::Nothing);
    // An object that did not change for long is old, and of now.
    bench.read(QUEUE, &pod("a", "q", 6));
    assert_eq!(bench.became(), Became::Nothing);
}

#[tokio::test]
async fn an_answer_that_was_overtaken_on_its_way_proves_nothing() {
    let bench = bench().await;
    let before = bench.cache.before(&info(PODS));
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=50"));
    feed.event(&event("MODIFIED", &pod("a", "p", 60)));
    bench.read_since(
        before,
        PODS,
        &pod_list(55, &[item("a", "p", 45), item("a", "q", 6)]),
    );
    assert_eq!(bench.became(), Became::Nothing);
    assert_eq!(bench.list("x", PODS).await, known("60", &["p@60", "q@6"]));
}

#[tokio::test]
async fn an_object_of_now_that_is_older_than_it_was_tells_of_a_restore() {
    let bench = bench().await;
    bench.read(POD, &pod("a", "p", 30));
    assert_eq!(bench.became(), Became::Restored);
    assert_eq!(bench.get("x", POD).await, Ok(pod("a", "p", 30) + "\n"));
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn a_deleted_object_that_is_there_again_as_it_was_tells_of_a_restore() {
    let bench = bench().await;
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=50"));
    feed.event(&event("DELETED", &pod("a", "q", 60)));
    bench.read(QUEUE, &pod("a", "q", 6));
    assert_eq!(bench.became(), Became::Restored);
    assert_eq!(bench.get("x", QUEUE).await, Ok(pod("a", "q", 6) + "\n"));
}

#[tokio::test]
async fn an_object_that_is_created_with_an_old_rv_tells_of_a_restore() {
    let bench = bench().await;
    bench.write("x", "POST /api/v1/namespaces/a/pods", &pod("a", "r", 33));
    assert_eq!(bench.became(), Became::Restored);
    let r = bench.get("x", "/api/v1/namespaces/a/pods/r").await;
    assert_eq!(r, Ok(pod("a", "r", 33) + "\n"));
}

#[tokio::test]
async fn a_watch_list_of_now_that_ends_before_what_was_known_tells_of_a_restore() {
    let bench = bench().await;
    let uri = format!("{PODS}?{WATCH_LIST}");
    let mut feed = bench
        .watch("x", &uri)
        .since(bench.cache.before(&info(&uri)));
    feed.event(&event("ADDED", &pod("a", "p", 30)));
    assert_eq!(
        bench.became(),
        Became::Nothing,
        "initial events come in any order"
    );
    feed.event(&bookmark(31, true));
    assert_eq!(bench.became(), Became::Restored);
    let found = bench.cache.restores().get();
    assert_eq!(feed.began_anew(), Some(found), "its client knows no other");
    assert!(feed.is_behind(), "a list is to be read");
    bench.read(PODS, &pod_list(32, &[item("a", "p", 30)]));
    feed.event(&event("MODIFIED", &pod("a", "p", 33)));
    assert_eq!(bench.list("x", PODS).await, known("33", &["p@33"]));
}

#[tokio::test]
async fn an_old_stream_moves_nothing_after_a_restore() {
    let bench = bench().await;
    let mut old = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=50"));
    bench.read(PODS, &pod_list(31, &[item("a", "p", 30)]));
    old.event(&event("DELETED", &pod("a", "p", 60)));
    old.event(&bookmark(61, false));
    drop(old);
    assert_eq!(bench.list("x", PODS).await, known("31", &["p@30"]));
}

#[tokio::test]
async fn of_streams_that_were_beginning_those_of_the_new_storage_go_on() {
    let bench = bench().await;
    let uri = format!("{PODS}?{WATCH_LIST}");
    let before = bench.cache.before(&info(&uri));
    let mut new = bench.watch("x", &uri).since(before);
    let mut old = bench.watch("x", &uri).since(before);
    for feed in [&mut new, &mut old] {
        feed.event(&event("ADDED", &pod("a", "p", 30)));
    }
    bench.read(PODS, &pod_list(31, &[item("a", "p", 30)]));
    let found = bench.cache.restores().get();
    new.event(&event("ADDED", &pod("a", "r", 20)));
    new.event(&bookmark(32, true));
    new.event(&event("ADDED", &pod("a", "s", 33)));
    assert_eq!(new.began_anew(), Some(found));
    old.event(&bookmark(55, true));
    old.event(&event("ADDED", &pod("a", "t", 56)));
    assert_eq!(old.began_anew(), None);
    assert_eq!(bench.cache.restores().get(), found, "once");
    // The new one is ahead of what is kept whole; what the old one showed is void.
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::ShownSince)
    );
    bench.read(PODS, &pod_list(34, &[item("a", "p", 30)]));
    assert!(bench.list("x", PODS).await.is_ok());
    let answer = bench.list("x", &format!("{PODS}?resourceVersion=56")).await;
    assert_eq!(reason(answer), Some(Reason::ResourceVersionTooLarge));
}

#[tokio::test]
async fn a_restore_of_one_resource_puts_the_others_in_doubt() {
    let bench = bench().await;
    let nodes = info("/api/v1/nodes").group_version_resource();
    bench.read(PODS, &pod_list(31, &[]));
    assert_eq!(bench.cache.became(&nodes, 0), Became::Doubted);
    assert!(bench.list("x", "/api/v1/nodes").await.is_ok());
    let check = bench.cache.check(&nodes).expect("a turn");
    assert!(bench.cache.check(&nodes).is_none(), "one at a time");
    check.answered(52);
    assert_eq!(
        bench.cache.became(&nodes, 0),
        Became::Nothing,
        "of another etcd"
    );
    assert!(bench.list("x", "/api/v1/nodes").await.is_ok());
    let check = bench.cache.check(&pods());
    assert!(check.is_none(), "just found");
}

#[tokio::test]
async fn a_check_that_is_answered_with_an_older_rv_finds_the_restore() {
    let bench = bench().await;
    let check = bench.cache.check(&pods()).expect("a turn");
    check.answered(31);
    assert_eq!(bench.became(), Became::Restored);
    assert_eq!(
        reason(bench.list("x", PODS).await),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn an_rv_that_the_upstream_no_longer_knows_is_a_doubt() {
    for (uri, expected) in [
        (format!("{PODS}?resourceVersion=45"), Became::Doubted),
        (format!("{PODS}?resourceVersion=90"), Became::Nothing),
        (PODS.to_owned(), Became::Nothing),
        (format!("{POD}?resourceVersion=45"), Became::Doubted),
    ] {
        let bench = bench().await;
        let before = bench.cache.before(&info(&uri));
        bench.cache.timed_out(&info(&uri), before);
        assert_eq!(bench.became(), expected, "{uri}");
    }
    let bench = bench().await;
    let uri = format!("{PODS}?{WATCH_LIST}&resourceVersion=45");
    let mut feed = bench
        .watch("x", &uri)
        .since(bench.cache.before(&info(&uri)));
    let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"Timeout","code":504}"#;
    feed.event(&event("ERROR", status));
    assert_eq!(bench.became(), Became::Doubted);
}

//! A collection is told as of its own RV, however far other answers and streams are ahead of it.

use super::*;

const POD: &str = "/api/v1/namespaces/a/pods/p";

fn facts(bench: &Bench) -> usize {
    bench.cache.status(now()).facts
}

fn known(resource_version: &str, pods: &[&str]) -> Result<(String, Vec<String>), Reason> {
    let pods = pods.iter().map(|pod| (*pod).to_owned()).collect();
    Ok((resource_version.to_owned(), pods))
}

#[tokio::test]
async fn a_list_shows_nothing_newer_than_its_rv() {
    let bench = Bench::new();
    for who in ["x", "y"] {
        bench.learn(who, PODS, &pod_list(10, &[item("a", "p", 5)]));
    }
    bench.learn("x", POD, &pod("a", "p", 15));
    let read = |rv| Ok(pod("a", "p", rv) + "\n");
    assert_eq!(bench.get("x", POD).await, read(15));
    let older = bench.list("x", PODS).await;
    assert_eq!(older.err(), Some(Reason::ShownSince));
    assert_eq!(bench.list("y", PODS).await, known("10", &["p@5"]));
    let answer = bench.open_watch("y", &format!("{PODS}?{WATCH_LIST}"));
    let answer = told(answer.expect("known")).await;
    assert_eq!(answer, ["ADDED p@5", "BOOKMARK 10 end"]);

    bench.commit().await;
    let bench = bench.killed();
    assert_eq!(bench.get("x", POD).await, read(15));
    assert_eq!(bench.list("y", PODS).await, known("10", &["p@5"]));
    assert_eq!(facts(&bench), 2);

    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    feed.event(&event("MODIFIED", &pod("a", "p", 12)));
    assert_eq!(bench.get("x", POD).await, read(15));
    assert_eq!(bench.list("y", PODS).await, known("12", &["p@12"]));
    feed.event(&event("MODIFIED", &pod("a", "p", 15)));
    assert_eq!(bench.list("y", PODS).await, known("15", &["p@15"]));
    assert_eq!(facts(&bench), 1, "the older states are forgotten");
    drop(feed);
    bench.commit().await;
    assert_eq!(facts(&bench.killed()), 1);
}

#[tokio::test]
async fn a_stream_of_one_scope_moves_no_other_collection() {
    let bench = Bench::new();
    bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.learn("x", PODS_IN_A, &pod_list(11, &[item("a", "p", 5)]));
    let mut feed = bench.watch("x", &format!("{PODS_IN_A}?watch=1&resourceVersion=11"));
    feed.event(&event("MODIFIED", &pod("a", "p", 15)));
    assert_eq!(bench.list("y", PODS).await, known("10", &["p@5"]));
    assert_eq!(bench.list("x", PODS_IN_A).await, known("15", &["p@15"]));
    bench.learn("y", PODS, &pod_list(20, &[item("a", "p", 15)]));
    assert_eq!(facts(&bench), 1);
}

#[tokio::test]
async fn a_selector_looks_at_what_the_list_shows() {
    let labelled = |rv: u64, app: &str| {
        let labels = format!(r#""labels":{{"app":"{app}"}},"uid""#);
        item("a", "p", rv).replacen(r#""uid""#, &labels, 1)
    };
    let whole = |item: String| format!(r#"{{"kind":"Pod","apiVersion":"v1",{}"#, &item[1..]);
    let bench = Bench::new();
    bench.learn("y", PODS, &pod_list(10, &[labelled(5, "old")]));
    bench.learn("x", POD, &whole(labelled(15, "new")));
    let selected = |app: &str| format!("{PODS}?labelSelector=app%3D{app}");
    let old = bench.list("y", &selected("old")).await;
    assert_eq!(old, known("10", &["p@5"]));
    let new = bench.list("y", &selected("new")).await;
    assert_eq!(new, known("10", &[]));
}

#[tokio::test]
async fn a_list_that_streams_overtake_while_it_is_read_is_learnt_as_it_was() {
    let bench = Bench::new();
    bench.learn("x", PODS_IN_A, &pod_list(10, &[item("a", "p", 5)]));
    let mut feed = bench.watch("x", &format!("{PODS_IN_A}?watch=1&resourceVersion=10"));
    let list = pod_list(
        12,
        &[item("a", "p", 11), item("a", "q", 6), item("b", "r", 7)],
    );
    let (request, response) = (headers(ACCEPT, JSON), ok(JSON));
    let learner = bench
        .cache
        .learner(&caller("y"), &info(PODS), &request, &response, now());
    let mut learner = learner.expect("a list");
    // One object is ahead before the list shows it, the other after.
    feed.event(&event("MODIFIED", &pod("a", "p", 15)));
    let (first, second) = list.as_bytes().split_at(list.len() - 40);
    learner.feed(first);
    feed.event(&event("MODIFIED", &pod("a", "q", 16)));
    learner.feed(second);
    learner.finish();
    let expected = known("12", &["p@11", "q@6", "r@7"]);
    assert_eq!(bench.list("y", PODS).await, expected);
    let of_stream = bench.list("x", PODS_IN_A).await;
    assert_eq!(of_stream, known("16", &["p@15", "q@16"]));
    assert_eq!(facts(&bench), 5);
    bench.learn(
        "y",
        PODS,
        &pod_list(
            20,
            &[item("a", "p", 15), item("a", "q", 16), item("b", "r", 7)],
        ),
    );
    assert_eq!(facts(&bench), 3);
}

#[tokio::test]
async fn a_stream_ahead_of_its_list_keeps_what_it_showed() {
    let bench = Bench::new();
    let mut ahead = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    ahead.event(&event("MODIFIED", &pod("a", "p", 12)));
    bench.learn("y", POD, &pod("a", "p", 15));
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    assert_eq!(bench.list("x", PODS).await, known("12", &["p@12"]));
    assert_eq!(facts(&bench), 2);
}

#[tokio::test]
async fn a_list_that_breaks_off_leaves_nothing_behind_for_long() {
    let bench = Bench::new();
    bench.learn("x", PODS_IN_A, &pod_list(20, &[item("a", "p", 15)]));
    let list = pod_list(10, &[item("a", "p", 5)]);
    let broken = &list.as_bytes()[..list.len() - 3];
    bench.try_learn("x", PODS, JSON, broken, false);
    assert_eq!(facts(&bench), 2);
    let resource = super::super::key::GroupResource {
        group: String::new(),
        resource: "pods".to_owned(),
    };
    let id = super::super::key::ObjectId::new("a", "p").expect("a name");
    let later = super::super::unix_seconds(now()) + 3600;
    let mut state = bench.cache.shared.lock();
    state.prune(&resource, &id, later);
    drop(state);
    assert_eq!(facts(&bench), 1);
}

#[tokio::test]
async fn a_deletion_that_another_stream_told_is_missed_by_no_client() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.learn("x", PODS_IN_A, &pod_list(11, &[item("a", "p", 5)]));
    let mut feed = bench.watch("x", &format!("{PODS_IN_A}?watch=1&resourceVersion=11"));
    feed.event(&event("DELETED", &pod("a", "p", 15)));
    // The list at 10 still holds it: it is told as of its own RV. But it is known to be gone.
    let scope = format!("{PODS}?resourceVersion=10&resourceVersionMatch=Exact");
    assert_eq!(bench.list("x", &scope).await, known("10", &["p@5"]));
    assert_eq!(reason(bench.get("x", POD).await), Some(Reason::NotFound));
    bench.learn("x", PODS, &pod_list(20, &[]));
    let answer = bench.open_watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    assert_eq!(told(answer.expect("known")).await, ["DELETED p@20"]);
    assert_eq!(facts(&bench), 0, "and its last state is forgotten");
}

#[tokio::test]
async fn of_what_a_stream_is_ahead_by_the_last_of_each_object_is_kept() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=20"));
    for resource_version in 21..=40 {
        feed.event(&event("MODIFIED", &pod("a", "p", resource_version)));
    }
    assert_eq!(facts(&bench), 2);
    bench.learn("x", PODS, &pod_list(20, &[item("a", "p", 19)]));
    assert_eq!(bench.list("x", PODS).await, known("40", &["p@40"]));
    assert_eq!(facts(&bench), 1);
}

#[tokio::test]
async fn lists_that_are_never_read_to_their_end_keep_few_states_of_an_object() {
    let bench = Bench::new();
    for n in 0..30 {
        let list = pod_list(10 + n, &[item("a", "p", 5 + n)]);
        bench.try_learn("x", PODS, JSON, list.as_bytes(), false);
    }
    assert!(facts(&bench) < 10, "{}", facts(&bench));
}

#[tokio::test]
async fn nothing_is_left_of_a_list_that_came_too_late() {
    let bench = Bench::new();
    let list = pod_list(10, &[item("a", "p", 5)]);
    bench.learn("x", PODS, &list);
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    feed.event(&event("DELETED", &pod("a", "p", 12)));
    bench.learn("x", PODS, &list);
    assert_eq!(bench.list("x", PODS).await, known("12", &[]));
    assert_eq!(facts(&bench), 0);
}

//! What makes room when `cache.maxBytes` is reached, what stays, and what is said of what went.

use super::*;
use crate::cache::evict::Evicted;
use crate::cache::unix_seconds;

const MAX_BYTES: u64 = 1 << 20;
const CONFIG_MAPS: &str = "/api/v1/configmaps";

/// A cache of 1 MiB, asked at the times that a test says.
struct Small {
    bench: Bench,
    /// Seconds after the test began.
    clock: u64,
    began: SystemTime,
}

impl Small {
    fn new() -> Self {
        let bench = Bench::new();
        bench.cache.shared.lock().max_bytes = MAX_BYTES;
        Self {
            bench,
            clock: 0,
            began: now(),
        }
    }

    fn now(&self) -> SystemTime {
        self.began + Duration::from_secs(self.clock)
    }

    fn learn_as(&mut self, who: &str, uri: &str, content_type: &str, body: &str) {
        self.clock += 60;
        let request = headers(ACCEPT, content_type);
        let response = ok(content_type);
        let (info, caller) = (info(uri), caller(who));
        let learner = (self.bench.cache).learner(&caller, &info, &request, &response, self.now());
        let mut learner = learner.expect("something to learn");
        learner.feed(body.as_bytes());
        learner.finish();
        assert!(self.bytes() <= MAX_BYTES, "{} bytes", self.bytes());
    }

    fn learn(&mut self, who: &str, uri: &str, body: &str) {
        self.learn_as(who, uri, JSON, body);
    }

    fn bytes(&self) -> u64 {
        self.status().bytes
    }

    fn status(&self) -> crate::cache::CacheStatus {
        self.bench.cache.status(self.now())
    }

    async fn get(&mut self, who: &str, uri: &str) -> Result<String, Reason> {
        self.clock += 60;
        let (info, request) = (info(uri), headers(ACCEPT, JSON));
        let answer = (self.bench.cache).answer(&caller(who), &info, &request, self.now())?;
        match answer {
            Answer::Response(response) => Ok(text(response).await),
            Answer::Watch(_) => panic!("{uri} is no watch"),
        }
    }

    /// A GET of one of the caller's own ConfigMaps was answered.
    fn learn_map(&mut self, who: &str, n: usize, bytes: usize) {
        self.learn(who, &map_uri(who, n), &map(who, n, bytes));
    }
}

fn map_uri(namespace: &str, n: usize) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/m{n}")
}

fn map_item(namespace: &str, n: usize, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    let rv = 100 + n;
    format!(
        r#"{{"metadata":{{"name":"m{n}","namespace":"{namespace}","uid":"{n}","resourceVersion":"{rv}"}},"data":{{"a":"{data}"}}}}"#
    )
}

fn map(namespace: &str, n: usize, bytes: usize) -> String {
    let item = map_item(namespace, n, bytes);
    format!(r#"{{"kind":"ConfigMap","apiVersion":"v1",{}"#, &item[1..])
}

fn maps(resource_version: u64, items: &[String]) -> String {
    let metadata = format!(r#""resourceVersion":"{resource_version}""#);
    list_of("ConfigMapList", "v1", &metadata, items)
}

fn sized_pod(name: &str, resource_version: u64, bytes: usize) -> String {
    let padding = "x".repeat(bytes);
    item("a", name, resource_version)
        .replace(r#""spec":{}"#, &format!(r#""spec":{{"p":"{padding}"}}"#))
}

fn is_unknown(answer: Result<String, Reason>) -> bool {
    matches!(
        answer,
        Err(Reason::NeverSeen | Reason::Incomplete | Reason::NoGrant)
    )
}

const KIB: usize = 1024;

#[tokio::test]
async fn single_objects_give_way_in_the_order_of_their_use() {
    let mut small = Small::new();
    for n in 0..200 {
        small.learn_map("x", n, 10 * KIB);
        let first = small.get("x", &map_uri("x", 0)).await;
        assert!(first.is_ok(), "it is used all the time");
    }
    let status = small.status();
    assert!(status.bytes > MAX_BYTES / 10 * 8, "{}", status.bytes);
    assert!(status.evicted.objects >= 90);
    assert!(status.condition.expect("said so").starts_with("evicting"));
    assert!(is_unknown(small.get("x", &map_uri("x", 1)).await));
    assert!(small.get("x", &map_uri("x", 199)).await.is_ok());
    let mut kept = Vec::new();
    for n in 1..200 {
        kept.push(small.get("x", &map_uri("x", n)).await.is_ok());
    }
    assert!(kept.is_sorted(), "those that were used last: {kept:?}");
    small.clock += 2 * 3600;
    assert_eq!(small.status().condition, None, "not for ever");
}

#[tokio::test]
async fn what_one_caller_fills_the_cache_with_pushes_out_its_own() {
    let mut small = Small::new();
    let pods: Vec<String> = (0..20)
        .map(|n| sized_pod(&format!("p{n}"), 5, 4 * KIB))
        .collect();
    small.learn("kubelet", PODS, &pod_list(10, &pods));
    small.learn_map("kubelet", 7, 8 * KIB);
    small.learn("kubelet", "/version", r#"{"major":"1"}"#);
    let hostile = |n: usize, small: &mut Small| match n % 4 {
        0 => small.learn_map("hostile", n, 30 * KIB),
        1 => {
            let items: Vec<String> = (0..10)
                .map(|m| map_item("hostile", n * 10 + m, 8 * KIB))
                .collect();
            let uri = format!("/api/v1/namespaces/hostile/configmaps?labelSelector=x!%3D{n}");
            small.learn("hostile", &uri, &maps(1000 + n as u64, &items));
        }
        2 => small.learn(
            "hostile",
            &format!("/apis/made-up/{n}"),
            &"x".repeat(50 * KIB),
        ),
        _ => small.learn(
            "hostile",
            &format!("/api/v1/namespaces/a/pods?labelSelector=x!%3D{n}"),
            &pod_list(1000 + n as u64, &pods),
        ),
    };
    for n in 0..200 {
        hostile(n, &mut small);
    }
    assert!(small.get("kubelet", PODS).await.is_ok());
    assert!(small.get("kubelet", &map_uri("kubelet", 7)).await.is_ok());
    assert!(small.get("kubelet", "/version").await.is_ok());
    let Evicted {
        objects,
        responses,
        collections,
    } = small.status().evicted;
    assert!(objects > 0 && responses > 0 && collections > 0);
}

#[tokio::test]
async fn a_collection_goes_as_a_whole_and_says_so() {
    let mut small = Small::new();
    let items: Vec<String> = (0..10).map(|n| map_item("x", n, 10 * KIB)).collect();
    small.learn("x", CONFIG_MAPS, &maps(500, &items));
    let mut n = 100;
    while small.get("y", &map_uri("y", 100)).await.is_ok() || n == 100 {
        let list = small.bench.ask("x", CONFIG_MAPS, JSON).map(drop);
        assert!(list.is_ok(), "it is used, if only an hour ago at most");
        small.learn_map("y", n, 20 * KIB);
        n += 1;
    }
    small.clock += 24 * 3600;
    // Nobody asks for the list any more, and all hold about the same.
    for n in 0..90 {
        let who = format!("z{n}");
        small.learn_map(&who, n, 10 * KIB);
    }
    assert_eq!(
        small.get("x", CONFIG_MAPS).await.err(),
        Some(Reason::Incomplete)
    );
    for n in 0..10 {
        assert!(
            is_unknown(small.get("x", &map_uri("x", n)).await),
            "and no 404"
        );
    }
}

#[tokio::test]
async fn what_streams_feed_goes_last() {
    let mut small = Small::new();
    let pods: Vec<String> = (0..20)
        .map(|n| sized_pod(&format!("p{n}"), 5, 10 * KIB))
        .collect();
    small.learn("kubelet", PODS, &pod_list(10, &pods));
    let feed = small
        .bench
        .watch("kubelet", &format!("{PODS}?watch=1&resourceVersion=10"));
    small.clock += 30 * 24 * 3600;
    for n in 0..300 {
        small.learn_map(&format!("y{}", n % 50), n, 20 * KIB);
    }
    assert!(small.get("kubelet", PODS).await.is_ok());
    drop(feed);
    for n in 300..600 {
        small.learn_map(&format!("y{}", n % 50), n, 20 * KIB);
    }
    assert_eq!(
        small.get("kubelet", PODS).await.err(),
        Some(Reason::Incomplete)
    );
}

#[tokio::test]
async fn a_stream_does_not_shield_what_takes_more_than_half() {
    let mut small = Small::new();
    let pods: Vec<String> = (0..10)
        .map(|n| sized_pod(&format!("p{n}"), 5, 10 * KIB))
        .collect();
    small.learn("kubelet", PODS, &pod_list(10, &pods));
    let junk: Vec<String> = (0..70).map(|n| map_item("a", n, 10 * KIB)).collect();
    small.learn("hostile", CONFIG_MAPS, &maps(500, &junk));
    let _feed = small.bench.watch(
        "hostile",
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion=500"),
    );
    for n in 0..40 {
        small.learn_map("hostile", 1000 + n, 20 * KIB);
    }
    assert!(small.get("kubelet", PODS).await.is_ok());
}

#[tokio::test]
async fn an_object_that_an_older_list_lacks_is_not_let_go_of_before_the_list() {
    let mut small = Small::new();
    let uri = "/api/v1/namespaces/x/configmaps";
    small.learn("x", uri, &maps(50, &[]));
    small.learn_map("x", 1, 10 * KIB);
    let mut is_known = true;
    for n in 0..300 {
        let answer = small.bench.get("x", &map_uri("x", 1)).await;
        assert_ne!(answer.as_ref().err(), Some(&Reason::NotFound), "{n}");
        is_known = answer.is_ok();
        small.learn("x", &map_uri("y", n), &map("y", n, 20 * KIB));
    }
    assert!(!is_known, "in the end both went");
}

#[tokio::test]
async fn an_older_list_is_not_told_in_the_place_of_one_that_made_room() {
    let mut small = Small::new();
    let old = [sized_pod("p", 5, KIB), sized_pod("q", 6, KIB)];
    let in_a = [sized_pod("p", 15, KIB)];
    small.learn("x", PODS, &pod_list(10, &old));
    small.learn("x", PODS_IN_A, &pod_list(20, &in_a));
    let id = |small: &Small, uri: &str| {
        let scope = info(uri).scope().expect("a scope");
        let state = small.bench.cache.shared.lock();
        state
            .collections
            .id(&scope, crate::cache::form::Form::JSON)
            .expect("known")
    };
    let now = unix_seconds(small.now());
    let narrow = id(&small, PODS_IN_A);
    small.bench.cache.shared.lock().let_go(narrow, now);
    assert!(
        small.get("x", PODS).await.is_ok(),
        "all of them, as of then"
    );
    assert_eq!(
        small.get("x", PODS_IN_A).await.err(),
        Some(Reason::Incomplete)
    );
    let pod = |name: &str| format!("{PODS_IN_A}/{name}");
    let p = small.get("x", &pod("p")).await.expect("known");
    assert!(p.contains(r#""resourceVersion":"15""#));
    assert_eq!(
        small
            .get("x", &pod("q"))
            .await
            .err()
            .map(|r| r == Reason::NotFound),
        Some(false)
    );
    small.learn("x", PODS, &pod_list(30, &in_a));
    assert!(
        small.get("x", PODS_IN_A).await.is_ok(),
        "what is newer is told"
    );
}

#[tokio::test]
async fn made_up_selectors_hold_few_states_of_an_object_that_changes() {
    let bench = Bench::new();
    for n in 0..40 {
        let uri = format!("{PODS}?labelSelector=x!%3D{n}");
        bench.learn(
            "hostile",
            &uri,
            &pod_list(10 + n, &[sized_pod("p", 10 + n, 1 << 20)]),
        );
    }
    let status = bench.cache.status(now());
    assert!(status.bytes <= 7 << 20, "{}", status.bytes);
    let last = format!("{PODS}?labelSelector=x!%3D39");
    assert!(bench.list("hostile", &last).await.is_ok());
}

#[tokio::test]
async fn secrets_of_one_caller_leave_room_in_memory_for_anothers() {
    let bench = Bench::new();
    let secret = |n: usize| map("a", n, 1 << 20).replace("ConfigMap", "Secret");
    let uri = |n: usize| format!("/api/v1/namespaces/a/secrets/m{n}");
    bench.learn("kubelet", &uri(0), &secret(0));
    for n in 1..50 {
        bench.learn("hostile", &uri(n), &secret(n));
    }
    bench.learn("kubelet", &uri(100), &secret(100));
    for n in [0, 100] {
        assert!(bench.get("kubelet", &uri(n)).await.is_ok(), "{n}");
    }
    assert!(is_unknown(bench.get("hostile", &uri(1)).await));
}

#[tokio::test]
async fn a_cache_that_is_to_hold_less_after_a_restart_does() {
    let bench = Bench::new();
    for n in 0..20 {
        bench.learn("x", &map_uri("x", n), &map("x", n, 1 << 20));
    }
    bench.commit().await;
    let Bench {
        folder,
        secrets,
        cache,
    } = bench;
    drop(cache);
    let config = config::Cache {
        max_bytes: 4 << 20,
        ..super::config(&folder, secrets)
    };
    let cache = Cache::open(&config);
    let bench = Bench {
        folder,
        secrets,
        cache,
    };
    let status = bench.cache.status(now());
    assert!(
        status.bytes <= 4 << 20 && status.facts > 0,
        "{}",
        status.bytes
    );
    bench.commit().await;
    let bench = bench.killed();
    assert_eq!(
        bench.cache.status(now()).facts,
        status.facts,
        "and on the disk"
    );
}

#[tokio::test]
async fn what_is_larger_than_all_that_may_be_held_takes_nothing_from_the_others() {
    let mut small = Small::new();
    small.learn_map("x", 1, 10 * KIB);
    small.learn_map("x", 2, 2 << 20);
    assert!(small.get("x", &map_uri("x", 1)).await.is_ok());
    assert!(small.get("x", &map_uri("x", 2)).await.is_err());
}

#[tokio::test]
async fn who_was_shown_a_list_that_could_not_be_learnt_is_told_nothing_older() {
    let mut small = Small::new();
    small.learn("x", CONFIG_MAPS, &maps(10, &[map_item("a", 1, KIB)]));
    small.learn("y", CONFIG_MAPS, &maps(10, &[map_item("a", 1, KIB)]));
    let larger: Vec<String> = (0..200).map(|n| map_item("a", n, 10 * KIB)).collect();
    small.learn("x", CONFIG_MAPS, &maps(500, &larger));
    assert!(small.get("x", CONFIG_MAPS).await.is_err());
}

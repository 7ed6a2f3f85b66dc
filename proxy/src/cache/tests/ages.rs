//! How old an answer says it is, and what is too old to be told.

use http::header::AGE;

use super::*;

const POD: &str = "/api/v1/namespaces/a/pods/p";
const LIMITED: &str = "/api/v1/endpoints";
const ONE: &str = "/api/v1/namespaces/a/endpoints/p";

impl Bench {
    fn read_at(&self, at: u64, uri: &str, body: &str) {
        self.read_by("x", at, uri, body);
    }

    fn read_by(&self, who: &str, at: u64, uri: &str, body: &str) {
        let (request, response) = (headers(ACCEPT, JSON), ok(JSON));
        let learner = self
            .cache
            .learner(&caller(who), &info(uri), &request, &response, time(at));
        let mut learner = learner.expect("to be learnt");
        learner.feed(body.as_bytes());
        learner.finish();
    }

    fn ask_at(&self, at: u64, uri: &str) -> Result<Answer, Reason> {
        let request = headers(ACCEPT, JSON);
        self.cache
            .answer(&caller("x"), &info(uri), &request, time(at))
    }

    /// As the answer says it, in seconds.
    fn age_at(&self, at: u64, uri: &str) -> Result<u64, Reason> {
        let headers = match self.ask_at(at, uri)? {
            Answer::Response(response) => response.headers().clone(),
            Answer::Watch(watch) => watch.headers,
        };
        let age = headers[AGE].to_str().expect("ascii");
        Ok(age.parse().expect("seconds"))
    }
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The clock of streams is the machine's.
fn clock() -> u64 {
    super::super::unix_seconds(now())
}

fn endpoints(resource_version: u64, items: &[String]) -> String {
    let metadata = format!(r#""resourceVersion":"{resource_version}""#);
    list_of("EndpointsList", "v1", &metadata, items)
}

fn one(resource_version: u64) -> String {
    pod("a", "p", resource_version).replace("Pod", "Endpoints")
}

#[tokio::test]
async fn an_answer_is_as_old_as_the_last_that_confirmed_it() {
    let bench = Bench::new();
    bench.read_at(1000, PODS, &pod_list(10, &[item("a", "p", 5)]));
    let watch = format!("{PODS}?watch=1&resourceVersion=10");
    for uri in [PODS, POD, &watch, "/api/v1/pods?labelSelector=app%3Dx"] {
        assert_eq!(bench.age_at(1007, uri), Ok(7), "{uri}");
    }
    // The same list again, the same object again.
    bench.read_at(2000, PODS, &pod_list(11, &[item("a", "p", 5)]));
    bench.read_at(2500, POD, &pod("a", "p", 5));
    assert_eq!(bench.age_at(2507, PODS), Ok(507));
    assert_eq!(bench.age_at(2507, POD), Ok(7));
    // Another state of it confirms nothing of what the list shows.
    bench.read_by("y", 3000, POD, &pod("a", "p", 15));
    assert_eq!(bench.age_at(3007, PODS), Ok(1007));
    assert_eq!(bench.age_at(3007, POD), Ok(7));
    bench.read_at(4000, PODS, &pod_list(12, &[item("a", "p", 5)]));
    assert_eq!(bench.age_at(4007, POD), Ok(1007), "the list is behind it");
}

#[tokio::test]
async fn an_object_that_is_read_again_and_again_is_no_older_after_a_restart_than_was_written() {
    let bench = Bench::new();
    bench.read_at(1000, POD, &pod("a", "p", 5));
    for at in [1300, 1700, 1900] {
        bench.read_at(at, POD, &pod("a", "p", 5));
    }
    assert_eq!(bench.age_at(2000, POD), Ok(100));
    bench.commit().await;
    assert_eq!(bench.killed().age_at(2000, POD), Ok(300));
}

#[tokio::test]
async fn pages_are_as_old_as_the_first() {
    let bench = Bench::new();
    let uri = "/api/v1/pods?limit=1";
    bench.read_at(1000, uri, &page(10, "t1", &[item("a", "p", 5)]));
    let next = format!("{uri}&continue=t1");
    bench.read_at(1100, &next, &pod_list(10, &[item("a", "q", 6)]));
    assert_eq!(bench.age_at(1107, PODS), Ok(107));
}

#[tokio::test]
async fn a_bookmark_confirms_a_collection_in_which_nothing_happened() {
    let bench = Bench::new();
    let start = clock();
    bench.read_at(start - 1000, PODS, &pod_list(10, &[item("a", "p", 5)]));
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    assert!(bench.age_at(start, PODS).expect("known") >= 1000);
    feed.event(&bookmark(10, false));
    assert!(bench.age_at(clock(), PODS).expect("known") < 10);
    // One that is behind does not.
    let bench = Bench::new();
    bench.read_at(start - 1000, PODS, &pod_list(10, &[item("a", "p", 5)]));
    let mut behind = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=5"));
    behind.event(&bookmark(9, false));
    assert!(bench.age_at(start, PODS).expect("known") >= 1000);
}

#[tokio::test]
async fn what_was_confirmed_longer_ago_than_allowed_is_refused() {
    let bench = Bench::new();
    bench.read_at(1000, LIMITED, &endpoints(10, &[item("a", "p", 5)]));
    bench.read_at(1000, PODS, &pod_list(10, &[item("a", "p", 5)]));
    let watch = format!("{LIMITED}?watch=1&resourceVersion=10");
    let initial = format!("{LIMITED}?{WATCH_LIST}");
    let absent = "/api/v1/namespaces/a/endpoints/none";
    for uri in [LIMITED, ONE, &watch, &initial] {
        assert_eq!(bench.age_at(1060, uri), Ok(60), "{uri}");
        assert_eq!(bench.age_at(1061, uri), Err(Reason::TooOld), "{uri}");
    }
    assert_eq!(reason(bench.ask_at(1060, absent)), Some(Reason::NotFound));
    assert_eq!(reason(bench.ask_at(1061, absent)), Some(Reason::TooOld));
    assert_eq!(bench.age_at(9999, PODS), Ok(8999), "of another resource");
    // Of what this caller may not read nothing is said.
    let request = headers(ACCEPT, JSON);
    let other = bench
        .cache
        .answer(&caller("y"), &info(LIMITED), &request, time(1061));
    assert_eq!(reason(other), Some(Reason::NoGrant));
    // It is confirmed again.
    bench.read_at(2000, ONE, &one(5));
    assert_eq!(bench.age_at(2010, ONE), Ok(10));
    assert_eq!(bench.age_at(2010, LIMITED), Err(Reason::TooOld));
    bench.read_at(3000, LIMITED, &endpoints(10, &[item("a", "p", 5)]));
    assert_eq!(bench.age_at(3010, LIMITED), Ok(10));
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_nothing_younger() {
    let bench = Bench::new();
    bench.read_at(1000, LIMITED, &endpoints(10, &[item("a", "p", 5)]));
    assert_eq!(bench.age_at(990, LIMITED), Ok(0));
    assert_eq!(bench.age_at(900, LIMITED), Err(Reason::TooOld));
}

//! What the answer to a write teaches, and what it does not.

use http::StatusCode;

use super::*;

const POD: &str = "/api/v1/namespaces/a/pods/p";
const STATUS: &str = "/api/v1/namespaces/a/pods/p/status";

/// A write that was sent.
struct Sent<'b> {
    bench: &'b Bench,
    who: &'b str,
    info: RequestInfo,
    before: super::super::Before,
}

impl Bench {
    fn send<'b>(&'b self, who: &'b str, request: &str) -> Sent<'b> {
        let (method, uri) = request.split_once(' ').expect("a method and a URI");
        let method: Method = method.parse().expect("a method");
        let info = RequestInfo::parse(&method, &uri.parse().expect("a URI")).expect("parses");
        let before = self.cache.before(&info);
        Sent {
            bench: self,
            who,
            info,
            before,
        }
    }

    /// A write, answered 200 with this body.
    pub(super) fn write(&self, who: &str, request: &str, body: &str) {
        self.send(who, request).answered(JSON, body.as_bytes());
    }
}

impl Sent<'_> {
    fn answered(self, content_type: &str, body: &[u8]) {
        self.answered_as(StatusCode::OK, content_type, body, true);
    }

    fn answered_as(self, status: StatusCode, content_type: &str, body: &[u8], whole: bool) {
        let request = headers(ACCEPT, content_type);
        let mut response = ok(content_type);
        response.status = status;
        let exchange = (&request, &response);
        let cache = &self.bench.cache;
        let learner =
            cache.write_learner(&caller(self.who), &self.info, self.before, exchange, now());
        let Some(mut learner) = learner else {
            return;
        };
        body.chunks(7).for_each(|chunk| learner.feed(chunk));
        if whole {
            learner.finish();
        }
    }
}

fn read(rv: u64) -> Result<String, Reason> {
    Ok(pod("a", "p", rv) + "\n")
}

#[tokio::test]
async fn a_client_reads_what_it_wrote() {
    for request in [
        format!("PUT {POD}"),
        format!("PATCH {POD}?fieldManager=x&force=true"),
        format!("PATCH {STATUS}"),
        "POST /api/v1/namespaces/a/pods".to_owned(),
    ] {
        let bench = Bench::new();
        bench.learn("x", POD, &pod("a", "p", 5));
        bench.write("x", &request, &pod("a", "p", 15));
        assert_eq!(bench.get("x", POD).await, read(15), "{request}");
        let bench = {
            bench.commit().await;
            bench.killed()
        };
        assert_eq!(bench.get("x", POD).await, read(15), "{request}");
    }
}

#[tokio::test]
async fn an_object_that_was_created_is_read_and_moves_no_collection() {
    let bench = Bench::new();
    for who in ["x", "y"] {
        bench.learn(who, PODS_IN_A, &pod_list(10, &[item("a", "q", 7)]));
    }
    let created = bench.send("x", "POST /api/v1/namespaces/a/pods");
    created.answered_as(
        StatusCode::CREATED,
        JSON,
        pod("a", "p", 15).as_bytes(),
        true,
    );
    assert_eq!(bench.get("x", POD).await, read(15));
    let expected = ("10".to_owned(), vec!["q@7".to_owned()]);
    assert_eq!(bench.list("y", PODS_IN_A).await, Ok(expected));
    let older = bench.list("x", PODS_IN_A).await;
    assert_eq!(older.err(), Some(Reason::ShownSince));
}

#[tokio::test]
async fn a_write_never_takes_an_object_backwards() {
    let bench = Bench::new();
    bench.learn("x", PODS_IN_A, &pod_list(10, &[item("a", "p", 7)]));
    let late = bench.send("x", &format!("PUT {POD}"));
    let mut feed = bench.watch("x", &format!("{PODS_IN_A}?watch=1&resourceVersion=10"));
    feed.event(&event("MODIFIED", &pod("a", "p", 15)));
    feed.event(&event("MODIFIED", &pod("a", "p", 20)));
    late.answered(JSON, pod("a", "p", 15).as_bytes());
    assert_eq!(bench.get("x", POD).await, read(20));
    feed.event(&event("DELETED", &pod("a", "p", 30)));
    bench.write("x", &format!("PUT {POD}"), &pod("a", "p", 25));
    assert_eq!(reason(bench.get("x", POD).await), Some(Reason::NotFound));
}

#[tokio::test]
async fn to_be_let_write_is_not_to_be_let_read() {
    let bench = Bench::new();
    bench.learn("x", POD, &pod("a", "p", 5));
    bench.write("y", &format!("PUT {POD}"), &pod("a", "p", 15));
    assert_eq!(reason(bench.get("y", POD).await), Some(Reason::NoGrant));
    assert_eq!(bench.get("x", POD).await, read(15));
}

#[tokio::test]
async fn what_nobody_reads_is_not_kept() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[]));
    for n in 0..10 {
        let name = format!("e{n}");
        bench.write(
            "y",
            "POST /api/v1/namespaces/a/pods",
            &pod("a", &name, 20 + n),
        );
    }
    assert_eq!(bench.cache.status(now()).facts, 0);
}

#[tokio::test]
async fn what_stores_nothing_or_shows_something_else_teaches_nothing() {
    let scale = r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"p","namespace":"a","resourceVersion":"15"}}"#;
    let status =
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201}"#;
    for (request, body) in [
        (format!("PUT {POD}?dryRun=All"), pod("a", "p", 15)),
        (format!("PUT {POD}?pretty=true"), pod("a", "p", 15)),
        (format!("PUT {POD}/resize"), pod("a", "p", 15)),
        (format!("PATCH {POD}/scale"), scale.to_owned()),
        (format!("POST {POD}/eviction"), status.to_owned()),
        (
            "POST /api/v1/namespaces/a/bindings".to_owned(),
            status.to_owned(),
        ),
        (format!("PUT {POD}"), pod("a", "q", 15)),
        (format!("PUT {POD}"), pod("b", "p", 15)),
        (
            format!("PUT {POD}"),
            pod("a", "p", 15).replace("Pod", "Cod"),
        ),
        (
            format!("PUT {POD}"),
            pod("a", "p", 15).replace("\"v1\"", "\"v2\""),
        ),
        (format!("PUT {POD}"), pod("a", "p", 0)),
        (format!("PUT {POD}"), scale.to_owned()),
    ] {
        let bench = Bench::new();
        bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
        bench.write("y", &request, &body);
        assert_eq!(bench.get("x", POD).await, read(5), "{request} {body}");
        assert_eq!(bench.cache.status(now()).facts, 1, "{request} {body}");
    }
}

#[tokio::test]
async fn after_a_write_that_was_not_understood_its_writer_is_told_nothing_older() {
    let cut = pod("a", "p", 15);
    for (request, body, whole) in [
        (format!("PATCH {POD}/scale"), "{}", true),
        (format!("PUT {POD}?pretty=1"), "{}", true),
        (format!("POST {POD}/eviction"), "{}", true),
        (format!("DELETE {POD}"), "{}", true),
        (format!("PUT {POD}"), &cut[..30], true),
        (format!("PUT {POD}"), &cut, false),
    ] {
        let bench = Bench::new();
        bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
        bench.learn("y", PODS, &pod_list(10, &[item("a", "p", 5)]));
        let sent = bench.send("x", &request);
        sent.answered_as(StatusCode::OK, JSON, body.as_bytes(), whole);
        let get = bench.get("x", POD).await;
        assert_eq!(reason(get), Some(Reason::WrittenSince), "{request}");
        assert_eq!(bench.get("y", POD).await, read(5), "{request}");
        // A newer state of it is.
        let mut feed = bench.watch("y", &format!("{PODS}?watch=1&resourceVersion=10"));
        feed.event(&event("MODIFIED", &pod("a", "p", 15)));
        assert_eq!(bench.get("x", POD).await, read(15), "{request}");
        feed.event(&event("DELETED", &pod("a", "p", 16)));
        let get = bench.get("x", POD).await;
        assert_eq!(reason(get), Some(Reason::NotFound), "{request}");
    }
}

#[tokio::test]
async fn a_collection_that_went_on_past_a_write_vouches_for_what_it_holds() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    // A dry run, as far as anyone knows: its options are in its body.
    bench.write("x", &format!("DELETE {POD}"), &pod("a", "p", 5));
    bench.write("x", "PATCH /api/v1/namespaces/a/pods/q/resize", "{}");
    let get = |name: &str| format!("/api/v1/namespaces/a/pods/{name}");
    for name in ["p", "q"] {
        let answer = bench.get("x", &get(name)).await;
        assert_eq!(reason(answer), Some(Reason::WrittenSince), "{name}");
    }
    let mut feed = bench.watch("x", &format!("{PODS}?watch=1&resourceVersion=10"));
    feed.event(&bookmark(11, false));
    assert_eq!(bench.get("x", POD).await, read(5));
    assert_eq!(
        reason(bench.get("x", &get("q")).await),
        Some(Reason::NotFound)
    );
}

#[tokio::test]
async fn a_write_that_changes_nothing_hides_nothing() {
    let bench = Bench::new();
    bench.learn("x", PODS, &pod_list(10, &[item("a", "p", 5)]));
    bench.write("x", &format!("PUT {POD}"), &pod("a", "p", 5));
    assert_eq!(bench.get("x", POD).await, read(5));
}

#[tokio::test]
async fn what_a_client_wrote_in_one_encoding_is_not_told_older_in_another() {
    let bench = Bench::new();
    let envelope = |rv: u64| {
        let field =
            |number: u8, value: &[u8]| [&[number << 3 | 2, value.len() as u8], value].concat();
        let meta = [
            field(1, b"p"),
            field(3, b"a"),
            field(6, rv.to_string().as_bytes()),
        ];
        super::super::wire::envelope("v1", "Pod", &field(1, &meta.concat()))
    };
    bench.learn("x", POD, &pod("a", "p", 5));
    bench.learn("y", POD, &pod("a", "p", 5));
    bench
        .send("x", &format!("PUT {POD}"))
        .answered(PROTOBUF, &envelope(15));
    assert_eq!(
        reason(bench.get("x", POD).await),
        Some(Reason::NotAcceptable)
    );
    assert_eq!(bench.get("y", POD).await, read(5));
    let both = format!("{PROTOBUF},{JSON}");
    let Ok(Answer::Response(response)) = bench.ask("x", POD, &both) else {
        panic!("it is known");
    };
    let body = response.into_body().collect().await.expect("whole");
    assert_eq!(body.to_bytes(), envelope(15));
}

#[tokio::test]
async fn an_update_that_may_have_deleted_its_object_is_no_object() {
    let bench = Bench::new();
    bench.learn("x", POD, &pod("a", "p", 5));
    let with = |metadata: &str, rv| {
        let meta = format!(r#""metadata":{{"deletionTimestamp":"2026-01-01T00:00:00Z",{metadata}"#);
        pod("a", "p", rv).replace(r#""metadata":{"#, &meta)
    };
    let held = with(r#""finalizers":["x/y"],"#, 15);
    bench.write("x", &format!("PUT {POD}"), &held);
    assert_eq!(bench.get("x", POD).await, Ok(held + "\n"));
    bench.write("x", &format!("PUT {POD}"), &with("", 15));
    let get = bench.get("x", POD).await;
    assert_eq!(reason(get), Some(Reason::WrittenSince));
}

#[tokio::test]
async fn a_refused_write_changes_nothing() {
    let bench = Bench::new();
    bench.learn("x", POD, &pod("a", "p", 5));
    for status in [StatusCode::CONFLICT, StatusCode::FORBIDDEN] {
        let sent = bench.send("x", &format!("PUT {POD}"));
        sent.answered_as(status, JSON, pod("a", "p", 15).as_bytes(), true);
    }
    assert_eq!(bench.get("x", POD).await, read(5));
}

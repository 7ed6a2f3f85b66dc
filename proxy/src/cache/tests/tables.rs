//! Tables: what plain kubectl asks for.

use super::*;

const COLUMNS: &str = r#"[{"name":"Name","type":"string","format":"name","description":"the name","priority":0},{"name":"Status","type":"string","format":"","description":"the phase","priority":0},{"name":"Age","type":"string","format":"","description":"CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata","priority":0}]"#;

const TABLE_ONLY: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

fn row(name: &str, resource_version: u64, status: &str) -> String {
    format!(
        r#"{{"cells":["{name}","{status}","3s"],"object":{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{{"name":"{name}","namespace":"a","uid":"{name}-uid","resourceVersion":"{resource_version}","creationTimestamp":"2020-01-01T00:00:00Z"}}}}}}"#
    )
}

fn table(resource_version: u64, rows: &[String]) -> String {
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{{\"resourceVersion\":\"{resource_version}\"}},\"columnDefinitions\":{COLUMNS},\"rows\":[{}]}}\n",
        rows.join(",")
    )
}

fn learn_table(bench: &Bench, uri: &str, resource_version: u64, rows: &[String]) {
    let table = table(resource_version, rows);
    let request = headers(ACCEPT, KUBECTL_GET);
    let learner = bench
        .cache
        .learner(&caller("x"), &info(uri), &request, &ok(JSON), now());
    let mut learner = learner.expect("a Table");
    table
        .as_bytes()
        .chunks(11)
        .for_each(|chunk| learner.feed(chunk));
    learner.finish();
}

async fn rows(bench: &Bench, uri: &str) -> (String, Vec<String>) {
    let text = bench.get_as("x", uri, KUBECTL_GET).await.expect("a Table");
    let table: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&table["kind"], &table["apiVersion"]),
        (&"Table".into(), &"meta.k8s.io/v1".into())
    );
    assert!(table["columnDefinitions"].is_array(), "{text}");
    let rows = table["rows"].as_array().expect("rows").iter();
    let version = table["metadata"]["resourceVersion"].as_str();
    (
        version.expect("an RV").to_owned(),
        rows.map(|row| row["cells"].to_string()).collect(),
    )
}

/// Whole years since the creation of each object here.
fn age() -> String {
    let since = now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let days = (since.as_secs() - 1_577_836_800) / 86_400;
    let (years, days) = (days / 365, days % 365);
    match years {
        ..8 if days > 0 => format!("{years}y{days}d"),
        _ => format!("{years}y"),
    }
}

#[tokio::test]
async fn a_table_is_told_again_with_the_age_of_now() {
    let bench = Bench::new();
    learn_table(
        &bench,
        PODS_IN_A,
        10,
        &[row("p", 5, "Running"), row("q", 6, "Failed")],
    );
    let (version, rows) = rows(&bench, PODS_IN_A).await;
    let age = age();
    assert_eq!(version, "10");
    assert_eq!(
        rows,
        [
            format!(r#"["p","Running","{age}"]"#),
            format!(r#"["q","Failed","{age}"]"#)
        ]
    );
}

#[tokio::test]
async fn a_table_outlives_the_process_with_its_columns() {
    let bench = Bench::new();
    learn_table(&bench, PODS_IN_A, 10, &[row("p", 5, "Running")]);
    bench.commit().await;
    let bench = bench.killed();
    let (_, rows) = rows(&bench, PODS_IN_A).await;
    assert!(rows[0].contains("Running"), "{rows:?}");
}

#[tokio::test]
async fn a_table_is_no_list_of_objects_and_no_object() {
    let bench = Bench::new();
    learn_table(&bench, PODS_IN_A, 10, &[row("p", 5, "Running")]);
    for uri in [PODS_IN_A, "/api/v1/namespaces/a/pods/p"] {
        assert_eq!(
            reason(bench.get("x", uri).await),
            Some(Reason::NotAcceptable),
            "{uri}"
        );
    }
    // But what it does not show is not there.
    let absent = "/api/v1/namespaces/a/pods/none";
    assert_eq!(reason(bench.get("x", absent).await), Some(Reason::NotFound));
}

#[tokio::test]
async fn an_object_that_changed_since_its_row_was_shown_has_a_row_without_what_is_not_known() {
    let bench = Bench::new();
    learn_table(
        &bench,
        PODS_IN_A,
        10,
        &[row("p", 5, "Running"), row("q", 6, "Failed")],
    );
    let q = item("a", "q", 12);
    bench.learn("x", PODS_IN_A, &pod_list(12, &[item("a", "p", 5), q]));
    let (version, rows) = rows(&bench, PODS_IN_A).await;
    assert_eq!(version, "12");
    assert!(rows[0].starts_with(r#"["p","Running","#), "{rows:?}");
    assert!(rows[1].starts_with(r#"["q",null,"#), "{rows:?}");
}

#[tokio::test]
async fn a_table_of_what_was_never_shown_as_one_has_name_and_age() {
    let bench = Bench::new();
    let created = r#""creationTimestamp":"2020-01-01T00:00:00Z","uid""#;
    let pod = item("a", "p", 5).replacen(r#""uid""#, created, 1);
    bench.learn("x", PODS_IN_A, &pod_list(10, &[pod]));
    let (_, rows) = rows(&bench, PODS_IN_A).await;
    assert_eq!(rows, [format!(r#"["p","{}"]"#, age())]);
}

#[tokio::test]
async fn a_custom_resource_has_the_columns_that_its_definition_declares() {
    let bench = Bench::new();
    let definition = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.example.dev","uid":"u","resourceVersion":"3"},"spec":{"versions":[{"name":"v1","additionalPrinterColumns":[{"name":"Size","type":"integer","jsonPath":".spec.size"}]}]}}"#;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    bench.learn(
        "y",
        &format!("{definitions}/widgets.example.dev"),
        definition,
    );
    let widget = r#"{"apiVersion":"example.dev/v1","kind":"Widget","metadata":{"name":"w","namespace":"a","uid":"u","resourceVersion":"5"},"spec":{"size":7}}"#;
    let list = list_of(
        "WidgetList",
        "example.dev/v1",
        r#""resourceVersion":"10""#,
        &[widget.to_owned()],
    );
    let uri = "/apis/example.dev/v1/namespaces/a/widgets";
    bench.learn("x", uri, &list);
    let (_, rows) = rows(&bench, uri).await;
    assert_eq!(rows, [r#"["w",7]"#]);
}

#[tokio::test]
async fn one_object_is_told_as_a_table_of_one_row() {
    let bench = Bench::new();
    let uri = "/api/v1/namespaces/a/pods/p";
    learn_table(&bench, uri, 5, &[row("p", 5, "Running")]);
    let (version, rows) = rows(&bench, uri).await;
    assert_eq!(version, "5");
    assert!(rows[0].starts_with(r#"["p","Running","#), "{rows:?}");
}

#[tokio::test]
async fn rows_with_whole_objects_are_told_to_those_who_sort_them() {
    let bench = Bench::new();
    let uri = format!("{PODS_IN_A}?includeObject=Object");
    let whole = format!(
        r#"{{"cells":["p","Running","3s"],"object":{}}}"#,
        pod("a", "p", 5)
    );
    learn_table(&bench, &uri, 10, &[whole]);
    let objects = |text: &str| {
        let table: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(table["kind"], "Table");
        let object = &table["rows"][0]["object"];
        (
            table["rows"][0]["cells"][1].to_string(),
            object["kind"].to_string(),
            object["spec"].to_string(),
        )
    };
    let told = bench.get_as("x", &uri, KUBECTL_GET).await.expect("a Table");
    assert_eq!(
        objects(&told),
        (r#""Running""#.into(), r#""Pod""#.into(), "{}".into())
    );
    // It is no Table of rows with metadata alone.
    assert_eq!(
        reason(bench.get_as("x", PODS_IN_A, TABLE_ONLY).await),
        Some(Reason::NotAcceptable)
    );
    // And from the objects.
    let other = Bench::new();
    other.learn("x", PODS_IN_A, &pod_list(10, &[item("a", "p", 5)]));
    let told = other.get_as("x", &uri, KUBECTL_GET).await.expect("a Table");
    assert_eq!(
        objects(&told),
        ("null".into(), r#""Pod""#.into(), "{}".into())
    );
}

#[tokio::test]
async fn a_stream_of_tables_names_the_columns_once() {
    let bench = Bench::new();
    learn_table(
        &bench,
        PODS_IN_A,
        10,
        &[row("p", 5, "Running"), row("q", 6, "Failed")],
    );
    let uri = format!("{PODS_IN_A}?{WATCH_LIST}");
    let Ok(Answer::Watch(mut answer)) = bench.ask("x", &uri, KUBECTL_GET) else {
        panic!("a watch");
    };
    let frames = frames(&mut answer).await.expect("all of them");
    let events: Vec<serde_json::Value> = frames
        .iter()
        .map(|frame| serde_json::from_slice(frame).expect("JSON"))
        .collect();
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str()).collect();
    assert_eq!(types, [Some("ADDED"), Some("ADDED"), Some("BOOKMARK")]);
    assert!(
        events
            .iter()
            .all(|event| event["object"]["kind"] == "Table")
    );
    let columns = events
        .iter()
        .map(|event| event["object"]["columnDefinitions"].is_array());
    assert_eq!(columns.collect::<Vec<_>>(), [true, false, false]);
}

#[tokio::test]
async fn events_of_a_stream_of_tables_move_its_rows() {
    let bench = Bench::new();
    learn_table(
        &bench,
        PODS_IN_A,
        10,
        &[row("p", 5, "Pending"), row("q", 6, "Running")],
    );
    let feed = bench.cache.watch_feed(
        &caller("x"),
        &info(&format!("{PODS_IN_A}?watch=1&resourceVersion=10")),
        &headers(ACCEPT, KUBECTL_GET),
        &ok(JSON),
        now(),
    );
    let mut feed = feed.expect("can be learnt from");
    let one = |kind: &str, version: u64, row: String| {
        let table = format!(
            r#"{{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{{"resourceVersion":"{version}"}},"columnDefinitions":null,"rows":[{row}]}}"#
        );
        event(kind, &table)
    };
    feed.event(&one("MODIFIED", 11, row("p", 11, "Running")));
    feed.event(&one("DELETED", 12, row("q", 12, "Running")));
    let (version, rows) = rows(&bench, PODS_IN_A).await;
    assert_eq!(version, "12");
    assert_eq!(rows.len(), 1);
    assert!(rows[0].starts_with(r#"["p","Running","#), "{rows:?}");
    // A client that had seen 10 is told both, as Tables.
    let uri = format!("{PODS_IN_A}?watch=1&resourceVersion=10");
    let Ok(Answer::Watch(mut answer)) = bench.ask("x", &uri, KUBECTL_GET) else {
        panic!("a watch");
    };
    let frames = frames(&mut answer).await.expect("all of them").concat();
    let told = String::from_utf8(frames).expect("text");
    assert_eq!(told.matches(r#""kind":"Table""#).count(), 2, "{told}");
    assert!(told.contains(r#""type":"DELETED""#), "{told}");
}

#[tokio::test]
async fn an_object_that_cannot_be_told_in_another_form_is_not_lost() {
    let bench = Bench::new();
    let spec = format!("\"spec\":{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let deep = item("a", "deep", 5).replacen("\"spec\":{}", &spec, 1);
    let list = pod_list(10, &[deep, item("a", "p", 6)]);
    bench.learn("x", PODS_IN_A, &list);
    let (_, rows) = rows(&bench, PODS_IN_A).await;
    assert!(rows[0].starts_with(r#"["deep","#), "{rows:?}");
    let uri = format!("{PODS_IN_A}/deep");
    let yaml = bench.get_as("x", &uri, "application/yaml").await;
    assert_eq!(reason(yaml), Some(Reason::Store));
    let listed = bench.get("x", PODS_IN_A).await;
    assert_eq!(listed.expect("known still"), list);
}

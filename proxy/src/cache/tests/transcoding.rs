//! JSON of what was only ever read as protobuf: what the API server would have written, or nothing.

use super::*;
use crate::cache::wire::{ListHead, envelope, list_body, open_envelope, watch_event};

const ONE: &str = "/api/v1/namespaces/a/configmaps/one";
const CONFIG_MAPS: &str = "/api/v1/namespaces/a/configmaps";
const METADATA: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";
const YAML: &str = "application/yaml";

/// A ConfigMap of this name and RV; its other bytes are as recorded.
fn config_map(name: &str, resource_version: u64) -> Bytes {
    let recorded = Bytes::from_static(include_bytes!("../wire/testdata/one.pb"));
    let mut raw = open_envelope(&recorded).expect("an object").raw.to_vec();
    for (old, new) in [
        ("\x03one", name),
        ("\x03205", &resource_version.to_string()),
    ] {
        let new = format!("\x03{new}");
        assert_eq!(old.len(), new.len());
        let at = memchr::memmem::find(&raw, old.as_bytes()).expect("its name or RV");
        raw[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    raw.into()
}

/// The same with a field of a later Kubernetes.
fn later(name: &str, resource_version: u64) -> Bytes {
    [&config_map(name, resource_version)[..], b"\x4a\x01x"]
        .concat()
        .into()
}

fn whole(raw: &[u8]) -> Bytes {
    envelope("v1", "ConfigMap", raw)
}

fn list(resource_version: u64, items: Vec<Bytes>) -> Vec<u8> {
    let head = ListHead {
        api_version: "v1".to_owned(),
        kind: "ConfigMapList".to_owned(),
        resource_version,
        ..ListHead::default()
    };
    let sizes: Vec<usize> = items.iter().map(Bytes::len).collect();
    list_body(Encoding::Protobuf, &head, sizes.into_iter(), items)
        .collect::<Vec<_>>()
        .concat()
}

fn protobuf_feed(bench: &Bench, uri: &str) -> WatchFeed {
    let feed = bench.cache.watch_feed(
        &caller("x"),
        &info(uri),
        &headers(ACCEPT, PROTOBUF),
        &ok("application/vnd.kubernetes.protobuf;stream=watch"),
        now(),
    );
    feed.expect("can be learnt from")
}

fn protobuf_event(kind: EventType, raw: &[u8]) -> WatchEvent {
    let mut splitter = WatchSplitter::new(Encoding::Protobuf);
    splitter.feed(watch_event(Encoding::Protobuf, kind, &whole(raw)));
    splitter.next().expect("an event").expect("a whole one")
}

async fn has_protobuf(bench: &Bench, uri: &str) -> bool {
    match bench.ask("x", uri, PROTOBUF) {
        Ok(Answer::Response(response)) => response.into_body().collect().await.is_ok(),
        Ok(Answer::Watch(mut watch)) => frames(&mut watch).await.is_ok(),
        Err(_) => false,
    }
}

/// How the collection's watch goes for who has seen `after`: TYPE and name.
async fn watched(bench: &Bench, after: u64) -> Result<Vec<String>, Reason> {
    let uri = format!("{CONFIG_MAPS}?watch=1&resourceVersion={after}");
    let mut watch = bench.open_watch("x", &uri)?;
    let mut splitter = WatchSplitter::new(Encoding::Json);
    for frame in frames(&mut watch).await? {
        splitter.feed(frame);
    }
    let mut told = Vec::new();
    while let Some(event) = splitter.next().expect("events") {
        told.push(format!("{} {}", event.kind.as_str(), event.meta.name));
    }
    Ok(told)
}

#[tokio::test]
async fn an_object_with_a_field_that_is_not_known_is_told_as_protobuf_alone() {
    let bench = Bench::new();
    bench.try_learn("x", ONE, PROTOBUF, &whole(&later("one", 205)), true);
    for accept in [JSON, YAML] {
        let answer = bench.get_as("x", ONE, accept).await;
        assert_eq!(reason(answer), Some(Reason::NotAcceptable), "{accept}");
    }
    assert!(has_protobuf(&bench, ONE).await);
    // Whoever takes both has the one that there is.
    let both = format!("{JSON},{PROTOBUF}");
    assert!(bench.ask("x", ONE, &both).is_ok());
}

#[tokio::test]
async fn one_untold_object_keeps_its_list_and_watch_from_being_told_and_no_other() {
    let bench = Bench::new();
    let items = vec![later("new", 203), config_map("one", 205)];
    bench.try_learn("x", CONFIG_MAPS, PROTOBUF, &list(209, items), true);
    bench.commit().await;
    let bench = bench.killed();
    let initial = format!("{CONFIG_MAPS}?{WATCH_LIST}");
    let page = format!("{CONFIG_MAPS}?limit=1");
    for uri in [CONFIG_MAPS, &page, &initial] {
        let answer = bench.ask("x", uri, JSON);
        assert_eq!(reason(answer), Some(Reason::NotAcceptable), "{uri}");
        assert!(has_protobuf(&bench, uri).await);
    }
    let metadata = bench.get_as("x", CONFIG_MAPS, METADATA).await;
    assert!(metadata.is_ok_and(|list| list.contains("\"new\"")));
    let narrow = format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Done");
    let (_, told) = bench
        .list("x", &narrow)
        .await
        .expect("the one that is told");
    assert_eq!(told, ["one@205"]);
    let recorded = include_str!("../wire/testdata/one.json");
    assert_eq!(bench.get("x", ONE).await.as_deref(), Ok(recorded));
}

#[tokio::test]
async fn an_untold_object_that_changes_or_goes_is_told_again() {
    let bench = Bench::new();
    let items = vec![later("new", 203), config_map("one", 205)];
    bench.try_learn("x", CONFIG_MAPS, PROTOBUF, &list(209, items), true);
    let mut feed = protobuf_feed(
        &bench,
        &format!("{CONFIG_MAPS}?watch=1&resourceVersion=209"),
    );
    assert_eq!(watched(&bench, 209).await, Err(Reason::NotAcceptable));
    feed.event(&protobuf_event(
        EventType::Modified,
        &config_map("new", 210),
    ));
    assert_eq!(
        watched(&bench, 209).await,
        Ok(vec!["MODIFIED new".to_owned()])
    );
    feed.event(&protobuf_event(EventType::Deleted, &config_map("new", 211)));
    let told = ["DELETED new".to_owned()];
    assert_eq!(watched(&bench, 209).await.as_deref(), Ok(&told[..]));
    // Its last words cannot be told: who has seen it must list.
    feed.event(&protobuf_event(EventType::Deleted, &later("one", 212)));
    assert_eq!(watched(&bench, 211).await, Err(Reason::Expired));
    assert_eq!(
        bench.list("x", CONFIG_MAPS).await,
        Ok(("212".to_owned(), vec![]))
    );
}

#[tokio::test]
async fn json_that_the_api_server_wrote_is_preferred_and_stands_in_for_what_is_untold() {
    let bench = Bench::new();
    let written = include_str!("../wire/testdata/list.json");
    // Not the same bytes, so that it shows which are told.
    let written = written.replacen("\"app\":\"x\"", "\"app\":\"y\"", 1);
    bench.learn("x", CONFIG_MAPS, &written);
    let recorded = include_bytes!("../wire/testdata/list.pb");
    bench.try_learn("y", CONFIG_MAPS, PROTOBUF, recorded, true);
    assert_eq!(bench.get("x", CONFIG_MAPS).await, Ok(written.clone()));
    let newer = list(300, vec![config_map("one", 205), later("two", 299)]);
    bench.try_learn("y", CONFIG_MAPS, PROTOBUF, &newer, true);
    assert_eq!(bench.get("x", CONFIG_MAPS).await, Ok(written));
    let newer = list(301, vec![config_map("one", 205)]);
    bench.try_learn("y", CONFIG_MAPS, PROTOBUF, &newer, true);
    let (version, told) = bench.list("x", CONFIG_MAPS).await.expect("a list");
    assert_eq!((&*version, told), ("301", vec!["one@205".to_owned()]));
}

#[tokio::test]
async fn protobuf_and_json_of_an_object_are_told_in_the_same_yaml() {
    let mut told = Vec::new();
    for (accept, object) in [
        (JSON, &include_bytes!("../wire/testdata/one.json")[..]),
        (PROTOBUF, include_bytes!("../wire/testdata/one.pb")),
    ] {
        let bench = Bench::new();
        bench.try_learn("x", ONE, accept, object, true);
        told.push(bench.get_as("x", ONE, YAML).await.expect("YAML"));
    }
    assert!(told[0].contains("name: one"));
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn the_columns_of_a_definition_that_was_read_as_protobuf_are_known() {
    let bench = Bench::new();
    let definition = include_bytes!("../wire/testdata/thing-crd.pb");
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.dev";
    bench.try_learn("y", uri, PROTOBUF, definition, true);
    let thing = r#"{"apiVersion":"example.dev/v1","kind":"Thing","metadata":{"name":"t","namespace":"a","uid":"u","resourceVersion":"5"},"spec":{"size":7}}"#;
    let uri = "/apis/example.dev/v1/namespaces/a/things";
    let metadata = r#""resourceVersion":"10""#;
    let list = list_of("ThingList", "example.dev/v1", metadata, &[thing.to_owned()]);
    bench.learn("x", uri, &list);
    let table = bench.get_as("x", uri, KUBECTL_GET).await.expect("a Table");
    assert!(table.contains(r#""cells":["t",7]"#), "{table}");
}

#[tokio::test]
async fn rows_with_whole_objects_are_made_of_protobuf() {
    let bench = Bench::new();
    let recorded = include_bytes!("../wire/testdata/list.pb");
    bench.try_learn("x", CONFIG_MAPS, PROTOBUF, recorded, true);
    let uri = format!("{CONFIG_MAPS}?includeObject=Object");
    let table = bench.get_as("x", &uri, KUBECTL_GET).await.expect("a Table");
    let one = include_str!("../wire/testdata/one.json").trim_end();
    assert!(table.contains(&format!(r#""object":{one}"#)), "{table}");
}

#[tokio::test]
async fn what_is_over_in_one_encoding_takes_what_was_before_it_in_another() {
    let bench = Bench::new();
    let before = list(210, vec![config_map("one", 205)]);
    bench.try_learn("x", CONFIG_MAPS, PROTOBUF, &before, true);
    let metadata = r#""name":"one","namespace":"a","uid":"u","resourceVersion":"300""#;
    let front = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{{metadata},"labels":{{"tier":"front"}}}}}}"#
    );
    bench.learn("x", ONE, &front);
    assert!(bench.get("x", ONE).await.expect("known").contains("300"));
    let gone = list_of("ConfigMapList", "v1", r#""resourceVersion":"400""#, &[]);
    let selected = format!("{CONFIG_MAPS}?labelSelector=tier%3Dfront");
    bench.learn("x", &selected, &gone);
    assert_eq!(bench.get("x", ONE).await.err(), Some(Reason::ShownSince));
    let protobuf = bench.get_as("x", ONE, PROTOBUF).await;
    assert_eq!(protobuf.err(), Some(Reason::ShownSince));
}

//! Against bytes that a kube-apiserver 1.36.3 wrote, see `testdata/README.md`.
#![expect(clippy::unwrap_used, reason = "a test that unwraps a None has failed")]

use super::*;
use Encoding::{Json, Protobuf};

macro_rules! recorded {
    ($name:literal) => {
        Bytes::from_static(include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/cache/wire/testdata/",
            $name
        )))
    };
}

mod metadata;
mod row;
mod table;
mod yaml;

fn events(encoding: Encoding, pieces: &[&[u8]]) -> Result<Vec<WatchEvent>, WireError> {
    let mut splitter = WatchSplitter::new(encoding);
    let mut events = Vec::new();
    for piece in pieces {
        splitter.feed(Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next()? {
            events.push(event);
        }
    }
    assert!(!splitter.is_partial(), "bytes are left over");
    Ok(events)
}

fn list(encoding: Encoding, pieces: &[&[u8]]) -> Result<(ListHead, Vec<ListItem>), WireError> {
    let mut splitter = ListSplitter::new(encoding);
    let mut items = Vec::new();
    for piece in pieces {
        splitter.feed(piece, &mut |item| items.push(item))?;
    }
    Ok((splitter.finish()?, items))
}

fn body(encoding: Encoding, head: &ListHead, items: &[ListItem]) -> Vec<u8> {
    let bytes: Vec<Bytes> = items.iter().map(|item| item.bytes.clone()).collect();
    let body = list_body(encoding, head, items.iter().map(|i| i.bytes.len()), bytes);
    let length = body.content_length();
    let written = body.collect::<Vec<_>>().concat();
    assert_eq!(length, written.len() as u64, "content length");
    written
}

fn seen(event: &WatchEvent) -> (EventType, &str, u64) {
    (event.kind, &event.meta.name, event.meta.resource_version)
}

// --- objects ---

#[test]
fn an_object_last_seen_and_its_own_deletion_differ_by_the_rv_alone() {
    for (encoding, stream) in [
        (Json, recorded!("watch.json")),
        (Protobuf, recorded!("watch.pb")),
    ] {
        let events = events(encoding, &[&stream]).unwrap();
        let bare = |event: &WatchEvent| match encoding {
            Json => event.object.clone(),
            Protobuf => open_envelope(&event.object).unwrap().raw,
        };
        let (added, deleted) = (&events[2], &events[4]);
        let told = with_resource_version(encoding, &bare(added), deleted.meta.resource_version);
        assert_eq!(told.unwrap(), bare(deleted), "{encoding:?}");
    }
}

// --- watch streams ---

#[test]
fn a_recorded_watch_splits_into_its_events() {
    for (encoding, stream) in [
        (Json, recorded!("watch.json")),
        (Protobuf, recorded!("watch.pb")),
    ] {
        let events = events(encoding, &[&stream]).unwrap();
        assert_eq!(
            events.iter().map(seen).collect::<Vec<_>>(),
            [
                (EventType::Added, "one", 205),
                (EventType::Added, "two", 206),
                (EventType::Added, "three", 207),
                (EventType::Modified, "two", 208),
                (EventType::Deleted, "three", 209),
                (EventType::Bookmark, "", 209),
            ],
            "{encoding:?}"
        );
        assert_eq!(
            events
                .iter()
                .flat_map(|e| e.frame.to_vec())
                .collect::<Vec<_>>(),
            stream
        );
    }
}

#[test]
fn both_encodings_tell_the_same_metadata() {
    let meta = ObjectMeta {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: "one".into(),
        namespace: "a".into(),
        uid: "7a357730-e3a4-4a7d-986a-826ea0c6da97".into(),
        resource_version: 205,
        labels: vec![("app".into(), "x".into()), ("tier".into(), "t".into())],
        initial_events_end: false,
        status_code: None,
    };
    assert_eq!(read_meta(Json, &recorded!("one.json")), Ok(meta.clone()));
    assert_eq!(read_meta(Protobuf, &recorded!("one.pb")), Ok(meta));
}

#[test]
fn the_bookmark_that_ends_the_initial_events_is_told_from_others() {
    for (encoding, stream) in [
        (Json, recorded!("initial.json")),
        (Protobuf, recorded!("initial.pb")),
        (Json, recorded!("cr-watch.json")),
    ] {
        let events = events(encoding, &[&stream]).unwrap();
        let last = events.last().unwrap();
        assert_eq!(last.kind, EventType::Bookmark);
        for event in &events {
            let is_last = event == last;
            assert_eq!(event.meta.initial_events_end, is_last, "{encoding:?}");
        }
    }
}

#[test]
fn an_error_event_tells_its_code() {
    for (encoding, stream) in [
        (Json, recorded!("gone.json")),
        (Protobuf, recorded!("gone.pb")),
    ] {
        let events = events(encoding, &[&stream]).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind, EventType::Error);
        assert_eq!(events[0].meta.status_code, Some(410), "{encoding:?}");
    }
    let missing = read_meta(Protobuf, &recorded!("missing.pb")).unwrap();
    assert_eq!(missing.status_code, Some(404));
}

#[test]
fn a_watch_cut_anywhere_gives_the_same_events() {
    for (encoding, stream) in [
        (Json, recorded!("watch.json")),
        (Protobuf, recorded!("watch.pb")),
    ] {
        let whole = events(encoding, &[&stream]).unwrap();
        for cut in 0..stream.len() {
            let cut_up = events(encoding, &[&stream[..cut], &stream[cut..]]).unwrap();
            assert_eq!(cut_up, whole, "{encoding:?} cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(encoding, &bytes).unwrap(), whole);
    }
}

#[test]
fn an_event_is_out_before_its_line_feed_has_come() {
    let stream = recorded!("watch.json");
    let first = stream.iter().position(|b| *b == b'\n').unwrap();
    let mut splitter = WatchSplitter::new(Json);
    splitter.feed(stream.slice(..first));
    let event = splitter.next().unwrap().unwrap();
    assert_eq!(event.frame, stream[..=first]);
    splitter.feed(stream.slice(first..=first));
    assert_eq!(splitter.next(), Ok(None));
    assert!(!splitter.is_partial(), "a line feed is not an event");
}

#[test]
fn an_event_inside_one_chunk_is_not_copied() {
    for (encoding, stream) in [
        (Json, recorded!("watch.json")),
        (Protobuf, recorded!("watch.pb")),
    ] {
        let mut splitter = WatchSplitter::new(encoding);
        splitter.feed(stream.clone());
        let event = splitter.next().unwrap().unwrap();
        assert_eq!(event.frame.as_ptr(), stream.as_ptr());
        assert!(stream.as_ptr_range().contains(&event.object.as_ptr()));
    }
}

#[test]
fn what_several_streams_tell_is_read_once_and_is_each_streams_own() {
    let stream = recorded!("watch.json");
    let recent = RecentEvents::default();
    let splitter = || WatchSplitter::new(Json).beside(recent.clone());
    let (mut first, mut second) = (splitter(), splitter());
    first.feed(stream.clone());
    let copy = Bytes::copy_from_slice(&stream);
    second.feed(copy.clone());
    while let Some(event) = first.next().unwrap() {
        let again = second.next().unwrap().unwrap();
        assert_eq!(again, event);
        assert!(Arc::ptr_eq(&again.meta, &event.meta), "it was read twice");
        assert!(copy.as_ptr_range().contains(&again.object.as_ptr()));
    }
    assert_eq!(second.next(), Ok(None));
}

#[test]
fn where_another_stream_is_cut_changes_none_of_its_events() {
    let stream = recorded!("watch.json");
    let whole = events(Json, &[&stream]).unwrap();
    let recent = RecentEvents::default();
    let mut first = WatchSplitter::new(Json).beside(recent.clone());
    for cut in (0..stream.len()).step_by(7) {
        let mut second = WatchSplitter::new(Json).beside(recent.clone());
        first.feed(stream.clone());
        while first.next().unwrap().is_some() {}
        let mut events = Vec::new();
        for piece in [stream.slice(..cut), stream.slice(cut..)] {
            second.feed(piece);
            while let Some(event) = second.next().unwrap() {
                events.push(event);
            }
        }
        assert_eq!(events, whole, "cut at {cut}");
    }
}

#[test]
fn an_event_that_only_begins_like_another_is_read_by_itself() {
    let recent = RecentEvents::default();
    let splitter = || WatchSplitter::new(Json).beside(recent.clone());
    let (mut first, mut second) = (splitter(), splitter());
    let event = |name: &str, more: &str| {
        Bytes::from(format!(
            "{{\"type\":\"ADDED\",\"object\":{{\"metadata\":{{\"name\":\"{name}\"}}}}{more}}}\n"
        ))
    };
    first.feed(event("a", ""));
    assert_eq!(first.next().unwrap().unwrap().meta.name, "a");
    for (told, name) in [(event("b", ""), "b"), (event("a", ",\"x\":1"), "a")] {
        second.feed(told.clone());
        let read = second.next().unwrap().unwrap();
        assert_eq!((read.meta.name.as_str(), &read.frame), (name, &told));
    }
}

#[test]
fn a_cut_off_event_is_partial() {
    for (encoding, stream) in [
        (Json, recorded!("gone.json")),
        (Protobuf, recorded!("gone.pb")),
    ] {
        let mut splitter = WatchSplitter::new(encoding);
        assert!(!splitter.is_partial());
        splitter.feed(stream.slice(..stream.len() - 2));
        assert_eq!(splitter.next(), Ok(None));
        assert!(splitter.is_partial());
    }
}

#[test]
fn a_stream_that_lost_its_framing_stays_lost() {
    for (encoding, bad) in [
        (Json, &b"nonsense"[..]),
        (Json, b"[]"),
        (Json, b"{}\n"),
        (Json, b"{\"type\":\"ADDED\"}\n"),
        (Json, b"{\"type\":\"RENAMED\",\"object\":{}}\n"),
        (Json, b"{\"type\":\"ADDED\",\"object\":[]}\n"),
        (Protobuf, b"\0\0\0\0"),
        (Protobuf, b"\0\0\0\x02\x0a\x09"),
    ] {
        let mut splitter = WatchSplitter::new(encoding);
        splitter.feed(Bytes::from_static(bad));
        let first = splitter.next();
        assert!(matches!(first, Err(WireError::Malformed(_))), "{bad:?}");
        splitter.feed(recorded!("watch.json"));
        assert_eq!(splitter.next(), first);
    }
}

#[test]
fn an_endless_event_is_given_up() {
    let too_large = Err(WireError::TooLarge("watch event", MAX_EVENT_BYTES));
    let mut splitter = WatchSplitter::new(Protobuf);
    splitter.feed(Bytes::from_static(&[0xff; 4]));
    assert_eq!(splitter.next(), too_large);

    let mut splitter = WatchSplitter::new(Json);
    splitter.feed(Bytes::from_static(b"{\"type\":\""));
    let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
    let mut ends = (0..9).map(|_| {
        splitter.feed(megabyte.clone());
        splitter.next()
    });
    assert!(ends.any(|end| end == too_large));
}

// --- lists ---

#[test]
fn a_recorded_list_is_taken_apart() {
    for (encoding, text) in [
        (Json, recorded!("list.json")),
        (Json, recorded!("list-pretty.json")),
        (Protobuf, recorded!("list.pb")),
    ] {
        let (head, items) = list(encoding, &[&text]).unwrap();
        assert_eq!(
            (&*head.api_version, &*head.kind, head.resource_version),
            ("v1", "ConfigMapList", 209)
        );
        assert_eq!((&*head.continue_token, head.remaining), ("", None));
        assert_eq!(head.item_kind(), "ConfigMap");
        let names: Vec<_> = items.iter().map(|i| &*i.meta.name).collect();
        assert_eq!(names, ["one", "two"]);
        assert_eq!(items[0].meta.labels.len(), 2);
        assert_eq!(items[1].meta.resource_version, 208);
    }
}

#[test]
fn a_list_cut_anywhere_gives_the_same_items() {
    for (encoding, text) in [
        (Json, recorded!("list.json")),
        (Json, recorded!("list-pretty.json")),
        (Json, recorded!("cr-list.json")),
        (Protobuf, recorded!("list.pb")),
        (Protobuf, recorded!("empty.pb")),
    ] {
        let whole = list(encoding, &[&text]).unwrap();
        for cut in 0..text.len() {
            let cut_up = list(encoding, &[&text[..cut], &text[cut..]]);
            assert_eq!(cut_up.as_ref(), Ok(&whole), "{encoding:?} cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(list(encoding, &bytes).unwrap(), whole);
    }
}

#[test]
fn a_list_that_ends_early_is_not_a_list() {
    for (encoding, text) in [
        (Json, recorded!("list.json")),
        (Json, recorded!("cr-list.json")),
        (Protobuf, recorded!("page.pb")),
    ] {
        let whole = text.len() - usize::from(encoding == Json);
        // The last two fields of an envelope are empty and nothing is lost without them.
        let last = if encoding == Json { whole } else { whole - 4 };
        for cut in 0..last {
            assert!(
                list(encoding, &[&text[..cut]]).is_err(),
                "{encoding:?} {cut}"
            );
        }
    }
}

#[test]
fn a_page_tells_where_the_next_one_starts() {
    for (encoding, text) in [
        (Json, recorded!("page.json")),
        (Protobuf, recorded!("page.pb")),
    ] {
        let (head, items) = list(encoding, &[&text]).unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(head.remaining, Some(1));
        assert!(head.continue_token.starts_with("eyJ2Ijoi"), "{encoding:?}");
    }
}

#[test]
fn items_of_custom_resources_may_come_before_the_metadata() {
    let (head, items) = list(Json, &[&recorded!("cr-list.json")]).unwrap();
    assert_eq!((&*head.kind, head.resource_version), ("WidgetList", 215));
    assert_eq!(&*items[0].meta.kind, "Widget");
    assert_eq!(&*items[0].meta.api_version, "test.dev/v1");
}

#[test]
fn what_is_not_one_list_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"kind":"Pod","metadata":{}}"#,
        r#"{"items":[]} {"items":[]}"#,
        r#"{"items":[],"items":[]}"#,
        r#"{"items":{}}"#,
        r#"{"items":[1]}"#,
        r#"{"items":[{}{}]}"#,
        r#"{"items":[{},]}"#,
        r#"{"items":[,{}]}"#,
        r#"{"items":[{"metadata":7}]}"#,
        r#"{"items" []}"#,
        r#"{"items":[]"kind":"PodList"}"#,
        r#"{"items":[],}"#,
        r#"{"kind":7,"items":[]}"#,
        r#"{"kind":,"items":[]}"#,
        r#"{7:"x","items":[]}"#,
    ] {
        assert!(list(Json, &[text.as_bytes()]).is_err(), "{text}");
    }
    assert!(list(Json, &[b"{\"items\":[{\"metadata\":{\"name\":\"\xff\"}}]}"]).is_err());
    assert!(
        list(Protobuf, &[&recorded!("one.pb")]).is_err(),
        "an object"
    );
    assert!(list(Protobuf, &[&recorded!("list.json")]).is_err());
    assert!(list(Json, &[&recorded!("list.pb")]).is_err());
}

#[test]
fn unknown_fields_of_a_list_are_stepped_over() {
    let text = r#" { "x" : [ {"items":[1]} , "}" ] , "items" : null , "y":-1.5e3, "metadata":null,"kind":null} "#;
    let (head, items) = list(Json, &[text.as_bytes()]).unwrap();
    assert_eq!((head, items.len()), (ListHead::default(), 0));
}

#[test]
fn an_item_may_not_reach_beyond_its_list() {
    let mut text = recorded!("page.pb").to_vec();
    // The item's length, two bytes of varint after the key at 0x6e.
    assert_eq!(text[0x6f..0x72], [0x12, 0x90, 0x02]);
    text[0x71] = 0x03;
    assert_eq!(list(Protobuf, &[&text]).err(), Some(LIST));
}

#[test]
fn an_endless_item_or_field_is_given_up() {
    let megabyte = vec![b'x'; 1 << 20];
    for (start, name) in [
        (&b"{\"items\":[{\"a\":\""[..], "item of a list"),
        (b"{\"kind\":\"", "field of a list"),
        (b"{\"", "field of a list"),
    ] {
        let mut splitter = ListSplitter::new(Json);
        splitter.feed(start, &mut |_| {}).unwrap();
        let mut ends = (0..9).map(|_| splitter.feed(&megabyte, &mut |_| {}));
        assert!(
            ends.any(|end| matches!(end, Err(WireError::TooLarge(n, _)) if n == name)),
            "{name}"
        );
    }
    let mut text = protobuf::envelope_head("v1", "PodList", usize::MAX >> 1);
    text.extend_from_slice(&[0x12, 0xff, 0xff, 0xff, 0x7f]);
    let end = list(Protobuf, &[&text]).err();
    assert_eq!(
        end,
        Some(WireError::TooLarge("item of a list", MAX_OBJECT_BYTES))
    );
}

// --- written as the API server writes ---

#[test]
fn a_list_is_written_with_the_bytes_of_the_api_server() {
    for (encoding, text) in [
        (Json, recorded!("list.json")),
        (Json, recorded!("page.json")),
        (Json, recorded!("empty.json")),
        (Protobuf, recorded!("list.pb")),
        (Protobuf, recorded!("page.pb")),
        (Protobuf, recorded!("empty.pb")),
    ] {
        let (head, items) = list(encoding, &[&text]).unwrap();
        assert_eq!(body(encoding, &head, &items), text, "{encoding:?}");
    }
}

#[test]
fn an_item_becomes_the_object_and_back() {
    let (head, items) = list(Json, &[&recorded!("list.json")]).unwrap();
    // A single object ends with a line feed, an item does not.
    let one = recorded!("one.json").slice(..recorded!("one.json").len() - 1);
    let object = with_type_meta(&items[0].bytes, &head.api_version, head.item_kind());
    assert_eq!(object, one);
    assert_eq!(with_type_meta(&object, "v1", "ConfigMap"), object);
    assert_eq!(without_type_meta(&object), items[0].bytes);
    assert_eq!(without_type_meta(&items[0].bytes), items[0].bytes);

    let (head, items) = list(Protobuf, &[&recorded!("list.pb")]).unwrap();
    let object = envelope(&head.api_version, head.item_kind(), &items[0].bytes);
    assert_eq!(object, recorded!("one.pb"));
    let opened = open_envelope(&object).unwrap();
    assert_eq!((&*opened.api_version, &*opened.kind), ("v1", "ConfigMap"));
    assert_eq!(opened.raw, items[0].bytes);
}

#[test]
fn a_custom_resource_keeps_its_own_form() {
    let (_, items) = list(Json, &[&recorded!("cr-list.json")]).unwrap();
    assert_eq!(with_type_meta(&items[0].bytes, "x/v1", "Y"), items[0].bytes);
    assert_eq!(without_type_meta(&items[0].bytes), items[0].bytes);
    assert_eq!(
        recorded!("cr-one.json"),
        [&items[0].bytes[..], b"\n"].concat()
    );
}

#[test]
fn type_meta_goes_into_any_object_that_lacks_it() {
    for (item, object) in [
        ("{}", r#"{"kind":"K","apiVersion":"v1"}"#),
        ("{ }", r#"{"kind":"K","apiVersion":"v1" }"#),
        (r#"{"a":1}"#, r#"{"kind":"K","apiVersion":"v1","a":1}"#),
        (
            "{\n \"a\": 1\n}",
            "{\"kind\":\"K\",\"apiVersion\":\"v1\",\n \"a\": 1\n}",
        ),
        (r#"{"a":1,"kind":"K"}"#, r#"{"a":1,"kind":"K"}"#),
        ("", ""),
    ] {
        let written = with_type_meta(&Bytes::copy_from_slice(item.as_bytes()), "v1", "K");
        assert_eq!(written, object, "{item}");
    }
    let bare = without_type_meta(&Bytes::from_static(br#"{"kind":"K","apiVersion":"v1"}"#));
    assert_eq!(bare, "{}");
}

#[test]
fn events_are_written_with_the_bytes_of_the_api_server() {
    for (encoding, stream) in [
        (Json, recorded!("watch.json")),
        (Protobuf, recorded!("watch.pb")),
        (Json, recorded!("cr-watch.json")),
    ] {
        for event in events(encoding, &[&stream]).unwrap() {
            assert_eq!(
                watch_event(encoding, event.kind, &event.object),
                event.frame
            );
        }
    }
    for (encoding, stream) in [
        (Json, recorded!("gone.json")),
        (Protobuf, recorded!("gone.pb")),
    ] {
        let text = "too old resource version: 206 (222)";
        assert_eq!(error_event(encoding, 410, "Expired", text), stream);
    }
    for (encoding, stream, is_end) in [
        (Json, recorded!("watch.json"), false),
        (Protobuf, recorded!("watch.pb"), false),
        (Json, recorded!("initial.json"), true),
        (Protobuf, recorded!("initial.pb"), true),
    ] {
        let recorded = events(encoding, &[&stream]).unwrap().pop().unwrap();
        let written = bookmark(encoding, "v1", "ConfigMap", 209, is_end);
        assert_eq!(written, recorded.frame, "{encoding:?} {is_end}");
    }
}

// --- any bytes ---

#[test]
fn random_json_objects_survive_list_and_watch() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let objects: Vec<Bytes> = (0..random.usize(..4))
            .map(|_| random_object(&mut random).to_string().into())
            .collect();
        let head = ListHead {
            kind: "ThingList".into(),
            api_version: "x/v1".into(),
            resource_version: random.u64(1..),
            ..ListHead::default()
        };
        let sizes = objects.iter().map(Bytes::len);
        let text = list_body(Json, &head, sizes, objects.clone())
            .collect::<Vec<_>>()
            .concat();
        let (read_head, items) = list(Json, &pieces(&mut random, &text)).unwrap();
        assert_eq!(read_head, head);
        assert_eq!(
            items.into_iter().map(|i| i.bytes).collect::<Vec<_>>(),
            objects
        );

        let stream: Vec<u8> = objects
            .iter()
            .flat_map(|o| watch_event(Json, EventType::Modified, o))
            .collect();
        let events = events(Json, &pieces(&mut random, &stream)).unwrap();
        assert_eq!(
            events.into_iter().map(|e| e.object).collect::<Vec<_>>(),
            objects
        );
    }
}

fn random_object(random: &mut fastrand::Rng) -> serde_json::Value {
    let mut object = random_value(random, 4);
    if !object.is_object() {
        object = serde_json::json!({ "data": object });
    }
    object
}

fn random_value(random: &mut fastrand::Rng, depth: u8) -> serde_json::Value {
    let alphabet = [
        '"', '\\', '{', '}', '[', ']', ',', ':', '\n', 'é', '\u{0}', 'a',
    ];
    let text = |random: &mut fastrand::Rng| -> String {
        (0..random.usize(..6))
            .map(|_| *random.choice(&alphabet).unwrap_or(&'a'))
            .collect()
    };
    match random.u8(..if depth == 0 { 4 } else { 6 }) {
        0 => serde_json::Value::Null,
        1 => random.bool().into(),
        2 => random.i64(..).into(),
        3 => text(random).into(),
        4 => (0..random.usize(..4))
            .map(|_| random_value(random, depth - 1))
            .collect(),
        _ => (0..random.usize(..4))
            .map(|_| (text(random), random_value(random, depth - 1)))
            .collect(),
    }
}

fn pieces<'a>(random: &mut fastrand::Rng, mut text: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let (piece, rest) = text.split_at(random.usize(1..=text.len().min(40)));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

#[test]
fn spoilt_bytes_never_panic_and_the_cut_does_not_matter() {
    let mut random = fastrand::Rng::with_seed(11);
    for (encoding, text) in [
        (Json, recorded!("list.json")),
        (Json, recorded!("watch.json")),
        (Protobuf, recorded!("list.pb")),
        (Protobuf, recorded!("watch.pb")),
    ] {
        for _ in 0..2000 {
            let mut text = text.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..text.len());
                text[at] = random.u8(..);
            }
            let cut_up = list(encoding, &pieces(&mut random, &text));
            assert_eq!(cut_up.is_ok(), list(encoding, &[&text]).is_ok());
            let mut splitter = WatchSplitter::new(encoding);
            splitter.feed(text.clone().into());
            while let Ok(Some(_)) = splitter.next() {}
        }
    }
}

#[test]
fn what_is_no_watch_stream_is_given_back_whole() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let junk: &[u8] = match encoding {
            Encoding::Json => b"{\"type\": 7}\nand more",
            Encoding::Protobuf => b"\0\0\0\x03abcand more",
        };
        let mut splitter = WatchSplitter::new(encoding);
        let (first, second) = junk.split_at(5);
        splitter.feed(Bytes::copy_from_slice(first));
        assert_eq!(splitter.next(), Ok(None));
        splitter.feed(Bytes::copy_from_slice(second));
        assert!(splitter.next().is_err());
        let rest = splitter.into_rest();
        assert!(junk.windows(rest.len()).any(|part| part == rest) && rest.len() + 1 >= junk.len());
    }
}

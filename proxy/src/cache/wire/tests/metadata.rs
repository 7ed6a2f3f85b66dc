//! PartialObjectMetadata, in lists, streams and made from objects.

use super::*;

/// Recorded bodies in JSON end with a line feed, objects do not.
fn object(body: &Bytes) -> Bytes {
    body.slice(..body.len() - usize::from(body.ends_with(b"\n")))
}

/// Each object: whole in JSON and protobuf, its metadata in both.
fn recorded() -> [[Bytes; 4]; 2] {
    [
        [
            recorded!("rich.json"),
            recorded!("rich.pb"),
            recorded!("meta-rich.json"),
            recorded!("meta-rich.pb"),
        ],
        [
            recorded!("web.json"),
            recorded!("web.pb"),
            recorded!("meta-web.json"),
            recorded!("meta-web.pb"),
        ],
    ]
    .map(|bodies| bodies.each_ref().map(object))
}

#[test]
fn metadata_of_either_encoding_becomes_the_bytes_of_the_api_server_in_both() {
    for [json, protobuf, meta_json, meta_protobuf] in recorded() {
        for (from, object) in [(Json, &json), (Protobuf, &protobuf)] {
            assert_eq!(metadata_of(from, object, Json).unwrap(), meta_json);
            assert_eq!(metadata_of(from, object, Protobuf).unwrap(), meta_protobuf);
        }
    }
}

#[test]
fn metadata_of_metadata_is_itself() {
    for [_, _, meta_json, meta_protobuf] in recorded() {
        for (from, object) in [(Json, &meta_json), (Protobuf, &meta_protobuf)] {
            assert_eq!(metadata_of(from, object, Json).unwrap(), meta_json);
            assert_eq!(metadata_of(from, object, Protobuf).unwrap(), meta_protobuf);
        }
    }
}

#[test]
fn metadata_of_a_lists_item_is_that_of_the_object() {
    for (encoding, list_of) in [
        (Json, recorded!("list.json")),
        (Protobuf, recorded!("list.pb")),
    ] {
        let (head, items) = list(encoding, &[&list_of]).unwrap();
        for item in items {
            let whole = match encoding {
                Json => with_type_meta(&item.bytes, &head.api_version, head.item_kind()),
                Protobuf => envelope(&head.api_version, head.item_kind(), &item.bytes),
            };
            for to in [Json, Protobuf] {
                let of_item = metadata_of(encoding, &item.bytes, to).unwrap();
                assert_eq!(of_item, metadata_of(encoding, &whole, to).unwrap());
                let meta = read_meta(to, &of_item).unwrap();
                assert_eq!(
                    (&*meta.kind, meta.name),
                    (PARTIAL_OBJECT, item.meta.name.clone())
                );
                assert_eq!(
                    (meta.uid, meta.labels),
                    (item.meta.uid.clone(), item.meta.labels.clone())
                );
            }
        }
    }
}

#[test]
fn a_recorded_list_of_metadata_is_made_from_the_same_list_in_the_other_encoding() {
    for [json, protobuf] in [
        [recorded!("meta-list.json"), recorded!("meta-list.pb")],
        [recorded!("meta-page.json"), recorded!("meta-page.pb")],
        [recorded!("meta-empty.json"), recorded!("meta-empty.pb")],
    ] {
        for (from, bytes) in [(Json, &json), (Protobuf, &protobuf)] {
            let (head, items) = list(from, &[bytes]).unwrap();
            assert_eq!(&*head.kind, PARTIAL_OBJECT_LIST);
            assert_eq!(body(from, &head, &items), *bytes, "as it came");
            for (to, written) in [(Json, &json), (Protobuf, &protobuf)] {
                let mut made = items.clone();
                for item in &mut made {
                    item.bytes = metadata_item(from, &item.bytes, to).unwrap();
                }
                assert_eq!(
                    body(to, &metadata_head(&head), &made),
                    *written,
                    "{from:?} {to:?}"
                );
            }
        }
    }
}

#[test]
fn a_recorded_stream_of_metadata_is_made_from_the_other_encoding() {
    for [json, protobuf] in [
        [recorded!("meta-watch.json"), recorded!("meta-watch.pb")],
        [recorded!("meta-initial.json"), recorded!("meta-initial.pb")],
    ] {
        let in_json = events(Json, &[&json]).unwrap();
        let in_protobuf = events(Protobuf, &[&protobuf]).unwrap();
        assert_eq!(in_json.len(), in_protobuf.len());
        for (json, protobuf) in in_json.iter().zip(&in_protobuf) {
            assert_eq!(json.meta, protobuf.meta);
            for (to, event) in [(Json, json), (Protobuf, protobuf)] {
                for (from, source) in [(Json, json), (Protobuf, protobuf)] {
                    let object = metadata_of(from, &source.object, to).unwrap();
                    assert_eq!(watch_event(to, event.kind, &object), event.frame);
                }
                if event.kind == EventType::Bookmark {
                    let (rv, end) = (event.meta.resource_version, event.meta.initial_events_end);
                    let written = bookmark(to, META_VERSION, PARTIAL_OBJECT, rv, end);
                    assert_eq!(written, event.frame);
                }
            }
        }
        let last = in_json.last().unwrap();
        assert_eq!((last.kind, &*last.meta.name), (EventType::Bookmark, ""));
    }
}

#[test]
fn fields_that_are_not_known_stay_within_their_encoding() {
    let item = Bytes::from_static(br#"{"metadata":{"name":"x", "new":[1]},"spec":{}}"#);
    assert_eq!(
        metadata_of(Json, &item, Json).unwrap(),
        r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x", "new":[1]}}"#
    );
    let there_and_back = metadata_of(Json, &item, Protobuf)
        .and_then(|object| metadata_of(Protobuf, &object, Json))
        .unwrap();
    assert_eq!(
        there_and_back,
        r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"x"}}"#
    );
}

#[test]
fn null_and_empty_fields_are_left_out_as_go_does() {
    let item = Bytes::from_static(
        br#"{"metadata":{"name":null,"generation":0,"creationTimestamp":null,"deletionTimestamp":null,"labels":null,"annotations":{},"ownerReferences":null,"finalizers":[],"managedFields":[{"time":null,"fieldsV1":null}]}}"#,
    );
    let protobuf = metadata_of(Json, &item, Protobuf).unwrap();
    assert_eq!(
        metadata_of(Protobuf, &protobuf, Json).unwrap(),
        r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"managedFields":[{}]}}"#
    );
}

#[test]
fn what_has_no_metadata_or_two_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        r#"{"metadata":null}"#,
        r#"{"metadata":7}"#,
        r#"{"metadata":{},"metadata":{}}"#,
        r#"{"metadata":{}"#,
    ] {
        for to in [Json, Protobuf] {
            assert!(metadata_of(Json, &Bytes::from(text), to).is_err(), "{text}");
        }
    }
    for text in [
        &b""[..],
        b"\x12\0",
        b"\x0a\0\x0a\0",
        b"\x0a\x02",
        b"k8s\0",
        b"k8s\0\x0a\0",
    ] {
        for to in [Json, Protobuf] {
            let object = Bytes::copy_from_slice(text);
            assert!(metadata_of(Protobuf, &object, to).is_err(), "{text:?}");
        }
    }
    // Times and fields that JSON has no word for.
    for text in [
        &b"\x0a\x0d\x42\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10"[..],
        b"\x0a\x07\x8a\x01\x04\x3a\x02\x0a\0",
        b"\x0a\x03\x0a\x01\xff",
    ] {
        let object = Bytes::copy_from_slice(text);
        assert!(metadata_of(Protobuf, &object, Json).is_err(), "{text:?}");
    }
}

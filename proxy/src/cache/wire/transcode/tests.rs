use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use super::table::Message;
use super::*;
use crate::cache::wire::protobuf::{envelope, put_field};
use crate::cache::wire::{Envelope, open_envelope};
use crate::request_info::accept::Encoding;

/// Random objects of every kind in both encodings, written by the API server's own code (`tests/vectors/schema`).
const OBJECTS: &str = include_str!("../testdata/objects.tsv");

fn opened(object: impl Into<Bytes>) -> Envelope {
    open_envelope(&object.into()).expect("an envelope")
}

fn told(object: &Envelope) -> Result<Bytes, Untold> {
    let (api_version, kind) = (&object.api_version, &object.kind);
    let told = json_of_protobuf(api_version, kind, &object.raw);
    assert_eq!(
        has_json(api_version, kind, &object.raw),
        told.is_ok(),
        "{api_version} {kind}"
    );
    told
}

fn objects() -> impl Iterator<Item = (Envelope, &'static str)> {
    OBJECTS.lines().map(|line| {
        let (protobuf, json) = line.split_once('\t').expect("two columns");
        let protobuf = STANDARD.decode(protobuf).expect("base64");
        (opened(protobuf), json)
    })
}

#[test]
fn random_objects_of_every_kind_have_the_bytes_of_the_api_server() {
    let mut kinds = std::collections::HashSet::new();
    let mut with_claims = 0;
    for (object, json) in objects() {
        match told(&object) {
            Ok(told) => assert!(told == json, "{} {}", object.api_version, object.kind),
            Err(error) => {
                assert_eq!((error, json.contains(":null")), (Untold::EmptyOrNone, true));
                continue;
            }
        }
        with_claims += usize::from(object.kind == "StatefulSet" && json.contains(CLAIM));
        kinds.insert((object.api_version, object.kind));
    }
    assert!(with_claims > 0);
    let table = table::Table::parse(include_str!("kubernetes.tsv")).expect("a table");
    let mut untold = table
        .kinds
        .keys()
        .filter(|(version, kind)| !kinds.contains(&((*version).to_owned(), (*kind).to_owned())));
    assert_eq!(untold.next(), None);
}

const CLAIM: &str = r#":[{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"#;

#[test]
fn recorded_objects_have_the_bytes_of_the_api_server() {
    for (protobuf, json) in [
        (
            &include_bytes!("../testdata/one.pb")[..],
            &include_bytes!("../testdata/one.json")[..],
        ),
        (
            include_bytes!("../testdata/rich.pb"),
            include_bytes!("../testdata/rich.json"),
        ),
        (
            include_bytes!("../testdata/web.pb"),
            include_bytes!("../testdata/web.json"),
        ),
    ] {
        let object = opened(protobuf);
        let json = json.trim_ascii_end();
        assert_eq!(told(&object).as_deref(), Ok(json));
        let item = json_item_of_protobuf(&object.api_version, &object.kind, &object.raw);
        let bare = crate::cache::wire::without_type_meta(&Bytes::copy_from_slice(json));
        assert_eq!(item, Ok(bare));
    }
}

/// With another Kubernetes in tests/go/cluster, the table and the objects are to be written again: the commands are in
/// tests/vectors/schema/main.go, and what differs is to be read.
#[test]
fn the_table_is_of_the_kubernetes_that_the_tests_run() {
    let pinned = include_str!("../../../../../tests/go/cluster/go.mod");
    let version = pinned
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .expect("a version");
    let (minor, _) = version.rsplit_once('.').expect("major.minor.patch");
    let head = format!("# The kinds of Kubernetes {minor}:");
    assert!(include_str!("kubernetes.tsv").starts_with(&head), "{minor}");
}

fn config_map(fields: &[(u8, &[u8])]) -> Envelope {
    let mut raw = BytesMut::new();
    for (number, value) in fields {
        put_field(&mut raw, *number, value);
    }
    opened(envelope("v1", "ConfigMap", &raw))
}

fn entry(key: &[u8], value: &[u8]) -> BytesMut {
    let mut entry = BytesMut::new();
    put_field(&mut entry, 1, key);
    put_field(&mut entry, 2, value);
    entry
}

#[test]
fn what_the_api_server_would_not_have_written_is_untold() {
    let whole = opened(&include_bytes!("../testdata/one.pb")[..]);
    let metadata =
        crate::cache::wire::metadata_item(Encoding::Protobuf, &whole.raw, Encoding::Protobuf);
    let metadata = metadata.expect("metadata").slice(3..);
    let metadata = &metadata[..];
    let (a, b) = (entry(b"a", b"1"), entry(b"b", b"2"));
    let bad = entry(b"a", b"\xff");
    let is_told = |fields: &[(u8, &[u8])]| told(&config_map(fields)).err();
    assert_eq!(is_told(&[(1, metadata), (2, &a), (2, &b)]), None);
    for (fields, error) in [
        (&[(1, metadata), (9, b"new")][..], Untold::UnknownField),
        // A ConfigMap without metadata: of an API server that has none.
        (&[(2, &a)], Untold::UnknownField),
        (&[(1, metadata), (1, metadata)], Untold::Unlike),
        (&[(2, &a), (1, metadata)], Untold::Unlike),
        (&[(1, metadata), (2, &b), (2, &a)], Untold::Unlike),
        (&[(1, metadata), (2, &a), (2, &a)], Untold::Unlike),
        (&[(1, metadata), (2, &bad)], Untold::Unlike),
        (&[(1, metadata), (2, b"\x0a")], Untold::Unlike),
        (&[(1, metadata), (4, b"true")], Untold::Unlike),
    ] {
        assert_eq!(is_told(fields), Some(error), "{fields:?}");
    }
    for (api_version, kind) in [("v2", "ConfigMap"), ("test.dev/v1", "Widget"), ("", "")] {
        let object = Envelope {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            raw: whole.raw.clone(),
        };
        assert_eq!(told(&object), Err(Untold::UnknownKind), "{kind}");
    }
}

#[test]
fn an_extension_that_is_not_json_is_untold() {
    let (object, json) = objects()
        .find(|(object, json)| object.kind == "ControllerRevision" && json.contains(r#""data":{"#))
        .expect("a ControllerRevision with data");
    assert_eq!(told(&object).as_deref(), Ok(json.as_bytes()));
    let at = memchr::memmem::rfind(&object.raw, b"{\"").expect("its data");
    let mut raw = object.raw.to_vec();
    raw[at] = 0xd9;
    let spoilt = Envelope {
        raw: raw.into(),
        ..object
    };
    assert_eq!(told(&spoilt), Err(Untold::Unlike));
}

#[test]
fn what_is_nested_too_deep_or_grows_too_large_is_given_up() {
    let has_field =
        |of: &Message, name| of.fields.iter().find(|field| field.name == name).is_some();
    let mut messages = (0..).map_while(Message::at);
    let schema = messages.find(|of| has_field(of, "not")).expect("schemas");
    let nested = |messages: usize| {
        let mut message = Vec::new();
        for _ in 1..messages {
            let mut outer = Vec::new();
            prost::encoding::bytes::encode(28, &message, &mut outer);
            message = outer;
        }
        let mut writer = Writer::new(Vec::new(), true);
        writer.object(schema, &message, None).map(|()| writer.out)
    };
    assert_eq!(nested(2).as_deref(), Ok(&br#"{"not":{}}"#[..]));
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(Untold::TooLarge));

    let whole = opened(&include_bytes!("../testdata/one.pb")[..]);
    let grown = |len: usize| {
        let mut raw = BytesMut::from(&whole.raw[..]);
        put_field(&mut raw, 2, &entry(b"z", &vec![1; len]));
        told(&opened(envelope("v1", "ConfigMap", &raw)))
    };
    assert!(grown(MAX_OBJECT_BYTES / 7).is_ok());
    assert_eq!(grown(MAX_OBJECT_BYTES / 6), Err(Untold::TooLarge));
}

#[test]
fn spoilt_bytes_are_untold_or_json_and_never_a_panic() {
    let mut random = fastrand::Rng::with_seed(1);
    for (object, _) in objects() {
        for _ in 0..20 {
            let mut raw = object.raw.to_vec();
            raw.truncate(random.usize(..=raw.len()));
            for _ in 0..random.usize(..4) {
                if let Some(byte) = random.choice(&mut raw) {
                    *byte = random.u8(..);
                }
            }
            let spoilt = Envelope {
                raw: raw.into(),
                ..object.clone()
            };
            if let Ok(told) = told(&spoilt) {
                let json: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&told);
                assert!(json.is_ok(), "{told:?}");
            }
        }
    }
}

//! Against objects put together at random by the API server's own code, release 1.36.3, and what it compares their fields with.
//!
//! `testdata/fields.tsv` is written by `tests/vectors/fields`, which says how; a file of any length may take its place for a run.
#![expect(clippy::unwrap_used, reason = "a test that unwraps a None has failed")]

use std::collections::{BTreeMap, BTreeSet};

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::*;
use crate::request_info::selector::selectable_fields;
use Encoding::{Json, Protobuf};

/// Group, resource, the object in JSON, in protobuf (base64), its fields.
const OBJECTS: &str = include_str!("../testdata/fields.tsv");

/// What is in the table of this module.
const KINDS: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "secrets"),
    ("", "services"),
    ("", "replicationcontrollers"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("batch", "jobs"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("certificates.k8s.io", "podcertificaterequests"),
    ("resource.k8s.io", "resourceslices"),
];

fn columns(line: &'static str) -> [&'static str; 5] {
    line.split('\t').collect::<Vec<_>>().try_into().unwrap()
}

fn pod(json: &'static str) -> Result<Vec<(&'static str, String)>, WireError> {
    read_fields("", "pods", Json, &Bytes::from(json), true)
}

#[test]
fn a_key_is_one_step_of_the_way_whatever_is_in_it() {
    for json in [
        r#"{"spec.nodeName":"n"}"#,
        r#"{"spec.nodeName":{"x":"n"},"spec":{"":"n","node":"n","nodeName.x":"n"}}"#,
        r#"{"spe":{"nodeName":"n"},"":{"nodeName":"n"},"spec.":{"nodeName":"n"}}"#,
    ] {
        assert!(
            !pod(json)
                .unwrap()
                .iter()
                .any(|(name, _)| *name == "spec.nodeName"),
            "{json}"
        );
    }
    let node = pod(r#"{"spec":{"x":1,"nodeName":"n"}}"#).unwrap();
    assert!(node.contains(&("spec.nodeName", "n".to_owned())));
}

#[test]
fn both_encodings_tell_the_fields_that_the_api_server_compares() {
    let mut seen = BTreeSet::new();
    for [group, resource, json, message, expected] in OBJECTS.lines().map(columns) {
        let expected: BTreeMap<String, String> = serde_json::from_str(expected).unwrap();
        let enveloped = Bytes::from(BASE64_STANDARD.decode(message).unwrap());
        let raw = protobuf::open_envelope(&enveloped).unwrap().raw;
        for (encoding, object, bare) in [
            (Json, Bytes::from(json), true),
            (Protobuf, enveloped, false),
            (Protobuf, raw, true),
        ] {
            let fields = read_fields(group, resource, encoding, &object, bare).unwrap();
            assert_eq!(
                fields.len(),
                expected.len(),
                "{encoding:?} {fields:?} {json}"
            );
            for (name, value) in fields {
                assert_eq!(
                    Some(&value),
                    expected.get(name),
                    "{encoding:?} {name} {json}"
                );
            }
        }
        seen.extend(expected.into_keys().map(|name| (group, resource, name)));
    }
    let table = KINDS.iter().flat_map(|(group, resource)| {
        let fields = fields_of(group, resource).iter();
        fields.map(|field| (*group, *resource, field.name.to_owned()))
    });
    assert_eq!(seen, table.collect(), "each field was there to be read");
}

#[test]
fn every_field_that_a_resource_can_be_selected_by_is_read() {
    // Read with the metadata; another name of spec.nodeName; always empty.
    let others = [
        "metadata.name",
        "metadata.namespace",
        "spec.host",
        "status.podIPs",
    ];
    for (group, resource) in KINDS {
        let mut names: Vec<_> = fields_of(group, resource).iter().map(|f| f.name).collect();
        names.sort_unstable();
        let selectable = selectable_fields(group, resource).iter().copied();
        let selectable: Vec<_> = selectable.filter(|name| !others.contains(name)).collect();
        assert_eq!(names, selectable, "{group}/{resource}");
    }
}

#[test]
fn what_is_absent_or_null_has_the_value_it_stands_for() {
    let hostless = vec![("spec.hostNetwork", "false".to_owned())];
    for json in [
        "{}",
        r#"{"spec":null}"#,
        r#"{"spec":{"hostNetwork":null,"nodeName":null}}"#,
        r#"{"spec":{"nodeName":""},"status":{}}"#,
        r#"{"nodeName":"n","metadata":{"spec":{"nodeName":"n"}}}"#,
    ] {
        assert_eq!(pod(json), Ok(hostless.clone()), "{json}");
    }
}

#[test]
fn a_key_may_be_written_with_escapes() {
    let fields = pod(r#"{"sp\u0065c":{"nodeName":"\u006e"}}"#).unwrap();
    assert!(fields.contains(&("spec.nodeName", "n".to_owned())));
}

#[test]
fn a_message_in_two_parts_is_one_and_the_last_value_counts() {
    // spec{nodeName: a, hostNetwork: true}, spec{nodeName: b}
    let message = Bytes::from_static(b"\x12\x05\x52\x01a\x58\x01\x12\x03\x52\x01b");
    let fields = read_fields("", "pods", Protobuf, &message, true).unwrap();
    let expected = [("spec.nodeName", "b"), ("spec.hostNetwork", "true")];
    assert_eq!(
        fields,
        expected.map(|(name, value)| (name, value.to_owned()))
    );
}

#[test]
fn what_is_no_such_object_is_an_error() {
    for json in [
        "",
        "{",
        "[]",
        "{}{}",
        r#"{"spec":[]}"#,
        r#"{"spec":{"nodeName":1}}"#,
        r#"{"spec":{"hostNetwork":"true"}}"#,
    ] {
        assert!(pod(json).is_err(), "{json}");
    }
    for message in [
        &b"\x12"[..],
        b"\x12\x05\x52\x01a",
        // spec, nodeName, and a text that is none.
        b"\x10\x01",
        b"\x12\x02\x50\x01",
        b"\x12\x03\x52\x01\xff",
        b"\x00\x00",
    ] {
        let message = Bytes::from_static(message);
        let fields = read_fields("", "pods", Protobuf, &message, true);
        assert!(fields.is_err(), "{message:?} {fields:?}");
    }
    let bare = read_fields(
        "",
        "pods",
        Protobuf,
        &Bytes::from_static(b"\x12\x00"),
        false,
    );
    assert!(bare.is_err(), "an envelope is missing");
}

#[test]
fn an_object_without_such_fields_is_looked_through_all_the_same() {
    let read = |text: &'static [u8]| read_fields("apps", "deployments", Json, &text.into(), true);
    assert_eq!(read(b"{\"spec\":{}}"), Ok(Vec::new()));
    for text in [&b"{"[..], b"{\"spec\":{x}}", b"{\"spec\":\"\xff\"}"] {
        assert!(read(text).is_err());
    }
}

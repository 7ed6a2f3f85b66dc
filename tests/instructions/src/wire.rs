//! Lists, events and objects, in pieces as they come off a connection.

use std::hint::black_box;

use bytes::Bytes;
use holdfast::cache::wire::{EventType, ObjectMeta};
use holdfast::cache::wire::{
    ListHead, ListSplitter, WatchSplitter, json_of_protobuf, list_body, open_envelope, read_fields,
    read_meta, watch_event, without_type_meta,
};
use holdfast::request_info::accept::Encoding;
use holdfast::request_info::selector::{FieldSelector, LabelSelector};

use crate::request::{FIELDS, LABELS};

/// A Deployment as an API server wrote it, in both encodings; other objects; and pods with every field there is, behind two bytes
/// that are the fuzz target's own.
const WEB_JSON: &[u8] = include_bytes!("../../fuzz/corpus/metadata/web.json");
const WEB_PROTOBUF: &[u8] = include_bytes!("../../fuzz/corpus/transcode/web.pb");
const OTHERS: [&[u8]; 3] = [
    include_bytes!("../../fuzz/corpus/transcode/rich.pb"),
    include_bytes!("../../fuzz/corpus/transcode/statefulset.pb"),
    include_bytes!("../../fuzz/corpus/transcode/lease.pb"),
];
const POD_JSON: &[u8] = include_bytes!("../../fuzz/corpus/fields/pods.json");
const POD_PROTOBUF: &[u8] = include_bytes!("../../fuzz/corpus/fields/pods.pb");
const SEED_PREFIX: usize = 2;

/// Objects of a list, events of a stream.
const OBJECTS: usize = 100;
/// What one read of a connection brings: a TLS record.
const PIECE: usize = 16 * 1024;

pub(crate) fn list_json() -> Box<dyn FnMut()> {
    list(Encoding::Json)
}

pub(crate) fn list_protobuf() -> Box<dyn FnMut()> {
    list(Encoding::Protobuf)
}

pub(crate) fn list_write() -> Box<dyn FnMut()> {
    Box::new(|| {
        black_box(written(Encoding::Json));
        black_box(written(Encoding::Protobuf));
    })
}

pub(crate) fn watch_json() -> Box<dyn FnMut()> {
    watch(Encoding::Json)
}

pub(crate) fn watch_protobuf() -> Box<dyn FnMut()> {
    watch(Encoding::Protobuf)
}

pub(crate) fn meta_json() -> Box<dyn FnMut()> {
    meta(Encoding::Json)
}

pub(crate) fn meta_protobuf() -> Box<dyn FnMut()> {
    meta(Encoding::Protobuf)
}

/// Protobuf to JSON.
pub(crate) fn transcode() -> Box<dyn FnMut()> {
    let objects = [WEB_PROTOBUF].into_iter().chain(OTHERS);
    let objects: Vec<_> = objects
        .map(|object| open_envelope(&Bytes::from_static(object)).expect("an envelope"))
        .collect();
    Box::new(move || {
        for object in &objects {
            let told = json_of_protobuf(&object.api_version, &object.kind, &object.raw);
            assert!(black_box(told).is_ok());
        }
    })
}

/// A label selector on an object's metadata, and a field selector on what is read of a pod, in both encodings.
pub(crate) fn matching() -> Box<dyn FnMut()> {
    let labels = LabelSelector::parse(LABELS).expect("a selector");
    let fields = FieldSelector::parse(FIELDS).expect("a selector");
    let meta = meta_of(Encoding::Json);
    let pods = [
        (Encoding::Json, POD_JSON),
        (Encoding::Protobuf, POD_PROTOBUF),
    ]
    .map(|(encoding, pod)| (encoding, Bytes::from_static(&pod[SEED_PREFIX..])));
    Box::new(move || {
        let label = |key: &str| {
            let mut labels = meta.labels.iter();
            labels.find_map(|(name, value)| (name == key).then_some(value.as_str()))
        };
        black_box(labels.matches(label));
        for (encoding, pod) in &pods {
            let read = read_fields("", "pods", *encoding, pod, true).expect("a pod");
            black_box(fields.matches(|field| {
                let mut read = read.iter();
                read.find_map(|(name, value)| (*name == field).then_some(value.as_str()))
            }));
        }
    })
}

/// The object of the lists and streams, as a watch shows it.
fn object(encoding: Encoding) -> Bytes {
    Bytes::from_static(match encoding {
        Encoding::Json => WEB_JSON,
        Encoding::Protobuf => WEB_PROTOBUF,
    })
}

fn meta_of(encoding: Encoding) -> ObjectMeta {
    read_meta(encoding, &object(encoding)).expect("an object")
}

fn written(encoding: Encoding) -> Bytes {
    let head = ListHead {
        api_version: "apps/v1".to_owned(),
        kind: "DeploymentList".to_owned(),
        resource_version: 12_345,
        ..ListHead::default()
    };
    let item = match encoding {
        Encoding::Json => without_type_meta(&object(encoding)),
        Encoding::Protobuf => open_envelope(&object(encoding)).expect("an envelope").raw,
    };
    let items = vec![item; OBJECTS];
    let body = list_body(encoding, &head, items.clone().iter().map(Bytes::len), items);
    body.collect::<Vec<_>>().concat().into()
}

fn list(encoding: Encoding) -> Box<dyn FnMut()> {
    let list = written(encoding);
    Box::new(move || {
        let mut splitter = ListSplitter::new(encoding);
        let mut items = 0;
        for piece in list.chunks(PIECE) {
            let mut each = |item| {
                black_box(item);
                items += 1;
            };
            splitter.feed(piece, &mut each).expect("a list");
        }
        splitter.finish().expect("a whole list");
        assert_eq!(items, OBJECTS);
    })
}

fn watch(encoding: Encoding) -> Box<dyn FnMut()> {
    let event = watch_event(encoding, EventType::Modified, &object(encoding));
    let stream = Bytes::from(event.repeat(OBJECTS));
    Box::new(move || {
        let mut splitter = WatchSplitter::new(encoding);
        let mut events = 0;
        for start in (0..stream.len()).step_by(PIECE) {
            splitter.feed(stream.slice(start..stream.len().min(start + PIECE)));
            while let Some(event) = splitter.next().expect("events") {
                black_box(event);
                events += 1;
            }
        }
        assert_eq!(events, OBJECTS);
    })
}

fn meta(encoding: Encoding) -> Box<dyn FnMut()> {
    let object = object(encoding);
    Box::new(move || {
        assert!(black_box(read_meta(encoding, black_box(&object))).is_ok());
    })
}

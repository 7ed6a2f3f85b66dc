//! Objects in protobuf: the envelope, the metadata, one watch event.
//!
//! Field numbers: `apimachinery:pkg/runtime/generated.proto` and `apimachinery:pkg/apis/meta/v1/generated.proto`.
//! Only the fields that are read are named; prost skips the others without a copy.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{EventType, INITIAL_EVENTS_END, ListHead, ObjectMeta, WatchEvent, WireError, decimal};

/// What every enveloped message starts with.
pub(super) const MAGIC: &[u8; 4] = b"k8s\0";
/// The length before each event of a stream.
pub(super) const FRAME_PREFIX: usize = 4;

const OBJECT: WireError = WireError::Malformed("protobuf object");
const EVENT: WireError = WireError::Malformed("protobuf watch event");

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeMeta {
    #[prost(string, tag = "1")]
    pub(super) api_version: String,
    #[prost(string, tag = "2")]
    pub(super) kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Object {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "5")]
    uid: String,
    #[prost(string, tag = "6")]
    resource_version: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    /// Slices, not strings: annotations are the bulk of many objects, and one of them is read.
    #[prost(message, repeated, tag = "12")]
    annotations: Vec<Annotation>,
}

#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "6")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "2")]
    object: Option<RawExtension>,
}

#[derive(Clone, PartialEq, Message)]
struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct ListMeta {
    #[prost(string, tag = "2")]
    resource_version: String,
    #[prost(string, tag = "3")]
    continue_token: String,
    #[prost(int64, optional, tag = "4")]
    remaining: Option<i64>,
}

/// What an envelope holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub api_version: String,
    pub kind: String,
    /// The message of that kind; a slice of the envelope.
    pub raw: Bytes,
}

/// Opens `k8s\0` + `runtime.Unknown`.
pub fn open_envelope(object: &Bytes) -> Result<Envelope, WireError> {
    if !object.starts_with(MAGIC) {
        return Err(OBJECT);
    }
    let unknown = Unknown::decode(object.slice(MAGIC.len()..)).map_err(|_| OBJECT)?;
    let type_meta = unknown.type_meta.ok_or(OBJECT)?;
    Ok(Envelope {
        api_version: type_meta.api_version,
        kind: type_meta.kind,
        raw: unknown.raw,
    })
}

/// The message `raw` in an envelope, with the bytes that the API server writes (its empty fields included).
pub fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Bytes {
    let mut head = envelope_head(api_version, kind, raw.len());
    head.reserve(raw.len() + ENVELOPE_TAIL.len());
    head.put_slice(raw);
    head.put_slice(ENVELOPE_TAIL);
    head.freeze()
}

/// `contentEncoding` and `contentType`, both empty and both written.
pub(super) const ENVELOPE_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// An envelope up to the first byte of its `raw`, which must have that length.
pub(super) fn envelope_head(api_version: &str, kind: &str, raw_len: usize) -> BytesMut {
    let mut type_meta = BytesMut::new();
    put_field(&mut type_meta, 1, api_version.as_bytes());
    put_field(&mut type_meta, 2, kind.as_bytes());
    let mut head = BytesMut::with_capacity(type_meta.len() + 24);
    head.put_slice(MAGIC);
    put_field(&mut head, 1, &type_meta);
    put_length(&mut head, 2, raw_len);
    head
}

/// A length-delimited field, written even when it is empty, as gogo-protobuf does for `required` Go fields.
pub(super) fn put_field(out: &mut BytesMut, number: u8, value: &[u8]) {
    put_length(out, number, value.len());
    out.put_slice(value);
}

/// Key and length of a length-delimited field below number 16.
pub(super) fn put_length(out: &mut BytesMut, number: u8, len: usize) {
    out.put_u8((number << 3) | 2);
    encode_varint(len as u64, out);
}

/// Bytes that [`put_field`] writes for a value of this length.
pub(super) fn field_len(value_len: usize) -> usize {
    1 + encoded_len_varint(value_len as u64) + value_len
}

/// The metadata of an enveloped object.
pub(super) fn read_meta(object: &Bytes) -> Result<ObjectMeta, WireError> {
    let envelope = open_envelope(object)?;
    let mut meta = if envelope.kind == "Status" {
        let status = Status::decode(envelope.raw).map_err(|_| OBJECT)?;
        ObjectMeta {
            status_code: u16::try_from(status.code).ok(),
            ..ObjectMeta::default()
        }
    } else {
        read_raw_meta(&envelope.raw)?
    };
    meta.api_version = envelope.api_version;
    meta.kind = envelope.kind;
    Ok(meta)
}

/// The metadata of an object without envelope, as in the items of a list; its TypeMeta stays empty.
pub fn read_raw_meta(raw: &Bytes) -> Result<ObjectMeta, WireError> {
    let metadata = Object::decode(raw.clone())
        .map_err(|_| OBJECT)?
        .metadata
        .unwrap_or_default();
    let initial_events_end = metadata
        .annotations
        .iter()
        .any(|a| a.key == INITIAL_EVENTS_END && a.value == "true");
    Ok(ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: decimal(&metadata.resource_version),
        labels: metadata.labels.into_iter().collect(),
        initial_events_end,
        ..ObjectMeta::default()
    })
}

/// Reads the event in `frame`, its length prefix included.
pub(super) fn read_event(frame: Bytes) -> Result<WatchEvent, WireError> {
    let event = Event::decode(frame.slice(FRAME_PREFIX..)).map_err(|_| EVENT)?;
    let kind = EventType::parse(&event.kind).ok_or(EVENT)?;
    let object = event.object.ok_or(EVENT)?.raw;
    Ok(WatchEvent {
        kind,
        meta: read_meta(&object)?.into(),
        object,
        frame,
    })
}

/// Takes a ListMeta into the head of its list.
pub(super) fn read_list_meta(metadata: &[u8], head: &mut ListHead) -> Result<(), WireError> {
    let meta = ListMeta::decode(metadata).map_err(|_| super::LIST)?;
    head.resource_version = decimal(&meta.resource_version);
    head.continue_token = meta.continue_token;
    head.remaining = meta.remaining.and_then(|count| u64::try_from(count).ok());
    Ok(())
}

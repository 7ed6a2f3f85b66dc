//! PartialObjectMetadata: an object's metadata in an object of its own, in either encoding.
//!
//! `apiserver:pkg/endpoints/handlers/response.go`, asPartialObjectMetadata.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::object_meta::ObjectMetaMessage;
use super::protobuf::{MAGIC, envelope, open_envelope, put_field};
use super::{ListHead, WireError};
use crate::request_info::accept::Encoding;

/// The version that the metadata kinds and Table have.
pub const META_VERSION: &str = "meta.k8s.io/v1";
/// The kind of an object's metadata alone.
pub const PARTIAL_OBJECT: &str = "PartialObjectMetadata";
/// The kind of a list of them.
pub const PARTIAL_OBJECT_LIST: &str = "PartialObjectMetadataList";

const OBJECT: WireError = WireError::Malformed("object with metadata");
const JSON_START: &[u8] =
    br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#;

/// The PartialObjectMetadata of an object, whole, as GET and WATCH show it.
///
/// `object` is whole or as a list shows it. Within one encoding its metadata is kept byte for byte, also what is not known here;
/// from one to the other it becomes what the API server writes, without the fields that Kubernetes 1.36 does not know.
pub fn metadata_of(from: Encoding, object: &Bytes, to: Encoding) -> Result<Bytes, WireError> {
    let item = metadata_item(from, object, to)?;
    Ok(match to {
        Encoding::Json => item,
        Encoding::Protobuf => envelope(META_VERSION, PARTIAL_OBJECT, &item),
    })
}

/// As [`metadata_of`], in the form a `PartialObjectMetadataList` shows it: with TypeMeta in JSON, without envelope in protobuf.
pub fn metadata_item(from: Encoding, object: &Bytes, to: Encoding) -> Result<Bytes, WireError> {
    let metadata = match from {
        Encoding::Json => json_metadata(object)?,
        Encoding::Protobuf => protobuf_metadata(object)?,
    };
    Ok(match (from, to) {
        (Encoding::Json, Encoding::Json) => json_item(&metadata),
        (Encoding::Json, Encoding::Protobuf) => {
            protobuf_item(&ObjectMetaMessage::of_json(&metadata)?.into_protobuf())
        }
        (Encoding::Protobuf, Encoding::Json) => {
            json_item(&ObjectMetaMessage::of_protobuf(metadata)?.into_json()?)
        }
        (Encoding::Protobuf, Encoding::Protobuf) => protobuf_item(&metadata),
    })
}

/// The head of the `PartialObjectMetadataList` that shows the same collection as a list with this head.
pub fn metadata_head(head: &ListHead) -> ListHead {
    ListHead {
        api_version: META_VERSION.to_owned(),
        kind: PARTIAL_OBJECT_LIST.to_owned(),
        columns: Bytes::new(),
        ..head.clone()
    }
}

fn json_item(metadata: &[u8]) -> Bytes {
    let mut item = BytesMut::with_capacity(JSON_START.len() + metadata.len() + 1);
    item.put_slice(JSON_START);
    item.put_slice(metadata);
    item.put_u8(b'}');
    item.freeze()
}

fn protobuf_item(metadata: &[u8]) -> Bytes {
    let mut item = BytesMut::with_capacity(metadata.len() + 6);
    put_field(&mut item, 1, metadata);
    item.freeze()
}

/// The JSON value of `metadata`; a slice of the object.
fn json_metadata(object: &Bytes) -> Result<Bytes, WireError> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let metadata = serde_json::from_slice::<Object<'_>>(object)
        .map_err(|_| OBJECT)?
        .metadata
        .get();
    if !metadata.starts_with('{') {
        return Err(OBJECT);
    }
    Ok(object.slice_ref(metadata.as_bytes()))
}

/// The message in field 1; a slice of the object. No message starts as an envelope does: its first byte would open a group.
fn protobuf_metadata(object: &Bytes) -> Result<Bytes, WireError> {
    #[derive(Clone, PartialEq, Message)]
    struct Object {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        metadata: Vec<Bytes>,
    }
    let raw = if object.starts_with(MAGIC) {
        open_envelope(object)?.raw
    } else {
        object.clone()
    };
    let object = Object::decode(raw).map_err(|_| OBJECT)?;
    // Two would have to be merged, and nobody writes two.
    let [metadata] = <[Bytes; 1]>::try_from(object.metadata).map_err(|_| OBJECT)?;
    Ok(metadata)
}

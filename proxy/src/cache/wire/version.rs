//! The resourceVersion inside an object, replaced: an object that is told as deleted carries the RV at which that was found out.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::WireError;
use super::protobuf::put_field;
use crate::request_info::accept::Encoding;

const OBJECT: WireError = WireError::Malformed("object with a resourceVersion");

/// Field numbers: `apimachinery:pkg/apis/meta/v1/generated.proto`.
const METADATA: u8 = 1;
const RESOURCE_VERSION: u8 = 6;

/// The same object, but for its `metadata.resourceVersion`. `object` is as a list shows it: a JSON value, or a protobuf
/// message without envelope.
pub fn with_resource_version(
    encoding: Encoding,
    object: &Bytes,
    resource_version: u64,
) -> Result<Bytes, WireError> {
    match encoding {
        Encoding::Json => {
            let parsed: Object<'_> = serde_json::from_slice(object).map_err(|_| OBJECT)?;
            Ok(json(object, &parsed, resource_version))
        }
        Encoding::Protobuf => protobuf(object, resource_version),
    }
}

/// As [`with_resource_version`], of a Table's row and the object in it.
pub fn row_with_resource_version(row: &Bytes, resource_version: u64) -> Result<Bytes, WireError> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        object: Object<'a>,
    }
    let parsed: Row<'_> = serde_json::from_slice(row).map_err(|_| OBJECT)?;
    Ok(json(row, &parsed.object, resource_version))
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    resource_version: &'a RawValue,
}

/// `object` was read from `text`.
fn json(text: &Bytes, object: &Object<'_>, resource_version: u64) -> Bytes {
    let value = object.metadata.resource_version.get();
    let old = text.slice_ref(value.as_bytes());
    let start = old.as_ptr() as usize - text.as_ptr() as usize;
    let mut changed = BytesMut::with_capacity(text.len() + 24);
    changed.put_slice(&text[..start]);
    changed.put_slice(format!("\"{resource_version}\"").as_bytes());
    changed.put_slice(&text[start + old.len()..]);
    changed.freeze()
}

fn protobuf(object: &Bytes, resource_version: u64) -> Result<Bytes, WireError> {
    let text = resource_version.to_string();
    replaced(object, &[METADATA, RESOURCE_VERSION], text.as_bytes())
}

/// The message with the string at this path of fields replaced. Each of them must be there, once.
fn replaced(message: &Bytes, path: &[u8], text: &[u8]) -> Result<Bytes, WireError> {
    let (number, inner) = path.split_first().ok_or(OBJECT)?;
    let mut out = BytesMut::with_capacity(message.len() + 24);
    let mut rest = message.clone();
    let mut is_done = false;
    while rest.has_remaining() {
        let before = rest.clone();
        let (key, wire_type) = decode_key(&mut rest).map_err(|_| OBJECT)?;
        if key != u32::from(*number) || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, key, &mut rest, DecodeContext::default()).map_err(|_| OBJECT)?;
            out.put_slice(&before[..before.len() - rest.len()]);
            continue;
        }
        let len = decode_varint(&mut rest).map_err(|_| OBJECT)?;
        let len = usize::try_from(len).map_err(|_| OBJECT)?;
        if len > rest.len() || is_done {
            return Err(OBJECT);
        }
        let value = rest.split_to(len);
        match inner {
            [] => put_field(&mut out, *number, text),
            inner => put_field(&mut out, *number, &replaced(&value, inner, text)?),
        }
        is_done = true;
    }
    is_done.then(|| out.freeze()).ok_or(OBJECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rv_of_the_object_itself_is_replaced() {
        for (object, expected) in [
            (
                r#"{"metadata":{"name":"a","resourceVersion":"7"},"resourceVersion":"7"}"#,
                Some(
                    r#"{"metadata":{"name":"a","resourceVersion":"12345"},"resourceVersion":"7"}"#,
                ),
            ),
            (
                r#"{ "metadata" : { "annotations":{"resourceVersion":"7"}, "resourceVersion" : "7" } }"#,
                Some(
                    r#"{ "metadata" : { "annotations":{"resourceVersion":"7"}, "resourceVersion" : "12345" } }"#,
                ),
            ),
            (r#"{"metadata":{"name":"a"}}"#, None),
            (
                r#"{"metadata":{"resourceVersion":"7"},"metadata":{}}"#,
                None,
            ),
            ("{}", None),
            ("[", None),
        ] {
            let changed = with_resource_version(Encoding::Json, &Bytes::from(object), 12345);
            assert_eq!(changed.ok(), expected.map(Bytes::from), "{object}");
        }
    }

    #[test]
    fn a_row_carries_the_rv_of_its_object() {
        let row = |rv: u64| -> Bytes {
            let object = format!(r#"{{"metadata":{{"name":"a","resourceVersion":"{rv}"}}}}"#);
            format!(r#"{{"cells":["a","7"],"object":{object}}}"#).into()
        };
        assert_eq!(row_with_resource_version(&row(7), 12345), Ok(row(12345)));
        assert!(row_with_resource_version(&Bytes::from_static(b"{}"), 1).is_err());
    }

    #[test]
    fn a_message_that_is_cut_or_has_no_rv_is_none() {
        let whole = Bytes::from_static(b"\x0a\x06\x0a\x01a\x32\x01\x37\x12\x00");
        let changed = with_resource_version(Encoding::Protobuf, &whole, 12);
        let expected = Bytes::from_static(b"\x0a\x07\x0a\x01a\x32\x0212\x12\x00");
        assert_eq!(changed, Ok(expected));
        for broken in [
            &b""[..],
            b"\x0a\x03\x0a\x01a",
            b"\x0a\x7f\x32\x01\x37",
            b"\x12",
        ] {
            let changed = with_resource_version(Encoding::Protobuf, &Bytes::from(broken), 12);
            assert!(changed.is_err(), "{broken:?}");
        }
    }
}

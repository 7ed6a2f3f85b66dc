//! Lists and events written as the API server writes them.

use std::iter::Fuse;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::encode_varint;

use super::json::quoted;
use super::metadata::PARTIAL_OBJECT_LIST;
use super::protobuf::{
    ENVELOPE_TAIL, FRAME_PREFIX, envelope, envelope_head, field_len, put_field, put_length,
};
use super::table::{bookmark_row, is_table, put_columns, table_of_one};
use super::{EventType, INITIAL_EVENTS_END, ListHead};
use crate::request_info::accept::Encoding;

/// A list's body, chunk by chunk: a big list is never one buffer.
///
/// `items` come in the form a list shows them (see [`ListItem::bytes`](super::ListItem)), `sizes` are their lengths in the same order: protobuf says the whole length first.
/// A head that is a Table's makes a Table of rows; it has JSON only.
pub fn list_body<I>(
    encoding: Encoding,
    head: &ListHead,
    sizes: impl Iterator<Item = usize>,
    items: I,
) -> ListBody<I::IntoIter>
where
    I: IntoIterator<Item = Bytes>,
{
    let (start, tail, items_len) = match encoding {
        Encoding::Json => {
            let (count, sum) = sizes.fold((0_usize, 0), |(n, sum), size| (n + 1, sum + size));
            let (start, tail) = json_list_ends(head, count == 0);
            (start, tail, sum + count.saturating_sub(1))
        }
        Encoding::Protobuf => {
            let items_len = sizes.map(field_len).sum();
            (
                protobuf_list_start(head, items_len),
                ENVELOPE_TAIL,
                items_len,
            )
        }
    };
    ListBody {
        encoding,
        content_length: (start.len() + items_len + tail.len()) as u64,
        start: Some(start),
        is_first: true,
        items: items.into_iter().fuse(),
        tail: Some(Bytes::from_static(tail)),
    }
}

/// See [`list_body`].
#[derive(Debug)]
pub struct ListBody<I> {
    encoding: Encoding,
    content_length: u64,
    start: Option<Bytes>,
    is_first: bool,
    items: Fuse<I>,
    tail: Option<Bytes>,
}

impl<I> ListBody<I> {
    /// Bytes of the whole body.
    pub fn content_length(&self) -> u64 {
        self.content_length
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for ListBody<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(start) = self.start.take() {
            return Some(start);
        }
        let Some(item) = self.items.next() else {
            return self.tail.take();
        };
        let is_first = std::mem::replace(&mut self.is_first, false);
        let mut chunk = BytesMut::with_capacity(field_len(item.len()));
        match self.encoding {
            Encoding::Json if is_first => return Some(item),
            Encoding::Json => {
                chunk.put_u8(b',');
                chunk.put_slice(&item);
            }
            Encoding::Protobuf => put_field(&mut chunk, 2, &item),
        }
        Some(chunk.freeze())
    }
}

/// What stands before and after the items.
fn json_list_ends(head: &ListHead, is_empty: bool) -> (Bytes, &'static [u8]) {
    let mut start = BytesMut::from(json_list_start(head).as_bytes());
    if head.is_table() {
        put_columns(&mut start, &head.columns);
        start.put_slice(br#","rows":["#);
    } else if is_empty && head.kind == PARTIAL_OBJECT_LIST {
        // Go's nil slice: nobody made it an empty one, as is done for all other lists.
        start.put_slice(br#","items":null"#);
        return (start.freeze(), b"}\n");
    } else {
        start.put_slice(br#","items":["#);
    }
    (start.freeze(), b"]}\n")
}

/// Up to the end of `metadata`.
fn json_list_start(head: &ListHead) -> String {
    let mut start = format!(
        r#"{{"kind":{},"apiVersion":{},"metadata":{{"resourceVersion":"{}""#,
        quoted(&head.kind),
        quoted(&head.api_version),
        head.resource_version
    );
    if !head.continue_token.is_empty() {
        start += &format!(r#","continue":{}"#, quoted(&head.continue_token));
    }
    if let Some(remaining) = head.remaining {
        start += &format!(r#","remainingItemCount":{remaining}"#);
    }
    start + "}"
}

/// Up to the first item, for items that take `items_len` bytes with their keys and lengths.
fn protobuf_list_start(head: &ListHead, items_len: usize) -> Bytes {
    let mut meta = BytesMut::new();
    put_field(&mut meta, 1, b"");
    put_field(&mut meta, 2, head.resource_version.to_string().as_bytes());
    put_field(&mut meta, 3, head.continue_token.as_bytes());
    if let Some(remaining) = head.remaining {
        meta.put_u8(4 << 3);
        encode_varint(remaining, &mut meta);
    }
    let raw_len = field_len(meta.len()) + items_len;
    let mut start = envelope_head(&head.api_version, &head.kind, raw_len);
    put_field(&mut start, 1, &meta);
    start.freeze()
}

/// One event, framed. `object` is a JSON value with TypeMeta, or an enveloped protobuf message.
pub fn watch_event(encoding: Encoding, kind: EventType, object: &[u8]) -> Bytes {
    match encoding {
        Encoding::Json => {
            let mut frame = BytesMut::with_capacity(object.len() + 40);
            frame.put_slice(b"{\"type\":\"");
            frame.put_slice(kind.as_str().as_bytes());
            frame.put_slice(b"\",\"object\":");
            frame.put_slice(object);
            frame.put_slice(b"}\n");
            frame.freeze()
        }
        Encoding::Protobuf => {
            let extension_len = field_len(object.len());
            let len = field_len(kind.as_str().len()) + field_len(extension_len);
            let mut frame = BytesMut::with_capacity(FRAME_PREFIX + len);
            // Objects are bounded far below 4 GiB, see MAX_OBJECT_BYTES.
            frame.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
            put_field(&mut frame, 1, kind.as_str().as_bytes());
            put_length(&mut frame, 2, extension_len);
            put_field(&mut frame, 1, object);
            frame.freeze()
        }
    }
}

/// An ERROR event holding a Status, framed for a stream of this encoding.
pub fn error_event(encoding: Encoding, code: u16, reason: &str, message: &str) -> Bytes {
    let status = match encoding {
        Encoding::Json => format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":{},"reason":{},"code":{code}}}"#,
            quoted(message),
            quoted(reason),
        )
        .into(),
        Encoding::Protobuf => {
            let mut raw = BytesMut::new();
            put_field(&mut raw, 1, &[0x0a, 0, 0x12, 0, 0x1a, 0]);
            put_field(&mut raw, 2, b"Failure");
            put_field(&mut raw, 3, message.as_bytes());
            put_field(&mut raw, 4, reason.as_bytes());
            raw.put_u8(6 << 3);
            encode_varint(u64::from(code), &mut raw);
            envelope("v1", "Status", &raw)
        }
    };
    watch_event(encoding, EventType::Error, &status)
}

/// A BOOKMARK event, framed. `initial_events_end`: with the annotation that ends a WatchList's initial events.
///
/// Its object has TypeMeta and metadata only, where the API server also writes the empty spec and status of some built-in kinds; no client reads them.
pub fn bookmark(
    encoding: Encoding,
    api_version: &str,
    kind: &str,
    resource_version: u64,
    initial_events_end: bool,
) -> Bytes {
    let object = match encoding {
        Encoding::Json if is_table(api_version, kind) => {
            let row = bookmark_row(0, resource_version, initial_events_end);
            table_of_one(resource_version, b"", &row)
        }
        Encoding::Json => {
            json_bookmark(api_version, kind, resource_version, initial_events_end).into()
        }
        Encoding::Protobuf => {
            let meta = bookmark_meta(resource_version, initial_events_end);
            let mut raw = BytesMut::new();
            put_field(&mut raw, 1, &meta);
            envelope(api_version, kind, &raw)
        }
    };
    watch_event(encoding, EventType::Bookmark, &object)
}

/// The object of a BOOKMARK.
pub(super) fn json_bookmark(
    api_version: &str,
    kind: &str,
    resource_version: u64,
    initial_events_end: bool,
) -> String {
    let end = if initial_events_end {
        r#","annotations":{"k8s.io/initial-events-end":"true"}"#
    } else {
        ""
    };
    format!(
        r#"{{"kind":{},"apiVersion":{},"metadata":{{"resourceVersion":"{resource_version}"{end}}}}}"#,
        quoted(kind),
        quoted(api_version),
    )
}

/// An ObjectMeta with the empty fields that the API server writes.
fn bookmark_meta(resource_version: u64, initial_events_end: bool) -> BytesMut {
    let mut meta = BytesMut::new();
    for empty in 1..=5 {
        put_field(&mut meta, empty, b"");
    }
    put_field(&mut meta, 6, resource_version.to_string().as_bytes());
    meta.put_slice(&[7 << 3, 0]);
    put_field(&mut meta, 8, b"");
    if initial_events_end {
        let mut annotation = BytesMut::new();
        put_field(&mut annotation, 1, INITIAL_EVENTS_END);
        put_field(&mut annotation, 2, b"true");
        put_field(&mut meta, 12, &annotation);
    }
    meta
}

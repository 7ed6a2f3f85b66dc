//! The bytes of lists, watch streams and objects, JSON and protobuf: split, read the metadata, write. Pure, no I/O; bytes in, value or "incomplete" out.

use bytes::Bytes;

use crate::request_info::accept::Encoding;

/// The `type` of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// One whole event of a watch stream.
#[derive(Clone, Debug)]
pub struct WatchEvent {
    /// The event as it came, framing included (the length prefix of protobuf; the JSON value and the white space before it).
    pub frame: Bytes,
    pub kind: EventType,
    /// The object inside `frame`: a JSON value, or an enveloped protobuf message.
    pub object: Bytes,
    pub meta: ObjectMeta,
}

/// The part of an object that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Empty in items of built-in lists.
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    /// 0: none, or not a decimal number.
    pub resource_version: u64,
    pub labels: Vec<(String, String)>,
    /// The annotation `k8s.io/initial-events-end` is "true".
    pub initial_events_end: bool,
    /// Of an ERROR event's Status: its `code`.
    pub status_code: Option<u16>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("not the {0} it was said to be")]
    Malformed(&'static str),
    #[error("one {0} is larger than {1} bytes")]
    TooLarge(&'static str, usize),
}

/// Splits a watch stream into whole events.
pub struct WatchSplitter {
    _encoding: Encoding,
}

impl WatchSplitter {
    pub fn new(encoding: Encoding) -> Self {
        Self {
            _encoding: encoding,
        }
    }

    /// Takes the next bytes in.
    pub fn feed(&mut self, chunk: Bytes) {
        let _ = chunk;
    }

    /// The next whole event, if its bytes are all here.
    #[expect(clippy::should_implement_trait, reason = "it is fallible and not an iterator: None means more bytes are needed")]
    pub fn next(&mut self) -> Result<Option<WatchEvent>, WireError> {
        Ok(None)
    }

    /// Bytes of an event that is not whole yet are waiting.
    pub fn is_partial(&self) -> bool {
        false
    }
}

/// An ERROR event holding a Status, framed for a stream of this encoding.
pub fn error_event(encoding: Encoding, code: u16, reason: &str, message: &str) -> Bytes {
    let _ = (encoding, code, reason, message);
    Bytes::new()
}

/// A BOOKMARK event, framed. `initial_events_end`: with the annotation that ends a WatchList's initial events.
pub fn bookmark(
    encoding: Encoding,
    api_version: &str,
    kind: &str,
    resource_version: u64,
    initial_events_end: bool,
) -> Bytes {
    let _ = (encoding, api_version, kind, resource_version, initial_events_end);
    Bytes::new()
}

//! The bytes of lists, watch streams and objects, JSON and protobuf, and of what else the API server makes of them (metadata alone, Tables, YAML):
//! split, read the metadata, write. Pure, no I/O; bytes in, value or "incomplete" out.

mod age;
mod columns;
mod fields;
mod go_json;
mod heartbeat;
mod json;
mod json_path;
mod list;
mod list_json;
mod list_protobuf;
mod members;
mod metadata;
mod object_meta;
mod protobuf;
mod recent;
mod row;
mod scan;
mod table;
mod terminating;
mod transcode;
mod version;
mod watch;
mod write;
mod yaml;
mod yaml_read;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::request_info::accept::Encoding;

pub use columns::{Columns, crd_columns, default_columns};
pub use fields::read_fields;
pub use heartbeat::without_heartbeat;
pub use json::{with_type_meta, without_type_meta};
pub use list::{ListHead, ListItem, ListSplitter};
pub use metadata::{
    META_VERSION, PARTIAL_OBJECT, PARTIAL_OBJECT_LIST, metadata_head, metadata_item, metadata_of,
};
pub use protobuf::{Envelope, envelope, open_envelope, read_raw_meta};
pub use recent::RecentEvents;
pub use row::{AgeColumns, row, row_with_object};
pub use table::{OneRow, TABLE_KIND, bookmark_row, open_table, read_row_meta, table_of_one};
pub use terminating::may_be_deleted;
pub use transcode::{Untold, has_json, json_item_of_protobuf, json_of_protobuf};
pub use version::{row_with_resource_version, with_resource_version};
pub use watch::WatchSplitter;
pub use write::{ListBody, bookmark, error_event, list_body, watch_event};
pub use yaml::{yaml_list_body, yaml_of};
pub use yaml_read::json_of;

/// The largest object of a list or stream that is taken in. etcd takes 1.5 MiB, stored as protobuf; the same object in JSON is rarely more than three times that.
pub const MAX_OBJECT_BYTES: usize = 8 << 20;
/// The largest event of a watch stream: an object and its frame.
pub const MAX_EVENT_BYTES: usize = MAX_OBJECT_BYTES + 1024;
/// The largest key or field of a list outside of its items. The longest is `metadata` with its continue token: a path of two names, at most 1 KiB before encoding.
pub const MAX_HEAD_BYTES: usize = 64 << 10;

const INITIAL_EVENTS_END: &[u8] = b"k8s.io/initial-events-end";
const LIST: WireError = WireError::Malformed("list");

/// The `type` of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
            Self::Error => "ERROR",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Added,
            Self::Modified,
            Self::Deleted,
            Self::Bookmark,
            Self::Error,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// One whole event of a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The event as it came, framing included: the length prefix of protobuf; the JSON value and the line feed after it.
    /// The frames of a stream, one after the other, are the stream.
    pub frame: Bytes,
    pub kind: EventType,
    /// The object inside `frame`: a JSON value by its brackets (see [`check_json`]), or an enveloped protobuf message. A Table's row and columns are for [`open_table`].
    pub object: Bytes,
    /// Of a Table: its TypeMeta, and if it has one row, as every event does, the metadata of that row's object.
    pub meta: Arc<ObjectMeta>,
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
    /// By key, each key once.
    pub labels: Vec<(String, String)>,
    /// The annotation `k8s.io/initial-events-end` is "true".
    pub initial_events_end: bool,
    /// Of an ERROR event's Status: its `code`.
    pub status_code: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("not the {0} it was said to be")]
    Malformed(&'static str),
    #[error("one {0} is larger than {1} bytes")]
    TooLarge(&'static str, usize),
    #[error("what its protobuf is in JSON is not known: {0}")]
    Untold(#[from] Untold),
}

/// The metadata of one object: a JSON value, which is not looked at any further (see [`check_json`]), or an enveloped protobuf message. Of a Table: its TypeMeta, and if it has one row, the metadata of that row's object.
pub fn read_meta(encoding: Encoding, object: &Bytes) -> Result<ObjectMeta, WireError> {
    match encoding {
        Encoding::Json => json::read_meta(object),
        Encoding::Protobuf => protobuf::read_meta(object),
    }
}

/// What is kept of an object in JSON is JSON to its last byte, and no other reader finds another name in it.
/// `bare`: it was read as one without TypeMeta.
pub fn check_json(object: &[u8], bare: bool) -> Result<(), WireError> {
    json::check(object, bare)
}

/// A resourceVersion as a number; 0 for what is none.
fn decimal(text: &str) -> u64 {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().unwrap_or(0)
    } else {
        0
    }
}

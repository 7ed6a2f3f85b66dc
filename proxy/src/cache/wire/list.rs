//! The body of a LIST, taken apart while it streams by.

use bytes::Bytes;

use super::list_json::JsonList;
use super::list_protobuf::ProtobufList;
use super::{ObjectMeta, WireError, table};
use crate::request_info::accept::Encoding;

/// What a list says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListHead {
    pub api_version: String,
    /// The list's kind, as `PodList`.
    pub kind: String,
    /// 0: none, or not a decimal number.
    pub resource_version: u64,
    /// Where the next page starts; empty on the last page.
    pub continue_token: String,
    /// `remainingItemCount`: objects after this page, when the API server says so.
    pub remaining: Option<u64>,
    /// Of a Table: its `columnDefinitions`, a JSON array as it was written; empty when there are none.
    pub columns: Bytes,
}

impl ListHead {
    /// The kind of the items of a built-in list: the list's own without `List`. (A custom resource's list may be called anything, but its items say their kind.)
    pub fn item_kind(&self) -> &str {
        self.kind.strip_suffix("List").unwrap_or(&self.kind)
    }

    /// It is a Table, whose items are rows.
    pub fn is_table(&self) -> bool {
        table::is_table(&self.api_version, &self.kind)
    }
}

/// One object of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// As in the list: JSON of a built-in kind without TypeMeta, protobuf without envelope; of a Table one row. Its own allocation. JSON by its
    /// brackets alone, unless it is a row: [`check_json`](super::check_json) is for what is to be kept.
    pub bytes: Bytes,
    /// Of a row: that of its `object`.
    pub meta: ObjectMeta,
}

/// Takes a LIST body apart, in pieces of any size. Holds at most one item or head field, bounded by [`MAX_OBJECT_BYTES`](super::MAX_OBJECT_BYTES) and [`MAX_HEAD_BYTES`](super::MAX_HEAD_BYTES).
#[derive(Debug)]
pub struct ListSplitter {
    list: List,
    failed: Option<WireError>,
}

#[derive(Debug)]
enum List {
    Json(JsonList),
    Protobuf(ProtobufList),
}

impl ListSplitter {
    pub fn new(encoding: Encoding) -> Self {
        let list = match encoding {
            Encoding::Json => List::Json(JsonList::new()),
            Encoding::Protobuf => List::Protobuf(ProtobufList::new()),
        };
        Self { list, failed: None }
    }

    /// Takes the next bytes in and hands out each item that they complete. An error is final.
    pub fn feed(&mut self, chunk: &[u8], each: &mut impl FnMut(ListItem)) -> Result<(), WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let fed = match &mut self.list {
            List::Json(list) => list.feed(chunk, each),
            List::Protobuf(list) => list.feed(chunk, each),
        };
        self.failed = fed.err();
        fed
    }

    /// What is known of the head so far. The API server writes kind and version before the items of built-in lists, and after those of custom resources.
    pub fn head(&self) -> &ListHead {
        match &self.list {
            List::Json(list) => list.head(),
            List::Protobuf(list) => list.head(),
        }
    }

    /// The body ended here: its head, if it was a whole list.
    pub fn finish(self) -> Result<ListHead, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.list {
            List::Json(list) => list.finish(),
            List::Protobuf(list) => list.finish(),
        }
    }
}

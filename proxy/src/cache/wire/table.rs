//! Tables, which are JSON only: columns, and a row of cells for each object with the object's metadata beside them.
//!
//! `apimachinery:pkg/apis/meta/v1/types.go` (Table); `apiserver:pkg/endpoints/handlers/response.go` (asTable, watchEmbeddedEncoder).

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json;
use super::metadata::{META_VERSION, PARTIAL_OBJECT};
use super::write::json_bookmark;
use super::{ObjectMeta, WireError};

const TABLE: WireError = WireError::Malformed("Table");
const ROW: WireError = WireError::Malformed("row of a Table");

/// The kind of a Table.
pub const TABLE_KIND: &str = "Table";

/// A custom resource may be called a Table too; it has a group of its own.
pub(super) fn is_table(api_version: &str, kind: &str) -> bool {
    kind == TABLE_KIND && matches!(api_version, META_VERSION | "meta.k8s.io/v1beta1")
}

/// A Table of one row, taken apart: the object of a watch event, or the answer to a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneRow {
    /// `columnDefinitions`, a JSON array as it was written. Empty in every event of a stream but the first.
    pub columns: Bytes,
    /// As in a list's [`ListItem`](super::ListItem).
    pub row: Bytes,
}

/// Takes a Table of one row apart; both are slices of it.
pub fn open_table(table: &Bytes) -> Result<OneRow, WireError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Table<'a> {
        kind: String,
        api_version: String,
        #[serde(borrow)]
        column_definitions: Option<&'a RawValue>,
        #[serde(borrow)]
        rows: &'a RawValue,
    }
    let whole: Table<'_> = serde_json::from_slice(table).map_err(|_| TABLE)?;
    if !is_table(&whole.api_version, &whole.kind) {
        return Err(TABLE);
    }
    let columns = whole
        .column_definitions
        .map(|columns| table.slice_ref(columns.get().as_bytes()));
    Ok(OneRow {
        columns: columns.map(read_columns).transpose()?.unwrap_or_default(),
        row: table.slice_ref(only_row(whole.rows.get().as_bytes())?.get().as_bytes()),
    })
}

/// `columnDefinitions` of a Table, checked to be a JSON array; `null`, which stands for those told before, is empty.
pub(super) fn read_columns(columns: Bytes) -> Result<Bytes, WireError> {
    match serde_json::from_slice::<Option<Vec<&RawValue>>>(&columns) {
        Ok(Some(_)) => Ok(columns),
        Ok(None) => Ok(Bytes::new()),
        Err(_) => Err(TABLE),
    }
}

/// The row of a Table that has just one.
pub(super) fn only_row(rows: &[u8]) -> Result<&RawValue, WireError> {
    let [row] = serde_json::from_slice(rows).map_err(|_| TABLE)?;
    Ok(row)
}

/// The metadata of the row's object, its TypeMeta included; all empty for a row without one (`includeObject=None`).
pub fn read_row_meta(row: &[u8]) -> Result<ObjectMeta, WireError> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        object: Option<&'a RawValue>,
    }
    let text = str::from_utf8(row).map_err(|_| ROW)?;
    let row: Row<'_> = serde_json::from_str(text).map_err(|_| ROW)?;
    let object = row
        .object
        .map(|object| json::read_item_meta(object.get().as_bytes()));
    object.transpose().map(Option::unwrap_or_default)
}

/// The field `columnDefinitions`, and the comma before it.
pub(super) fn put_columns(out: &mut BytesMut, columns: &[u8]) {
    out.put_slice(br#","columnDefinitions":"#);
    out.put_slice(if columns.is_empty() { b"null" } else { columns });
}

/// A Table of one row: what GET answers (and a line feed after it), and the object of a watch event. `columns` is empty for every event of a stream but the first.
pub fn table_of_one(resource_version: u64, columns: &[u8], row: &[u8]) -> Bytes {
    let mut table = BytesMut::with_capacity(columns.len() + row.len() + 128);
    let start = format!(
        r#"{{"kind":"{TABLE_KIND}","apiVersion":"{META_VERSION}","metadata":{{"resourceVersion":"{resource_version}"}}"#
    );
    table.put_slice(start.as_bytes());
    put_columns(&mut table, columns);
    table.put_slice(br#","rows":["#);
    table.put_slice(row);
    table.put_slice(b"]}");
    table.freeze()
}

/// The row that stands for a bookmark in a stream of Tables, for [`table_of_one`] in an event of type BOOKMARK.
///
/// Its cells are those of a custom resource without any field: an empty name and nulls, `columns` in all. (The API server's printers of built-in kinds
/// write `0` or `<unknown>` into some of these cells; no client shows the row.)
pub fn bookmark_row(columns: usize, resource_version: u64, initial_events_end: bool) -> Bytes {
    let cells = match columns {
        0 => String::new(),
        columns => format!("\"\"{}", ",null".repeat(columns - 1)),
    };
    let object = json_bookmark(
        META_VERSION,
        PARTIAL_OBJECT,
        resource_version,
        initial_events_end,
    );
    format!(r#"{{"cells":[{cells}],"object":{object}}}"#).into()
}

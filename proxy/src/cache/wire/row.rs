//! Rows of Tables that are made here, or brought up to date.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::WireError;
use super::age::age;
use super::columns::{CREATION_DOC, CREATION_PATH, Columns, path_doc};
use super::go_json::to_go_json;
use super::metadata::metadata_of;
use crate::request_info::accept::Encoding;

const ROW: WireError = WireError::Malformed("row of a Table");
const COLUMNS: WireError = WireError::Malformed("columns of a Table");

/// `apimachinery:pkg/apis/meta/v1/types.go`, TableRow.
#[derive(Serialize, Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    cells: Vec<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    conditions: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

impl<'a> Row<'a> {
    fn parse(row: &'a [u8]) -> Result<Self, WireError> {
        serde_json::from_slice(row).map_err(|_| ROW)
    }

    fn write(&self) -> Result<Bytes, WireError> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|_| ROW)
    }

    /// `metadata.creationTimestamp` of its object.
    fn created(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            creation_timestamp: String,
        }
        let object: Object = serde_json::from_str(self.object?.get()).ok()?;
        Some(object.metadata.creation_timestamp)
    }
}

/// The row of an object in JSON, as a list shows it or whole, with its PartialObjectMetadata beside the cells
/// (`apiextensions-apiserver:pkg/registry/customresource/tableconvertor/tableconvertor.go`).
///
/// For the default columns the metadata is enough: an object in protobuf goes through [`metadata_of`] first.
pub fn row(columns: &Columns, object: &Bytes, now: SystemTime) -> Result<Bytes, WireError> {
    let value: Value = serde_json::from_slice(object).map_err(|_| ROW)?;
    let cells = columns.cells(&value, now)?;
    drop(value);
    let metadata = metadata_of(Encoding::Json, object, Encoding::Json)?;
    Row {
        cells: cells
            .iter()
            .map(|cell| raw(cell.as_bytes()))
            .collect::<Result<_, _>>()?,
        conditions: None,
        object: Some(raw(&metadata)?),
    }
    .write()
}

/// The row with another object: a whole one in JSON for `includeObject=Object`, `None` for `includeObject=None`.
pub fn row_with_object(row: &[u8], object: Option<&[u8]>) -> Result<Bytes, WireError> {
    Row {
        object: object.map(raw).transpose()?,
        ..Row::parse(row)?
    }
    .write()
}

/// Which columns of a Table hold the age of the row's object, so that a row that was kept shows none of the past.
///
/// Those are `Age` of built-in kinds and of custom resources that declare no columns, and what custom resources declare as
/// `.metadata.creationTimestamp` without words of their own. Other times (`Last Seen`, the `5m ago` of a restart) are not in the row:
/// they stay as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgeColumns(Vec<usize>);

impl AgeColumns {
    /// Of a Table's `columnDefinitions`.
    pub fn of(columns: &[u8]) -> Result<Self, WireError> {
        #[derive(Deserialize)]
        struct Column {
            name: String,
            #[serde(rename = "type")]
            kind: String,
            description: String,
        }
        let columns: Vec<Column> = serde_json::from_slice(columns).map_err(|_| COLUMNS)?;
        let declared = path_doc(CREATION_PATH);
        let is_age = |column: &Column| match column.kind.as_str() {
            "date" if column.description == declared => true,
            // `Created At` has the same description and shows the timestamp itself.
            "date" | "string" => column.name == "Age" && column.description == CREATION_DOC,
            _ => false,
        };
        let ages = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| is_age(column));
        Ok(Self(ages.map(|(at, _)| at).collect()))
    }

    /// The row with its object's age at `now`. A row without its object's metadata stays as it is.
    pub fn refresh(&self, row: &Bytes, now: SystemTime) -> Result<Bytes, WireError> {
        if self.0.is_empty() {
            return Ok(row.clone());
        }
        let mut parts = Row::parse(row)?;
        let Some(created) = parts.created() else {
            return Ok(row.clone());
        };
        let cell = to_go_json(&age(&created, now), ROW)?;
        for at in &self.0 {
            if let Some(stale) = parts.cells.get_mut(*at) {
                *stale = raw(&cell)?;
            }
        }
        parts.write()
    }
}

fn raw(json: &[u8]) -> Result<&RawValue, WireError> {
    serde_json::from_slice(json).map_err(|_| ROW)
}

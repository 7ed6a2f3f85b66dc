//! The columns that a Table has when the API server did not make it: those a CustomResourceDefinition declares, or name and age.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::age::age;
use super::go_json::{float_text, to_go_json};
use super::json_path::JsonPath;
use super::{MAX_HEAD_BYTES, WireError};

const DEFINITION: WireError = WireError::Malformed("CustomResourceDefinition");
const CELL: WireError = WireError::Malformed("cell of a Table");

/// What the API server says of a column of names (`apimachinery:pkg/apis/meta/v1/types_swagger_doc_generated.go`, ObjectMeta).
const NAME_DOC: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
/// And of a column of ages.
pub(super) const CREATION_DOC: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
pub(super) const CREATION_PATH: &str = ".metadata.creationTimestamp";

/// What is said of a declared column that does not describe itself.
pub(super) fn path_doc(path: &str) -> String {
    format!("Custom resource definition column (in JSONPath format): {path}")
}

/// The columns of one resource, and where their cells come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    definitions: Bytes,
    /// All but the first, which is the name.
    cells: Vec<Cell>,
}

#[derive(Clone, Debug, PartialEq)]
struct Cell {
    kind: String,
    /// `None`: not covered, its cells are null.
    path: Option<JsonPath>,
}

/// As in a Table's `columnDefinitions`.
#[derive(Serialize)]
struct Definition<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    format: &'a str,
    description: &'a str,
    priority: i32,
}

/// As in `additionalPrinterColumns`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declared {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    priority: i32,
    json_path: String,
}

/// Name and age: the columns of a custom resource that declares none, and what kubectl makes of any object.
pub fn default_columns() -> Columns {
    let age = Declared {
        name: "Age".to_owned(),
        kind: "date".to_owned(),
        format: String::new(),
        description: CREATION_DOC.to_owned(),
        priority: 0,
        json_path: CREATION_PATH.to_owned(),
    };
    Columns::declared(&[age]).expect("two columns have JSON, and it is short")
}

/// The columns of the custom resources that `definition`, a CustomResourceDefinition in JSON, serves in this version
/// (`apiextensions-apiserver:pkg/apiserver/helpers.go`, getColumnsForVersion).
pub fn crd_columns(definition: &[u8], version: &str) -> Result<Columns, WireError> {
    #[derive(Deserialize)]
    struct Crd {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        versions: Vec<Version>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        name: String,
        additional_printer_columns: Option<Vec<Declared>>,
    }
    let crd: Crd = serde_json::from_slice(definition).map_err(|_| DEFINITION)?;
    let mut versions = crd.spec.versions.into_iter();
    let found = versions.find(|served| served.name == version);
    let declared = found.ok_or(DEFINITION)?.additional_printer_columns;
    match declared.unwrap_or_default().as_slice() {
        [] => Ok(default_columns()),
        declared => Columns::declared(declared),
    }
}

impl Columns {
    /// The Table's `columnDefinitions`, a JSON array.
    pub fn definitions(&self) -> &Bytes {
        &self.definitions
    }

    /// How many columns there are.
    pub fn count(&self) -> usize {
        self.cells.len() + 1
    }

    /// `apiextensions-apiserver:pkg/registry/customresource/tableconvertor/tableconvertor.go`, New.
    fn declared(columns: &[Declared]) -> Result<Self, WireError> {
        let described: Vec<String> = columns.iter().map(Declared::described).collect();
        let name = Definition {
            name: "Name",
            kind: "string",
            format: "name",
            description: NAME_DOC,
            priority: 0,
        };
        let others = columns.iter().zip(&described);
        let definitions: Vec<_> = std::iter::once(name)
            .chain(others.map(|(column, description)| column.definition(description)))
            .collect();
        let definitions = to_go_json(&definitions, DEFINITION)?;
        if definitions.len() > MAX_HEAD_BYTES {
            return Err(WireError::TooLarge("columns of a Table", MAX_HEAD_BYTES));
        }
        let cells = columns.iter().map(|column| Cell {
            kind: column.kind.clone(),
            path: JsonPath::parse(&column.json_path),
        });
        Ok(Self {
            definitions: definitions.into(),
            cells: cells.collect(),
        })
    }

    /// The cells of an object, each as JSON.
    pub(super) fn cells(&self, object: &Value, now: SystemTime) -> Result<Vec<String>, WireError> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let others = self.cells.iter().map(|cell| cell.of(object, now));
        std::iter::once(name.unwrap_or_default().into())
            .chain(others)
            .map(|cell| to_text(&cell))
            .collect()
    }
}

impl Declared {
    fn described(&self) -> String {
        match self.description.as_str() {
            "" => path_doc(&self.json_path),
            description => description.to_owned(),
        }
    }

    fn definition<'a>(&'a self, description: &'a str) -> Definition<'a> {
        Definition {
            name: &self.name,
            kind: &self.kind,
            format: &self.format,
            description,
            priority: self.priority,
        }
    }
}

impl Cell {
    /// The first value the path leads to, or null.
    fn of(&self, object: &Value, now: SystemTime) -> Value {
        let found = self.path.as_ref().and_then(|path| path.find(object).ok());
        match found.as_deref() {
            None | Some([]) => Value::Null,
            Some([value, ..]) if self.kind == "string" => text(value),
            Some([value, ..]) => self.typed(value, now),
        }
    }

    /// Null for what is not of the column's type (`tableconvertor.go`, cellForJSONValue).
    fn typed(&self, value: &Value, now: SystemTime) -> Value {
        let cell = match self.kind.as_str() {
            // A fraction is cut off.
            "integer" => value
                .as_i64()
                .or_else(|| value.as_f64().map(|float| float as i64))
                .map(Value::from),
            "number" => value.as_f64().map(Value::from),
            "boolean" => value.as_bool().map(Value::from),
            "date" => value.as_str().map(|timestamp| age(timestamp, now).into()),
            _ => None,
        };
        cell.unwrap_or_default()
    }
}

/// Any value in a column of strings (`client-go:util/jsonpath/jsonpath.go`, PrintResults).
fn text(value: &Value) -> Value {
    let text = match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() => number.to_string(),
        Value::Number(number) => float_text(number.as_f64().unwrap_or_default()),
        Value::Bool(value) => value.to_string(),
        Value::Array(_) | Value::Object(_) => match to_text(value) {
            Ok(json) => json,
            Err(_) => return Value::Null,
        },
    };
    text.into()
}

fn to_text(value: &Value) -> Result<String, WireError> {
    String::from_utf8(to_go_json(value, CELL)?).map_err(|_| CELL)
}

//! An object in YAML, as the API server writes it, back in JSON.

use bytes::Bytes;
use granit_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::go_json::as_go_writes;
use super::{MAX_OBJECT_BYTES, WireError};

const OBJECT: WireError = WireError::Malformed("object in YAML");
const TOO_LARGE: WireError = WireError::TooLarge("object in YAML", MAX_OBJECT_BYTES);
/// How deep lists and maps may be in each other: as deep as serde_json reads them.
const MAX_DEPTH: usize = 127;

/// The object in JSON, its keys sorted.
///
/// It is read as `sigs.k8s.io/yaml` writes: what is neither quoted nor `null`, `true`, `false` or a number of JSON is a string.
/// Anchors, aliases, tags, comments, a second document and a key that comes twice are refused; so the JSON is never much longer than the YAML.
pub fn json_of(yaml: &[u8]) -> Result<Bytes, WireError> {
    if yaml.len() > MAX_OBJECT_BYTES {
        return Err(TOO_LARGE);
    }
    let text = str::from_utf8(yaml).map_err(|_| OBJECT)?;
    let mut document = Document::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|_| OBJECT)?;
        document.take(event)?;
    }
    match document.value {
        Some(value @ Value::Object(_)) => Ok(as_go_writes(&value.to_string()).into()),
        _ => Err(OBJECT),
    }
}

/// The values that are not closed yet, and the whole one in the end.
#[derive(Default)]
struct Document {
    open: Vec<Open>,
    value: Option<Value>,
}

enum Open {
    List(Vec<Value>),
    /// With the key that waits for its value.
    Map(Map<String, Value>, Option<String>),
}

impl Document {
    fn take(&mut self, event: Event<'_>) -> Result<(), WireError> {
        match event {
            Event::Scalar(text, style, 0, None) => self.scalar(&text, style),
            Event::SequenceStart(_, 0, None) => self.begin(Open::List(Vec::new())),
            Event::MappingStart(_, 0, None) => self.begin(Open::Map(Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd => Ok(()),
            _ => Err(OBJECT),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle) -> Result<(), WireError> {
        if let Some(Open::Map(fields, key @ None)) = self.open.last_mut() {
            if fields.contains_key(text) {
                return Err(OBJECT);
            }
            *key = Some(text.to_owned());
            return Ok(());
        }
        self.put(match style {
            ScalarStyle::Plain => plain(text),
            _ => text.into(),
        })
    }

    fn begin(&mut self, value: Open) -> Result<(), WireError> {
        let is_key = matches!(self.open.last(), Some(Open::Map(_, None)));
        if is_key || self.open.len() == MAX_DEPTH {
            return Err(OBJECT);
        }
        self.open.push(value);
        Ok(())
    }

    fn end(&mut self) -> Result<(), WireError> {
        let value = match self.open.pop() {
            Some(Open::List(items)) => items.into(),
            Some(Open::Map(fields, None)) => fields.into(),
            _ => return Err(OBJECT),
        };
        self.put(value)
    }

    /// Gives a whole value to what it is in.
    fn put(&mut self, value: Value) -> Result<(), WireError> {
        match self.open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(fields, key)) => {
                fields.insert(key.take().ok_or(OBJECT)?, value);
            }
            None if self.value.is_some() => return Err(OBJECT),
            None => self.value = Some(value),
        }
        Ok(())
    }
}

/// A scalar without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        // A number that no float64 holds is written as it is, and is a string.
        text => serde_json::from_str(text).map_or_else(|_| text.into(), Value::Number),
    }
}

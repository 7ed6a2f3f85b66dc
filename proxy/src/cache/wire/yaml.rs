//! Objects and lists in `application/yaml`.
//!
//! The API server writes JSON first and makes YAML of it (`apimachinery:pkg/runtime/serializer/json/json.go`, `sigs.k8s.io/yaml`): keys in
//! natural order, lists not indented, text of several lines as it is, and quotes around every string that a reader could take for
//! something else. So does this; its quotes are double ones and more of them, fractions are written another way, and long lines stay whole.

use std::cmp::Ordering;

use bytes::Bytes;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_saphyr::LitStr;

use super::{ListHead, WireError};

const OBJECT: WireError = WireError::Malformed("JSON object");

/// An object in JSON, as YAML.
pub fn yaml_of(json: &[u8]) -> Result<Bytes, WireError> {
    let value: Value = serde_json::from_slice(json).map_err(|_| OBJECT)?;
    write(&InOrder(&value))
}

/// A list's body in YAML, chunk by chunk; `items` in JSON, as a list shows them.
///
/// Its length is not known before it is written. An item that is not JSON is an error in its place, at which the answer must break off.
pub fn yaml_list_body<I>(
    head: &ListHead,
    items: I,
) -> impl Iterator<Item = Result<Bytes, WireError>> + use<I>
where
    I: IntoIterator<Item = Bytes>,
{
    let mut items = items.into_iter().peekable();
    let start = list_start(head, items.peek().is_none());
    let end = list_end(head);
    let items = items.map(|item| list_item(&item));
    std::iter::once(start)
        .chain(items)
        .chain(std::iter::once(end))
}

/// Everything that sorts before the items, and their key.
fn list_start(head: &ListHead, is_empty: bool) -> Result<Bytes, WireError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Start<'a> {
        api_version: &'a str,
    }
    let api_version = write(&Start {
        api_version: &head.api_version,
    })?;
    let key: &[u8] = if is_empty {
        b"items: []\n"
    } else {
        b"items:\n"
    };
    Ok([&api_version, key].concat().into())
}

/// One entry: lists are not indented below their key.
fn list_item(item: &[u8]) -> Result<Bytes, WireError> {
    let value: Value = serde_json::from_slice(item).map_err(|_| OBJECT)?;
    write(&[InOrder(&value)])
}

fn list_end(head: &ListHead) -> Result<Bytes, WireError> {
    #[derive(Serialize)]
    struct End<'a> {
        kind: &'a str,
        metadata: Metadata<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata<'a> {
        #[serde(rename = "continue", skip_serializing_if = "str::is_empty")]
        continue_token: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        remaining_item_count: Option<u64>,
        resource_version: String,
    }
    write(&End {
        kind: &head.kind,
        metadata: Metadata {
            continue_token: &head.continue_token,
            remaining_item_count: head.remaining,
            resource_version: head.resource_version.to_string(),
        },
    })
}

fn write(value: &impl Serialize) -> Result<Bytes, WireError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options)
        .map(Bytes::from)
        .map_err(|_| OBJECT)
}

/// A value whose keys are told in natural order.
struct InOrder<'v>(&'v Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&InOrder(item))?;
                }
                list.end()
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by(|(a, _), (b, _)| natural_order(a, b));
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, &InOrder(value))?;
                }
                map.end()
            }
            Value::String(text) if is_block(text) => LitStr(text).serialize(serializer),
            scalar => scalar.serialize(serializer),
        }
    }
}

/// Text of several lines is shown as it is. Not if it starts with white space: readers disagree on where such a block is indented to.
fn is_block(text: &str) -> bool {
    text.contains('\n') && !text.starts_with([' ', '\t', '\n'])
}

/// Symbols, then numbers by their value, then letters (`go.yaml.in/yaml/v2:sorter.go`; where that order contradicts itself, as of `a1b`, `a2` and `a15`, this one does not).
fn natural_order(a: &str, b: &str) -> Ordering {
    tokens(a).cmp(tokens(b))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Token<'k> {
    Symbol(char),
    /// How many digits it has without leading zeros, these digits, and how many were written.
    Number(usize, &'k str, usize),
    Letter(char),
}

fn tokens(key: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (token, len) = match digits {
            0 if first.is_alphabetic() => (Token::Letter(first), first.len_utf8()),
            0 => (Token::Symbol(first), first.len_utf8()),
            written => {
                let number = rest[..written].trim_start_matches('0');
                (Token::Number(number.len(), number, written), written)
            }
        };
        rest = &rest[len..];
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_natural_order() {
        let keys = [
            "",
            "-",
            "_x",
            "0",
            "00",
            "1",
            "1.0",
            "2",
            "10",
            "10a",
            "B",
            "Z",
            "a",
            "a-b",
            "a.b",
            "a1",
            "a1b",
            "a2",
            "a02",
            "a10",
            "a15",
            "a99999999999999999999",
            "a100000000000000000000",
            "ab",
            "é",
        ];
        let mut sorted = keys;
        sorted.reverse();
        sorted.sort_by(|a, b| natural_order(a, b));
        assert_eq!(sorted, keys);
    }
}

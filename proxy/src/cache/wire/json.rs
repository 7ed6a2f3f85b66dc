//! Objects in JSON: the metadata, the TypeMeta, one watch event.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::go_json::as_go_writes;
use super::members::{Members, NotAnObject};
use super::{EventType, ListHead, ObjectMeta, WatchEvent, WireError, decimal, table};

const OBJECT: WireError = WireError::Malformed("JSON object");
const EVENT: WireError = WireError::Malformed("JSON watch event");
/// The kind whose `code` is read.
const STATUS: &str = "Status";

/// What is read of an object's `metadata`. Its last and longest member by far, `managedFields`, is only passed over.
const READ_OF_METADATA: [&[u8]; 6] = [
    b"name",
    b"namespace",
    b"uid",
    b"resourceVersion",
    b"labels",
    b"annotations",
];

impl From<NotAnObject> for WireError {
    fn from(NotAnObject: NotAnObject) -> Self {
        OBJECT
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
    remaining_item_count: Option<u64>,
}

/// The metadata of one object. Of a Table: its own TypeMeta, and the rest from its row if it has just one.
///
/// What comes after it is not looked at, unless it may say more: [`check`] is for what is to be kept.
pub(super) fn read_meta(object: &[u8]) -> Result<ObjectMeta, WireError> {
    read_meta_of(&mut Members::of(object))
}

fn read_meta_of(members: &mut Members<'_>) -> Result<ObjectMeta, WireError> {
    let is_all = |meta: &ObjectMeta| {
        let is_typed = !meta.kind.is_empty() && !meta.api_version.is_empty();
        is_typed && meta.kind != STATUS && !is_table(meta)
    };
    let mut rows = None;
    let mut meta = read_meta_until(members, is_all, &mut rows)?;
    if is_table(&meta) {
        let row = match rows.map(table::only_row) {
            Some(Ok(row)) => table::read_row_meta(row.get().as_bytes())?,
            _ => ObjectMeta::default(),
        };
        meta = ObjectMeta {
            api_version: meta.api_version,
            kind: meta.kind,
            ..row
        };
    }
    Ok(meta)
}

/// As [`read_meta`], of a list's item, which is no Table and may have no TypeMeta. One that stands after its metadata, where nobody writes it, is
/// not found, and such an item not kept.
pub(super) fn read_item_meta(item: &[u8]) -> Result<ObjectMeta, WireError> {
    read_meta_until(&mut Members::of(item), |_| true, &mut None)
}

/// Every byte of it is JSON, and whoever reads it finds the metadata that was read here: see [`check_head`].
pub(super) fn check(object: &[u8], bare: bool) -> Result<(), WireError> {
    // Serde does not look into the strings that nobody reads.
    let text = str::from_utf8(object).map_err(|_| OBJECT)?;
    let IgnoredAny = serde_json::from_str(text).map_err(|_| OBJECT)?;
    check_head(object, bare)
}

/// None of what [`read_meta`] reads stands there twice, of which another reader might take the other one; nor, in an object that was read as
/// `bare`, is TypeMeta after its metadata.
pub(super) fn check_head(object: &[u8], bare: bool) -> Result<(), WireError> {
    let mut seen = [false; 3];
    let mut members = Members::of(object);
    while let Some(key) = members.next_key()? {
        let place = match &*key {
            b"metadata" => 0,
            b"apiVersion" | b"kind" if bare && seen[0] => return Err(OBJECT),
            b"apiVersion" => 1,
            b"kind" => 2,
            _ => continue,
        };
        if std::mem::replace(&mut seen[place], true) {
            return Err(OBJECT);
        }
    }
    Ok(())
}

/// Reads on after the metadata until that `is_all`. `rows`: what has that key, if it went by.
fn read_meta_until<'o>(
    members: &mut Members<'o>,
    is_all: impl Fn(&ObjectMeta) -> bool,
    rows: &mut Option<&'o [u8]>,
) -> Result<ObjectMeta, WireError> {
    let mut meta = ObjectMeta::default();
    let (mut has_metadata, mut code) = (false, None);
    while let Some(key) = members.next_key()? {
        match &*key {
            b"apiVersion" => meta.api_version = text(members)?,
            b"kind" => meta.kind = text(members)?,
            // Another reader might take the other one.
            b"metadata" if has_metadata => return Err(OBJECT),
            b"metadata" => {
                inside(members, |metadata| put_metadata(metadata, &mut meta))?;
                has_metadata = true;
            }
            // Some kinds of custom resources have fields of these names, too, of any type.
            b"code" => code = Some(members.value()?),
            b"rows" => *rows = Some(members.value()?),
            _ => {}
        }
        if has_metadata && is_all(&meta) {
            return Ok(meta);
        }
    }
    if meta.kind == STATUS {
        meta.status_code = code.and_then(|code| serde_json::from_slice(code).ok());
    }
    Ok(meta)
}

/// What `read` does with the object that comes next, if it is not null.
fn inside<'o>(
    members: &mut Members<'o>,
    read: impl FnOnce(&mut Members<'o>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let Some(mut inner) = members.enter() else {
        return (members.value()? == b"null").then_some(()).ok_or(OBJECT);
    };
    read(&mut inner)?;
    members.leave(inner)?;
    Ok(())
}

/// A string that comes next, or null for the empty one.
fn text(members: &mut Members<'_>) -> Result<String, WireError> {
    read_string(members.value()?).map_err(|_| OBJECT)
}

fn put_metadata(metadata: &mut Members<'_>, meta: &mut ObjectMeta) -> Result<(), WireError> {
    let mut seen = [false; READ_OF_METADATA.len()];
    while let Some(key) = metadata.next_key()? {
        let Some(place) = READ_OF_METADATA.iter().position(|read| *read == &*key) else {
            continue;
        };
        // Another reader might take the other one.
        if std::mem::replace(&mut seen[place], true) {
            return Err(OBJECT);
        }
        match READ_OF_METADATA[place] {
            b"name" => meta.name = text(metadata)?,
            b"namespace" => meta.namespace = text(metadata)?,
            b"uid" => meta.uid = text(metadata)?,
            b"resourceVersion" => meta.resource_version = decimal(&text(metadata)?),
            b"labels" => meta.labels = read_labels(metadata.value()?)?,
            _ => inside(metadata, |annotations| {
                meta.initial_events_end = ends_initial_events(annotations)?;
                Ok(())
            })?,
        }
    }
    Ok(())
}

/// By key; of one that stands there twice the last, as Go reads it.
fn read_labels(value: &[u8]) -> Result<Vec<(String, String)>, WireError> {
    let labels: Option<BTreeMap<String, String>> =
        serde_json::from_slice(value).map_err(|_| OBJECT)?;
    Ok(labels.unwrap_or_default().into_iter().collect())
}

fn ends_initial_events(annotations: &mut Members<'_>) -> Result<bool, WireError> {
    let mut ends = None;
    while let Some(key) = annotations.next_key()? {
        if *key == *super::INITIAL_EVENTS_END && ends.replace(text(annotations)?).is_some() {
            return Err(OBJECT);
        }
    }
    Ok(ends.is_some_and(|value| value == "true"))
}

fn is_table(meta: &ObjectMeta) -> bool {
    table::is_table(&meta.api_version, &meta.kind)
}

/// Reads the one value in `frame`; of its object, what [`read_meta`] reads.
pub(super) fn read_event(frame: Bytes) -> Result<WatchEvent, WireError> {
    let event = |NotAnObject| EVENT;
    let (mut kind, mut object) = (None, None);
    let mut members = Members::of(&frame);
    while let Some(key) = members.next_key().map_err(event)? {
        match &*key {
            b"type" => {
                let name = read_string(members.value().map_err(event)?);
                kind = EventType::parse(&name.map_err(|_| EVENT)?);
            }
            b"object" => {
                let mut inner = members.enter().ok_or(EVENT)?;
                let meta = read_meta_of(&mut inner)?;
                let value = members.leave(inner).map_err(event)?;
                object = Some((meta, frame.slice_ref(value)));
            }
            _ => {}
        }
    }
    let (kind, (meta, object)) = kind.zip(object).ok_or(EVENT)?;
    Ok(WatchEvent {
        kind,
        meta: meta.into(),
        object,
        frame,
    })
}

/// Takes the `metadata` of a list into its head.
pub(super) fn read_list_meta(metadata: &[u8], head: &mut ListHead) -> Result<(), WireError> {
    let meta: Option<ListMeta> = serde_json::from_slice(metadata).map_err(|_| super::LIST)?;
    let meta = meta.unwrap_or_default();
    head.resource_version = decimal(&meta.resource_version.unwrap_or_default());
    head.continue_token = meta.continue_token.unwrap_or_default();
    head.remaining = meta.remaining_item_count;
    Ok(())
}

/// A string, or null for the empty one.
pub(super) fn read_string(value: &[u8]) -> Result<String, WireError> {
    let text: Option<String> = serde_json::from_slice(value).map_err(|_| super::LIST)?;
    Ok(text.unwrap_or_default())
}

/// The text as a JSON string, quotes included, as Go writes it.
pub(super) fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    String::from_utf8_lossy(&as_go_writes(&json)).into_owned()
}

/// The item of a list as GET and WATCH show it. Built-in lists leave TypeMeta out of their items, everything else writes it there: what has either field is returned as it is.
///
/// The result has the bytes that the API server itself writes for a single object (`kind` before `apiVersion`, both first).
pub fn with_type_meta(item: &Bytes, api_version: &str, kind: &str) -> Bytes {
    let Some(brace) = item.iter().position(|b| *b == b'{') else {
        return item.clone();
    };
    if has_type_meta(item) {
        return item.clone();
    }
    let rest = &item[brace + 1..];
    let is_empty = rest.get(super::scan::leading_space(rest)) == Some(&b'}');
    let (api_version, kind) = (quoted(api_version), quoted(kind));
    let mut whole = BytesMut::with_capacity(item.len() + api_version.len() + kind.len() + 24);
    whole.put_slice(b"{\"kind\":");
    whole.put_slice(kind.as_bytes());
    whole.put_slice(b",\"apiVersion\":");
    whole.put_slice(api_version.as_bytes());
    if !is_empty {
        whole.put_u8(b',');
    }
    whole.put_slice(rest);
    whole.freeze()
}

/// The item as a built-in list shows it: takes away what [`with_type_meta`] put in, and nothing else, so custom resources (`apiVersion` first) stay whole.
pub fn without_type_meta(object: &Bytes) -> Bytes {
    let Some(rest) = after_type_meta(object) else {
        return object.clone();
    };
    let mut item = BytesMut::with_capacity(rest.len() + 1);
    item.put_u8(b'{');
    item.put_slice(rest);
    item.freeze()
}

/// What follows `{"kind":"K","apiVersion":"V",`, if the object starts like that.
fn after_type_meta(object: &[u8]) -> Option<&[u8]> {
    let rest = after_string(object.strip_prefix(b"{\"kind\":\"")?)?;
    let rest = after_string(rest.strip_prefix(b",\"apiVersion\":\"")?)?;
    match rest.strip_prefix(b",") {
        Some(rest) => Some(rest),
        None => (rest.trim_ascii_start() == b"}").then_some(rest),
    }
}

/// What follows the closing quote of a string that needs no escapes, which is true for every kind and version.
fn after_string(text: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr2(b'"', b'\\', text)?;
    (text[end] == b'"').then(|| &text[end + 1..])
}

/// Either key, whatever its value: a second one would make the object unreadable.
fn has_type_meta(item: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TypeMeta {
        #[serde(default)]
        kind: IsThere,
        #[serde(default)]
        api_version: IsThere,
    }
    if item.starts_with(b"{\"kind\":") || item.starts_with(b"{\"apiVersion\":") {
        return true;
    }
    serde_json::from_slice::<TypeMeta>(item).is_ok_and(|meta| meta.kind.0 || meta.api_version.0)
}

#[derive(Default)]
struct IsThere(bool);

impl<'de> Deserialize<'de> for IsThere {
    fn deserialize<D: serde::Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(value).map(|_| Self(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_kind_even_if_it_is_null() {
        let item = Bytes::from_static(br#"{"a":1,"kind":null}"#);
        assert_eq!(with_type_meta(&item, "v1", "K"), item);
    }

    fn meta_of(metadata: &str) -> Result<ObjectMeta, WireError> {
        read_item_meta(format!("{{\"spec\":{{}},\"metadata\":{metadata}}}").as_bytes())
    }

    #[test]
    fn of_the_metadata_is_read_what_is_asked_for_wherever_it_stands() {
        let meta = meta_of(
            r#" {"managedFields":[{"name":"x"}], "n\u0061me": "a","uid":null,"labels":{"b":"2","a":"1","b":"3"},
                "annotations":{"x":7,"k8s.io/initial-events-end":"true"},"resourceVersion":"12","namespace":"n"}"#,
        );
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = ObjectMeta {
            name: "a".to_owned(),
            namespace: "n".to_owned(),
            resource_version: 12,
            labels: vec![pair("a", "1"), pair("b", "3")],
            initial_events_end: true,
            ..ObjectMeta::default()
        };
        assert_eq!(meta, Ok(expected));
        for nothing in ["null", "{}", r#"{"labels":null,"annotations":null}"#] {
            assert_eq!(meta_of(nothing), Ok(ObjectMeta::default()), "{nothing}");
        }
    }

    #[test]
    fn metadata_that_two_readers_may_read_in_two_ways_is_refused() {
        for metadata in [
            r#"{"name":"a","name":"b"}"#,
            r#"{"name":"a","n\u0061me":"b"}"#,
            r#"{"labels":{},"labels":{}}"#,
            r#"{"annotations":{"k8s.io/initial-events-end":"true","k8s.io/initial-events-end":"false"}}"#,
            r#"{"name":1}"#,
            r#"{"labels":[]}"#,
            r#"{"annotations":7}"#,
            r#"{"resourceVersion":12}"#,
            r#"["a"]"#,
            r#""a""#,
        ] {
            assert_eq!(meta_of(metadata), Err(OBJECT), "{metadata}");
        }
    }

    #[test]
    fn only_type_meta_that_stands_first_and_alone_is_taken_away() {
        for (object, item) in [
            (r#"{"kind":"K","apiVersion":"v1"}"#, "{}"),
            (r#"{"kind":"K","apiVersion":"v1" }"#, "{ }"),
            (r#"{"kind":"K","apiVersion":"v1","a":1}"#, r#"{"a":1}"#),
            (
                r#"{"kind":"K","a":1,"apiVersion":"v1"}"#,
                r#"{"kind":"K","a":1,"apiVersion":"v1"}"#,
            ),
            (
                r#"{"kind":"K","apiVersion":"v1"#,
                r#"{"kind":"K","apiVersion":"v1"#,
            ),
            (
                r#"{"kind":"\"","apiVersion":"v1"}"#,
                r#"{"kind":"\"","apiVersion":"v1"}"#,
            ),
        ] {
            assert_eq!(without_type_meta(&object.into()), item, "{object}");
        }
    }
}

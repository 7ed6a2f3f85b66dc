//! The JSON of answers and events, read strictly: what is not as the API server would write it is an error.

use serde_json::Value;

use crate::scope::Resource;
use crate::truth::{EventKind, Key, Object};

/// Where the objects of histories keep the number that each write changes.
pub const VALUE: &str = "history.holdfast.dev/value";

/// The mark of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// What a LIST says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub rv: u64,
    pub continue_token: String,
    pub items: Vec<Object>,
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Event(EventKind, Object),
    Bookmark { rv: u64, ends_initial: bool },
    Error(Status),
}

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub code: u16,
    pub reason: String,
    /// The first cause: Holdfast's own refusals name themselves there.
    pub cause: String,
    pub message: String,
}

type Read<T> = Result<T, String>;

pub fn list(resource: Resource, body: &[u8]) -> Read<List> {
    let json = parse(body)?;
    let kind = format!("{}List", resource.kind());
    type_meta(&json, resource.api_version(), &kind)?;
    let metadata = &json["metadata"];
    let items = json["items"].as_array().ok_or("items are no array")?;
    let item = |item: &Value| {
        match resource.is_built_in() {
            true if !item["kind"].is_null() => return Err("an item with a kind".to_owned()),
            true => {}
            false => type_meta(item, resource.api_version(), resource.kind())?,
        }
        fields(resource, item)
    };
    Ok(List {
        rv: number(&metadata["resourceVersion"])?,
        continue_token: metadata["continue"].as_str().unwrap_or("").to_owned(),
        items: items.iter().map(item).collect::<Read<_>>()?,
    })
}

pub fn object(resource: Resource, body: &[u8]) -> Read<Object> {
    whole(resource, &parse(body)?)
}

pub fn status(body: &[u8]) -> Read<Status> {
    read_status(&parse(body)?)
}

/// One line of a watch.
pub fn event(resource: Resource, line: &[u8]) -> Read<Told> {
    let json = parse(line)?;
    let object = &json["object"];
    let kind = match json["type"].as_str().unwrap_or_default() {
        "ADDED" => EventKind::Added,
        "MODIFIED" => EventKind::Modified,
        "DELETED" => EventKind::Deleted,
        "BOOKMARK" => {
            type_meta(object, resource.api_version(), resource.kind())?;
            let metadata = &object["metadata"];
            return Ok(Told::Bookmark {
                rv: number(&metadata["resourceVersion"])?,
                ends_initial: metadata["annotations"][INITIAL_EVENTS_END] == "true",
            });
        }
        "ERROR" => return read_status(object).map(Told::Error),
        other => return Err(format!("an event of type {other:?}")),
    };
    Ok(Told::Event(kind, whole(resource, object)?))
}

fn parse(bytes: &[u8]) -> Read<Value> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

fn whole(resource: Resource, json: &Value) -> Read<Object> {
    type_meta(json, resource.api_version(), resource.kind())?;
    fields(resource, json)
}

fn type_meta(json: &Value, api_version: &str, kind: &str) -> Read<()> {
    match json["apiVersion"] == api_version && json["kind"] == kind {
        true => Ok(()),
        false => Err(format!(
            "{} {} in place of {api_version} {kind}",
            json["apiVersion"], json["kind"]
        )),
    }
}

fn fields(resource: Resource, json: &Value) -> Read<Object> {
    let metadata = &json["metadata"];
    let text = |name: &str| {
        let text = metadata[name].as_str().map(str::to_owned);
        text.ok_or_else(|| format!("no metadata.{name}"))
    };
    let labels = metadata["labels"].as_object();
    let labels = labels.into_iter().flatten().map(|(key, value)| {
        let value = value.as_str().ok_or("a label that is no text")?;
        Ok((key.clone(), value.to_owned()))
    });
    Ok(Object {
        key: Key::new(resource, &text("namespace")?, &text("name")?),
        uid: text("uid")?,
        rv: number(&metadata["resourceVersion"])?,
        labels: labels.collect::<Read<_>>()?,
        node: json["spec"]["nodeName"].as_str().unwrap_or("").to_owned(),
        value: match &metadata["annotations"][VALUE] {
            // What no history wrote: the API server's own ConfigMaps.
            Value::Null => 0,
            value => number(value)?,
        },
    })
}

fn number(json: &Value) -> Read<u64> {
    let number = json.as_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{json} is no number"))
}

fn read_status(json: &Value) -> Read<Status> {
    type_meta(json, "v1", "Status")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let code = json["code"].as_u64().and_then(|code| code.try_into().ok());
    Ok(Status {
        code: code.ok_or("a Status without a code")?,
        reason: text(&json["reason"]),
        cause: text(&json["details"]["causes"][0]["reason"]),
        message: text(&json["message"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_type_meta_or_a_list_item_with_it_is_an_error() {
        let metadata = format!(
            r#""metadata":{{"name":"x","namespace":"a","uid":"u","resourceVersion":"7","annotations":{{"{VALUE}":"3"}}}}"#
        );
        let pod = format!(r#"{{"kind":"Pod","apiVersion":"v1",{metadata}}}"#);
        let bare = format!("{{{metadata}}}");
        let event_of = |object: &str| {
            let line = format!(r#"{{"type":"ADDED","object":{object}}}"#);
            event(Resource::Pods, line.as_bytes())
        };
        let list_of = |item: &str| {
            let body = format!(
                r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[{item}]}}"#
            );
            list(Resource::Pods, body.as_bytes())
        };
        assert!(event_of(&pod).is_ok() && event_of(&bare).is_err());
        assert!(list_of(&bare).is_ok() && list_of(&pod).is_err());
        assert_eq!(list_of(&bare).expect("a list").items[0].value, 3);
    }
}

//! Objects, lists and events as the API server writes them, down to the order of the fields: built-in kinds as their Go types
//! have them, custom ones sorted.

use holdfast_history::scope::Resource;
use holdfast_history::truth::{EventKind, Object};
use holdfast_history::wire::VALUE;
use serde_json::{Value, json};

pub(super) fn object(object: &Object) -> String {
    with_type_meta(object.key.resource, &bare(object))
}

/// `next` is the token of the next page, `left` what is told of the rest.
pub(super) fn list(
    resource: Resource,
    rv: u64,
    (next, left): (Option<&str>, Option<usize>),
    items: &[&Object],
) -> String {
    let mut metadata = format!("\"resourceVersion\":\"{rv}\"");
    if let Some(next) = next {
        metadata.push_str(&format!(",\"continue\":\"{next}\""));
    }
    if let Some(left) = left {
        metadata.push_str(&format!(",\"remainingItemCount\":{left}"));
    }
    let item = |item: &&Object| match resource.is_built_in() {
        true => format!("{{{}}}", bare(item)),
        false => object(item),
    };
    let items: Vec<String> = items.iter().map(item).collect();
    let (metadata, items) = (
        format!("\"metadata\":{{{metadata}}}"),
        format!("\"items\":[{}]", items.join(",")),
    );
    let (api_version, kind) = (resource.api_version(), resource.kind());
    let list = match resource.is_built_in() {
        true => format!(
            "{{\"kind\":\"{kind}List\",\"apiVersion\":\"{api_version}\",{metadata},{items}}}"
        ),
        false => format!(
            "{{\"apiVersion\":\"{api_version}\",{items},\"kind\":\"{kind}List\",{metadata}}}"
        ),
    };
    list + "\n"
}

pub(super) fn event(kind: EventKind, of: &Object) -> String {
    let kind = match kind {
        EventKind::Added => "ADDED",
        EventKind::Modified => "MODIFIED",
        EventKind::Deleted => "DELETED",
    };
    frame(kind, &object(of))
}

pub(super) fn bookmark(resource: Resource, rv: u64, ends_initial: bool) -> String {
    let end = match ends_initial {
        true => r#","annotations":{"k8s.io/initial-events-end":"true"}"#,
        false => "",
    };
    let metadata = format!("\"metadata\":{{\"resourceVersion\":\"{rv}\"{end}}}");
    frame("BOOKMARK", &with_type_meta(resource, &metadata))
}

pub(super) fn error(code: u16, reason: &str, message: &str) -> String {
    frame("ERROR", &status(code, reason, message).to_string())
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

fn frame(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn with_type_meta(resource: Resource, bare: &str) -> String {
    let kind = format!("\"kind\":\"{}\"", resource.kind());
    let api_version = format!("\"apiVersion\":\"{}\"", resource.api_version());
    match resource.is_built_in() {
        true => format!("{{{kind},{api_version},{bare}}}"),
        false => format!("{{{api_version},{kind},{bare}}}"),
    }
}

/// The fields, without braces.
fn bare(object: &Object) -> String {
    let Object { uid, rv, value, .. } = object;
    let (namespace, name) = (&object.key.namespace, &object.key.name);
    let labels = match object.labels.is_empty() {
        true => String::new(),
        false => format!("\"labels\":{},", json!(object.labels)),
    };
    let annotations = format!("\"annotations\":{{\"{VALUE}\":\"{value}\"}}");
    let metadata = match object.key.resource.is_built_in() {
        true => format!(
            "\"name\":\"{name}\",\"namespace\":\"{namespace}\",\"uid\":\"{uid}\",\"resourceVersion\":\"{rv}\",{labels}{annotations}"
        ),
        false => format!(
            "{annotations},{labels}\"name\":\"{name}\",\"namespace\":\"{namespace}\",\"resourceVersion\":\"{rv}\",\"uid\":\"{uid}\""
        ),
    };
    let spec = match object.key.resource {
        Resource::Pods => format!(",\"spec\":{{\"nodeName\":\"{}\"}}", object.node),
        Resource::ConfigMaps | Resource::Widgets => String::new(),
    };
    format!("\"metadata\":{{{metadata}}}{spec}")
}

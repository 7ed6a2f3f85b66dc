//! The parser behind [`RequestInfo::parse`].

use http::Method;
use percent_encoding::percent_decode_str;

use super::query::{self, Query};
use super::selector::{FieldOperator, FieldRequirement, FieldSelector, LabelSelector};
use super::{ListOptions, ObjectKey, ParseError, RequestInfo, Scope, Verb, Written};

/// What follows `namespaces/NAME` and is still the Namespace object's own.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// Subresources through which the object itself is changed. Not `token`, `exec` and their like.
const CHANGING_SUBRESOURCES: [&str; 9] = [
    "",
    "status",
    "scale",
    "binding",
    "eviction",
    "finalize",
    "approval",
    "ephemeralcontainers",
    "resize",
];

/// Subresources that are answered with the object itself.
const SHOWING_SUBRESOURCES: [&str; 2] = ["", "status"];

pub(super) fn parse(method: &Method, uri: &http::Uri) -> Result<RequestInfo, ParseError> {
    let path = decode_path(uri.path())?;
    let mut info = non_resource(method, path, uri.query().unwrap_or_default());
    let path = info.path.clone();
    let Some(rest) = split_prefix(&mut info, &path) else {
        return Ok(info);
    };
    info.is_resource_request = true;
    info.verb = verb_of(method);
    let rest = take_legacy_prefix(&mut info, rest)?;
    take_parts(&mut info, rest);
    read_query(&mut info);
    Ok(info)
}

pub(super) fn scope(info: &RequestInfo) -> Option<Scope> {
    let names_one = info.legacy_watch && info.parts.len() == 2;
    let served = info.method_is_get
        && matches!(info.verb, Verb::List | Verb::Watch)
        && (info.parts.len() == 1 || names_one)
        && has_served_path(info);
    if !served {
        return None;
    }
    Some(Scope {
        resource: info.group_version_resource(),
        namespace: Some(object_namespace(info)).filter(|namespace| !namespace.is_empty()),
        label_selector: LabelSelector::canonical(&info.options.label_selector),
        field_selector: FieldSelector::canonical(&if names_one {
            named_field_selector(info)?
        } else {
            info.options.field_selector.clone()
        }),
    })
}

pub(super) fn object(info: &RequestInfo) -> Option<ObjectKey> {
    let main = info.parts.len() == 2;
    let status = info.parts.len() == 3 && info.subresource == "status";
    let served =
        info.method_is_get && info.verb == Verb::Get && (main || status) && has_served_path(info);
    served.then(|| ObjectKey {
        resource: info.group_version_resource(),
        namespace: object_namespace(info),
        name: info.name.clone(),
    })
}

pub(super) fn written(info: &RequestInfo) -> Option<Written> {
    let (parts, subresource) = (info.parts.len(), info.subresource.as_str());
    let named = match info.verb {
        Verb::Create => parts == 3,
        Verb::Update | Verb::Patch | Verb::Delete => matches!(parts, 2 | 3),
        _ => return None,
    };
    let created = info.verb == Verb::Create && parts == 1;
    let query = Query::parse(&info.query);
    let changes = (named || created)
        && has_served_path(info)
        && CHANGING_SUBRESOURCES.contains(&subresource)
        && !info.resource.ends_with("reviews")
        && query.first("dryRun").is_empty();
    changes.then(|| Written {
        object: ObjectKey {
            resource: info.group_version_resource(),
            namespace: object_namespace(info),
            name: info.name.clone(),
        },
        shown: info.verb != Verb::Delete
            && SHOWING_SUBRESOURCES.contains(&subresource)
            && query.changes_answer().is_none(),
    })
}

fn non_resource(method: &Method, path: String, query: &str) -> RequestInfo {
    let method_is_get = method == Method::GET;
    RequestInfo {
        is_resource_request: false,
        method_is_get,
        path,
        query: query.to_owned(),
        verb: if method_is_get {
            Verb::Get
        } else {
            Verb::Other
        },
        api_prefix: String::new(),
        api_group: String::new(),
        api_version: String::new(),
        namespace: String::new(),
        resource: String::new(),
        subresource: String::new(),
        name: String::new(),
        parts: Vec::new(),
        legacy_watch: false,
        options: ListOptions::default(),
        whole_rows: false,
        unmodelled_query: None,
    }
}

fn decode_path(path: &str) -> Result<String, ParseError> {
    if !query::is_well_escaped(path) {
        return Err(ParseError::Encoding);
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(path) => Ok(path.into_owned()),
        Err(_) => Err(ParseError::Encoding),
    }
}

/// Takes `api/VERSION` or `apis/GROUP/VERSION` off the path; `None` for a non-resource path.
fn split_prefix<'p>(info: &mut RequestInfo, path: &'p str) -> Option<Vec<&'p str>> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, version, rest),
        _ => return None,
    };
    info.api_prefix = parts[0].to_owned();
    info.api_group = group.to_owned();
    info.api_version = (*version).to_owned();
    Some(rest.to_vec())
}

fn verb_of(method: &Method) -> Verb {
    match *method {
        Method::POST => Verb::Create,
        Method::GET | Method::HEAD => Verb::Get,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    }
}

fn take_legacy_prefix<'p>(
    info: &mut RequestInfo,
    mut rest: Vec<&'p str>,
) -> Result<Vec<&'p str>, ParseError> {
    let (verb, prefix) = match rest.first() {
        Some(&"watch") => (Verb::Watch, "watch"),
        Some(&"proxy") => (Verb::Proxy, "proxy"),
        _ => return Ok(rest),
    };
    if rest.len() < 2 {
        return Err(ParseError::DanglingPrefix(prefix));
    }
    info.verb = verb;
    info.legacy_watch = verb == Verb::Watch;
    rest.remove(0);
    Ok(rest)
}

/// `namespaces/NAME/resource/...` or `resource/...`. A Namespace object's own name is its namespace too.
fn take_parts(info: &mut RequestInfo, mut rest: Vec<&str>) {
    if let ["namespaces", namespace, tail @ ..] = rest.as_slice() {
        info.namespace = (*namespace).to_owned();
        let own = tail
            .first()
            .is_none_or(|next| NAMESPACE_SUBRESOURCES.contains(next));
        if !own {
            rest.drain(..2);
        }
    }
    let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
    info.resource = part(0);
    info.name = part(1);
    if info.verb != Verb::Proxy {
        info.subresource = part(2);
    }
    info.parts = rest.iter().map(|part| (*part).to_owned()).collect();
}

/// Turns get and delete without a name into list, watch and deletecollection, and reads the options they come with.
fn read_query(info: &mut RequestInfo) {
    let query = Query::parse(&info.query);
    if info.name.is_empty() && info.verb == Verb::Get {
        let (options, decoded) = query.list_options();
        info.verb = if options.watch {
            Verb::Watch
        } else {
            Verb::List
        };
        if decoded && let Some(name) = query::selected_name(&options.field_selector) {
            info.name = name;
        }
        info.options = options;
    } else if info.legacy_watch {
        info.options = query.list_options().0;
    } else if info.verb == Verb::Get {
        info.options.resource_version = query.first("resourceVersion").to_owned();
        info.unmodelled_query = query.unknown();
    } else if info.name.is_empty() && info.verb == Verb::Delete {
        info.verb = Verb::DeleteCollection;
        info.options.label_selector = query.first("labelSelector").to_owned();
        info.options.field_selector = query.first("fieldSelector").to_owned();
    }
    if matches!(info.verb, Verb::Get | Verb::List | Verb::Watch) {
        info.whole_rows = query.first("includeObject") == "Object";
        info.unmodelled_query = query.changes_answer().or(info.unmodelled_query.take());
    }
}

/// A path that an API server can have a route for. Others are read like Kubernetes reads them, are 404 there, and must not be
/// taken for the object or scope they resemble: that 404 would prove something else gone.
fn has_served_path(info: &RequestInfo) -> bool {
    let segments = || info.path.trim_matches('/').split('/');
    let doubled_namespace = info.resource == "namespaces" && {
        let own = info.parts.len();
        let prefix = if info.api_prefix == "api" { 2 } else { 3 };
        segments().count() != prefix + usize::from(info.legacy_watch) + own
    };
    !doubled_namespace && segments().all(|segment| !segment.is_empty())
}

/// The namespace an object lives in: none for a Namespace, whose RequestInfo carries its own name.
fn object_namespace(info: &RequestInfo) -> String {
    if info.resource == "namespaces" {
        String::new()
    } else {
        info.namespace.clone()
    }
}

/// `/watch/.../NAME` is a watch with `metadata.name=NAME`; a selector that asks for anything else is a 400 upstream.
fn named_field_selector(info: &RequestInfo) -> Option<String> {
    let selector = &info.options.field_selector;
    if selector.is_empty() {
        // A term of its own, whatever the name holds: `a,` must not be taken for `a`, which it is not.
        let named = FieldRequirement {
            field: "metadata.name".to_owned(),
            operator: FieldOperator::Equals,
            value: info.name.clone(),
        };
        return Some(named.to_string());
    }
    (query::selected_name(selector)? == info.name).then(|| selector.clone())
}

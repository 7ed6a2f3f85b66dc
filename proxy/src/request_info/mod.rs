//! Step 4: method + URI -> [`RequestInfo`], by Kubernetes' own rules and with its field names. Pure.
//!
//! Source of the rules: `apiserver:pkg/endpoints/request/requestinfo.go`.

pub mod accept;
mod parse;
mod query;
pub mod selector;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use std::fmt;

/// The verb as RBAC sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// The legacy `/proxy/` prefix.
    Proxy,
    /// A method that Kubernetes has no verb for, or a non-resource request other than GET.
    Other,
}

/// group, version, resource; `group` is empty for the core group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    pub group: String,
    pub version: String,
    pub resource: String,
}

/// What a LIST or WATCH covers. Selectors are in their one text ([`selector`]), empty when absent; what is none is the raw query value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    pub resource: GroupVersionResource,
    /// `None`: all namespaces, or a cluster-scoped resource.
    pub namespace: Option<String>,
    pub label_selector: String,
    pub field_selector: String,
}

/// One object. `namespace` is empty for cluster-scoped resources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub resource: GroupVersionResource,
    pub namespace: String,
    pub name: String,
}

/// What a write changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `name` is empty for a CREATE: its answer tells it.
    pub object: ObjectKey,
    /// A 2xx answer shows the object itself. That of a DELETE does not tell whether it does: its options, a dry run among
    /// them, are in the body.
    pub shown: bool,
}

/// The query of a LIST or WATCH, decoded as `meta/v1 ListOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    pub watch: bool,
    pub allow_watch_bookmarks: bool,
    /// As written; empty when absent.
    pub resource_version: String,
    pub resource_version_match: String,
    /// Seconds.
    pub timeout_seconds: Option<u64>,
    pub limit: Option<u64>,
    pub continue_token: String,
    pub send_initial_events: Option<bool>,
    /// A list option this version does not know (`shardSelector`), or one that does not decode (`limit=many`): such an answer is
    /// not learnt from nor answered from the cache.
    pub unknown: Option<String>,
}

/// Everything policy needs to know of a request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource_request: bool,
    /// The method is GET. The verb does not tell: HEAD has the verb of a GET, and a legacy `/watch/` path makes every method a watch.
    pub method_is_get: bool,
    /// The decoded path.
    pub path: String,
    /// The query as on the wire, empty when there is none. With the path it is the key of a non-resource answer.
    pub query: String,
    pub verb: Verb,
    /// `api` or `apis`; empty for non-resource requests.
    pub api_prefix: String,
    pub api_group: String,
    pub api_version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    /// Of the path; for a LIST or WATCH of one object by its name also of the field selector.
    pub name: String,
    /// resource / name / subresource / what is left; empty for non-resource requests.
    pub parts: Vec<String>,
    /// Reached through the legacy `/watch/` prefix.
    pub legacy_watch: bool,
    /// Of a LIST or WATCH. A GET of one object has no more than `resource_version`, a DELETECOLLECTION no more than the selectors.
    pub options: ListOptions,
    /// The rows of a Table are to have their objects whole (`includeObject=Object`), not their metadata alone.
    pub whole_rows: bool,
    /// A query parameter of a GET or LIST that changes what comes back and that the cache does not model (e.g. `pretty`): its name.
    pub unmodelled_query: Option<String>,
}

/// Why a request line is not one Kubernetes would understand. Such a request is passed upstream and never answered from the cache.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the path is not valid percent-encoded UTF-8")]
    Encoding,
    #[error("the legacy prefix {0:?} has nothing behind it")]
    DanglingPrefix(&'static str),
}

impl RequestInfo {
    /// Parses a request line. `path` and `query` are as on the wire (percent-encoded).
    pub fn parse(method: &http::Method, uri: &http::Uri) -> Result<Self, ParseError> {
        parse::parse(method, uri)
    }

    pub fn group_version_resource(&self) -> GroupVersionResource {
        GroupVersionResource {
            group: self.api_group.clone(),
            version: self.api_version.clone(),
            resource: self.resource.clone(),
        }
    }

    /// The scope of a LIST or WATCH; `None` for every other request, for one with a subresource, and for a path no API server serves.
    /// A legacy watch of one object has the field selector that the API server gives it.
    pub fn scope(&self) -> Option<Scope> {
        parse::scope(self)
    }

    /// The object that a GET of a main resource (or of its `status`) reads; `None` for everything else, and for a path no API server serves.
    /// A 404 of a `status` says nothing of the object: its resource may have no such subresource.
    pub fn object(&self) -> Option<ObjectKey> {
        parse::object(self)
    }

    /// The object that a write changes, through itself or one of its subresources; `None` for a dry run, for what stores nothing
    /// (reviews, tokens), for a DELETECOLLECTION, for every other request, and for a path no API server serves.
    pub fn written(&self) -> Option<Written> {
        parse::written(self)
    }

    /// get, list or watch of a resource, or a GET of a non-resource path: what a cache may answer at all.
    pub fn is_read(&self) -> bool {
        self.method_is_get && matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }
}

impl Verb {
    /// Kubernetes' own lower-case word; `other` for none.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Proxy => "proxy",
            Verb::Other => "other",
        }
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            write!(f, "{}/{}", self.version, self.resource)
        } else {
            write!(f, "{}/{}/{}", self.group, self.version, self.resource)
        }
    }
}

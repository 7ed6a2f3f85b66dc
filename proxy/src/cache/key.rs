//! What facts are called: in memory, and in the store.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::form::Form;
use crate::request_info::{GroupVersionResource, ObjectKey, Scope};

/// Separates the parts of a store key. No part may hold it.
const SEPARATOR: char = '\0';

/// An object within its resource: `namespace/name`, or `name` when it is cluster-scoped.
///
/// Its byte order is the order of a list: the API server sorts by storage key, where `-` and `.` come before `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectId(Arc<str>);

impl ObjectId {
    /// `None` for what cannot be a name: such an object could not be told from another.
    pub(super) fn new(namespace: &str, name: &str) -> Option<Self> {
        let is_part = |part: &str| !part.contains(['/', SEPARATOR]);
        if name.is_empty() || !is_part(name) || !is_part(namespace) {
            return None;
        }
        Some(Self(match namespace {
            "" => name.into(),
            namespace => format!("{namespace}/{name}").into(),
        }))
    }

    pub(super) fn of(key: &ObjectKey) -> Option<Self> {
        Self::new(&key.namespace, &key.name)
    }

    /// Empty for a cluster-scoped object.
    pub(super) fn namespace(&self) -> &str {
        self.0
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    pub(super) fn name(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, name)| name)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes back what [`as_str`](Self::as_str) gave.
    pub(super) fn from_stored(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some((namespace, name)) => Self::new(namespace, name),
            None => Self::new("", text),
        }
    }

    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        namespace.is_none_or(|namespace| self.namespace() == namespace)
    }
}

impl Borrow<str> for ObjectId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A resource whatever its version: the same objects are behind all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupResource {
    pub(super) group: String,
    pub(super) resource: String,
}

impl GroupResource {
    pub(super) fn of(resource: &GroupVersionResource) -> Self {
        Self {
            group: resource.group.clone(),
            resource: resource.resource.clone(),
        }
    }

    pub(super) fn is_secrets(&self) -> bool {
        self.group.is_empty() && self.resource == "secrets"
    }

    pub(super) fn is_nodes(&self) -> bool {
        self.group.is_empty() && self.resource == "nodes"
    }

    /// Renewed every few seconds for as long as a node lives; a disk should not be worn out by them.
    pub(super) fn is_heartbeat(&self) -> bool {
        self.group == "coordination.k8s.io" && self.resource == "leases"
    }
}

/// The `apiVersion` of a resource's objects.
pub(super) fn api_version(resource: &GroupVersionResource) -> String {
    match resource.group.as_str() {
        "" => resource.version.clone(),
        group => format!("{group}/{}", resource.version),
    }
}

/// Whether a scope is narrowed by nothing but its namespace.
pub(super) fn is_unfiltered(scope: &Scope) -> bool {
    scope.label_selector.is_empty() && scope.field_selector.is_empty()
}

/// One state of an object: its version, form and RV.
pub(super) type StateName<'s> = (&'s str, Form, u64);

/// The store key of a fact. Its states are beside each other, so that to replace one is to change one page.
pub(super) fn fact_key(
    resource: &GroupResource,
    (version, form, resource_version): StateName<'_>,
    id: &ObjectId,
) -> Vec<u8> {
    [
        &resource.group,
        &resource.resource,
        version,
        form.word(),
        id.as_str(),
        &resource_version.to_string(),
    ]
    .join(&SEPARATOR.to_string())
    .into_bytes()
}

/// Takes a fact's store key apart; `None` when it is none.
pub(super) fn parse_fact_key(key: &[u8]) -> Option<(GroupResource, StateName<'_>, ObjectId)> {
    let mut parts = std::str::from_utf8(key).ok()?.splitn(6, SEPARATOR);
    let resource = GroupResource {
        group: parts.next()?.to_owned(),
        resource: parts.next()?.to_owned(),
    };
    let version = parts.next()?;
    let form = Form::parse(parts.next()?)?;
    let id = ObjectId::from_stored(parts.next()?)?;
    let resource_version = parts.next()?.parse().ok()?;
    Some((resource, (version, form, resource_version), id))
}

/// The store key of a collection's member; its first eight bytes are the collection's own key.
pub(super) fn member_key(collection: u64, id: &ObjectId) -> Vec<u8> {
    [&collection.to_be_bytes(), id.as_str().as_bytes()].concat()
}

pub(super) fn parse_member_key(key: &[u8]) -> Option<(u64, ObjectId)> {
    let (collection, id) = key.split_first_chunk::<8>()?;
    let id = ObjectId::from_stored(std::str::from_utf8(id).ok()?)?;
    Some((u64::from_be_bytes(*collection), id))
}

pub(super) fn response_key(path: &str, accept: &str) -> Vec<u8> {
    format!("{path}{SEPARATOR}{accept}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_ordered_as_the_api_server_orders_a_list() {
        let id = |namespace, name| ObjectId::new(namespace, name).expect("a name");
        assert!(id("a-b", "x") < id("a", "a"));
        assert!(id("a.b", "x") < id("a", "a"));
        assert!(id("a", "b") < id("a", "c"));
        assert!(id("a", "z") < id("ab", "a"));
    }

    #[test]
    fn a_name_that_could_be_taken_for_another_is_none() {
        for (namespace, name) in [("", ""), ("a", ""), ("", "a/b"), ("a/b", "c"), ("", "a\0b")] {
            assert_eq!(
                ObjectId::new(namespace, name),
                None,
                "{namespace:?} {name:?}"
            );
        }
    }

    #[test]
    fn store_keys_are_read_back() {
        let resource = GroupResource {
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
        };
        let id = ObjectId::new("a", "b").expect("a name");
        let state = ("v1", Form::PROTOBUF, 7);
        let key = fact_key(&resource, state, &id);
        let parsed = parse_fact_key(&key).expect("a key");
        assert_eq!(parsed, (resource, state, id.clone()));
        assert_eq!(parse_member_key(&member_key(7, &id)), Some((7, id)));
        assert_eq!(parse_fact_key(b"rubbish"), None);
        assert_eq!(parse_member_key(b"short"), None);
    }
}

//! The columns of the Tables that the upstream showed of each resource.

use std::collections::HashMap;

use bytes::Bytes;

use crate::request_info::GroupVersionResource;

/// Far more resources than anyone looks at by hand; a column definition is a few hundred bytes.
const MAX_RESOURCES: usize = 512;

/// `columnDefinitions` as they were written, by resource.
#[derive(Default)]
pub(super) struct Columns(HashMap<GroupVersionResource, Bytes>);

impl Columns {
    pub(super) fn get(&self, resource: &GroupVersionResource) -> Option<&Bytes> {
        self.0.get(resource)
    }

    /// Whether that was news.
    pub(super) fn insert(&mut self, resource: &GroupVersionResource, columns: &Bytes) -> bool {
        if columns.is_empty() || self.0.get(resource) == Some(columns) {
            return false;
        }
        if self.0.len() >= MAX_RESOURCES && !self.0.contains_key(resource) {
            return false;
        }
        // Its own allocation: a slice would keep the whole of what it came in.
        let columns = Bytes::copy_from_slice(columns);
        self.0.insert(resource.clone(), columns);
        true
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&GroupVersionResource, &Bytes)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> GroupVersionResource {
        GroupVersionResource {
            group: String::new(),
            version: "v1".to_owned(),
            resource: name.to_owned(),
        }
    }

    #[test]
    fn the_latest_columns_count_and_an_event_without_any_takes_none_away() {
        let mut columns = Columns::default();
        let (first, second) = (Bytes::from_static(b"[1]"), Bytes::from_static(b"[2]"));
        assert!(columns.insert(&resource("pods"), &first));
        assert!(!columns.insert(&resource("pods"), &first));
        assert!(!columns.insert(&resource("pods"), &Bytes::new()));
        assert!(columns.insert(&resource("pods"), &second));
        assert_eq!(columns.get(&resource("pods")), Some(&second));
    }

    #[test]
    fn resources_are_bounded() {
        let mut columns = Columns::default();
        for n in 0..=MAX_RESOURCES {
            columns.insert(&resource(&n.to_string()), &Bytes::from_static(b"[]"));
        }
        assert_eq!(columns.all().count(), MAX_RESOURCES);
    }
}

//! Every state the API server was ever in: one sequence of changes, and the content of any scope at any RV.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scope::{Resource, Scope};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Lists are in the byte order of this, so that namespace `a-b` precedes `a`.
    pub fn in_list_order(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub fn path(&self) -> String {
        format!(
            "{}/{}",
            self.resource.path(Some(&self.namespace)),
            self.name
        )
    }
}

/// An object at one RV, as far as histories look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub key: Key,
    pub uid: String,
    pub rv: u64,
    pub labels: BTreeMap<String, String>,
    /// `spec.nodeName`, of pods.
    pub node: String,
    /// Changes with each write.
    pub value: u64,
}

/// What happened to one object.
#[derive(Clone, Debug)]
pub struct Change {
    pub rv: u64,
    pub before: Option<Arc<Object>>,
    pub after: Option<Arc<Object>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// A change as one scope's watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// Of a deletion, and of an object that leaves the selection, the old one, at the new RV.
    pub object: Object,
}

/// The content of a scope, in list order.
pub type Content = BTreeMap<String, Arc<Object>>;

/// Grows only: what was true at an RV stays known.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    changes: Vec<Change>,
    now: BTreeMap<Key, Arc<Object>>,
    rv: u64,
}

impl Truth {
    /// Nothing, at an RV.
    pub fn new(rv: u64) -> Self {
        Self {
            rv,
            ..Self::default()
        }
    }

    /// The RV of the latest write, of any kind.
    pub fn rv(&self) -> u64 {
        self.rv
    }

    /// Something no history looks at was written.
    pub fn written_elsewhere(&mut self) {
        self.rv += 1;
    }

    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.now.get(key)
    }

    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The object was created or changed; its RV is later than any before.
    pub fn put(&mut self, object: Object) -> Arc<Object> {
        debug_assert!(object.rv > self.rv);
        self.rv = object.rv;
        let object = Arc::new(object);
        let before = self.now.insert(object.key.clone(), object.clone());
        self.changes.push(Change {
            rv: object.rv,
            before,
            after: Some(object.clone()),
        });
        object
    }

    /// The object was deleted, at an RV later than any before.
    pub fn delete(&mut self, key: &Key, rv: u64) -> Option<Arc<Object>> {
        debug_assert!(rv > self.rv);
        let before = self.now.remove(key)?;
        self.rv = rv;
        self.changes.push(Change {
            rv,
            before: Some(before.clone()),
            after: None,
        });
        Some(before)
    }

    pub fn content(&self, scope: &Scope, rv: u64) -> Content {
        let mut content = Content::new();
        for change in self.changes.iter().take_while(|change| change.rv <= rv) {
            let key = change.key();
            if !scope.holds(key) {
                continue;
            }
            match change.after.as_ref().filter(|after| scope.matches(after)) {
                Some(after) => content.insert(key.in_list_order(), after.clone()),
                None => content.remove(&key.in_list_order()),
            };
        }
        content
    }

    /// What a watch of the scope tells of the changes after one RV and until another.
    pub fn events(&self, scope: &Scope, after: u64, until: u64) -> Vec<Event> {
        let from = self.changes.partition_point(|change| change.rv <= after);
        self.changes[from..]
            .iter()
            .take_while(|change| change.rv <= until)
            .filter_map(|change| change.event(scope))
            .collect()
    }

    /// The object as it was written at an RV.
    pub fn version(&self, key: &Key, rv: u64) -> Option<&Arc<Object>> {
        self.change_at(rv)?
            .after
            .as_ref()
            .filter(|after| after.key == *key)
    }

    /// The object as it was at an RV.
    pub fn at(&self, key: &Key, rv: u64) -> Option<&Arc<Object>> {
        let until = self.changes.partition_point(|change| change.rv <= rv);
        let last = self.changes[..until]
            .iter()
            .rfind(|change| change.key() == key);
        last.and_then(|change| change.after.as_ref())
    }

    /// When the object was next written or deleted after an RV.
    pub fn next_change(&self, key: &Key, after: u64) -> Option<u64> {
        let from = self.changes.partition_point(|change| change.rv <= after);
        let next = self.changes[from..]
            .iter()
            .find(|change| change.key() == key);
        next.map(|change| change.rv)
    }

    fn change_at(&self, rv: u64) -> Option<&Change> {
        let at = self.changes.partition_point(|change| change.rv < rv);
        self.changes.get(at).filter(|change| change.rv == rv)
    }
}

impl Change {
    pub fn key(&self) -> &Key {
        let object = self.after.as_ref().or(self.before.as_ref());
        &object.expect("something changed").key
    }

    fn event(&self, scope: &Scope) -> Option<Event> {
        let of =
            |object: &Option<Arc<Object>>| object.clone().filter(|object| scope.matches(object));
        let event = |kind, object: &Object| Event {
            kind,
            object: Object {
                rv: self.rv,
                ..object.clone()
            },
        };
        match (of(&self.before), of(&self.after)) {
            (None, None) => None,
            (None, Some(after)) => Some(event(EventKind::Added, &after)),
            (Some(_), Some(after)) => Some(event(EventKind::Modified, &after)),
            (Some(before), None) => Some(event(EventKind::Deleted, &before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Label;

    fn object(name: &str, rv: u64, tier: &str) -> Object {
        Object {
            key: Key::new(Resource::ConfigMaps, "a", name),
            uid: name.to_owned(),
            rv,
            labels: [("tier".to_owned(), tier.to_owned())].into(),
            node: String::new(),
            value: rv,
        }
    }

    #[test]
    fn an_object_that_leaves_a_selection_is_told_as_deleted_as_it_was_at_the_new_rv() {
        let mut truth = Truth::new(10);
        truth.put(object("x", 11, "front"));
        truth.written_elsewhere();
        truth.put(object("x", 13, "back"));
        truth.put(object("x", 14, "back"));
        truth.put(object("x", 15, "front"));
        truth.delete(&Key::new(Resource::ConfigMaps, "a", "x"), 16);
        let front = Scope {
            labels: vec![Label::Is("tier".to_owned(), "front".to_owned())],
            ..Scope::all(Resource::ConfigMaps)
        };
        let told = truth.events(&front, 10, 99);
        let told: Vec<_> = told
            .iter()
            .map(|event| (event.kind, event.object.rv, event.object.value))
            .collect();
        use EventKind::*;
        assert_eq!(
            told,
            [
                (Added, 11, 11),
                (Deleted, 13, 11),
                (Added, 15, 15),
                (Deleted, 16, 15)
            ]
        );
        assert_eq!(truth.content(&front, 12).len(), 1);
        assert_eq!(truth.content(&front, 14).len(), 0);
        assert_eq!(truth.events(&front, 11, 14).len(), 1);
    }
}

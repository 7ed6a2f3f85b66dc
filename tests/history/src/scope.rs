//! What a LIST or WATCH covers, and whether an object is in it: an implementation of the selectors of its own, so that it
//! can judge the proxy's.
//!
//! Sources of the rules: `apimachinery:pkg/labels/selector.go`, `apimachinery:pkg/fields/selector.go`.

use std::fmt;

use crate::truth::{Key, Object};

/// The kinds that histories are about: two built-in ones, one with a field of its own to select by, and a custom one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    ConfigMaps,
    Pods,
    Widgets,
}

impl Resource {
    pub const ALL: [Self; 3] = [Self::ConfigMaps, Self::Pods, Self::Widgets];

    /// The plural, as in the path.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmaps",
            Self::Pods => "pods",
            Self::Widgets => "widgets",
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::ConfigMaps => "ConfigMap",
            Self::Pods => "Pod",
            Self::Widgets => "Widget",
        }
    }

    pub fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMaps | Self::Pods => "v1",
            Self::Widgets => "history.holdfast.dev/v1",
        }
    }

    /// Items of its lists carry no TypeMeta.
    pub fn is_built_in(self) -> bool {
        self != Self::Widgets
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::ConfigMaps | Self::Pods => "/api/v1",
            Self::Widgets => "/apis/history.holdfast.dev/v1",
        }
    }

    /// The path of its collection, in one namespace or in all.
    pub fn path(self, namespace: Option<&str>) -> String {
        let (prefix, plural) = (self.prefix(), self.plural());
        match namespace {
            Some(namespace) => format!("{prefix}/namespaces/{namespace}/{plural}"),
            None => format!("{prefix}/{plural}"),
        }
    }

    /// Of a path and the rest behind it.
    pub fn of_path(path: &str) -> Option<(Self, Option<&str>, Option<&str>)> {
        let of = |resource: Self| {
            let rest = path.strip_prefix(resource.prefix())?.strip_prefix('/')?;
            let parts: Vec<&str> = rest.split('/').collect();
            match parts.as_slice() {
                [plural] if *plural == resource.plural() => Some((resource, None, None)),
                ["namespaces", namespace, plural] if *plural == resource.plural() => {
                    Some((resource, Some(*namespace), None))
                }
                ["namespaces", namespace, plural, name] if *plural == resource.plural() => {
                    Some((resource, Some(*namespace), Some(*name)))
                }
                _ => None,
            }
        };
        Self::ALL.into_iter().find_map(of)
    }
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

impl Label {
    fn matches(&self, object: &Object) -> bool {
        let value = |key: &String| object.labels.get(key);
        match self {
            Self::Is(key, wanted) => value(key) == Some(wanted),
            Self::IsNot(key, unwanted) => value(key) != Some(unwanted),
            Self::In(key, wanted) => value(key).is_some_and(|value| wanted.contains(value)),
            Self::NotIn(key, unwanted) => value(key).is_none_or(|value| !unwanted.contains(value)),
            Self::Has(key) => value(key).is_some(),
            Self::HasNot(key) => value(key).is_none(),
        }
    }

    fn parse(term: &str) -> Option<Self> {
        let of = |list: &str| -> Option<Vec<String>> {
            let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some(list.split(',').map(str::to_owned).collect())
        };
        if let Some((key, list)) = term.split_once(" notin ") {
            return Some(Self::NotIn(key.to_owned(), of(list)?));
        }
        if let Some((key, list)) = term.split_once(" in ") {
            return Some(Self::In(key.to_owned(), of(list)?));
        }
        if let Some((key, value)) = term.split_once("!=") {
            return Some(Self::IsNot(key.to_owned(), value.to_owned()));
        }
        if let Some((key, value)) = term.split_once('=') {
            return Some(Self::Is(key.to_owned(), value.to_owned()));
        }
        Some(match term.strip_prefix('!') {
            Some(key) => Self::HasNot(key.to_owned()),
            None => Self::Has(term.to_owned()),
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(key, value) => write!(f, "{key}={value}"),
            Self::IsNot(key, value) => write!(f, "{key}!={value}"),
            Self::In(key, values) => write!(f, "{key} in ({})", values.join(",")),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", values.join(",")),
            Self::Has(key) => write!(f, "{key}"),
            Self::HasNot(key) => write!(f, "!{key}"),
        }
    }
}

/// One term of a field selector: `path=value`, or `path!=value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    pub path: String,
    pub equal: bool,
    pub value: String,
}

impl Field {
    pub fn is(path: &str, value: &str) -> Self {
        Self {
            path: path.to_owned(),
            equal: true,
            value: value.to_owned(),
        }
    }

    pub fn is_not(path: &str, value: &str) -> Self {
        Self {
            equal: false,
            ..Self::is(path, value)
        }
    }

    fn matches(&self, object: &Object) -> bool {
        let value = match self.path.as_str() {
            "metadata.name" => &object.key.name,
            "metadata.namespace" => &object.key.namespace,
            "spec.nodeName" => &object.node,
            _ => return false,
        };
        (*value == self.value) == self.equal
    }

    fn parse(term: &str) -> Option<Self> {
        if let Some((path, value)) = term.split_once("!=") {
            return Some(Self::is_not(path, value));
        }
        let (path, value) = term.split_once('=')?;
        Some(Self::is(path, value.strip_prefix('=').unwrap_or(value)))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.equal { "=" } else { "!=" };
        write!(f, "{}{sign}{}", self.path, self.value)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    pub resource: Resource,
    pub namespace: Option<String>,
    pub labels: Vec<Label>,
    pub fields: Vec<Field>,
}

impl Scope {
    pub fn all(resource: Resource) -> Self {
        Self {
            resource,
            namespace: None,
            labels: Vec::new(),
            fields: Vec::new(),
        }
    }

    pub fn of_one(key: &Key) -> Self {
        Self {
            namespace: Some(key.namespace.clone()),
            fields: vec![Field::is("metadata.name", &key.name)],
            ..Self::all(key.resource)
        }
    }

    pub fn is_unfiltered(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn holds(&self, key: &Key) -> bool {
        key.resource == self.resource
            && (self.namespace.as_ref()).is_none_or(|namespace| *namespace == key.namespace)
    }

    pub fn matches(&self, object: &Object) -> bool {
        self.holds(&object.key)
            && self.labels.iter().all(|term| term.matches(object))
            && self.fields.iter().all(|term| term.matches(object))
    }

    /// The path, and the selectors as query parameters.
    pub fn target(&self) -> (String, Vec<(&'static str, String)>) {
        let mut query = Vec::new();
        if !self.labels.is_empty() {
            query.push(("labelSelector", join(&self.labels)));
        }
        if !self.fields.is_empty() {
            query.push(("fieldSelector", join(&self.fields)));
        }
        (self.resource.path(self.namespace.as_deref()), query)
    }

    /// What a request line asks for; the inverse of [`target`](Self::target) for what that writes.
    pub fn parse(path: &str, labels: &str, fields: &str) -> Option<Self> {
        let (resource, namespace, None) = Resource::of_path(path)? else {
            return None;
        };
        let labels: Option<Vec<_>> = terms(labels).map(Label::parse).collect();
        let fields: Option<Vec<_>> = terms(fields).map(Field::parse).collect();
        Some(Self {
            resource,
            namespace: namespace.map(str::to_owned),
            labels: labels?,
            fields: fields?,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.target();
        write!(f, "{path}")?;
        query
            .iter()
            .try_for_each(|(_, value)| write!(f, " {value}"))
    }
}

fn join<T: ToString>(terms: &[T]) -> String {
    let terms: Vec<String> = terms.iter().map(ToString::to_string).collect();
    terms.join(",")
}

/// Split at the commas that are not in parentheses.
fn terms(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    selector
        .split(move |letter| {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            letter == ',' && depth == 0
        })
        .filter(|term| !term.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(labels: Vec<Label>, fields: Vec<Field>) -> Scope {
        Scope {
            namespace: Some("a".to_owned()),
            labels,
            fields,
            ..Scope::all(Resource::Pods)
        }
    }

    fn object(tier: Option<&str>, node: &str) -> Object {
        Object {
            key: Key::new(Resource::Pods, "a", "x"),
            uid: "1".to_owned(),
            rv: 1,
            labels: tier
                .map(|tier| ("tier".to_owned(), tier.to_owned()))
                .into_iter()
                .collect(),
            node: node.to_owned(),
            value: 0,
        }
    }

    #[test]
    fn not_equal_and_not_in_match_an_absent_label() {
        let [front, none] = [object(Some("front"), ""), object(None, "")];
        let tier = || "tier".to_owned();
        let lists = || vec!["front".to_owned(), "back".to_owned()];
        for (term, of_front, of_none) in [
            (Label::Is(tier(), "front".to_owned()), true, false),
            (Label::IsNot(tier(), "front".to_owned()), false, true),
            (Label::In(tier(), lists()), true, false),
            (Label::NotIn(tier(), lists()), false, true),
            (Label::Has(tier()), true, false),
            (Label::HasNot(tier()), false, true),
        ] {
            let scope = scope(vec![term], Vec::new());
            assert_eq!(scope.matches(&front), of_front, "{scope}");
            assert_eq!(scope.matches(&none), of_none, "{scope}");
        }
    }

    #[test]
    fn fields_are_compared_with_what_the_object_holds() {
        let on_node = object(None, "node-1");
        for (field, expected) in [
            (Field::is("spec.nodeName", "node-1"), true),
            (Field::is_not("spec.nodeName", "node-1"), false),
            (Field::is("metadata.name", "y"), false),
            (Field::is("metadata.namespace", "a"), true),
        ] {
            assert_eq!(scope(Vec::new(), vec![field]).matches(&on_node), expected);
        }
    }

    #[test]
    fn what_is_asked_for_can_be_read_from_the_request() {
        let list = vec!["front".to_owned(), "back".to_owned()];
        let labels = vec![
            Label::In("tier".to_owned(), list.clone()),
            Label::NotIn("tier".to_owned(), list),
            Label::HasNot("track".to_owned()),
            Label::IsNot("track".to_owned(), "canary".to_owned()),
        ];
        let scope = scope(labels, vec![Field::is("spec.nodeName", "node-1")]);
        let (path, query) = scope.target();
        let value = |name| query.iter().find(|(is, _)| *is == name).expect("there");
        let read = Scope::parse(&path, &value("labelSelector").1, &value("fieldSelector").1);
        assert_eq!(read, Some(scope));
    }
}

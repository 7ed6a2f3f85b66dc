//! The configuration as written: a tree that knows the line of every key and value, and a reader that collects every mistake
//! instead of stopping at the first.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Mistake;

/// Any YAML value. Scalars keep the text a person would write for them; what they mean is decided where they are read.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Scalar(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Scalar(_) => "a single value",
            Node::List(_) => "a list",
            Node::Map(_) => "a section",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

/// Where mistakes gather while the whole file is read.
#[derive(Debug, Default)]
pub(super) struct Mistakes(RefCell<Vec<Mistake>>);

impl Mistakes {
    pub(super) fn add(&self, at: At, field: &str, remedy: impl Into<String>) {
        self.0.borrow_mut().push(Mistake {
            line: at.line,
            column: at.column,
            field: field.to_owned(),
            remedy: remedy.into(),
        });
    }

    /// In the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Mistake> {
        let mut mistakes = self.0.into_inner();
        mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        mistakes
    }
}

/// A position in the file, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl At {
    fn of<T>(spanned: &Spanned<T>) -> Self {
        Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
        }
    }
}

/// One value with its full name, e.g. `upstream.servers[0]`.
pub(super) struct Field<'a> {
    pub(super) name: String,
    pub(super) at: At,
    node: &'a Node,
    mistakes: &'a Mistakes,
}

impl<'a> Field<'a> {
    pub(super) fn root(document: &'a Spanned<Node>, mistakes: &'a Mistakes) -> Self {
        Self {
            name: String::new(),
            at: At::of(document),
            node: &document.value,
            mistakes,
        }
    }

    pub(super) fn reject(&self, remedy: impl Into<String>) {
        self.mistakes.add(self.at, &self.name, remedy);
    }

    /// The value by `parse`, whose error says what to write instead.
    pub(super) fn parse<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Node::Scalar(text) = self.node else {
            self.reject(format!(
                "this is {}; write a single value",
                self.node.kind()
            ));
            return None;
        };
        parse(text).map_err(|remedy| self.reject(remedy)).ok()
    }

    pub(super) fn items(&self) -> Vec<Field<'a>> {
        let Node::List(items) = self.node else {
            self.reject(format!(
                "this is {}; write a list, e.g. `[a, b]`",
                self.node.kind()
            ));
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Spanned<Node>)| Field {
            name: format!("{}[{index}]", self.name),
            at: At::of(node),
            node: &node.value,
            mistakes: self.mistakes,
        };
        items.iter().enumerate().map(item).collect()
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(self.node, Node::List(items) if items.is_empty())
    }

    pub(super) fn section(&self) -> Section<'a> {
        let entries = match self.node {
            Node::Map(entries) => entries.as_slice(),
            Node::Null => &[],
            other => {
                self.reject(format!(
                    "this is {}; write a section of `key: value` lines",
                    other.kind()
                ));
                &[]
            }
        };
        Section {
            name: self.name.clone(),
            at: self.at,
            entries,
            asked: RefCell::default(),
            mistakes: self.mistakes,
        }
    }
}

/// A mapping. What was not asked for by the time of [`Section::finish`] is an unknown field.
pub(super) struct Section<'a> {
    name: String,
    pub(super) at: At,
    entries: &'a [(Spanned<String>, Spanned<Node>)],
    asked: RefCell<Vec<&'static str>>,
    mistakes: &'a Mistakes,
}

impl<'a> Section<'a> {
    /// The field, or `None` when it is absent or empty (`key:`).
    pub(super) fn field(&self, key: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().push(key);
        let (_, value) = self.entries.iter().find(|(name, _)| name.value == key)?;
        (!matches!(value.value, Node::Null)).then(|| Field {
            name: self.full(key),
            at: At::of(value),
            node: &value.value,
            mistakes: self.mistakes,
        })
    }

    /// The field by `parse`; `default` when it is absent (or wrong: then nothing comes of the file anyway).
    pub(super) fn value<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let value = self.field(key).and_then(|field| field.parse(parse));
        value.unwrap_or(default)
    }

    pub(super) fn list<T>(
        &self,
        key: &'static str,
        default: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        match self.field(key) {
            Some(field) => field
                .items()
                .iter()
                .filter_map(|item| item.parse(&parse))
                .collect(),
            None => default.iter().filter_map(|text| parse(text).ok()).collect(),
        }
    }

    /// An absent section is an empty one: every field has its default.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        match self.field(key) {
            Some(field) => field.section(),
            None => Section {
                name: self.full(key),
                at: self.at,
                entries: &[],
                asked: RefCell::default(),
                mistakes: self.mistakes,
            },
        }
    }

    /// The key and text of a section that has just this one.
    pub(super) fn only_text(&self) -> Option<(&'a str, &'a str)> {
        match self.entries {
            [(key, value)] => match &value.value {
                Node::Scalar(text) => Some((key.value.as_str(), text.as_str())),
                _ => None,
            },
            _ => None,
        }
    }

    /// A mistake about this section's `key`, at its line if it was written.
    pub(super) fn reject(&self, key: &str, remedy: impl Into<String>) {
        let written = self.entries.iter().find(|(name, _)| name.value == key);
        let at = written.map_or(self.at, |(name, _)| At::of(name));
        self.mistakes.add(at, &self.full(key), remedy);
    }

    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, _) in self.entries {
            if !asked.contains(&key.value.as_str()) {
                let remedy = format!("there is no such field; {}", suggestion(&key.value, &asked));
                self.mistakes
                    .add(At::of(key), &self.full(&key.value), remedy);
            }
        }
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

/// Names the field that was meant if one is near, else all of them.
fn suggestion(written: &str, known: &[&'static str]) -> String {
    let nearest = known
        .iter()
        .map(|key| (distance(&written.to_lowercase(), &key.to_lowercase()), key))
        .min();
    match nearest {
        Some((distance, key)) if distance <= 1 + key.len() / 4 => format!("did you mean `{key}`?"),
        _ => format!("the fields here are {}", known.join(", ")),
    }
}

/// Edits (insert, delete, replace) between two words.
fn distance(a: &str, b: &str) -> usize {
    // A key longer than this is no typing error; the bound keeps the table small.
    const LONGEST: usize = 64;
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(LONGEST).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

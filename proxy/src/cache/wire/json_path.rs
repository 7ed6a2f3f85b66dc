//! The JSONPath of a custom resource's printer columns, as `client-go:util/jsonpath` reads and follows it.
//!
//! Covered: fields (`.a.b`, with `\.` in a name), quoted keys (`['a\.b']`, whose bare dots separate as elsewhere), indexes from either end,
//! slices, `[*]`, and filters that ask whether a field is there or is equal to a constant (`[?(@.type=="Ready")]`, `!=`).
//! Not covered: `..` and `.*` over an object, which go by the random order of Go's maps; unions; filters by order or between two fields;
//! text, `range` and constants outside of filters. Such a path is `None`, and its cell null.

use serde_json::Value;

/// A path, parsed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Node>);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Field(String),
    Slice(Slice),
    Filter(Filter),
}

/// `[from:to:step]`, each as it was written.
#[derive(Clone, Debug, PartialEq)]
struct Slice {
    from: Option<i64>,
    to: Option<i64>,
    /// `to` was not written: it follows `from`.
    is_index: bool,
    step: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: JsonPath,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Equal(Value),
    NotEqual(Value),
}

/// The path cannot be followed in this object: an index beyond the end, a filter on what is no list, a comparison of two types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl JsonPath {
    /// What stands between the braces of a template; `None` if it is not covered or not a path.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut nodes = Vec::new();
        let mut rest = path;
        while let Some(first) = rest.chars().next() {
            rest = match first {
                // The root and the current object, which the path starts at anyway.
                ' ' | '$' | '@' => &rest[1..],
                '.' if rest[1..].starts_with('.') => return None,
                '.' => field(&rest[1..], &mut nodes)?,
                '[' if rest.starts_with("[?(") => filter(&rest[3..], &mut nodes)?,
                '[' => brackets(&rest[1..], &mut nodes)?,
                _ => return None,
            };
        }
        Some(Self(nodes))
    }

    /// All that the path leads to, in order; what is absent is left out.
    pub(super) fn find<'v>(&self, object: &'v Value) -> Result<Vec<&'v Value>, Broken> {
        let mut found = vec![object];
        for node in &self.0 {
            found = match node {
                Node::Field(name) => found.iter().filter_map(|value| value.get(name)).collect(),
                Node::Slice(slice) => slice.of_all(&found)?,
                Node::Filter(filter) => filter.of_all(&found)?,
            };
        }
        Ok(found)
    }
}

/// A name up to what may not stand in one; a backslash takes the next character in, and none is part of the name.
fn field<'p>(rest: &'p str, nodes: &mut Vec<Node>) -> Option<&'p str> {
    let mut chars = rest.char_indices();
    let mut end = rest.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}' => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let (name, rest) = rest.split_at(end);
    if name == "*" {
        return None;
    }
    nodes.push(Node::Field(name.replace('\\', "")));
    Some(rest)
}

/// A quoted key, an index or a slice.
fn brackets<'p>(rest: &'p str, nodes: &mut Vec<Node>) -> Option<&'p str> {
    let (text, rest) = rest.split_once(']')?;
    let quoted = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
        .filter(|key| !key.contains(['\'', ',']));
    match quoted {
        Some(key) => nodes.extend(JsonPath::parse(&format!(".{key}"))?.0),
        None => nodes.push(Node::Slice(Slice::parse(text)?)),
    }
    Some(rest)
}

/// A filter up to its `)]`.
fn filter<'p>(rest: &'p str, nodes: &mut Vec<Node>) -> Option<&'p str> {
    let (text, rest) = split_filter(rest)?;
    let operator = text.find(['!', '<', '>', '=']).unwrap_or(text.len());
    let (left, right) = text.split_at(operator);
    if left.is_empty() {
        return None;
    }
    let test = match right {
        "" => Test::Exists,
        right => match (right.strip_prefix("=="), right.strip_prefix("!=")) {
            (Some(right), _) => Test::Equal(constant(right)?),
            (_, Some(right)) => Test::NotEqual(constant(right)?),
            _ => return None,
        },
    };
    nodes.push(Node::Filter(Filter {
        left: JsonPath::parse(left)?,
        test,
    }));
    Some(rest)
}

/// At the first `)]` that is not inside quotes.
fn split_filter(rest: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            (None, ')') => return Some((&rest[..at], rest[at + 1..].strip_prefix(']')?)),
            _ => {}
        }
    }
    None
}

/// A string in either quotes, without escapes; a boolean; a number.
fn constant(text: &str) -> Option<Value> {
    let text = text.trim_matches(' ');
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote)?;
            return (!inner.contains(['\\', quote])).then(|| inner.into());
        }
    }
    match serde_json::from_str(text).ok()? {
        constant @ (Value::Bool(_) | Value::Number(_)) => Some(constant),
        _ => None,
    }
}

impl Slice {
    fn parse(text: &str) -> Option<Self> {
        let text = if text == "*" { ":" } else { text };
        let mut parts = text.split(':');
        let mut number = || match parts.next() {
            None | Some("") => Some(None),
            Some(digits) if digits.starts_with('+') => None,
            Some(digits) => Some(Some(digits.parse::<i64>().ok()?)),
        };
        let (from, to, step) = (number()?, number()?, number()?);
        let step = match step {
            None => 1,
            // Go refuses others when it follows the path.
            Some(step) => usize::try_from(step).ok().filter(|step| *step > 0)?,
        };
        parts.next().is_none().then_some(Self {
            from,
            to,
            is_index: !text.contains(':'),
            step,
        })
    }

    fn of_all<'v>(&self, values: &[&'v Value]) -> Result<Vec<&'v Value>, Broken> {
        let mut found = Vec::new();
        for value in values.iter().filter(|value| !value.is_null()) {
            let list = value.as_array().ok_or(Broken)?;
            let (from, to) = self.bounds(list.len());
            // Of all the lists before and after it: the original ends here, with what it has.
            if from == to {
                break;
            }
            let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
            let (from, to) = range.ok_or(Broken)?;
            found.extend(list.get(from..to).ok_or(Broken)?.iter().step_by(self.step));
        }
        Ok(found)
    }

    /// Before any check. Negative ones count from the end, and the one after the last is 0 from the end.
    fn bounds(&self, len: usize) -> (i64, i64) {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let start = self.from.unwrap_or(0);
        let end = if self.is_index {
            start.saturating_add(1)
        } else {
            self.to.unwrap_or(len)
        };
        let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
        let end = match end {
            0 if self.is_index => len,
            end => from_end(end),
        };
        (from_end(start), end)
    }
}

impl Filter {
    fn of_all<'v>(&self, values: &[&'v Value]) -> Result<Vec<&'v Value>, Broken> {
        let mut found = Vec::new();
        for value in values {
            for item in value.as_array().ok_or(Broken)? {
                if self.takes(item)? {
                    found.push(item);
                }
            }
        }
        Ok(found)
    }

    fn takes(&self, item: &Value) -> Result<bool, Broken> {
        let left = self.left.find(item);
        let (constant, wanted) = match &self.test {
            Test::Exists => return Ok(left.is_ok_and(|found| !found.is_empty())),
            Test::Equal(constant) => (constant, true),
            Test::NotEqual(constant) => (constant, false),
        };
        match left?[..] {
            [] => Ok(false),
            [left] => Ok(is_equal(left, constant)? == wanted),
            _ => Err(Broken),
        }
    }
}

/// Only what has the same type can be compared; a whole number and a fraction have not.
fn is_equal(left: &Value, right: &Value) -> Result<bool, Broken> {
    let is_comparable = match (left, right) {
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => true,
        (Value::Number(left), Value::Number(right)) => left.is_i64() == right.is_i64(),
        _ => false,
    };
    is_comparable.then(|| left == right).ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the path finds first, as the columns use it.
    fn first(path: &str, object: &Value) -> Option<Value> {
        let path = JsonPath::parse(path).expect("it is covered");
        let found = path.find(object).ok()?;
        found.first().map(|value| (*value).clone())
    }

    #[test]
    fn a_path_leads_to_what_client_go_finds() {
        let object = json!({
            "a": {"b.c": 1, "b": {"c": 2}, "d/e": 3, "null": null},
            "l": [{"n": "x"}, {"n": "y"}, {"m": "z"}],
            "c": [{"t": "A", "s": 1}, {"t": "B", "s": 2}, {"s": 3}],
            "n": [{"t": 1}, {"t": 2.5}, {"t": true}],
            "e": [],
        });
        for (path, found) in [
            (".", None),
            (".a.b.c", Some(json!(2))),
            (r".a.b\.c", Some(json!(1))),
            (r".a['b\.c']", Some(json!(1))),
            (".a['b.c']", Some(json!(2))),
            (".a.d/e", Some(json!(3))),
            (r".a.d\/e", Some(json!(3))),
            ("$.a.d/e", Some(json!(3))),
            (".a.null", Some(json!(null))),
            (".a.null.x", None),
            (".a.null[0]", None),
            (".a.x", None),
            (".l.n", None),
            (".l[0].n", Some(json!("x"))),
            (".l[].n", Some(json!("x"))),
            (".l[-1].m", Some(json!("z"))),
            (".l[-2].n", Some(json!("y"))),
            (".l[-4]", None),
            (".l[3]", None),
            (".l[*].m", Some(json!("z"))),
            (".l[1:].n", Some(json!("y"))),
            (".l[1:1].n", None),
            (".l[0:3:2].m", Some(json!("z"))),
            (".l[0:4]", None),
            (".l[2:1]", None),
            (".e[*]", None),
            (".e[0]", None),
            (".a[0]", None),
            (r#".c[?(@.t=="B")].s"#, Some(json!(2))),
            (".c[?(@.t == 'B')].s", Some(json!(2))),
            (r#".c[?(@.t!="A")].s"#, Some(json!(2))),
            (".c[?(@.s==3)].s", Some(json!(3))),
            (".c[?(@.s==3.0)].s", None),
            (".c[?(@.t)].s", Some(json!(1))),
            (r#".c[?(@.s=="1")].s"#, None),
            (".n[?(@.t==true)].t", None),
            (".a[?(@.t)]", None),
            (".a.x[?(@.t)]", None),
        ] {
            assert_eq!(first(path, &object), found, "{path}");
        }
    }

    #[test]
    fn what_is_not_covered_is_told_from_what_is_absent() {
        for path in [
            "..a",
            ".a..b",
            ".a.*",
            ".a[0,1]",
            ".a['b','c']",
            r#".a["b"]"#,
            ".a[x]",
            ".a[1",
            ".a[+1]",
            ".a[::-1]",
            ".a[1:2:3:4]",
            ".a[-]",
            ".a[?(@.b>1)]",
            ".a[?(@.b==@.c)]",
            r#".a[?(@.b=="\"")]"#,
            ".a[?(@.b==null)]",
            r#".a[?(=="x")]"#,
            r#".a[?(@.b=="x")"#,
            ".a[?(@.b",
            ".a \"text\"",
            ".a}",
            ".a{",
            "a",
        ] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}

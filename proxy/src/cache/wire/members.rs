//! The members of a JSON object, one after another: who needs the first few looks at no more than these.

use std::borrow::Cow;

use super::scan::{ValueScanner, leading_space};

/// Where a value ends is found by its quotes and brackets; whether it is JSON is for whoever reads it.
pub(super) struct Members<'o> {
    rest: &'o [u8],
    next: Next,
}

enum Next {
    /// The opening brace has gone by.
    First,
    More,
    /// The object ended, or was none.
    Nothing,
}

/// A key without its quotes, and the value as it was written.
pub(super) type Member<'o> = (Cow<'o, [u8]>, &'o [u8]);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAnObject;

impl<'o> Members<'o> {
    /// Of an object with nothing but white space around it.
    pub(super) fn of(object: &'o [u8]) -> Self {
        Self {
            rest: object,
            next: Next::First,
        }
    }

    fn step(&mut self) -> Option<Member<'o>> {
        let key = self.value()?;
        let key = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        self.symbol(b':')?;
        let value = self.value()?;
        Some((unescaped(key)?, value))
    }

    fn value(&mut self) -> Option<&'o [u8]> {
        self.skip_space();
        let end = ValueScanner::new().scan(self.rest)?;
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(value)
    }

    fn symbol(&mut self, symbol: u8) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(&[symbol])?;
        Some(())
    }

    /// The last brace, and nothing after it.
    fn end(&mut self) -> Option<()> {
        self.symbol(b'}')?;
        self.skip_space();
        self.rest.is_empty().then_some(())
    }

    fn skip_space(&mut self) {
        self.rest = &self.rest[leading_space(self.rest)..];
    }

    fn ends_here(&mut self) -> bool {
        self.skip_space();
        self.rest.first() == Some(&b'}')
    }
}

impl<'o> Iterator for Members<'o> {
    type Item = Result<Member<'o>, NotAnObject>;

    /// Ends after an error.
    fn next(&mut self) -> Option<Self::Item> {
        let member = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => return None,
            Next::First => self.symbol(b'{').and_then(|()| match self.ends_here() {
                true => self.end().map(|()| None),
                false => self.step().map(Some),
            }),
            Next::More if self.ends_here() => self.end().map(|()| None),
            Next::More => self.symbol(b',').and_then(|()| self.step()).map(Some),
        };
        match member {
            Some(None) => None,
            Some(Some(member)) => {
                self.next = Next::More;
                Some(Ok(member))
            }
            None => Some(Err(NotAnObject)),
        }
    }
}

/// Nobody escapes a key that is looked for, but it would be that key all the same.
fn unescaped(key: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr(b'\\', key).is_none() {
        return Some(Cow::Borrowed(key));
    }
    let quoted = [b"\"", key, b"\""].concat();
    let text: String = serde_json::from_slice(&quoted).ok()?;
    Some(Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and values; `None` at the end for what is no object.
    fn members(text: &str) -> Vec<Option<(String, String)>> {
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Members::of(text.as_bytes())
            .map(|member| {
                member
                    .ok()
                    .map(|(key, value)| (text_of(&key), text_of(value)))
            })
            .collect()
    }

    fn some(members: &[(&str, &str)]) -> Vec<Option<(String, String)>> {
        let owned = |(key, value): &(&str, &str)| Some(((*key).to_owned(), (*value).to_owned()));
        members.iter().map(owned).collect()
    }

    #[test]
    fn members_come_in_their_order_as_they_were_written() {
        for (text, expected) in [
            ("{}", &[][..]),
            (" { } \n", &[]),
            (r#"{"a":1}"#, &[("a", "1")]),
            (
                " {\"a\" : {\"b\": [1, 2]} ,\n\"c\":\"d\\\"}\" , \"e\":null}\n",
                &[("a", "{\"b\": [1, 2]}"), ("c", "\"d\\\"}\""), ("e", "null")],
            ),
            (
                r#"{"m\u0065ta":true,"\"":[]}"#,
                &[("meta", "true"), ("\"", "[]")],
            ),
        ] {
            assert_eq!(members(text), some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_ends_in_an_error() {
        for (text, before) in [
            ("", 0),
            ("[]", 0),
            ("{", 0),
            (r#"{"a""#, 0),
            (r#"{"a":"#, 0),
            (r#"{"a":{"#, 0),
            (r#"{"a":1"#, 0),
            (r#"{a:1}"#, 0),
            (r#"{"a":1,"#, 1),
            (r#"{"a":1,}"#, 1),
            (r#"{"a":1 "b":2}"#, 1),
            (r#"{"a":1}x"#, 1),
            (r#"{"\x":1}"#, 0),
        ] {
            let members = members(text);
            assert_eq!(members.len(), before + 1, "{text}");
            assert_eq!(members.last(), Some(&None), "{text}");
        }
    }
}

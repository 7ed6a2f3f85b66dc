//! The members of a JSON object, one after another: who needs the first few looks at no more than these.

use std::borrow::Cow;

use super::scan::{ValueScanner, leading_space};

/// Where a value ends is found by its quotes and brackets; whether it is JSON is for whoever reads it.
pub(super) struct Members<'o> {
    /// The object, and what may be around it.
    whole: &'o [u8],
    rest: &'o [u8],
    next: Next,
    /// More may follow the object.
    is_inner: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Brace,
    /// Of the key that came last.
    Value,
    MoreOrEnd,
    /// The object ended.
    Nothing,
    /// It is none.
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAnObject;

impl<'o> Members<'o> {
    /// Of an object with nothing but white space around it.
    pub(super) fn of(object: &'o [u8]) -> Self {
        Self::at(object, false)
    }

    fn at(object: &'o [u8], is_inner: bool) -> Self {
        Self {
            whole: object,
            rest: object,
            next: Next::Brace,
            is_inner,
        }
    }

    /// The next key, without its quotes; the value before it is passed over if nobody asked for it. `None`: there is no more.
    pub(super) fn next_key(&mut self) -> Result<Option<Cow<'o, [u8]>>, NotAnObject> {
        if self.next == Next::Value {
            self.value()?;
        }
        let key = match std::mem::replace(&mut self.next, Next::Failed) {
            Next::Brace => self.symbol(b'{').and_then(|()| self.key_or_end(true)),
            Next::MoreOrEnd => self.key_or_end(false),
            Next::Nothing => Some(None),
            Next::Value | Next::Failed => None,
        };
        let key = key.ok_or(NotAnObject)?;
        self.next = match key {
            Some(_) => Next::Value,
            None => Next::Nothing,
        };
        Ok(key)
    }

    /// The value of the key that came last, as it was written.
    pub(super) fn value(&mut self) -> Result<&'o [u8], NotAnObject> {
        let next = std::mem::replace(&mut self.next, Next::Failed);
        let value = (next == Next::Value).then(|| self.scanned()).flatten();
        let value = value.ok_or(NotAnObject)?;
        self.next = Next::MoreOrEnd;
        Ok(value)
    }

    /// The members of the value of the key that came last, to be given back to [`leave`](Self::leave). `None`: it is no object.
    pub(super) fn enter(&mut self) -> Option<Self> {
        self.skip_space();
        let is_object = self.next == Next::Value && self.rest.first() == Some(&b'{');
        is_object.then(|| Self::at(self.rest, true))
    }

    /// That value as it was written; what nobody read of it is passed over.
    pub(super) fn leave(&mut self, inner: Self) -> Result<&'o [u8], NotAnObject> {
        let rest = inner.after().ok_or(NotAnObject)?;
        self.rest = rest;
        self.next = Next::MoreOrEnd;
        Ok(&inner.whole[..inner.whole.len() - rest.len()])
    }

    /// What follows the object.
    fn after(&self) -> Option<&'o [u8]> {
        let mut scanner = match self.next {
            Next::Nothing => return Some(self.rest),
            Next::Failed => return None,
            Next::Brace => ValueScanner::new(),
            Next::Value | Next::MoreOrEnd => ValueScanner::inside(),
        };
        Some(&self.rest[scanner.scan(self.rest)?..])
    }

    /// `Some(None)`: the object ends. `None`: neither comes next.
    fn key_or_end(&mut self, is_first: bool) -> Option<Option<Cow<'o, [u8]>>> {
        self.skip_space();
        if self.rest.first() == Some(&b'}') {
            return self.end().map(|()| None);
        }
        if !is_first {
            self.symbol(b',')?;
        }
        let key = self.key()?;
        self.symbol(b':')?;
        Some(Some(key))
    }

    /// The value that comes next: a scalar without quotes or brackets, so that it ends where it ends for who counts these alone.
    fn scanned(&mut self) -> Option<&'o [u8]> {
        self.skip_space();
        let end = ValueScanner::new().scan(self.rest)?;
        let (value, rest) = self.rest.split_at(end);
        if !matches!(value.first(), Some(b'"' | b'{' | b'[')) && !value.iter().all(is_of_scalar) {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    fn key(&mut self) -> Option<Cow<'o, [u8]>> {
        self.skip_space();
        let text = self.rest.strip_prefix(b"\"")?;
        let mark = memchr::memchr2(b'"', b'\\', text)?;
        if text[mark] == b'"' {
            self.rest = &text[mark + 1..];
            return Some(Cow::Borrowed(&text[..mark]));
        }
        unescaped(self.scanned()?)
    }

    fn symbol(&mut self, symbol: u8) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(&[symbol])?;
        Some(())
    }

    /// The last brace, and nothing after it.
    fn end(&mut self) -> Option<()> {
        self.symbol(b'}')?;
        if self.is_inner {
            return Some(());
        }
        self.skip_space();
        self.rest.is_empty().then_some(())
    }

    fn skip_space(&mut self) {
        self.rest = &self.rest[leading_space(self.rest)..];
    }
}

/// Numbers, `true`, `false` and `null` are made of these.
fn is_of_scalar(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// Nobody escapes a key that is looked for, but it would be that key all the same.
fn unescaped<'o>(quoted: &[u8]) -> Option<Cow<'o, [u8]>> {
    let text: String = serde_json::from_slice(quoted).ok()?;
    Some(Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and values; `None` at the end for what is no object.
    fn members(text: &str) -> Vec<Option<(String, String)>> {
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut members = Members::of(text.as_bytes());
        let mut next = || {
            let Some(key) = members.next_key()? else {
                return Ok(None);
            };
            let value = members.value()?;
            Ok::<_, NotAnObject>(Some((text_of(&key), text_of(value))))
        };
        let mut found = Vec::new();
        loop {
            match next() {
                Ok(Some(member)) => found.push(Some(member)),
                Ok(None) => return found,
                Err(NotAnObject) => {
                    found.push(None);
                    return found;
                }
            }
        }
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
            (r#"{"a":}"#, 0),
            (r#"{"a":}}"#, 0),
            (r#"{"a":,"b":1}"#, 0),
            (r#"{"a"::1}"#, 0),
            (r#"{"a":1"}"#, 0),
            (r#"{"a":1{,"b":{"c":}}}"#, 0),
        ] {
            let members = members(text);
            assert_eq!(members.len(), before + 1, "{text}");
            assert_eq!(members.last(), Some(&None), "{text}");
        }
    }

    #[test]
    fn what_nobody_reads_is_passed_over() {
        let text = r#"{"a":{"b":[1,{"c":"}"}],"d":2},"e":{} ,"f":"g"}"#;
        // So many keys of the inner object are read.
        for read in 0..4 {
            let mut members = Members::of(text.as_bytes());
            assert_eq!(
                members.next_key().expect("a key").as_deref(),
                Some(&b"a"[..])
            );
            let mut inner = members.enter().expect("an object");
            for _ in 0..read {
                inner.next_key().expect("an object");
            }
            let whole = members.leave(inner).expect("it ends");
            assert_eq!(whole, br#"{"b":[1,{"c":"}"}],"d":2}"#, "{read}");
            assert_eq!(
                members.next_key().expect("a key").as_deref(),
                Some(&b"e"[..])
            );
            let mut inner = members.enter().expect("an object");
            assert_eq!(inner.next_key(), Ok(None));
            assert_eq!(members.leave(inner), Ok(&b"{}"[..]));
            assert_eq!(
                members.next_key().expect("a key").as_deref(),
                Some(&b"f"[..])
            );
            assert!(members.enter().is_none());
            assert_eq!(members.value(), Ok(&b"\"g\""[..]));
            assert_eq!(members.value(), Err(NotAnObject));
        }
    }

    #[test]
    fn an_inner_object_that_does_not_end_is_an_error() {
        for text in [
            r#"{"a":{"b":1"#,
            r#"{"a":{"b""#,
            r#"{"a":{"#,
            r#"{"a":{"b":{"#,
        ] {
            let mut members = Members::of(text.as_bytes());
            members.next_key().expect("a key");
            let mut inner = members.enter().expect("an object");
            let _ = inner.next_key();
            assert_eq!(members.leave(inner), Err(NotAnObject), "{text}");
        }
    }
}

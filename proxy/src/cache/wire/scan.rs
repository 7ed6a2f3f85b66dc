//! Where a JSON value ends, found in pieces: every byte is looked at once, however the pieces are cut.
//!
//! Only strings and nesting are understood; whether the value is JSON at all is for the parser that reads it afterwards.

use memchr::memchr2;

/// White space of JSON (RFC 8259, section 2).
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How many bytes of white space `bytes` starts with.
pub(super) fn leading_space(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|b| !is_space(*b))
        .unwrap_or(bytes.len())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte of the value.
    Start,
    Between,
    InString,
    AfterBackslash,
    /// In a number, `true`, `false` or `null` that is the whole value.
    InScalar,
}

/// Finds the end of one value. Feed it the value's bytes from the first one on, without white space before it.
#[derive(Clone, Debug)]
pub(super) struct ValueScanner {
    state: State,
    /// Bounded by the caller, who bounds the value's bytes.
    depth: usize,
}

impl ValueScanner {
    pub(super) fn new() -> Self {
        Self {
            state: State::Start,
            depth: 0,
        }
    }

    /// It has seen nothing of the value.
    pub(super) fn is_at_start(&self) -> bool {
        self.state == State::Start
    }

    /// How many of `bytes` still belong to the value, once its end is among them; `None` when all of them do and more may follow.
    /// A scalar ends before the delimiter that follows it.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::InString => {
                    let found = memchr2(b'"', b'\\', &bytes[at..])?;
                    at += found + 1;
                    if bytes[at - 1] == b'\\' {
                        self.state = State::AfterBackslash;
                        continue;
                    }
                    self.state = State::Between;
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                State::AfterBackslash => {
                    self.state = State::InString;
                    at += 1;
                }
                State::InScalar => {
                    if is_space(byte) || matches!(byte, b',' | b']' | b'}') {
                        return Some(at);
                    }
                    at += 1;
                }
                State::Start | State::Between => {
                    at += 1;
                    if self.structure(byte) {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    /// Takes in one byte outside of strings; true when it closes the value.
    fn structure(&mut self, byte: u8) -> bool {
        let first = std::mem::replace(&mut self.state, State::Between) == State::Start;
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b'"' => self.state = State::InString,
            _ if first => self.state = State::InScalar,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &str) -> Option<usize> {
        ValueScanner::new().scan(text.as_bytes())
    }

    #[test]
    fn a_value_ends_where_its_own_bracket_or_quote_closes() {
        for (text, value) in [
            ("{} ", "{}"),
            (r#"{"a":"}"}x"#, r#"{"a":"}"}"#),
            (r#"{"a":"\"}"}{"#, r#"{"a":"\"}"}"#),
            (r#"{"a":"\\"}{"#, r#"{"a":"\\"}"#),
            (r#"[[1],{"b":[]}],"#, r#"[[1],{"b":[]}]"#),
            (r#""s\"t","#, r#""s\"t""#),
            ("12.5,", "12.5"),
            ("null}", "null"),
            ("true ", "true"),
        ] {
            assert_eq!(end_of(text), Some(value.len()), "{text}");
        }
    }

    #[test]
    fn an_open_value_wants_more() {
        for text in ["", "{", r#"{"a"#, r#"{"a":"\"#, "12", r#"""#, "[1,2"] {
            assert_eq!(end_of(text), None, "{text}");
        }
    }

    #[test]
    fn the_cut_between_pieces_does_not_matter() {
        let text = r#"{"k":"br{ace}s \"q\" \\","l":[1,{"m":null}]}tail"#.as_bytes();
        let whole = text.len() - "tail".len();
        for cut in 0..whole {
            let mut scanner = ValueScanner::new();
            assert_eq!(scanner.scan(&text[..cut]), None, "cut at {cut}");
            assert_eq!(
                scanner.scan(&text[cut..]),
                Some(whole - cut),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_closing_bracket_too_many_ends_the_value_and_does_not_underflow() {
        assert_eq!(end_of("}"), Some(1));
        assert_eq!(end_of("]]"), Some(1));
    }
}

//! Where a JSON value ends, found in pieces: every byte is looked at once, however the pieces are cut.
//!
//! Only strings and nesting are understood; whether the value is JSON at all is for the parser that reads it afterwards.
//!
//! Most bytes are looked at in blocks, a bit for each: which are quotes, which brackets, and from these, without a branch, which are
//! inside a string (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019, sections 3.1.1 and 3.1.2).

use memchr::memchr2;
use wide::u8x16;

/// Of bytes that are looked at together.
const BLOCK: usize = 64;

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

    /// After a bracket that opened the value: what is inside it, and the one that closes it.
    pub(super) fn inside() -> Self {
        Self {
            state: State::Between,
            depth: 1,
        }
    }

    /// How many of `bytes` still belong to the value, once its end is among them; `None` when all of them do and more may follow.
    /// A scalar ends before the delimiter that follows it.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(block) = bytes[at..].first_chunk() {
            if let Some(end) = self.block(block) {
                return Some(at + end);
            }
            at += BLOCK;
        }
        Some(at + self.bytes(&bytes[at..])?)
    }

    /// As [`scan`](Self::scan).
    fn block(&mut self, block: &[u8; BLOCK]) -> Option<usize> {
        let (began_inside, began_escaped) = match self.state {
            State::Between if self.depth > 0 => (false, false),
            State::InString if self.depth > 0 => (true, false),
            State::AfterBackslash if self.depth > 0 => (true, true),
            // A scalar, or the first byte of the value.
            _ => return self.bytes(block),
        };
        let marks = Marks::of(block);
        let (escaped, ends_escaped) = escaped(marks.backslashes, began_escaped);
        let toggled = running_parity(marks.quotes & !escaped);
        let inside = if began_inside { !toggled } else { toggled };
        if marks.backslashes & !inside != 0 {
            return self.bytes(block);
        }
        let (opening, closing) = (marks.opening & !inside, marks.closing & !inside);
        let closed = closing.count_ones() as usize;
        if closed < self.depth {
            self.depth = self.depth + opening.count_ones() as usize - closed;
        } else {
            let end = self.nest(opening, closing);
            if end.is_some() {
                return end;
            }
        }
        self.state = match inside >> (BLOCK - 1) {
            0 => State::Between,
            _ if ends_escaped => State::AfterBackslash,
            _ => State::InString,
        };
        None
    }

    /// Takes in brackets, a bit for each; how many bytes there are up to the one that closes the value.
    fn nest(&mut self, opening: u64, closing: u64) -> Option<usize> {
        let mut brackets = opening | closing;
        while brackets != 0 {
            let at = brackets.trailing_zeros();
            brackets &= brackets - 1;
            if opening >> at & 1 == 1 {
                self.depth += 1;
                continue;
            }
            self.depth -= 1;
            if self.depth == 0 {
                self.state = State::Between;
                return Some(at as usize + 1);
            }
        }
        None
    }

    /// As [`scan`](Self::scan), one byte after the other.
    fn bytes(&mut self, bytes: &[u8]) -> Option<usize> {
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

/// Where in a block certain bytes are: the first one is the lowest bit.
struct Marks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Marks {
    fn of(block: &[u8; BLOCK]) -> Self {
        // Of the four brackets, those of one kind differ in this bit alone, and no other byte becomes one of them by it.
        const CASE: u8 = 0x20;
        let mut marks = Self {
            quotes: 0,
            backslashes: 0,
            opening: 0,
            closing: 0,
        };
        let (parts, []) = block.as_chunks() else {
            unreachable!("a block is a whole number of vectors");
        };
        for (place, part) in parts.iter().enumerate() {
            let part = u8x16::new(*part);
            let lower = part | u8x16::splat(CASE);
            let are = |part: u8x16, byte| {
                let are = part.simd_eq(u8x16::splat(byte)).to_bitmask();
                u64::from(are) << (place * 16)
            };
            marks.quotes |= are(part, b'"');
            marks.backslashes |= are(part, b'\\');
            marks.opening |= are(lower, b'{');
            marks.closing |= are(lower, b'}');
        }
        marks
    }
}

/// Of each bit: whether it and those below it are an odd number. Of quotes: the opening one and what follows it, but not the closing one.
fn running_parity(mut bits: u64) -> u64 {
    for width in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << width;
    }
    bits
}

/// What follows a backslash that is not itself escaped; and whether that goes for the byte after the last one, too.
fn escaped(backslashes: u64, first_is_escaped: bool) -> (u64, bool) {
    /// Each second bit, the lowest one among them.
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if backslashes == 0 {
        return (u64::from(first_is_escaped), false);
    }
    let first = u64::from(first_is_escaped);
    let backslashes = backslashes & !first;
    let after = backslashes << 1 | first;
    // A run that starts at an odd place: adding carries it to the bit after it. That one is escaped if it is at an even place, and
    // after a run that starts at an even one, if at an odd one.
    let odd_starts = backslashes & !EVEN & !after;
    let (carried, beyond) = odd_starts.overflowing_add(backslashes);
    ((EVEN ^ carried << 1) & after, beyond)
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

    /// Of what matters and what does not, in all places of a block.
    #[test]
    fn blocks_find_the_ends_that_bytes_find() {
        const PARTS: [&str; 12] = [
            "\"",
            "\"",
            "\\",
            "\\\\",
            "{",
            "[",
            "}",
            "]",
            ",",
            ":1",
            "x",
            "a longer word ",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        let mut ended = 0;
        for case in 0..200_000 {
            let mut text = ["{", "[", "\"", "{\"k\":[{\""][case % 4].to_owned();
            let (weight, wanted) = (random.usize(0..80), random.usize(1..400));
            while text.len() < wanted {
                let part = match random.usize(0..100) < weight {
                    true => "plain text",
                    false => random.choice(PARTS).expect("some"),
                };
                text.push_str(part);
            }
            let end = ValueScanner::new().bytes(text.as_bytes());
            ended += usize::from(end.is_some());
            assert_eq!(end_of(&text), end, "{text}");
            let (first, rest) = text.as_bytes().split_at(random.usize(0..text.len()));
            let mut scanner = ValueScanner::new();
            let in_two = match scanner.scan(first) {
                None => scanner.scan(rest).map(|end| first.len() + end),
                end => end,
            };
            assert_eq!(in_two, end, "cut at {} of {text}", first.len());
        }
        assert!((20_000..180_000).contains(&ended), "{ended} ended");
    }

    #[test]
    fn a_closing_bracket_too_many_ends_the_value_and_does_not_underflow() {
        assert_eq!(end_of("}"), Some(1));
        assert_eq!(end_of("]]"), Some(1));
    }
}

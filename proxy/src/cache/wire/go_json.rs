//! JSON with the bytes that Go's `encoding/json` gives it, and numbers as Go prints them.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::WireError;

/// The value as Go writes it, without white space. `broken` is the error for a value that has no JSON.
pub(super) fn to_go_json(value: &impl Serialize, broken: WireError) -> Result<Vec<u8>, WireError> {
    let mut json = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut json, GoNumbers))
        .map_err(|_| broken)?;
    let text = str::from_utf8(&json).map_err(|_| broken)?;
    Ok(as_go_writes(text))
}

/// Numbers as Go decodes JSON into `any` (what no int64 holds is a float64) and writes them again.
struct GoNumbers;

impl Formatter for GoNumbers {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float_json(value).as_bytes())
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        match i64::try_from(value) {
            Ok(value) => self.write_i64(writer, value),
            Err(_) => self.write_f64(writer, value as f64),
        }
    }
}

/// A float64 in JSON (`encoding/json:floatEncoder`).
pub(super) fn float_json(value: f64) -> String {
    if value == 0.0 || (1e-6..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let (digits, exponent) = scientific(value);
    format!("{digits}e{exponent:+}")
}

/// A float64 as Go prints it, with `%v` and in YAML alike (`strconv:FormatFloat`, 'g' with the shortest precision).
pub(super) fn float_text(value: f64) -> String {
    let (digits, exponent) = scientific(value);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    format!("{digits}e{exponent:+03}")
}

/// The shortest digits that read back as the same number, and the power of ten.
fn scientific(value: f64) -> (String, i32) {
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (digits.to_owned(), exponent.parse().unwrap_or_default())
}

/// Valid JSON, without the white space around its values and with what HTML might read escaped in its strings (`encoding/json:appendCompact`).
/// Everything else stays as it is: serde_json escapes control characters as Go does.
pub(super) fn as_go_writes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    compact(text, &mut |bytes| out.extend_from_slice(bytes));
    out
}

/// The same, piece by piece.
pub(super) fn compact(text: &str, put: &mut impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let is_changed = |byte: &u8| {
        matches!(
            byte,
            b' ' | b'\t' | b'\r' | b'\n' | b'<' | b'>' | b'&' | 0xe2
        )
    };
    if !bytes.iter().any(is_changed) {
        return put(bytes);
    }
    let (mut written, mut at) = (0, 0);
    let mut in_string = false;
    while let Some(&byte) = bytes.get(at) {
        let kept = at;
        at += 1;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => at += 1,
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => {
                put(&bytes[written..kept]);
                written = at;
            }
            _ if in_string => {
                if let Some((escaped, len)) = unsafe_in_html(&bytes[kept..]) {
                    put(&bytes[written..kept]);
                    put(escaped);
                    at = kept + len;
                    written = at;
                }
            }
            _ => {}
        }
    }
    put(&bytes[written..]);
}

/// The inside of a JSON string, piece by piece (`encoding/json:appendString`).
pub(super) fn escape(text: &str, put: &mut impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let (mut written, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let kept = at;
        at += 1;
        let (escaped, len): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0x08 => (b"\\b", 1),
            0x0c => (b"\\f", 1),
            0..0x20 => {
                put(&bytes[written..kept]);
                put(format!("\\u{byte:04x}").as_bytes());
                written = at;
                continue;
            }
            _ => match unsafe_in_html(&bytes[kept..]) {
                Some(escaped) => escaped,
                None => continue,
            },
        };
        put(&bytes[written..kept]);
        put(escaped);
        at = kept + len;
        written = at;
    }
    put(&bytes[written..]);
}

/// What HTML or JavaScript may read in a string, as Go writes it, and its length in the text.
fn unsafe_in_html(text: &[u8]) -> Option<(&'static [u8], usize)> {
    match text {
        [b'<', ..] => Some((b"\\u003c", 1)),
        [b'>', ..] => Some((b"\\u003e", 1)),
        [b'&', ..] => Some((b"\\u0026", 1)),
        [0xe2, 0x80, 0xa8, ..] => Some((b"\\u2028", 3)),
        [0xe2, 0x80, 0xa9, ..] => Some((b"\\u2029", 3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_safe_in_html_and_everything_else_stays() {
        for (text, written) in [
            ("{ \"a b\" : [ 1 , \"\" ] }\n", r#"{"a b":[1,""]}"#),
            (r#""<&>""#, r#""\u003c\u0026\u003e""#),
            ("\"\u{2028}é\u{2029}\"", r#""\u2028é\u2029""#),
            (r#""\"<\\" "#, r#""\"\u003c\\""#),
            (r#"["\\", " \" "]"#, r#"["\\"," \" "]"#),
        ] {
            assert_eq!(as_go_writes(text), written.as_bytes(), "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, text, json) in [
            (0.0, "0", "0"),
            (1.5, "1.5", "1.5"),
            (-7.0, "-7", "-7"),
            (0.0001, "0.0001", "0.0001"),
            (0.00001, "1e-05", "0.00001"),
            (1e-7, "1e-07", "1e-7"),
            (100000.5, "100000.5", "100000.5"),
            (20000000.5, "2.00000005e+07", "20000000.5"),
            (1e20, "1e+20", "100000000000000000000"),
            (1e21, "1e+21", "1e+21"),
            (-1.25e300, "-1.25e+300", "-1.25e+300"),
        ] {
            assert_eq!((&*float_text(value), &*float_json(value)), (text, json));
        }
        let broken = WireError::Malformed("number");
        assert_eq!(
            to_go_json(&u64::MAX, broken),
            Ok(b"18446744073709552000".to_vec())
        );
    }

    #[test]
    fn control_characters_are_written_as_go_does() {
        let broken = WireError::Malformed("text");
        let text = "\t\n\r\u{8}\u{c}\u{1}\u{1f}\u{7f}\"\\/";
        assert_eq!(
            to_go_json(&text, broken),
            Ok(br#""\t\n\r\b\f\u0001\u001f"#.iter().chain(b"\x7f\\\"\\\\/\"").copied().collect())
        );
    }
}

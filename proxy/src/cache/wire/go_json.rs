//! JSON with the bytes that Go's `encoding/json` gives it.

use serde::Serialize;

use super::WireError;

/// The value as Go writes it, without white space. `broken` is the error for a value that has no JSON.
pub(super) fn to_go_json(value: &impl Serialize, broken: WireError) -> Result<Vec<u8>, WireError> {
    serde_json::to_string(value)
        .map(|text| as_go_writes(&text))
        .map_err(|_| broken)
}

/// Valid JSON, without the white space around its values and with what HTML might read escaped in its strings (`encoding/json:appendCompact`).
/// Everything else stays as it is: serde_json escapes control characters as Go does.
pub(super) fn as_go_writes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut in_string = false;
    let mut is_escaped = false;
    for c in text.chars() {
        if !in_string {
            in_string = c == '"';
            if !matches!(c, ' ' | '\t' | '\r' | '\n') {
                push(&mut out, c);
            }
            continue;
        }
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            _ => push(&mut out, c),
        }
        in_string = is_escaped || c != '"';
        is_escaped = !is_escaped && c == '\\';
    }
    out
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
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
    fn control_characters_are_written_as_go_does() {
        let broken = WireError::Malformed("text");
        let text = "\t\n\r\u{8}\u{c}\u{1}\u{1f}\u{7f}\"\\/";
        assert_eq!(
            to_go_json(&text, broken),
            Ok(br#""\t\n\r\b\f\u0001\u001f"#.iter().chain(b"\x7f\\\"\\\\/\"").copied().collect())
        );
    }
}

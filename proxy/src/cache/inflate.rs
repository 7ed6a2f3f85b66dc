//! The bytes of an answer as they were before the API server packed them: gzip undone, indentation undone.

use std::io::Write;

use flate2::write::GzDecoder;
use http::header::{CONTENT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue};

use super::state::NotLearnt;

/// Compressed bytes taken at a time, so that what they inflate to (a thousandfold at most) stays in bounds.
const PIECE: usize = 1024;

/// For these the API server indents JSON (`apiserver:pkg/endpoints/handlers/responsewriters/writers.go`).
const INDENTED_FOR: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

pub(super) struct Inflate {
    gzip: Option<GzDecoder<Vec<u8>>>,
    compact: Option<Compact>,
}

impl Inflate {
    /// `None`: packed in a way the API server never does.
    pub(super) fn new(request: &HeaderMap, response: &HeaderMap) -> Option<Self> {
        let gzip = match response.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => None,
            Some(b"gzip") => Some(GzDecoder::new(Vec::new())),
            Some(_) => return None,
        };
        Some(Self {
            gzip,
            compact: is_indented(request).then(Compact::default),
        })
    }

    /// It becomes more bytes than it is.
    pub(super) fn is_packed(&self) -> bool {
        self.gzip.is_some()
    }

    /// The body holds what no indentation is in.
    pub(super) fn leave_indentation(&mut self) {
        self.compact = None;
    }

    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<(), NotLearnt>,
    ) -> Result<(), NotLearnt> {
        let Some(gzip) = &mut self.gzip else {
            return compacted(&mut self.compact, chunk, each);
        };
        for piece in chunk.chunks(PIECE) {
            gzip.write_all(piece).map_err(|_| NotLearnt::Malformed)?;
            let inflated = std::mem::take(gzip.get_mut());
            compacted(&mut self.compact, &inflated, each)?;
        }
        Ok(())
    }

    /// The body ended: checks its length and checksum, and hands out what is left.
    pub(super) fn finish(
        mut self,
        each: &mut dyn FnMut(&[u8]) -> Result<(), NotLearnt>,
    ) -> Result<(), NotLearnt> {
        let Some(gzip) = self.gzip else {
            return Ok(());
        };
        let rest = gzip.finish().map_err(|_| NotLearnt::Malformed)?;
        compacted(&mut self.compact, &rest, each)
    }
}

fn compacted(
    compact: &mut Option<Compact>,
    bytes: &[u8],
    each: &mut dyn FnMut(&[u8]) -> Result<(), NotLearnt>,
) -> Result<(), NotLearnt> {
    match compact {
        Some(compact) => each(&compact.feed(bytes)),
        None => each(bytes),
    }
}

fn is_indented(request: &HeaderMap) -> bool {
    let agent = request
        .get(USER_AGENT)
        .map_or(&b""[..], HeaderValue::as_bytes);
    INDENTED_FOR
        .iter()
        .any(|prefix| agent.starts_with(prefix.as_bytes()))
}

/// Leaves out the white space between JSON tokens.
#[derive(Default)]
struct Compact {
    in_string: bool,
    escaped: bool,
}

impl Compact {
    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .copied()
            .filter(|byte| self.keeps(*byte))
            .collect()
    }

    fn keeps(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
            return true;
        }
        match byte {
            b'"' => self.in_string = !self.in_string,
            b'\\' => self.escaped = self.in_string,
            b' ' | b'\t' | b'\n' | b'\r' => return self.in_string,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn inflated(packed: &[u8], step: usize) -> Result<Vec<u8>, NotLearnt> {
        let packing = headers(CONTENT_ENCODING, "gzip");
        let mut inflate = Inflate::new(&HeaderMap::new(), &packing).expect("gzip");
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        for chunk in packed.chunks(step) {
            inflate.feed(chunk, &mut take)?;
        }
        inflate.finish(&mut take)?;
        Ok(out)
    }

    #[test]
    fn gzip_is_undone_whatever_the_chunks() {
        let text = br#"{"a":"b"}"#.repeat(10_000);
        let packed = gzip(&text);
        for step in [1, 7, 1 << 20] {
            assert_eq!(inflated(&packed, step).as_ref(), Ok(&text));
        }
    }

    #[test]
    fn a_cut_or_damaged_gzip_body_is_not_taken_for_whole() {
        let mut packed = gzip(br#"{"a":"b"}"#);
        assert!(inflated(&packed[..packed.len() - 1], 100).is_err());
        let middle = packed.len() / 2;
        packed[middle] ^= 1;
        assert!(inflated(&packed, 100).is_err());
    }

    #[test]
    fn what_was_indented_for_curl_is_as_other_clients_get_it() {
        let agent = headers(USER_AGENT, "curl/8.5.0");
        let mut inflate = Inflate::new(&agent, &HeaderMap::new()).expect("plain");
        let mut out = Vec::new();
        let indented = "{\n  \"a \\\" b\": [\n    1\n  ]\n}\n";
        for chunk in indented.as_bytes().chunks(3) {
            let mut take = |bytes: &[u8]| {
                out.extend_from_slice(bytes);
                Ok(())
            };
            inflate.feed(chunk, &mut take).expect("plain");
        }
        assert_eq!(String::from_utf8(out).expect("UTF-8"), r#"{"a \" b":[1]}"#);
    }

    #[test]
    fn another_content_encoding_is_not_learnt_from() {
        assert!(Inflate::new(&HeaderMap::new(), &headers(CONTENT_ENCODING, "br")).is_none());
    }
}

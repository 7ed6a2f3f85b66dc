//! The headers of an answer from the cache: what it is, and that it is from the cache.

use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT, WARNING};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Who answered; only answers from the cache have it.
const ORIGIN: HeaderName = HeaderName::from_static("holdfast-origin");

/// Those of an answer that the upstream confirmed `age` seconds ago.
///
/// kubectl prints a `Warning`, so it alone gets one: others would log it at every request.
pub(super) fn cached(content_type: &str, age: u64, request: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(AGE, HeaderValue::from(age));
    headers.insert(ORIGIN, HeaderValue::from_static("cache"));
    let agent = request
        .get(USER_AGENT)
        .map_or(&b""[..], HeaderValue::as_bytes);
    if agent.starts_with(b"kubectl") {
        let text = format!(
            "299 - \"the API server is out of reach: Holdfast answers from its cache, as of {} ago\"",
            ago(age)
        );
        if let Ok(warning) = HeaderValue::from_str(&text) {
            headers.insert(WARNING, warning);
        }
    }
    headers
}

/// Seconds, in the two units that matter.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_that_it_is_from_the_cache_and_how_old() {
        let headers = cached("application/json", 7, &HeaderMap::new());
        assert_eq!(headers["holdfast-origin"], "cache");
        assert_eq!(headers["age"], "7");
        assert_eq!(headers["content-type"], "application/json");
        assert!(!headers.contains_key(WARNING));
    }

    #[test]
    fn kubectl_alone_is_warned() {
        let mut request = HeaderMap::new();
        request.insert(USER_AGENT, HeaderValue::from_static("kubectl/v1.36.3"));
        let warning = &cached("application/json", 200, &request)[WARNING];
        assert!(warning.to_str().expect("ascii").contains("3m20s ago"));
    }
}

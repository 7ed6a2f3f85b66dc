//! What a client says before its caller is known: request line, headers, client hello.

use http::{Method, Uri};

use holdfast::request_info::RequestInfo;
use holdfast::request_info::accept;
use holdfast::tls::client_hello::{First, parse};

/// `METHOD request-target`, as on the first line of HTTP/1.1.
pub fn request_info(data: &[u8]) {
    let mut words = data.splitn(2, |byte| *byte == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok());
    let uri = words.next().and_then(|word| Uri::try_from(word).ok());
    let (Some(method), Some(uri)) = (method, uri) else {
        return;
    };
    let Ok(info) = RequestInfo::parse(&method, &uri) else {
        return;
    };
    if let Some(scope) = info.scope() {
        assert!(info.is_resource_request && !scope.resource.resource.is_empty());
    }
    if let Some(object) = info.object() {
        assert!(info.is_resource_request && !object.name.is_empty());
    }
    assert!(!info.is_read() || info.method_is_get);
}

/// An `Accept` header, which reads as a `Content-Type` too.
pub fn accept(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    accept::negotiate(Some(text));
    accept::of_content_type(text);
}

/// The first bytes of a connection. What is no hello, or a whole one, stays so whatever follows.
pub fn client_hello(data: &[u8]) {
    let whole = parse(data);
    for end in 0..data.len().min(64) {
        let start = parse(&data[..end]);
        assert!(start == First::Incomplete || start == whole);
    }
}

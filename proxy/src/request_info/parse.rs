//! The parser behind [`RequestInfo::parse`].

use super::{ObjectKey, ParseError, RequestInfo, Scope};

pub(super) fn parse(method: &http::Method, uri: &http::Uri) -> Result<RequestInfo, ParseError> {
    let _ = (method, uri);
    Err(ParseError::Encoding)
}

pub(super) fn scope(info: &RequestInfo) -> Option<Scope> {
    let _ = info;
    None
}

pub(super) fn object(info: &RequestInfo) -> Option<ObjectKey> {
    let _ = info;
    None
}

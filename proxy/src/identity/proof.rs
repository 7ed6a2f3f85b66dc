//! What a request carries as proof of its caller. Pure.
//!
//! Sources of the rules: `kubernetes:pkg/kubeapiserver/authenticator/config.go`, `apiserver:pkg/authentication/request/bearertoken/bearertoken.go`,
//! `apiserver:pkg/authentication/request/websocket/protocol.go`, `apiserver:pkg/endpoints/filters/impersonation`.

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use super::UnknownReason;

/// A service account token has about 1 KiB; whatever is much longer is not worth hashing.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// The one bearer token of a request whose effective user can be no other than the token's.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<&str, UnknownReason> {
    if headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Err(UnknownReason::Impersonation);
    }
    if has_websocket_token(headers) {
        return Err(UnknownReason::WebSocketProtocolToken);
    }
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next().ok_or(UnknownReason::Anonymous)?;
    if lines.next().is_some() || line.len() > MAX_TOKEN_BYTES {
        return Err(UnknownReason::OpaqueToken);
    }
    let line = line.to_str().map_err(|_| UnknownReason::OpaqueToken)?;
    token_of(line.trim()).ok_or(UnknownReason::OpaqueToken)
}

/// The scheme in any case, then one token.
fn token_of(line: &str) -> Option<&str> {
    let (scheme, token) = line.split_once(' ')?;
    let well_formed = scheme.eq_ignore_ascii_case("bearer") && is_compact_jws(token);
    well_formed.then_some(token)
}

fn is_compact_jws(token: &str) -> bool {
    let mut parts = token.split('.');
    let three = [parts.next(), parts.next(), parts.next()];
    parts.next().is_none()
        && three
            .into_iter()
            .all(|part| part.is_some_and(|part| !part.is_empty() && is_base64url(part.as_bytes())))
}

/// Every byte is looked at, so that several can be at once.
fn is_base64url(bytes: &[u8]) -> bool {
    let is = |byte: u8| byte.is_ascii_alphanumeric() | (byte == b'-') | (byte == b'_');
    bytes.iter().fold(true, |all, byte| all & is(*byte))
}

fn has_websocket_token(headers: &HeaderMap) -> bool {
    let names_token = |protocol: &[u8]| {
        let start = protocol.trim_ascii().get(..WEBSOCKET_TOKEN.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(WEBSOCKET_TOKEN.as_bytes()))
    };
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    lines
        .iter()
        .any(|line| line.as_bytes().split(|byte| *byte == b',').any(names_token))
}

//! A request's head, understood: what every later step is decided by.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use hyper::upgrade::OnUpgrade;

use crate::identity::{Caller, Client, Identity, ServiceAccount};
use crate::policy::Reason;
use crate::request_info::RequestInfo;
use crate::upstream::Lane;
use crate::websocket;

/// What was asked, by whom.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// `None`: a request line that Kubernetes itself would not understand. It is the upstream's to say so.
    pub(crate) info: Option<RequestInfo>,
    pub(crate) caller: Caller,
    pub(crate) lane: Lane,
    pub(crate) upgrade: bool,
    /// The connection itself, once its upgrade is answered with a 101.
    pub(crate) socket: Option<OnUpgrade>,
}

impl Asked {
    pub(crate) fn of<B>(
        identity: &Identity,
        client: &Client,
        request: &Request<B>,
        now: SystemTime,
    ) -> Self {
        let headers = request.headers().clone();
        let proof = identity.prove(client, &headers, now);
        // A token the upstream will say 401 to must not take down the connection its siblings share.
        let lane = match &proof.caller {
            Caller::ServiceAccount(account) if proof.current => Lane::Caller(account.clone()),
            _ => Lane::Connection(client.connection),
        };
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            info: RequestInfo::parse(request.method(), request.uri()).ok(),
            upgrade: is_upgrade(&headers),
            headers,
            caller: proof.caller,
            lane,
            socket: request.extensions().get::<OnUpgrade>().cloned(),
        }
    }

    /// The same, to be kept for long: its headers hold on to no buffer of the connection.
    pub(crate) fn to_keep(&self) -> Self {
        let own = |value: &HeaderValue| {
            let mut own = HeaderValue::from_bytes(value.as_bytes()).ok()?;
            own.set_sensitive(value.is_sensitive());
            Some(own)
        };
        let headers = self.headers.iter();
        let headers = headers.filter_map(|(name, value)| Some((name.clone(), own(value)?)));
        let headers = headers.collect();
        let uri = self.uri.to_string().parse();
        Self {
            uri: uri.unwrap_or_else(|_| self.uri.clone()),
            headers,
            ..self.clone()
        }
    }

    /// The same watch without the upgrade of its connection.
    pub(crate) fn plain(&self) -> Self {
        Self {
            headers: websocket::without_upgrade(&self.headers),
            upgrade: false,
            socket: None,
            ..self.clone()
        }
    }

    /// A caller that proved itself by a certificate can't be forwarded as itself yet, and is never forwarded as somebody else.
    pub(crate) fn refuse_at_once(&self, client: &Client) -> Option<Reason> {
        client.certificate.then_some(Reason::ClientCertificate)
    }

    /// Verb and resource, for metrics and the log.
    pub(crate) fn labels(&self) -> (&'static str, &str) {
        self.info.as_ref().map_or(("other", ""), |info| {
            (info.verb.as_str(), info.resource.as_str())
        })
    }

    /// The verified caller of a read that Kubernetes would understand: whom the cache learns for.
    pub(crate) fn known(&self) -> Option<(&ServiceAccount, &RequestInfo)> {
        match (&self.caller, &self.info) {
            (Caller::ServiceAccount(account), Some(info)) if info.is_read() && !self.upgrade => {
                Some((account, info))
            }
            _ => None,
        }
    }

    /// The verified caller of a write.
    pub(crate) fn writer(&self) -> Option<(&ServiceAccount, &RequestInfo)> {
        match (&self.caller, &self.info) {
            (Caller::ServiceAccount(account), Some(info)) if !info.is_read() && !self.upgrade => {
                Some((account, info))
            }
            _ => None,
        }
    }
}

/// `Connection: upgrade` with an `Upgrade` header: HTTP/1.1 only.
fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_long_holds_no_buffer_of_the_connection() {
        let buffer = bytes::Bytes::from_static(b"Bearer t application/json text/plain");
        let value = |part| HeaderValue::from_maybe_shared(buffer.slice(part)).expect("a value");
        let mut headers = HeaderMap::new();
        let mut token = value(0..8);
        token.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, token);
        headers.append(header::ACCEPT, value(9..25));
        headers.append(header::ACCEPT, value(26..36));
        let asked = Asked {
            method: Method::GET,
            uri: Uri::from_static("/api/v1/pods?watch=1"),
            headers,
            info: None,
            caller: Caller::Unknown(crate::identity::UnknownReason::Anonymous),
            lane: Lane::Connection(crate::identity::ConnectionId(1)),
            upgrade: false,
            socket: None,
        };
        let kept = asked.to_keep();
        assert_eq!((&kept.headers, &kept.uri), (&asked.headers, &asked.uri));
        assert!(kept.headers[header::AUTHORIZATION].is_sensitive());
        for value in kept.headers.values() {
            assert!(!buffer.as_ptr_range().contains(&value.as_bytes().as_ptr()));
        }
    }

    #[test]
    fn an_upgrade_is_named_by_connection_among_others_and_in_any_case() {
        let headers = |connection: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::UPGRADE,
                header::HeaderValue::from_static("websocket"),
            );
            headers.insert(
                header::CONNECTION,
                header::HeaderValue::from_static(connection),
            );
            headers
        };
        assert!(is_upgrade(&headers("keep-alive, Upgrade")));
        assert!(!is_upgrade(&headers("keep-alive")));
        assert!(!is_upgrade(&HeaderMap::new()));
    }
}

//! Step 3: client -> caller, by what the client itself proved: a token's signature, its audience, the pod it is bound to.
//!
//! A User-Agent is never an identity.

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::config;

/// A pod's UID, in the dashed form the API uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(pub String);

/// Which listener a connection came in by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The listener in this pod's own network namespace.
    Pod(PodUid),
    /// The listener in the host's network namespace (hostNetwork pods, host processes).
    Host,
    /// An address of `listen`.
    Explicit,
}

/// One connection for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// The process that dialled.
#[derive(Clone, Debug)]
pub struct Client {
    pub connection: ConnectionId,
    pub place: Place,
    /// The pod the client runs in: of its listener, or in the host's namespace of its cgroup. `None`: no pod, or it could not be told.
    pub pod: Option<PodUid>,
    pub peer: SocketAddr,
    /// The handshake carried a client certificate.
    pub certificate: bool,
}

/// A service account, by what its token's verified claims say. The key of grants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Who the client proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    ServiceAccount(ServiceAccount),
    /// Passed upstream, never learnt from, never answered from the cache.
    Unknown(UnknownReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownReason {
    /// No Authorization header.
    Anonymous,
    /// Not a bearer token, or not a JWT.
    OpaqueToken,
    /// Signed by no key of the issuer, or malformed.
    BadSignature,
    /// The issuer's keys are not known yet.
    NoKeys,
    WrongIssuer,
    WrongAudience,
    /// Past `exp` by more than `tokens.expiredGrace`.
    Expired,
    NotYetValid,
    /// Not a service account's claims.
    NotAServiceAccount,
    /// Bound to a pod that is not the one this connection comes from.
    PodMismatch,
    /// Impersonation headers: the effective user is not the token's.
    Impersonation,
    /// A token hidden in Sec-WebSocket-Protocol.
    WebSocketProtocolToken,
}

impl UnknownReason {
    pub fn as_str(self) -> &'static str {
        match self {
            UnknownReason::Anonymous => "Anonymous",
            UnknownReason::OpaqueToken => "OpaqueToken",
            UnknownReason::BadSignature => "BadSignature",
            UnknownReason::NoKeys => "NoKeys",
            UnknownReason::WrongIssuer => "WrongIssuer",
            UnknownReason::WrongAudience => "WrongAudience",
            UnknownReason::Expired => "TokenExpired",
            UnknownReason::NotYetValid => "NotYetValid",
            UnknownReason::NotAServiceAccount => "NotAServiceAccount",
            UnknownReason::PodMismatch => "PodMismatch",
            UnknownReason::Impersonation => "Impersonation",
            UnknownReason::WebSocketProtocolToken => "WebSocketProtocolToken",
        }
    }
}

/// Verifies tokens. Cheap to share (behind an `Arc`), lock-free to read.
pub struct Identity {
    _config: config::Tokens,
}

impl Identity {
    pub fn new(config: &config::Tokens) -> Self {
        Self {
            _config: config.clone(),
        }
    }

    /// Takes over the issuer's keys: the bodies of `/.well-known/openid-configuration` and of `/openid/v1/jwks`.
    /// A set that does not parse leaves the old one in place.
    pub fn set_keys(&self, keys: IssuerKeys) -> Result<(), KeysError> {
        let _ = keys;
        Ok(())
    }

    /// Who sends this request. A verified signature is remembered (bounded, by the token's digest), everything else is checked each time.
    pub fn caller(&self, client: &Client, headers: &http::HeaderMap, now: SystemTime) -> Caller {
        let _ = (client, headers, now);
        Caller::Unknown(UnknownReason::Anonymous)
    }
}

/// What the cache keeps on disk, so that tokens can be verified after a restart in the dark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKeys {
    pub issuer: String,
    /// The JWK set as JSON.
    pub jwks: String,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the issuer's key set is not a JWK set")]
    Parse(#[source] serde_json::Error),
    #[error("the issuer's key set has no usable key")]
    Empty,
}

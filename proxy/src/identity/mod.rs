//! Step 3: client -> caller, by what the client itself proved: a token's signature, its audience, the pod it is bound to.
//!
//! A User-Agent is never an identity.

mod keys;
mod proof;
mod remembered;
mod token;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;

use crate::config;
use keys::Keyring;
pub use keys::{IssuerKeys, KeysError};

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

/// What a request's credential proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub caller: Caller,
    /// The credential is one the upstream would still accept: known, and not merely within the grace that the dark gives.
    pub current: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnknownReason {
    /// No Authorization header.
    Anonymous,
    /// Not one bearer token, or not a JWT.
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

/// Verifies tokens. Cheap to share (behind an `Arc`); readers share a short lock only to look up what is remembered.
pub struct Identity {
    config: config::Tokens,
    keyring: ArcSwapOption<Keyring>,
}

impl Identity {
    pub fn new(config: &config::Tokens) -> Self {
        Self {
            config: config.clone(),
            keyring: ArcSwapOption::empty(),
        }
    }

    /// Takes over the issuer's keys. A set that does not parse leaves the old one in place; the same set again changes nothing.
    /// A new one forgets every signature verified before.
    pub fn set_keys(&self, keys: IssuerKeys) -> Result<(), KeysError> {
        let current = self.keyring.load();
        if current.as_ref().is_some_and(|ring| ring.source == keys) {
            return Ok(());
        }
        let keyring = Keyring::new(keys, &self.config)?;
        self.keyring.store(Some(Arc::new(keyring)));
        Ok(())
    }

    /// A token named a key that the issuer may have got since the last [`Identity::set_keys`]. Asking resets it.
    pub fn take_unknown_key(&self) -> bool {
        let keyring = self.keyring.load();
        keyring.as_ref().is_some_and(|ring| ring.take_unknown_key())
    }

    /// Who sends this request. A verified signature is remembered (bounded, by the token's digest), time and pod are checked each time.
    pub fn caller(&self, client: &Client, headers: &http::HeaderMap, now: SystemTime) -> Caller {
        self.prove(client, headers, now).caller
    }

    /// Who sends this request, and whether the upstream will agree.
    pub fn prove(&self, client: &Client, headers: &http::HeaderMap, now: SystemTime) -> Proof {
        match self.service_account(client, headers, now) {
            Ok((account, current)) => Proof {
                caller: Caller::ServiceAccount(account),
                current,
            },
            Err(reason) => Proof {
                caller: Caller::Unknown(reason),
                current: false,
            },
        }
    }

    fn service_account(
        &self,
        client: &Client,
        headers: &http::HeaderMap,
        now: SystemTime,
    ) -> Result<(ServiceAccount, bool), UnknownReason> {
        let token = proof::bearer_token(headers)?;
        let keyring = self.keyring.load();
        let keyring = keyring.as_ref().ok_or(UnknownReason::NoKeys)?;
        let verified = keyring.verify(token)?;
        verified.check_time(now, self.config.expired_grace)?;
        verified.check_pod(client.pod_for_tokens())?;
        let current = verified.check_time(now, Duration::ZERO).is_ok();
        Ok((verified.account.clone(), current))
    }
}

impl Client {
    /// The pod that a pod-bound token must be bound to.
    fn pod_for_tokens(&self) -> Option<&PodUid> {
        match &self.place {
            Place::Pod(uid) => Some(uid),
            Place::Host | Place::Explicit => self.pod.as_ref(),
        }
    }
}

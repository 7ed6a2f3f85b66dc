//! A TLS configuration per place, made when first asked for, renewed before its leaf ends, bounded in number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;

use super::authority::{Authority, Leaf};
use super::constraints::Name;
use super::verifier::Asks;
use crate::identity::Place;

/// Kubernetes runs at most some 250 pods on a node; twice that leaves room for those that come and go.
const PLACES: usize = 512;

pub(super) struct Mint {
    authority: Authority,
    names: Vec<Name>,
    provider: Arc<CryptoProvider>,
    /// Nothing awaits under this lock; a mint takes a fraction of a millisecond.
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    minted: HashMap<Place, Minted>,
    /// Counts uses, to tell the one used longest ago.
    uses: u64,
}

struct Minted {
    config: Arc<ServerConfig>,
    renew_at: OffsetDateTime,
    used: u64,
}

impl Mint {
    pub(super) fn new(authority: Authority, names: Vec<Name>) -> Self {
        Self {
            authority,
            names,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            places: Mutex::default(),
        }
    }

    /// The configuration for clients of this place.
    pub(super) fn config(
        &self,
        place: &Place,
        now: OffsetDateTime,
    ) -> Result<Arc<ServerConfig>, String> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.uses += 1;
        let used = places.uses;
        if let Some(minted) = places.minted.get_mut(place)
            && now < minted.renew_at
        {
            minted.used = used;
            return Ok(Arc::clone(&minted.config));
        }
        let leaf = self.authority.mint(&self.names, now)?;
        // Two thirds of what is left of it: a renewal may fail for a third of its life before a client notices.
        let renew_at = now.saturating_add((leaf.not_after - now) * 2 / 3);
        let config = Arc::new(self.server_config(leaf)?);
        places.make_room(place);
        let minted = Minted {
            config: Arc::clone(&config),
            renew_at,
            used,
        };
        places.minted.insert(place.clone(), minted);
        Ok(config)
    }

    fn server_config(&self, leaf: Leaf) -> Result<ServerConfig, String> {
        let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
        let mut chain = vec![leaf.certificate];
        chain.extend(self.authority.chain.iter().cloned());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(Arc::new(Asks::new(&self.provider)))
                    .with_single_cert(chain, key.into())
            })
            .map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // No resumption: a kept session holds the client's certificate chain (a hostile pod's choice of bytes), and a whole handshake
        // on loopback costs one P-256 signature.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl Places {
    fn make_room(&mut self, place: &Place) {
        if self.minted.len() < PLACES || self.minted.contains_key(place) {
            return;
        }
        let oldest = self.minted.iter().min_by_key(|(_, minted)| minted.used);
        if let Some(oldest) = oldest.map(|(place, _)| place.clone()) {
            self.minted.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::identity::PodUid;
    use crate::tls::tests::Files;

    fn mint(files: &Files) -> Mint {
        let authority = Authority::load(&files.config(), files.now).expect("a good CA");
        Mint::new(authority, vec![Name::Dns("kubernetes".into())])
    }

    fn pod(number: usize) -> Place {
        Place::Pod(PodUid(number.to_string()))
    }

    #[test]
    fn each_place_has_its_own_leaf_and_keeps_it() {
        let files = Files::new(&["kubernetes"]);
        let mint = mint(&files);
        let config = |place: &Place| mint.config(place, files.now).expect("minted");
        let first = config(&Place::Host);
        assert!(Arc::ptr_eq(&first, &config(&Place::Host)));
        assert!(!Arc::ptr_eq(&first, &config(&pod(1))));
    }

    #[test]
    fn a_leaf_is_renewed_after_two_thirds_of_its_life() {
        let files = Files::new(&["kubernetes"]);
        let mint = mint(&files);
        let at = |hours| {
            let now = files.now + Duration::hours(hours);
            mint.config(&Place::Host, now).expect("minted")
        };
        let first = at(0);
        assert!(Arc::ptr_eq(&first, &at(15)));
        assert!(!Arc::ptr_eq(&first, &at(16)));
    }

    #[test]
    fn no_leaf_outlives_the_ca() {
        let files = Files::living(&["kubernetes"], Duration::hours(2));
        let authority = Authority::load(&files.config(), files.now).expect("a good CA");
        let leaf = authority.mint(&[], files.now).expect("minted");
        let left = leaf.not_after - files.now;
        assert!(
            left <= Duration::hours(2) && left > Duration::hours(1),
            "{left}"
        );
        let mint = Mint::new(authority, Vec::new());
        let late = mint.config(&Place::Host, files.now + Duration::hours(3));
        assert!(late.is_err_and(|why| why.starts_with("the CA ended at")));
    }

    #[test]
    fn the_place_used_longest_ago_makes_room() {
        let files = Files::new(&["kubernetes"]);
        let mint = mint(&files);
        let config = |number| mint.config(&pod(number), files.now).expect("minted");
        let (kept, forgotten) = (config(0), config(1));
        for number in 2..=PLACES {
            config(0);
            config(number);
        }
        assert!(Arc::ptr_eq(&kept, &config(0)));
        assert!(!Arc::ptr_eq(&forgotten, &config(1)));
        let places = mint.places.lock().expect("not poisoned");
        assert_eq!(places.minted.len(), PLACES);
    }
}

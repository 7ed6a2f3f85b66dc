//! The CA that signs leaves: its chain and key, checked when read so that minting cannot fail later for a reason that could be told now.

use std::path::Path;

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::X509Certificate;

use super::constraints::{self, Name};
use super::{SetupError, pem};
use crate::config;

/// Clocks on edge nodes are off: what is made now is valid for a client that lags this much.
pub(super) const BACKDATED: Duration = Duration::hours(1);
/// The whole life of a leaf, the backdated hour included.
const LEAF_LIFE: Duration = Duration::hours(24);

const CERT_FIELD: &str = "tls.caCertFile";
const KEY_FIELD: &str = "tls.caKeyFile";

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Leaf signer first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The earliest end of the chain.
    not_after: OffsetDateTime,
}

/// A leaf and its key. The key is never written anywhere.
pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) not_after: OffsetDateTime,
}

impl Authority {
    pub(super) fn load(config: &config::Tls, now: OffsetDateTime) -> Result<Self, SetupError> {
        let wrong = |field, path: &Path| {
            let path = path.to_owned();
            move |why| SetupError::File { field, path, why }
        };
        let cert_file = config.ca_cert_file.as_path();
        let in_cert = || wrong(CERT_FIELD, cert_file);
        let in_key = || wrong(KEY_FIELD, &config.ca_key_file);
        let chain = pem::certificates(cert_file).map_err(in_cert())?;
        let key = pem::key(&config.ca_key_file).map_err(in_key())?;
        let parsed = parse_chain(&chain).map_err(in_cert())?;
        check_chain(&parsed, now).map_err(in_cert())?;
        if !pem::belongs(&parsed[0], &key) {
            return Err(in_key()(format!(
                "its key does not belong to the first certificate of {}",
                cert_file.display()
            )));
        }
        let not_after = parsed.iter().map(ends).min().unwrap_or(now);
        let issuer = Issuer::from_ca_cert_der(&chain[0], key)
            .map_err(|error| in_cert()(format!("its subject cannot be used: {error}")))?;
        let authority = Self {
            issuer,
            chain,
            not_after,
        };
        authority.check_subject(now).map_err(in_cert())?;
        Ok(authority)
    }

    /// Every name against the constraints of every certificate of the chain. The first that is not permitted is returned.
    pub(super) fn unpermitted<'n>(&self, names: &'n [Name]) -> Option<&'n Name> {
        let parsed = parse_chain(&self.chain).ok()?;
        let permitted = |name: &Name| {
            parsed
                .iter()
                .all(|certificate| match certificate.name_constraints() {
                    Ok(Some(found)) => constraints::permits(found.value, name),
                    Ok(None) => true,
                    Err(_) => false,
                })
        };
        names.iter().find(|name| !permitted(name))
    }

    /// A new key and a certificate for it, for all these names.
    pub(super) fn mint(&self, names: &[Name], now: OffsetDateTime) -> Result<Leaf, String> {
        let not_before = now.saturating_sub(BACKDATED);
        let not_after = not_before.saturating_add(LEAF_LIFE).min(self.not_after);
        if not_after <= now {
            return Err(format!("the CA ended at {}", self.not_after));
        }
        let mut params = CertificateParams::default();
        // Not a DNS name: OpenSSL holds a common name that looks like one against the CA's constraints.
        params
            .distinguished_name
            .push(DnType::CommonName, "Holdfast API server proxy");
        params.subject_alt_names = names.iter().map(san).collect::<Result<_, _>>()?;
        params.not_before = not_before;
        params.not_after = not_after;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(|error| error.to_string())?;
        Ok(Leaf {
            certificate: certificate.into(),
            key,
            not_after,
        })
    }

    /// A subject with a repeated part (two DC, say) would not come out of the library as it went in, and no client would find the issuer.
    fn check_subject(&self, now: OffsetDateTime) -> Result<(), String> {
        let leaf = self.mint(&[], now)?;
        let issuer = pem::parse(&leaf.certificate)?.issuer().as_raw().to_vec();
        if issuer != pem::parse(&self.chain[0])?.subject().as_raw() {
            return Err(
                "its subject has a part that cannot be copied; make a CA with `holdfast ca create`"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn parse_chain<'a>(chain: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, String> {
    chain.iter().map(pem::parse).collect()
}

/// Each may sign, none has ended, each is followed by its issuer.
fn check_chain(chain: &[X509Certificate<'_>], now: OffsetDateTime) -> Result<(), String> {
    for certificate in chain {
        pem::check_signer(certificate)?;
        let validity = certificate.validity();
        if ends(certificate) <= now {
            return Err(format!(
                "{} ended at {}; make a new one with `holdfast ca create`",
                certificate.subject(),
                validity.not_after
            ));
        }
        if validity.not_before.to_datetime() > now {
            return Err(format!(
                "{} begins only at {}; is the clock of this node right?",
                certificate.subject(),
                validity.not_before
            ));
        }
    }
    for pair in chain.windows(2) {
        if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
            return Err(format!(
                "{} is not followed by its issuer; write the leaf signer first, then who signed it",
                pair[0].subject()
            ));
        }
    }
    match chain[0].extended_key_usage() {
        Ok(Some(usage)) if !usage.value.server_auth && !usage.value.any => {
            Err("its certificate does not permit server authentication".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("an extension in it is malformed: {error}")),
    }
}

pub(super) fn ends(certificate: &X509Certificate<'_>) -> OffsetDateTime {
    certificate.validity().not_after.to_datetime()
}

fn san(name: &Name) -> Result<SanType, String> {
    match name {
        Name::Dns(name) => name
            .as_str()
            .try_into()
            .map(SanType::DnsName)
            .map_err(|error: rcgen::Error| error.to_string()),
        Name::Address(address) => Ok(SanType::IpAddress(*address)),
    }
}

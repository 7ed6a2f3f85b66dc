//! PEM files of certificates and keys. Errors are sentences about the file.

use std::path::Path;

use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// All certificates, in the order of the file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("not PEM: {error}"))?;
    if certificates.is_empty() {
        return Err("there is no BEGIN CERTIFICATE in it".to_owned());
    }
    certificates
        .iter()
        .try_for_each(|der| parse(der).map(drop))?;
    Ok(certificates)
}

/// PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
pub(super) fn key(path: &Path) -> Result<KeyPair, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        "there is no private key in it that can be read: PEM, not encrypted, is needed".to_owned()
    })?;
    KeyPair::try_from(&der).map_err(|error| format!("its key cannot be used: {error}"))
}

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| format!("a certificate in it is malformed: {error}"))
}

/// The key is the one the certificate names.
pub(super) fn belongs(certificate: &X509Certificate<'_>, key: &KeyPair) -> bool {
    certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

/// Why a certificate may not sign others, if so.
pub(super) fn check_signer(certificate: &X509Certificate<'_>) -> Result<(), String> {
    let malformed = |error| format!("an extension in it is malformed: {error}");
    let constraints = certificate.basic_constraints().map_err(malformed)?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err("its certificate is not one of a CA".to_owned());
    }
    let usage = certificate.key_usage().map_err(malformed)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("its certificate does not permit to sign certificates".to_owned());
    }
    Ok(())
}

//! The intermediate is what it claims to be, from a CA with any kind of key, and never overwrites what is there.

use std::os::unix::fs::PermissionsExt;

use rcgen::PKCS_RSA_SHA256;
use rustls_pki_types::pem::PemObject;
use x509_parser::der_parser::der::parse_der_sequence;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::ParsedExtension;

use super::*;
use crate::tls::tests::cluster_ca;

struct Folder(tempfile::TempDir);

impl Folder {
    /// With a cluster CA of this key, written under this PEM label.
    fn new(key: &KeyPair, label: &str, der: &[u8], params: &CertificateParams) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        let ca = params.self_signed(key).expect("signed");
        std::fs::write(folder.path("cluster.crt"), ca.pem()).expect("written");
        std::fs::write(folder.path("cluster.key"), pem_text(label, der)).expect("written");
        folder
    }

    fn ordinary() -> Self {
        let key = KeyPair::generate().expect("a key");
        let der = key.serialize_der();
        Self::new(&key, "PRIVATE KEY", &der, &cluster_ca(now()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn request(&self, names: &[&str]) -> Request {
        Request {
            ca_cert: self.path("cluster.crt"),
            ca_key: self.path("cluster.key"),
            out_cert: self.path("ca.crt"),
            out_key: self.path("ca.key"),
            names: names
                .iter()
                .map(|text| name(text).expect("a name"))
                .collect(),
            life: Duration::days(365),
            force: false,
        }
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("ca.crt")).expect("one certificate")
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn pem_text(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// The key inside PKCS#8: PKCS#1 for RSA, SEC1 for EC.
fn inner(pkcs8: &[u8]) -> Vec<u8> {
    let (_, sequence) = parse_der_sequence(pkcs8).expect("PKCS#8");
    let fields = sequence.as_sequence().expect("a sequence");
    fields[2].as_slice().expect("an octet string").to_vec()
}

#[test]
fn a_cluster_key_may_be_pkcs1_sec1_or_pkcs8() {
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let ec = KeyPair::generate().expect("a key");
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    for (key, label, der) in [
        (&rsa, "RSA PRIVATE KEY", inner(&rsa.serialize_der())),
        (&rsa, "PRIVATE KEY", rsa.serialize_der()),
        (&ec, "EC PRIVATE KEY", inner(&ec.serialize_der())),
        (&ec, "PRIVATE KEY", ec.serialize_der()),
        (&p384, "PRIVATE KEY", p384.serialize_der()),
    ] {
        let folder = Folder::new(key, label, &der, &cluster_ca(now()));
        create(&folder.request(&["kubernetes"]), now()).expect(label);
        let root = CertificateDer::from_pem_file(folder.path("cluster.crt")).expect("a root");
        let made = folder.certificate();
        let issuer = pem::parse(&root).expect("parsed");
        let made = pem::parse(&made).expect("parsed");
        made.verify_signature(Some(issuer.public_key()))
            .expect("signed by the cluster CA");
    }
}

#[test]
fn the_intermediate_can_do_nothing_but_sign_leaves_for_these_names() {
    let folder = Folder::ordinary();
    create(
        &folder.request(&["kubernetes.default.svc", "10.96.0.1", "fd00::1"]),
        now(),
    )
    .expect("created");
    let der = folder.certificate();
    let made = pem::parse(&der).expect("parsed");
    let basic = made
        .basic_constraints()
        .expect("well formed")
        .expect("there");
    assert!(basic.critical && basic.value.ca);
    assert_eq!(basic.value.path_len_constraint, Some(0));
    let usage = made.key_usage().expect("well formed").expect("there");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    let extended = made
        .extended_key_usage()
        .expect("well formed")
        .expect("there");
    assert!(extended.value.server_auth && !extended.value.client_auth && !extended.value.any);
    let constraints = made
        .name_constraints()
        .expect("well formed")
        .expect("there");
    assert!(constraints.critical);
    assert!(constraints.value.excluded_subtrees.is_none());
    let permitted = constraints
        .value
        .permitted_subtrees
        .as_deref()
        .unwrap_or_default();
    let bases: Vec<_> = permitted
        .iter()
        .map(|subtree| subtree.base.clone())
        .collect();
    let v6 = ["fd00::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        .map(|text| text.parse::<Ipv6Addr>().expect("an address").octets())
        .concat();
    assert_eq!(
        bases,
        [
            GeneralName::DNSName("kubernetes.default.svc"),
            GeneralName::IPAddress(&[10, 96, 0, 1, 255, 255, 255, 255]),
            GeneralName::IPAddress(&v6),
        ]
    );
    let has = |wanted: fn(&ParsedExtension<'_>) -> bool| {
        made.extensions()
            .iter()
            .any(|found| wanted(found.parsed_extension()))
    };
    assert!(has(|found| matches!(
        found,
        ParsedExtension::SubjectKeyIdentifier(_)
    )));
    assert!(has(|found| matches!(
        found,
        ParsedExtension::AuthorityKeyIdentifier(_)
    )));
}

#[test]
fn a_kind_of_name_that_was_not_given_is_excluded_as_a_whole() {
    for (given, permitted, refused) in [
        ("kubernetes", "kubernetes", "10.96.0.1"),
        ("kubernetes", "kubernetes", "fd00::1"),
        ("10.96.0.1", "10.96.0.1", "kubernetes"),
        ("10.96.0.1", "10.96.0.1", "fd00::1"),
    ] {
        let folder = Folder::ordinary();
        create(&folder.request(&[given]), now()).expect("created");
        let der = folder.certificate();
        let made = pem::parse(&der).expect("parsed");
        let constraints = made
            .name_constraints()
            .expect("well formed")
            .expect("there");
        let permits = |text: &str| {
            crate::tls::constraints::permits(constraints.value, &name(text).expect("a name"))
        };
        assert!(
            permits(permitted) && !permits(refused),
            "{given}: {refused}"
        );
    }
}

#[test]
fn it_lives_as_asked_but_not_longer_than_the_cluster_ca() {
    let folder = Folder::ordinary();
    let now = now();
    let mut request = folder.request(&["kubernetes"]);
    let created = create(&request, now).expect("created");
    assert_eq!(created.not_after, now + Duration::days(365));
    request.life = Duration::days(36_500);
    request.force = true;
    let created = create(&request, now).expect("created");
    assert!(created.not_after <= now + Duration::days(3650));
    let der = folder.certificate();
    let begins = pem::parse(&der)
        .expect("parsed")
        .validity()
        .not_before
        .to_datetime();
    assert!(now - begins >= Duration::hours(1));
}

#[test]
fn existing_files_are_kept_unless_forced_and_the_key_is_for_its_owner_alone() {
    let folder = Folder::ordinary();
    let mut request = folder.request(&["kubernetes"]);
    std::fs::write(folder.path("ca.crt"), "mine").expect("written");
    assert!(matches!(create(&request, now()), Err(CaError::Exists(_))));
    assert!(!folder.path("ca.key").exists());
    std::fs::write(folder.path("ca.key"), "mine").expect("written");
    request.force = true;
    create(&request, now()).expect("created");
    let mode = std::fs::metadata(folder.path("ca.key"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(folder.0.path())
            .expect("a folder")
            .count(),
        4
    );
}

#[test]
fn a_ca_that_may_not_sign_is_refused_by_name() {
    let key = KeyPair::generate().expect("a key");
    let told = |params: &CertificateParams, now| {
        let folder = Folder::new(&key, "PRIVATE KEY", &key.serialize_der(), params);
        create(&folder.request(&["kubernetes"]), now)
            .expect_err("refused")
            .to_string()
    };
    let good = cluster_ca(now());
    let mut leaf = good.clone();
    leaf.is_ca = IsCa::ExplicitNoCa;
    assert!(told(&leaf, now()).contains("not one of a CA"));
    let mut short = good.clone();
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert!(told(&short, now()).contains("path length is 0"));
    assert!(told(&good, now() + Duration::days(4000)).contains("ended at"));
    let folder = Folder::ordinary();
    let other = KeyPair::generate().expect("a key");
    std::fs::write(folder.path("cluster.key"), other.serialize_pem()).expect("written");
    let told = create(&folder.request(&["kubernetes"]), now())
        .expect_err("refused")
        .to_string();
    assert!(
        told.contains("none of its certificates belongs to the key"),
        "{told}"
    );
}

#[test]
fn an_address_is_a_name_or_an_ip_without_port() {
    assert!(matches!(name("10.96.0.1"), Ok(Name::Address(_))));
    assert!(
        matches!(name("Kubernetes.Default"), Ok(Name::Dns(name)) if name == "kubernetes.default")
    );
    for wrong in ["10.96.0.1:443", "[::1]", "https://kubernetes", "*.svc", ""] {
        assert!(name(wrong).is_err(), "{wrong}");
    }
}

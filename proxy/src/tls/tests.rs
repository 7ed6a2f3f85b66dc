//! Handshakes over loopback with rustls as the client, which trusts the cluster CA alone.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use time::Duration as Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::TlsMode;

/// A cluster CA and an intermediate made from it by `ca::create`, in a folder of their own.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    pub(super) now: OffsetDateTime,
    root: RootCertStore,
}

impl Files {
    pub(crate) fn new(names: &[&str]) -> Self {
        Self::living(names, Span::days(3650))
    }

    pub(super) fn living(names: &[&str], life: Span) -> Self {
        let now = OffsetDateTime::now_utc();
        let files = Self {
            folder: tempfile::tempdir().expect("a folder"),
            now,
            root: RootCertStore::empty(),
        };
        let key = KeyPair::generate().expect("a key");
        let ca = cluster_ca(now).self_signed(&key).expect("signed");
        std::fs::write(files.path("cluster.crt"), ca.pem()).expect("written");
        std::fs::write(files.path("cluster.key"), key.serialize_pem()).expect("written");
        let mut files = files;
        files.root.add(ca.der().clone()).expect("a root");
        let request = ca::Request {
            ca_cert: files.path("cluster.crt"),
            ca_key: files.path("cluster.key"),
            out_cert: files.path("ca.crt"),
            out_key: files.path("ca.key"),
            names: names
                .iter()
                .map(|name| ca::name(name).expect("a name"))
                .collect(),
            life,
            force: false,
        };
        ca::create(&request, now).expect("created");
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> config::Tls {
        config::Tls {
            mode: TlsMode::Intermediate,
            server_names: vec!["kubernetes".to_owned()],
            ca_cert_file: self.path("ca.crt"),
            ca_key_file: self.path("ca.key"),
            client_ca_file: None,
        }
    }
}

pub(super) fn cluster_ca(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.not_before = now - Span::minutes(5);
    params.not_after = now + Span::days(3650);
    params
}

/// Both ends of one TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), server.expect("accepted").0)
}

fn client(files: &Files, alpn: &[&[u8]], certificate: bool) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_root_certificates(files.root.clone());
    let mut config = if certificate {
        let key = KeyPair::generate().expect("a key");
        let own = cluster_ca(files.now).self_signed(&key).expect("signed");
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        builder
            .with_client_auth_cert(vec![own.into()], key.into())
            .expect("a certificate")
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

const VIP: &str = "10.96.0.1";

fn terminator(files: &Files) -> Terminator {
    let addresses = [VIP.parse().expect("an address")];
    Terminator::new(&files.config(), &addresses).expect("a good CA")
}

async fn shake(files: &Files, name: &'static str, alpn: &[&[u8]], certificate: bool) -> Session {
    let terminator = terminator(files);
    let (ours, theirs) = pair().await;
    let connector = client(files, alpn, certificate);
    let dial = async {
        let mut stream = connector
            .connect(name.try_into().expect("a name"), ours)
            .await?;
        // In TLS 1.3 the client is done before its certificate is read.
        stream.write_all(b"x").await?;
        Ok::<_, std::io::Error>(stream)
    };
    let (client, session) = tokio::join!(dial, terminator.accept(theirs, &Place::Host));
    client.expect("the client trusts the chain");
    let mut session = session.expect("a session");
    assert_eq!(session.stream.read_u8().await.expect("a byte"), b'x');
    session
}

#[tokio::test]
async fn a_client_that_trusts_the_cluster_ca_alone_is_served_by_name_and_by_address() {
    let files = Files::new(&["kubernetes", VIP]);
    let by_name = shake(&files, "kubernetes", &[b"h2", b"http/1.1"], false).await;
    assert_eq!(by_name.server_name.as_deref(), Some("kubernetes"));
    assert!(by_name.http2 && !by_name.client_certificate);
    let by_address = shake(&files, VIP, &[b"http/1.1"], false).await;
    assert_eq!(by_address.server_name, None);
    assert!(!by_address.http2);
}

#[tokio::test]
async fn a_client_certificate_is_flagged_whoever_signed_it() {
    let files = Files::new(&["kubernetes", VIP]);
    assert!(
        shake(&files, "kubernetes", &[], true)
            .await
            .client_certificate
    );
}

#[tokio::test]
async fn what_is_not_tls_is_told_apart_and_a_hang_up_is_an_error() {
    let files = Files::new(&["kubernetes", VIP]);
    let terminator = terminator(&files);
    let (mut ours, theirs) = pair().await;
    ours.write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("sent");
    let error = terminator.accept(theirs, &Place::Host).await.err();
    assert!(matches!(error, Some(HandshakeError::NotTls)), "{error:?}");
    let (ours, theirs) = pair().await;
    drop(ours);
    let error = terminator.accept(theirs, &Place::Host).await.err();
    assert!(matches!(error, Some(HandshakeError::Tls(_))), "{error:?}");
}

#[tokio::test]
async fn a_client_that_stalls_is_given_up() {
    let files = Files::new(&["kubernetes", VIP]);
    let terminator = Terminator {
        timeout: Duration::from_millis(50),
        ..terminator(&files)
    };
    let (mut ours, theirs) = pair().await;
    ours.write_all(b"\x16\x03\x01").await.expect("sent");
    let error = terminator.accept(theirs, &Place::Host).await.err();
    assert!(matches!(error, Some(HandshakeError::Timeout)), "{error:?}");
}

#[test]
fn a_name_outside_the_cas_constraints_is_an_error_at_start() {
    let files = Files::new(&["kubernetes", VIP]);
    let mut config = files.config();
    let other = ["10.96.0.2".parse().expect("an address")];
    let error = Terminator::new(&config, &other)
        .err()
        .map(|error| error.to_string());
    let told = error.expect("not permitted");
    assert!(told.contains("do not permit 10.96.0.2") && told.contains("intercept.destinations"));
    config.server_names.push("example.com".to_owned());
    let error = Terminator::new(&config, &[]).err();
    assert!(
        matches!(&error, Some(SetupError::Unpermitted { name, field: "tls.serverNames" }) if name == "example.com"),
        "{error:?}"
    );
}

#[test]
fn a_ca_that_cannot_sign_is_an_error_that_names_field_and_file() {
    let files = Files::new(&["kubernetes"]);
    let told = |config: &config::Tls, now| {
        let error = Authority::load(config, now).err().expect("refused");
        error.to_string()
    };
    let good = files.config();
    let late = told(&good, files.now + Span::days(4000));
    assert!(
        late.contains("ended at") && late.contains("tls.caCertFile"),
        "{late}"
    );
    let early = told(&good, files.now - Span::days(1));
    assert!(
        early.contains("is the clock of this node right?"),
        "{early}"
    );
    let other_key = config::Tls {
        ca_key_file: files.path("cluster.key"),
        ..good.clone()
    };
    assert!(told(&other_key, files.now).contains("does not belong to the first certificate"));
    let no_key = config::Tls {
        ca_key_file: files.path("ca.crt"),
        ..good.clone()
    };
    assert!(told(&no_key, files.now).contains("no private key"));
    let absent = config::Tls {
        ca_cert_file: files.path("absent"),
        ..good.clone()
    };
    assert!(told(&absent, files.now).contains("No such file"));
    let both = [files.path("cluster.crt"), files.path("ca.crt")];
    let text = both
        .map(|path| std::fs::read_to_string(path).expect("read"))
        .concat();
    std::fs::write(files.path("reversed"), text).expect("written");
    let reversed = config::Tls {
        ca_cert_file: files.path("reversed"),
        ca_key_file: files.path("cluster.key"),
        ..good
    };
    assert!(told(&reversed, files.now).contains("is not followed by its issuer"));
}

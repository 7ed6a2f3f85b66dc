//! How etcd and kube-apiserver are started.

use std::path::Path;

use super::{ETCD, ISSUER};
use crate::node::CONTROL_PLANE;
use crate::pki::Pki;

pub(super) fn server(pki: &Pki, folder: &Path) -> Vec<String> {
    let pki = |name: &str| pki.path(name).display().to_string();
    let file = |name: &str| folder.join(name).display().to_string();
    [
        ("etcd-servers", ETCD.to_owned()),
        ("bind-address", "0.0.0.0".to_owned()),
        ("advertise-address", CONTROL_PLANE.to_owned()),
        ("secure-port", "6443".to_owned()),
        ("cert-dir", file("certs")),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
        ("client-ca-file", pki("ca.crt")),
        ("service-account-issuer", ISSUER.to_owned()),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", "10.96.0.0/16".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        (
            "requestheader-allowed-names",
            "front-proxy-client".to_owned(),
        ),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".to_owned(),
        ),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("proxy-client-cert-file", pki("front-proxy-client.crt")),
        ("proxy-client-key-file", pki("front-proxy-client.key")),
        ("audit-policy-file", file("audit.yaml")),
        ("audit-log-path", file("audit.log")),
        ("audit-log-mode", "blocking".to_owned()),
    ]
    .into_iter()
    .map(|(flag, value)| format!("--{flag}={value}"))
    .collect()
}

pub(super) fn etcd(folder: &Path) -> Vec<String> {
    let mut flags = vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        "--log-level=warn".to_owned(),
    ];
    flags.push(format!("--listen-client-urls={ETCD}"));
    flags.push(format!("--advertise-client-urls={ETCD}"));
    flags.push("--listen-peer-urls=http://127.0.0.1:2380".to_owned());
    // The machine does not lose power during a test; only the API server is killed.
    flags.push("--unsafe-no-fsync".to_owned());
    flags
}

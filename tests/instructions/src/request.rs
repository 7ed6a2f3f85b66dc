//! What a client says first: its hello, the request line, `Accept`, selectors.

use std::hint::black_box;

use holdfast::request_info::selector::{FieldSelector, LabelSelector};
use holdfast::request_info::{RequestInfo, accept};
use holdfast::tls::client_hello;
use http::{Method, Uri};

const HELLOS: [&[u8]; 2] = [
    include_bytes!("../../fuzz/corpus/client_hello/openssl-name"),
    include_bytes!("../../fuzz/corpus/client_hello/openssl-address"),
];

/// What informers, kubectl and a kubelet ask for.
const REQUESTS: [(Method, &str); 6] = [
    (
        Method::GET,
        "/api/v1/namespaces/shop/pods/web-5d8f7c6b9-x2x7k",
    ),
    (Method::GET, "/api/v1/pods?limit=500&resourceVersion=0"),
    (
        Method::GET,
        "/api/v1/namespaces/shop/configmaps?allowWatchBookmarks=true&resourceVersion=12345&timeout=7m3s&timeoutSeconds=423&watch=true",
    ),
    (
        Method::GET,
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1&labelSelector=app%3Dweb%2Ctier%20in%20%28a%2Cb%29",
    ),
    (
        Method::PATCH,
        "/apis/apps/v1/namespaces/shop/deployments/web/status?fieldManager=controller",
    ),
    (
        Method::PUT,
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1?timeout=10s",
    ),
];

const ACCEPTS: [&str; 3] = [
    "application/json, */*",
    "application/vnd.kubernetes.protobuf,application/json",
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
];

pub(crate) const LABELS: &str = "app=nginx,tier in (web,api),!legacy,track!=canary";
pub(crate) const FIELDS: &str = "spec.nodeName=edge-1,status.phase!=Failed";

pub(crate) fn client_hello() -> Box<dyn FnMut()> {
    Box::new(|| {
        for hello in HELLOS {
            black_box(client_hello::parse(black_box(hello)));
        }
    })
}

pub(crate) fn request_info() -> Box<dyn FnMut()> {
    let requests = REQUESTS.map(|(method, uri)| (method, Uri::from_static(uri)));
    Box::new(move || {
        for (method, uri) in &requests {
            black_box(RequestInfo::parse(method, uri).is_ok());
        }
    })
}

pub(crate) fn accept() -> Box<dyn FnMut()> {
    Box::new(|| {
        for header in ACCEPTS {
            black_box(accept::negotiate(Some(black_box(header))));
        }
    })
}

pub(crate) fn selectors() -> Box<dyn FnMut()> {
    Box::new(|| {
        black_box(LabelSelector::parse(black_box(LABELS)).is_ok());
        black_box(FieldSelector::parse(black_box(FIELDS)).is_ok());
    })
}

//! An in-cluster program with kube-rs reflectors: nothing but `Config::incluster` and kube-rs' own defaults. Whoever connects
//! to the unix socket that it listens on is sent one line of JSON that tells what it holds.
//!
//! `kube-rs SOCKET NAMESPACE`

mod held;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Config};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use held::{Kind, follow};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let socket = args.next().context("the first word is the socket")?;
    let namespace = args.next().context("the second word is the namespace")?;
    let client = Client::try_from(Config::incluster()?)?;
    let kinds = reflect_all(&client, &namespace);
    let listener = UnixListener::bind(socket)?;
    loop {
        let (mut asker, _) = listener.accept().await?;
        let kinds: BTreeMap<_, _> = kinds
            .iter()
            .map(|(name, kind)| (name, kind.held()))
            .collect();
        let report = serde_json::to_vec(&serde_json::json!({"kinds": kinds}))?;
        // An asker that went away is no fault of this program.
        let _ = asker.write_all(&report).await;
    }
}

/// Starts a reflector for each kind, by the name of its resource: a LIST and then a watch, which is the default, for one
/// half of them, streaming lists for the other.
fn reflect_all(client: &Client, namespace: &str) -> BTreeMap<&'static str, Kind> {
    let listing = watcher::Config::default;
    let streaming = || watcher::Config::default().streaming_lists();
    let configmaps: Api<ConfigMap> = Api::all(client.clone());
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let nodes: Api<Node> = Api::all(client.clone());
    let stateful_sets: Api<PartialObjectMeta<StatefulSet>> = Api::all(client.clone());
    let (widget, oven) = (custom("Widget"), custom("Oven"));
    let widgets: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &widget);
    let ovens: Api<DynamicObject> = Api::all_with(client.clone(), &oven);
    BTreeMap::from([
        (
            "configmaps",
            follow(watcher(configmaps, listing()), Writer::default()),
        ),
        (
            "secrets",
            follow(watcher(secrets, streaming()), Writer::default()),
        ),
        (
            "nodes",
            follow(watcher(nodes, streaming()), Writer::default()),
        ),
        (
            "statefulsets",
            follow(watcher(stateful_sets, listing()), Writer::default()),
        ),
        (
            "widgets",
            follow(watcher(widgets, listing()), Writer::new(widget)),
        ),
        (
            "ovens",
            follow(watcher(ovens, streaming()), Writer::new(oven)),
        ),
    ])
}

fn custom(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("example.dev", "v1", kind))
}

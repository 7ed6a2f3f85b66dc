//! A node at rest: nothing is deployed, and yet there are heartbeats. What Holdfast writes to disk of them.
//!
//! On the real API server: a kubelet's part renews the node's Lease and reports the node's status every ten seconds (with nothing
//! new in it, a kubelet of today reports the status every five minutes), and the informers of a kubelet and of the agents that
//! every node has watch what those watch, through Holdfast. On the far side the leaders of the control plane renew their Leases
//! every two seconds. The heartbeats go past Holdfast, as a kubelet's do today, or through it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::background::{Background, Counts};
use super::informer::inform;
use crate::bench::client::Client;
use crate::bench::pods::NAMESPACE;
use crate::bench::rig::{create_pods, delete_pods, server};
use crate::bench::within::within;
use crate::bench::{Report, Rig, Row, process};
use crate::holdfast::LISTEN;

const MINUTES: u32 = 60;
const PODS: usize = 110;
/// A kubelet's.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A leader's.
const RENEWAL: Duration = Duration::from_secs(2);
/// The first lists are learnt and written: the node is at rest after that.
const AT_REST_AFTER: Duration = Duration::from_secs(60);
const PROGRESS: Duration = Duration::from_secs(60);
/// What Holdfast counts where it writes.
const WRITTEN: &str = "holdfast_cache_written_bytes_total";

const NODE: &str = "edge-1";
const AGENT: &str = "node-agent";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces";
const LEADERS: [&str; 2] = ["kube-scheduler", "kube-controller-manager"];
/// A kubelet's pods, node and services; kube-proxy's services and endpoints; a CNI agent's nodes and pods; an operator that
/// watches the Leases of its election.
const WATCHED: [&str; 9] = [
    "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1",
    "/api/v1/nodes?fieldSelector=metadata.name%3Dedge-1",
    "/api/v1/services",
    "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name",
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/api/v1/nodes",
    "/api/v1/namespaces",
    "/api/v1/configmaps",
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
];

/// The heartbeats go past Holdfast.
pub(super) fn past(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    run(rig, report, false)
}

pub(super) fn through(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    run(rig, report, true)
}

fn run(rig: &mut Rig<'_>, report: &mut Report, through: bool) -> Result<()> {
    let minutes = rig.minutes.unwrap_or(MINUTES);
    rig.real()?;
    let plane = rig.node.control_plane();
    within(&plane, || create_pods(&rig.admin, PODS))?;
    let agent = prepare(rig)?;
    rig.fresh()?;
    let measured = rest(rig, &agent, (through, minutes), report);
    within(&plane, || delete_pods(&rig.admin))?;
    rig.api
        .admin("DELETE", &format!("/api/v1/nodes/{NODE}"), None)?;
    measured
}

fn rest(
    rig: &Rig<'_>,
    agent: &Client,
    (through, minutes): (bool, u32),
    report: &mut Report,
) -> Result<()> {
    let (kubelet_netns, kubelet_client, way) = if through {
        (rig.node.netns(), agent, "through Holdfast")
    } else {
        (rig.node.control_plane(), &rig.admin, "past it")
    };
    let (lists, beats) = (Arc::<Counts>::default(), Arc::<Counts>::default());
    let background = [
        Background::start(rig.node.netns(), {
            let (client, lists) = (agent.clone(), Arc::clone(&lists));
            move || inform(client, WATCHED.map(str::to_owned).to_vec(), lists)
        }),
        Background::start(kubelet_netns, {
            let (client, beats) = (kubelet_client.clone(), Arc::clone(&beats));
            move || kubelet(client, beats)
        }),
        Background::start(rig.node.control_plane(), {
            let (admin, beats) = (rig.admin.clone(), Arc::clone(&beats));
            move || leaders(admin, beats)
        }),
    ];
    std::thread::sleep(AT_REST_AFTER);
    let before = counters(rig)?;
    let began = Instant::now();
    for minute in 1..=minutes {
        let until = began + PROGRESS * minute;
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        let (store, kernel) = counters(rig)?;
        eprintln!(
            "  minute {minute}: {:.3} MB written, {:.3} MB by the store",
            (kernel - before.1) / 1e6,
            (store - before.0) / 1e6
        );
    }
    let after = counters(rig)?;
    for one in background {
        one.end()?;
    }
    let hourly = |bytes: f64| bytes / 1e6 * 60.0 / f64::from(minutes);
    for (what, unit, value, aim) in [
        (
            "bytes written in an hour, by /proc/PID/io",
            "MB",
            hourly(after.1 - before.1),
            "2",
        ),
        (
            "bytes written in an hour by the store",
            "MB",
            hourly(after.0 - before.0),
            "2",
        ),
        ("watches that were told an error", "", lists.failed(), "0"),
        ("heartbeats that failed", "", beats.failed(), "0"),
    ] {
        report.add(Row {
            what: format!(
                "idle node of 110 pods, heartbeats {way}, seen for {minutes} minutes: {what}"
            ),
            arm: "holdfast",
            unit,
            values: vec![value],
            aim,
        });
    }
    Ok(())
}

/// Bytes by Holdfast's own count, and by the kernel's.
fn counters(rig: &Rig<'_>) -> Result<(f64, f64)> {
    let store = process::metric(&rig.holdfast, WRITTEN)?;
    let store = store.context("what the store wrote is counted")?;
    Ok((store, process::written(rig.pid()?)? as f64))
}

/// The node, its Lease, the leaders' Leases, and an account that may do what is done here.
fn prepare(rig: &Rig<'_>) -> Result<Client> {
    let api = &rig.api;
    api.create("/api/v1/nodes", &json!({"metadata": {"name": NODE}}))?;
    api.create(
        "/api/v1/namespaces",
        &json!({"metadata": {"name": "kube-node-lease"}}),
    )?;
    let node_leases = format!("{LEASES}/kube-node-lease/leases");
    api.create(&node_leases, &lease(NODE))?;
    for leader in LEADERS {
        api.create(&format!("{LEASES}/kube-system/leases"), &lease(leader))?;
    }
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let verbs = ["get", "list", "watch", "patch"];
    let role = json!({
        "metadata": {"name": AGENT},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "nodes", "nodes/status", "services", "namespaces", "configmaps"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs},
        ],
    });
    let binding = json!({
        "metadata": {"name": AGENT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": AGENT},
        "subjects": [{"kind": "ServiceAccount", "name": AGENT, "namespace": NAMESPACE}],
    });
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    api.create(&accounts, &json!({"metadata": {"name": AGENT}}))?;
    api.create(&format!("{rbac}/clusterroles"), &role)?;
    api.create(&format!("{rbac}/clusterrolebindings"), &binding)?;
    let token = api.token(NAMESPACE, AGENT, None)?;
    Client::new(&server(), &api.pki().path("ca.crt"), &token)?.dialling(LISTEN)
}

fn lease(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()},
    })
}

async fn kubelet(client: Client, beats: Arc<Counts>) {
    let mut tick = tokio::time::interval(HEARTBEAT);
    loop {
        tick.tick().await;
        let lease = format!("{LEASES}/kube-node-lease/leases/{NODE}");
        beats.note(&patch(&client, &lease, &json!({"spec": {"renewTime": now()}})).await);
        let status = format!("/api/v1/nodes/{NODE}/status");
        beats.note(&patch(&client, &status, &node_status()).await);
    }
}

async fn leaders(admin: Client, beats: Arc<Counts>) {
    let mut tick = tokio::time::interval(RENEWAL);
    loop {
        tick.tick().await;
        for leader in LEADERS {
            let lease = format!("{LEASES}/kube-system/leases/{leader}");
            beats.note(&patch(&admin, &lease, &json!({"spec": {"renewTime": now()}})).await);
        }
    }
}

async fn patch(client: &Client, path: &str, body: &Value) -> Result<()> {
    let body = Bytes::from(serde_json::to_vec(body)?);
    let mut connection = client.connect().await?;
    connection.write(Method::PATCH, path, body).await.map(drop)
}

/// Nothing is new in it but the time.
fn node_status() -> Value {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let conditions: Vec<Value> = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID"),
        ("Ready", "True", "KubeletReady"),
    ]
    .iter()
    .map(|(kind, status, reason)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": reason,
            "lastHeartbeatTime": now, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    })
    .collect();
    json!({"status": {"conditions": conditions}})
}

fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}

//! What kubectl's commands have something to say about, and the accounts that may read it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use holdfast_tests::fixtures::SHOP;
use holdfast_tests::{ApiServer, eventually};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// May read all there is.
pub(super) const OPS: &str = "ops";
/// The same, but sees no rows while the API server is there.
pub(super) const NIGHT: &str = "night";
/// The same, who reads whole lists only.
pub(super) const CLERK: &str = "clerk";
/// The pod that runs.
pub(super) const TILL: &str = "till-1-x";

/// Three accounts, a node, a deployment with its pod, a service, events, and custom resources that declare columns.
pub(super) fn fill(api: &ApiServer<'_>) -> Result<()> {
    accounts(api)?;
    node(api)?;
    workload(api)?;
    columns(api)
}

fn accounts(api: &ApiServer<'_>) -> Result<()> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let subjects = [OPS, NIGHT, CLERK]
        .map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": SHOP}));
    for name in [OPS, NIGHT, CLERK] {
        let accounts = format!("/api/v1/namespaces/{SHOP}/serviceaccounts");
        api.create(&accounts, &json!({"metadata": {"name": name}}))?;
    }
    let role = json!({
        "metadata": {"name": OPS},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}],
    });
    let binding = json!({
        "metadata": {"name": OPS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPS},
        "subjects": subjects,
    });
    api.create(&format!("{rbac}/clusterroles"), &role)?;
    api.create(&format!("{rbac}/clusterrolebindings"), &binding)?;
    Ok(())
}

fn node(api: &ApiServer<'_>) -> Result<()> {
    api.create(
        "/api/v1/nodes",
        &json!({"metadata": {"name": "edge-1"}, "spec": {"podCIDR": "10.1.0.0/24"}}),
    )?;
    let status = json!({"status": {
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "addresses": [{"type": "InternalIP", "address": "192.0.2.20"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is"}],
    }});
    patch(api, "/api/v1/nodes/edge-1/status", &status)?;
    api.create(
        "/api/v1/namespaces",
        &json!({"metadata": {"name": "kube-node-lease"}}),
    )?;
    let lease = json!({"metadata": {"name": "edge-1"}, "spec": {"holderIdentity": "edge-1", "renewTime": "2026-01-02T03:04:05.000000Z"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    eventually("the namespace of leases", SOON, || {
        api.create(leases, &lease)
    })?;
    Ok(())
}

fn workload(api: &ApiServer<'_>) -> Result<()> {
    let core = format!("/api/v1/namespaces/{SHOP}");
    let apps = format!("/apis/apps/v1/namespaces/{SHOP}");
    let labels = json!({"app": "till"});
    let template = json!({
        "metadata": {"labels": labels},
        "spec": {"serviceAccountName": OPS, "containers": [{"name": "till", "image": "till:1", "ports": [{"containerPort": 80}]}]},
    });
    let deployment = api.create(
        &format!("{apps}/deployments"),
        &json!({"metadata": {"name": "till"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}),
    )?;
    let set = api.create(
        &format!("{apps}/replicasets"),
        &json!({
            "metadata": {"name": "till-1", "labels": labels, "ownerReferences": [owner("Deployment", &deployment)?],
                "annotations": {"deployment.kubernetes.io/revision": "1"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        }),
    )?;
    let mut pod = template.clone();
    pod["metadata"]["name"] = TILL.into();
    pod["metadata"]["ownerReferences"] = json!([owner("ReplicaSet", &set)?]);
    pod["spec"]["nodeName"] = "edge-1".into();
    let pod = api.create(&format!("{core}/pods"), &pod)?;
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}], "startTime": "2026-01-02T03:04:05Z",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{
            "name": "till", "image": "till:1", "imageID": "till", "ready": true, "restartCount": 2,
            "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
        }],
    }});
    patch(api, &format!("{core}/pods/till-1-x/status"), &status)?;
    api.create(
        &format!("{core}/services"),
        &json!({"metadata": {"name": "till"}, "spec": {"selector": labels, "ports": [{"port": 80}]}}),
    )?;
    let event = json!({
        "metadata": {"name": "till-1-x.1"}, "type": "Normal", "reason": "Started", "message": "Started container till",
        "involvedObject": {"kind": "Pod", "namespace": SHOP, "name": "till-1-x", "uid": pod["metadata"]["uid"], "apiVersion": "v1"},
        "source": {"component": "kubelet", "host": "edge-1"}, "count": 3,
        "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:05:05Z",
    });
    api.create(&format!("{core}/events"), &event).map(drop)
}

fn owner(kind: &str, object: &Value) -> Result<Value> {
    let meta = &object["metadata"];
    let uid = meta["uid"].as_str().context("an owner has a uid")?;
    Ok(
        json!({"apiVersion": "apps/v1", "kind": kind, "name": meta["name"], "uid": uid, "controller": true}),
    )
}

/// A custom resource as most are: `kubectl get` shows more of it than name and age.
fn columns(api: &ApiServer<'_>) -> Result<()> {
    let column = |name: &str, kind: &str, path: &str, priority: u8| json!({"name": name, "type": kind, "jsonPath": path, "priority": priority});
    let definition = json!({
        "metadata": {"name": "ovens.kitchen.dev"},
        "spec": {
            "group": "kitchen.dev", "scope": "Namespaced",
            "names": {"kind": "Oven", "plural": "ovens", "singular": "oven", "shortNames": ["ov"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "additionalPrinterColumns": [
                    column("Heat", "integer", ".spec.heat", 0),
                    column("Baking", "string", ".spec.baking", 1),
                    column("Age", "date", ".metadata.creationTimestamp", 0),
                ],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "heat": {"type": "integer", "description": "In degrees."}, "baking": {"type": "string"},
                }}}}},
            }],
        },
    });
    api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &definition,
    )?;
    let ovens = format!("/apis/kitchen.dev/v1/namespaces/{SHOP}/ovens");
    for (name, heat) in [("big", 250), ("small", 180)] {
        let oven = json!({"apiVersion": "kitchen.dev/v1", "kind": "Oven", "metadata": {"name": name}, "spec": {"heat": heat, "baking": "bread"}});
        eventually("the ovens to be served", SOON, || api.create(&ovens, &oven))?;
    }
    Ok(())
}

fn patch(api: &ApiServer<'_>, path: &str, change: &Value) -> Result<()> {
    api.admin("PATCH", path, Some(change)).map(drop)
}

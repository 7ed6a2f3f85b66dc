//! The ten kinds: where each is, what an object of it looks like, and a writer that never lets them rest.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_tests::batch::Batch;
use holdfast_tests::fixtures::SHOP;
use holdfast_tests::{ApiServer, eventually};
use serde_json::{Value, json};

use super::held::Objects;

/// A custom resource is served a moment after it was defined.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// One of the kinds, as the programs watch it.
pub(super) struct Kind {
    pub(super) resource: &'static str,
    /// Where objects are created.
    pub(super) collection: &'static str,
    /// The LIST of exactly what is watched.
    pub(super) watched: &'static str,
    object: fn(&str) -> Value,
}

pub(super) const KINDS: [Kind; 10] = [
    Kind {
        resource: "configmaps",
        collection: "/api/v1/namespaces/shop/configmaps",
        watched: "/api/v1/configmaps",
        object: |name| json!({"metadata": {"name": name}, "data": {"dish": name}}),
    },
    Kind {
        resource: "secrets",
        collection: "/api/v1/namespaces/shop/secrets",
        watched: "/api/v1/namespaces/shop/secrets",
        object: |name| json!({"metadata": {"name": name}, "stringData": {"recipe": name}}),
    },
    Kind {
        resource: "services",
        collection: "/api/v1/namespaces/shop/services",
        watched: "/api/v1/services?labelSelector=tier%3Dfront",
        object: |name| json!({"metadata": {"name": name, "labels": {"tier": "front"}}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
    },
    Kind {
        resource: "pods",
        collection: "/api/v1/namespaces/shop/pods",
        watched: "/api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1",
        object: |name| json!({"metadata": {"name": name}, "spec": {"nodeName": "edge-1", "containers": [{"name": "app", "image": "app"}]}}),
    },
    Kind {
        resource: "deployments",
        collection: "/apis/apps/v1/namespaces/shop/deployments",
        watched: "/apis/apps/v1/namespaces/shop/deployments",
        object: workload,
    },
    Kind {
        resource: "statefulsets",
        collection: "/apis/apps/v1/namespaces/shop/statefulsets",
        watched: "/apis/apps/v1/statefulsets",
        object: workload,
    },
    Kind {
        resource: "nodes",
        collection: "/api/v1/nodes",
        watched: "/api/v1/nodes",
        object: |name| json!({"metadata": {"name": name}}),
    },
    Kind {
        resource: "storageclasses",
        collection: "/apis/storage.k8s.io/v1/storageclasses",
        watched: "/apis/storage.k8s.io/v1/storageclasses",
        object: |name| json!({"metadata": {"name": name}, "provisioner": "example.dev/shelf"}),
    },
    Kind {
        resource: "widgets",
        collection: "/apis/example.dev/v1/namespaces/shop/widgets",
        watched: "/apis/example.dev/v1/namespaces/shop/widgets",
        object: |name| json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1}}),
    },
    Kind {
        resource: "ovens",
        collection: "/apis/example.dev/v1/ovens",
        watched: "/apis/example.dev/v1/ovens",
        object: |name| json!({"apiVersion": "example.dev/v1", "kind": "Oven", "metadata": {"name": name}, "spec": {"size": 1}}),
    },
];

/// Enters and leaves the selector of its kind.
pub(super) const MOVER: &str = "mover";
/// Only ever changed.
const STEADY: &str = "steady";
/// Deleted and created again under the same name.
const AGAIN: &str = "again";
/// Objects of each kind that nobody touches.
const STILL: usize = 5;

fn workload(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "app"}]}},
        },
    })
}

/// What each program may do, and the second custom resource.
pub(super) fn prepare(api: &ApiServer<'_>, accounts: &[&str]) -> Result<()> {
    let rule = |group: &str, resources: Value| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let role = json!({
        "metadata": {"name": "watcher"},
        "rules": [
            rule("", json!(["configmaps", "secrets", "services", "pods", "nodes"])),
            rule("apps", json!(["deployments", "statefulsets"])),
            rule("storage.k8s.io", json!(["storageclasses"])),
            rule("example.dev", json!(["widgets", "ovens"])),
        ],
    });
    api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)?;
    let subjects: Vec<Value> = accounts
        .iter()
        .map(|name| json!({"kind": "ServiceAccount", "name": name, "namespace": SHOP}))
        .collect();
    let binding = json!({
        "metadata": {"name": "watcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "watcher"},
        "subjects": subjects,
    });
    api.create(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        &binding,
    )?;
    for name in accounts {
        api.create(
            "/api/v1/namespaces/shop/serviceaccounts",
            &json!({"metadata": {"name": name}}),
        )?;
    }
    api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &json!({
            "metadata": {"name": "ovens.example.dev"},
            "spec": {
                "group": "example.dev", "scope": "Cluster",
                "names": {"kind": "Oven", "plural": "ovens", "singular": "oven", "listKind": "OvenList"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
                }],
            },
        }),
    )?;
    eventually("the second custom resource", SERVED_WITHIN, || {
        api.admin("GET", "/apis/example.dev/v1/ovens", None)
            .map(drop)
    })
}

/// What a direct LIST of each kind says, in the order of [`KINDS`].
pub(super) fn list(api: &ApiServer<'_>) -> Result<Vec<Objects>> {
    let mut batch = Batch::default();
    for kind in &KINDS {
        batch.get(kind.watched);
    }
    batch.send(api)?.iter().map(Objects::of_list).collect()
}

/// Changes every kind, a round at a time.
#[derive(Default)]
pub(super) struct Writer {
    round: usize,
}

impl Writer {
    /// Makes what the rounds work on.
    pub(super) fn fill(api: &ApiServer<'_>) -> Result<Self> {
        let mut batch = Batch::default();
        for kind in &KINDS {
            let names = [STEADY, AGAIN].map(str::to_owned).into_iter();
            for name in names.chain((0..STILL).map(|n| format!("still-{n}"))) {
                batch.create(kind.collection, (kind.object)(&name));
            }
        }
        let services = &KINDS[2];
        batch.create(services.collection, (services.object)(MOVER));
        batch.send(api)?;
        Ok(Self::default())
    }

    /// One round: in every kind one object appears, one changes, one goes, and one goes and comes back as another.
    pub(super) fn write(&mut self, api: &ApiServer<'_>) -> Result<()> {
        for (status, body) in self.next_round().try_send(api)? {
            // A round that was broken off leaves the next one things that are there, or gone, already.
            ensure!(
                (200..300).contains(&status) || status == 409 || status == 404,
                "HTTP {status}: {body}"
            );
        }
        Ok(())
    }

    /// The requests of one more round.
    pub(super) fn next_round(&mut self) -> Batch {
        self.round += 1;
        let round = self.round;
        let mut batch = Batch::default();
        for kind in &KINDS {
            let path = |name: &str| format!("{}/{name}", kind.collection);
            // No kubelet is there to end a pod.
            let gone = |name: &str| format!("{}?gracePeriodSeconds=0", path(name));
            batch.create(kind.collection, (kind.object)(&format!("round-{round}")));
            batch.patch(
                &path(STEADY),
                json!({"metadata": {"annotations": {"example.dev/round": round.to_string()}}}),
            );
            if round > 2 {
                batch.delete(&gone(&format!("round-{}", round - 2)));
            }
            batch.delete(&gone(AGAIN));
            batch.create(kind.collection, (kind.object)(AGAIN));
        }
        self.move_objects(&mut batch);
        batch
    }

    /// Into the selectors and out of them.
    fn move_objects(&self, batch: &mut Batch) {
        let round = self.round;
        let tier = if round.is_multiple_of(2) {
            "front"
        } else {
            "back"
        };
        batch.patch(
            &format!("{}/{MOVER}", KINDS[2].collection),
            json!({"metadata": {"labels": {"tier": tier}}}),
        );
        // A pod is on no node until it is bound to one.
        let pods = KINDS[3].collection;
        let mut loose = (KINDS[3].object)(&format!("loose-{round}"));
        loose["spec"]["nodeName"] = Value::Null;
        batch.create(pods, loose);
        if round > 1 {
            let name = format!("loose-{}", round - 1);
            let node = json!({"apiVersion": "v1", "kind": "Node", "name": "edge-1"});
            batch.create(
                &format!("{pods}/{name}/binding"),
                json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": node}),
            );
        }
        if round > 2 {
            batch.delete(&format!("{pods}/loose-{}?gracePeriodSeconds=0", round - 2));
        }
    }
}

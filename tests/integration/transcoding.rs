//! What was only read as protobuf, told as JSON: compared with what the API server itself says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::demo::{Fault, Scene};
use holdfast_tests::fixtures::{SHOP, WEB};
use holdfast_tests::{ApiServer, Node, Pod, eventually};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The API server's own controllers come to rest within this.
const AT_REST_WITHIN: Duration = Duration::from_secs(30);
/// Their objects never are, or are made at each request.
const RESTLESS: [&str; 4] = ["leases", "events", "componentstatuses", "storageversions"];
/// Fewer were not all of the built-in ones.
const LEAST_RESOURCES: usize = 50;

#[test]
fn what_was_read_as_protobuf_is_told_as_the_json_of_the_api_server_for_every_resource() -> Result<()>
{
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    scene.online()?;
    let pod = scene.reaching_pod(WEB)?;
    fill(&scene.api)?;
    let listed = collections(&scene.api)?
        .into_iter()
        .map(|path| Ok((learn(&scene.api, &pod, &path)?, path)))
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        listed.len() >= LEAST_RESOURCES,
        "only {} resources",
        listed.len()
    );
    scene.strike(Fault::Refused)?;
    for (expected, path) in &listed {
        let told = pod.run(pod.get(path).header("Accept", "application/json"))?;
        let told = told.expect(200).with_context(|| path.clone())?;
        ensure!(told.header("holdfast-origin") == Some("cache"), "{path}");
        let told = items(&told.text()).context("no list")?.to_owned();
        ensure!(told == *expected, "{path}: {told} instead of {expected}");
    }
    Ok(())
}

/// One object of each kind whose JSON is not plainly its fields, and the right to read everything.
fn fill(api: &ApiServer<'_>) -> Result<()> {
    let binding = json!({
        "metadata": {"name": "reads-all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": WEB, "namespace": SHOP}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    api.create(bindings, &binding)?;
    let shop = |group: &str, resource: &str| format!("{group}/namespaces/{SHOP}/{resource}");
    let selector = json!({"matchLabels": {"app": "x"}});
    let containers = json!([{
        "name": "app", "image": "app", "resources": {"limits": {"cpu": "0.5", "memory": "1.5Gi"}},
        "livenessProbe": {"httpGet": {"port": "http"}}, "readinessProbe": {"tcpSocket": {"port": 80}},
        "env": [{"name": "EMPTY", "value": ""}, {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    }]);
    let template = json!({"metadata": {"labels": {"app": "x"}, "annotations": {"said": "<&>\u{2028}\t"}}, "spec": {"containers": containers}});
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let objects = [
        (
            shop("/apis/apps/v1", "statefulsets"),
            json!({"serviceName": "x", "selector": selector, "template": template, "volumeClaimTemplates": [claim]}),
        ),
        (
            shop("/apis/apps/v1", "deployments"),
            json!({"replicas": 0, "selector": selector, "template": template, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}}),
        ),
        (
            shop("/apis/networking.k8s.io/v1", "networkpolicies"),
            json!({"podSelector": {}, "ingress": [{}]}),
        ),
        (
            shop("/apis/policy/v1", "poddisruptionbudgets"),
            json!({"minAvailable": 0}),
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes".to_owned(),
            json!({"drivers": []}),
        ),
        (
            "/api/v1/nodes".to_owned(),
            json!({"taints": [{"key": "k", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}]}),
        ),
    ];
    for (path, spec) in objects {
        api.create(&path, &json!({"metadata": {"name": "x"}, "spec": spec}))?;
    }
    let binary = json!({"metadata": {"name": "binary"}, "binaryData": {"a": "AAH/", "none": ""}});
    api.create(&shop("/api/v1", "configmaps"), &binary)?;
    let revision =
        json!({"metadata": {"name": "r"}, "revision": 0, "data": {"b": [1, 2.5, null], "a": "<"}});
    api.create(&shop("/apis/apps/v1", "controllerrevisions"), &revision)?;
    let role = json!({"metadata": {"name": "none"}, "rules": []});
    api.create(&shop("/apis/rbac.authorization.k8s.io/v1", "roles"), &role)?;
    Ok(())
}

/// Each built-in resource that can be listed, in each version.
fn collections(api: &ApiServer<'_>) -> Result<Vec<String>> {
    let mut roots = vec!["/api/v1".to_owned()];
    let groups = api.admin("GET", "/apis", None)?;
    for version in array(&groups["groups"]).flat_map(|group| array(&group["versions"])) {
        let version = version["groupVersion"].as_str().context("a version")?;
        roots.push(format!("/apis/{version}"));
    }
    // A custom resource has no protobuf.
    roots.retain(|root| !root.contains("example.dev"));
    let mut paths = Vec::new();
    for root in roots {
        let resources = api.admin("GET", &root, None)?;
        for resource in array(&resources["resources"]) {
            let name = resource["name"].as_str().context("a name")?;
            let is_listed = array(&resource["verbs"]).any(|verb| verb == "list");
            if is_listed && !RESTLESS.contains(&name) {
                paths.push(format!("{root}/{name}"));
            }
        }
    }
    Ok(paths)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Reads a collection through Holdfast as protobuf, and gives back what its items are in JSON at that time.
fn learn(api: &ApiServer<'_>, pod: &Pod<'_>, path: &str) -> Result<String> {
    let json = || -> Result<String> {
        let reply = api.request("GET", &format!("{path}?pretty=0"), None)?;
        let items = items(&reply.expect(200)?.text()).map(str::to_owned);
        items.with_context(|| format!("{path} is no list"))
    };
    eventually(&format!("{path} to be at rest"), AT_REST_WITHIN, || {
        let before = json()?;
        let reply = pod
            .run(pod.get(path).header("Accept", PROTOBUF))?
            .expect(200)?;
        ensure!(reply.body.starts_with(b"k8s\0"), "{path} is not protobuf");
        let after = json()?;
        ensure!(before == after, "{path} changes");
        Ok(after)
    })
}

/// The text of a list from its items on: its own resourceVersion moves with every write anywhere.
fn items(list: &str) -> Option<&str> {
    list.find("\"items\":").map(|at| &list[at..])
}

//! A node with Holdfast, a control plane, and what the plans' clients may read.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_history::check::{Violation, check};
use holdfast_history::plan::{CALLERS, Plan};
use holdfast_history::record::Record;
use holdfast_history::truth::Truth;
use holdfast_tests::holdfast::{LISTEN, Settings};
use holdfast_tests::{ApiServer, Holdfast, Node, eventually};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::clients::Scene;
use super::peer::Peer;
use super::plane::Plane;
use super::run::Run;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// The cache of a Holdfast that no client asked anything.
const FRESH: &str = "fresh.redb";
/// What of a cache is not committed.
const TAIL: [&str; 2] = ["cache.tail.0", "cache.tail.1"];
/// What it says once it knows the issuer's keys, and the filter that lets it.
const KEYS_KNOWN: &str = "the issuer's keys are known";
const KEYS_LOG: &str = "holdfast::app::keys=debug";
const NAMESPACES: [&str; 3] = ["a", "a-b", "b"];
/// ConfigMaps that the API server makes for itself, a moment after it is ready.
const OWN: [&str; 2] = [
    "extension-apiserver-authentication",
    "kube-apiserver-legacy-service-account-token-tracking",
];

pub(super) struct Stage<'a> {
    pub(super) node: &'a Node,
    pub(super) api: ApiServer<'a>,
    pub(super) holdfast: Holdfast<'a>,
    pub(super) plane: Plane,
    pub(super) runtime: Runtime,
    tokens: Vec<String>,
}

/// What came of a plan.
pub(super) struct Outcome {
    pub(super) record: Record,
    pub(super) truth: Truth,
    pub(super) violations: Vec<Violation>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(node: &'a Node) -> Result<Self> {
        let api = ApiServer::start(node)?;
        prepare(&api)?;
        let token = |caller| api.token("a", &account(caller), None);
        let tokens = (0..CALLERS).map(token).collect::<Result<_>>()?;
        // As quick as it may be: a history has seconds, not hours.
        let settings = Settings::new(&api)
            .with("log", &format!("filter: \"info,{KEYS_LOG}\""))
            .with("upstream", "resumeJitter: 300ms")
            .with(
                "upstream",
                "probe: {interval: 1s, downInterval: 300ms, timeout: 2s}",
            );
        let mut holdfast = Holdfast::install_with(node, &api, &settings)?;
        run_once(&mut holdfast)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut plane = Plane::new(node, &api)?;
        runtime.block_on(plane.listen())?;
        Ok(Self {
            node,
            api,
            holdfast,
            plane,
            runtime,
            tokens,
        })
    }

    /// Runs the plan with a Holdfast that was told nothing yet, and leaves the cluster as it found it.
    pub(super) fn run(&mut self, plan: &Plan) -> Result<Outcome> {
        let file = |name| self.holdfast.path(name);
        fs::copy(file(FRESH), file("cache.redb"))?;
        for tail in TAIL.map(file).iter().filter(|tail| tail.exists()) {
            fs::remove_file(tail)?;
        }
        self.holdfast.start()?;
        let ca = self.api.pki().path("ca.crt");
        let holdfast = Peer::new(&self.node.netns(), LISTEN.parse()?, &ca, None)?;
        let scene = Scene::new(holdfast, self.tokens.clone());
        let mut run = Run::new(self, plan, scene.clone());
        let ran = run.all();
        run.end();
        ran.with_context(|| self.story())?;
        self.runtime.block_on(self.plane.clear())?;
        self.holdfast.kill()?;
        let (record, truth) = (scene.take_record(), self.plane.truth().clone());
        let violations = check(&plan.clients, &truth, &record);
        Ok(Outcome {
            record,
            truth,
            violations,
        })
    }

    /// The end of Holdfast's log.
    pub(super) fn story(&self) -> String {
        let log = self.holdfast.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// It knows the issuer's keys from then on, killed or not: without them it learns from nobody.
fn run_once(holdfast: &mut Holdfast<'_>) -> Result<()> {
    holdfast.start()?;
    eventually("the issuer's keys", READY_WITHIN, || {
        ensure!(holdfast.log().contains(KEYS_KNOWN), "not known yet");
        Ok(())
    })?;
    holdfast.terminate(READY_WITHIN)?;
    fs::copy(holdfast.path("cache.redb"), holdfast.path(FRESH))?;
    Ok(())
}

fn account(caller: usize) -> String {
    format!("caller-{caller}")
}

/// Namespaces, accounts, what they may read, and the custom resource.
fn prepare(api: &ApiServer<'_>) -> Result<()> {
    for name in NAMESPACES {
        api.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}))?;
        // No pod is let in without it.
        create_account(api, name, "default")?;
    }
    eventually("the namespace kube-system", READY_WITHIN, || {
        create_account(api, "kube-system", "holdfast")
    })?;
    let rule = |group: &str, resources: Value| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let role = json!({
        "metadata": {"name": "reader"},
        "rules": [rule("", json!(["configmaps", "pods"])), rule("history.holdfast.dev", json!(["widgets"]))],
    });
    let mut subjects = Vec::new();
    for caller in 0..CALLERS {
        create_account(api, "a", &account(caller))?;
        subjects.push(json!({"kind": "ServiceAccount", "name": account(caller), "namespace": "a"}));
    }
    let binding = json!({
        "metadata": {"name": "reader"}, "subjects": subjects,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    api.create(&format!("{rbac}/clusterroles"), &role)?;
    api.create(&format!("{rbac}/clusterrolebindings"), &binding)?;
    api.create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        &json!({
            "metadata": {"name": "widgets.history.holdfast.dev"},
            "spec": {
                "group": "history.holdfast.dev", "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }],
            },
        }),
    )?;
    eventually("the API server's own ConfigMaps", READY_WITHIN, || {
        OWN.into_iter().try_for_each(|name| {
            let path = format!("/api/v1/namespaces/kube-system/configmaps/{name}");
            api.admin("GET", &path, None).map(drop)
        })
    })
}

fn create_account(api: &ApiServer<'_>, namespace: &str, name: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    api.create(&path, &json!({"metadata": {"name": name}}))
        .map(drop)
}

//! Pods as a busy cluster has them: some 9 KB each in JSON, of forty workloads that have little in common.
//!
//! One pod of each workload is written to the real API server and read back; the others of it are those bytes with another
//! name, uid, resourceVersion, address, container ID, time and count of restarts, which is what a kubelet's status changes.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::client::Client;

/// Workloads of a cluster of 2,000 pods, 50 replicas each.
pub const WORKLOADS: usize = 40;
/// Where the pods that are recorded live.
pub const NAMESPACE: &str = "bench";
const PODS: &str = "/api/v1/namespaces/bench/pods";
/// As a random string would be: every pod's own.
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What differs between two pods of a workload, or between two states of one.
#[derive(Clone, Debug)]
pub struct State {
    pub namespace: &'static str,
    pub name: String,
    pub uid: String,
    pub resource_version: u64,
    pub address: String,
    pub container: String,
    pub time: String,
    pub restarts: u64,
}

/// The bytes of a pod with places for a [`State`].
pub struct Template {
    pieces: Vec<Piece>,
}

enum Piece {
    Text(String),
    Place(Place),
}

#[derive(Clone, Copy)]
enum Place {
    Namespace,
    Name,
    Uid,
    ResourceVersion,
    Address,
    Container,
    Time,
    Restarts,
}

impl State {
    /// Pod `number` of its workload, as it was created.
    pub fn new(
        random: &mut fastrand::Rng,
        namespace: &'static str,
        workload: usize,
        number: usize,
    ) -> Self {
        let suffix: String = (0..5).map(|_| random.lowercase()).collect();
        let mut state = Self {
            namespace,
            name: format!("w{workload:02}-{number:04}-{suffix}"),
            uid: uid(random),
            resource_version: 0,
            address: String::new(),
            container: String::new(),
            time: String::new(),
            restarts: 0,
        };
        state.restart(random);
        state
    }

    /// What a kubelet reports when a container was started anew.
    pub fn restart(&mut self, random: &mut fastrand::Rng) {
        let octet = |random: &mut fastrand::Rng| random.u8(2..250);
        self.address = format!("10.244.{}.{}", octet(random), octet(random));
        self.container = hex(random, 64);
        self.time = format!(
            "2026-11-{:02}T{:02}:{:02}:{:02}Z",
            random.u8(1..29),
            random.u8(0..24),
            random.u8(0..60),
            random.u8(0..60)
        );
        self.restarts += 1;
    }
}

impl Template {
    /// Cuts what the API server wrote wherever it has the words of `state`.
    fn new(text: &str, state: &State) -> Result<Self> {
        let namespace = format!("\"namespace\":\"{}\"", state.namespace);
        let version = format!("\"resourceVersion\":\"{}\"", state.resource_version);
        let restarts = format!("\"restartCount\":{}", state.restarts);
        let marks = [
            (namespace.as_str(), Place::Namespace),
            (state.name.as_str(), Place::Name),
            (state.uid.as_str(), Place::Uid),
            (version.as_str(), Place::ResourceVersion),
            (state.address.as_str(), Place::Address),
            (state.container.as_str(), Place::Container),
            (state.time.as_str(), Place::Time),
            (restarts.as_str(), Place::Restarts),
        ];
        let mut pieces = vec![Piece::Text(text.to_owned())];
        for (mark, place) in marks {
            let before = pieces.len();
            pieces = pieces
                .into_iter()
                .flat_map(|piece| cut(piece, mark, place))
                .collect();
            ensure!(
                pieces.len() > before,
                "a recorded pod without {mark}: {text}"
            );
        }
        Ok(Self { pieces })
    }

    /// Writes a pod in this state.
    pub fn write(&self, state: &State, into: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => into.push_str(text),
                Piece::Place(place) => place.write(state, into),
            }
        }
    }
}

impl Place {
    fn write(self, state: &State, into: &mut String) {
        // Writing to a String does not fail.
        let _ = match self {
            Place::Namespace => write!(into, "\"namespace\":\"{}\"", state.namespace),
            Place::Name => into.write_str(&state.name),
            Place::Uid => into.write_str(&state.uid),
            Place::ResourceVersion => {
                write!(into, "\"resourceVersion\":\"{}\"", state.resource_version)
            }
            Place::Address => into.write_str(&state.address),
            Place::Container => into.write_str(&state.container),
            Place::Time => into.write_str(&state.time),
            Place::Restarts => write!(into, "\"restartCount\":{}", state.restarts),
        };
    }
}

fn cut(piece: Piece, mark: &str, place: Place) -> Vec<Piece> {
    let Piece::Text(text) = piece else {
        return vec![piece];
    };
    let mut pieces = Vec::new();
    for part in text.split(mark) {
        if !pieces.is_empty() {
            pieces.push(Piece::Place(place));
        }
        pieces.push(Piece::Text(part.to_owned()));
    }
    pieces
}

/// Writes a pod of each workload to the API server, reads it back, and takes it away again.
pub async fn record(admin: &Client) -> Result<Vec<Template>> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut templates = Vec::new();
    let mut connection = admin.connect().await?;
    for workload in 0..WORKLOADS {
        let mut state = State::new(&mut random, NAMESPACE, workload, 0);
        // A count that no other number of the pod looks like.
        state.restarts = 987_654_321;
        CONTAINER.clone_into(&mut state.container);
        let text = create(&mut connection, workload, &state).await?;
        let value: Value = serde_json::from_slice(&text)?;
        let metadata = &value["metadata"];
        state.uid = metadata["uid"].as_str().context("a uid")?.to_owned();
        let version = metadata["resourceVersion"].as_str();
        state.resource_version = version.context("a resourceVersion")?.parse()?;
        templates.push(Template::new(
            std::str::from_utf8(&text)?.trim_end(),
            &state,
        )?);
        let path = format!("{PODS}/{}?gracePeriodSeconds=0", state.name);
        connection
            .write(Method::DELETE, &path, Bytes::new())
            .await?;
    }
    Ok(templates)
}

/// Writes one pod and its status, as scheduler and kubelet do; the bytes that the API server then has.
pub async fn create(
    connection: &mut super::client::Connection,
    workload: usize,
    state: &State,
) -> Result<Bytes> {
    let (pod, status) = manifest(workload, state);
    let pod = serde_json::to_vec(&pod)?;
    connection.write(Method::POST, PODS, pod.into()).await?;
    let status = serde_json::to_vec(&json!({ "status": status }))?;
    let path = format!("{PODS}/{}/status", state.name);
    connection.write(Method::PATCH, &path, status.into()).await
}

/// A pod of a workload and its status. What a workload's author chose is random words, the same for each of its pods.
fn manifest(workload: usize, state: &State) -> (Value, Value) {
    let mut random = fastrand::Rng::with_seed(workload as u64);
    let app = word(&mut random);
    let containers = [container(&mut random)];
    let statuses = [container_status(&mut random, state)];
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": state.name,
            "labels": {
                "app.kubernetes.io/name": app, "app.kubernetes.io/instance": word(&mut random),
                "app.kubernetes.io/version": word(&mut random), "pod-template-hash": hex(&mut random, 10),
                "team": word(&mut random),
            },
            "annotations": {
                format!("{}/config-hash", word(&mut random)): hex(&mut random, 64),
                format!("{}/description", word(&mut random)): words(&mut random, 24),
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{app}-{}", hex(&mut random, 10)),
                "uid": uid(&mut random), "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "nodeName": "edge-1", "serviceAccountName": "default", "containers": containers,
            "volumes": [
                {"name": "config", "configMap": {"name": format!("{app}-config")}},
                {"name": "secret", "secret": {"secretName": format!("{app}-secret")}},
                {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
            "tolerations": [{"key": word(&mut random), "operator": "Exists", "effect": "NoSchedule"}],
        },
    });
    let conditions: Vec<Value> = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|kind| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": state.time, "observedGeneration": 1}))
        .to_vec();
    let status = json!({
        "phase": "Running", "hostIP": "192.0.2.20", "hostIPs": [{"ip": "192.0.2.20"}],
        "podIP": state.address, "podIPs": [{"ip": state.address}], "startTime": state.time,
        "qosClass": "Burstable", "conditions": conditions, "containerStatuses": statuses,
    });
    (pod, status)
}

fn container(random: &mut fastrand::Rng) -> Value {
    let mut env: Vec<Value> = (0..9)
        .map(|_| json!({"name": word(random).to_uppercase(), "value": words(random, 4)}))
        .collect();
    env.push(json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}));
    let probe = json!({"httpGet": {"path": format!("/{}", word(random)), "port": 8080}, "initialDelaySeconds": 5, "periodSeconds": 10});
    json!({
        "name": "app", "image": image(random), "args": [format!("--{}={}", word(random), word(random)), format!("--{}", word(random))],
        "env": env, "livenessProbe": probe, "readinessProbe": probe,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "volumeMounts": [
            {"name": "config", "mountPath": format!("/etc/{}", word(random)), "readOnly": true},
            {"name": "secret", "mountPath": format!("/etc/{}", word(random)), "readOnly": true},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
        "securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

fn container_status(random: &mut fastrand::Rng, state: &State) -> Value {
    let image = image(random);
    json!({
        "name": "app", "ready": true, "started": true, "restartCount": state.restarts, "image": image,
        "imageID": format!("{}@sha256:{}", word(random), hex(random, 64)),
        "containerID": format!("containerd://{}", state.container),
        "state": {"running": {"startedAt": state.time}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": state.time, "finishedAt": state.time, "containerID": format!("containerd://{}", state.container)}},
    })
}

fn image(random: &mut fastrand::Rng) -> String {
    format!(
        "registry.example.com/{}/{}:{}",
        word(random),
        word(random),
        hex(random, 8)
    )
}

fn word(random: &mut fastrand::Rng) -> String {
    let length = random.usize(4..12);
    (0..length).map(|_| random.lowercase()).collect()
}

fn words(random: &mut fastrand::Rng, count: usize) -> String {
    let words: Vec<String> = (0..count).map(|_| word(random)).collect();
    words.join(" ")
}

fn hex(random: &mut fastrand::Rng, digits: usize) -> String {
    (0..digits).map(|_| random.digit(16)).collect()
}

fn uid(random: &mut fastrand::Rng) -> String {
    [8, 4, 4, 4, 12].map(|digits| hex(random, digits)).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_the_recorded_pod_again_and_another_state_changes_all_of_it() -> Result<()> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut state = State::new(&mut random, NAMESPACE, 3, 4);
        state.resource_version = 17;
        let (mut pod, status) = manifest(3, &state);
        pod["metadata"]["namespace"] = json!(NAMESPACE);
        pod["metadata"]["uid"] = json!(state.uid);
        pod["metadata"]["resourceVersion"] = json!("17");
        pod["status"] = status;
        let text = pod.to_string();
        let template = Template::new(&text, &state)?;
        let mut again = String::new();
        template.write(&state, &mut again);
        assert_eq!(again, text);
        state.resource_version = 18;
        state.restart(&mut random);
        let mut changed = String::new();
        template.write(&state, &mut changed);
        let changed: Value = serde_json::from_str(&changed)?;
        assert_eq!(changed["metadata"]["resourceVersion"], "18");
        assert_eq!(changed["status"]["podIP"], json!(state.address));
        assert_eq!(
            changed["status"]["containerStatuses"][0]["restartCount"],
            json!(2)
        );
        Ok(())
    }
}

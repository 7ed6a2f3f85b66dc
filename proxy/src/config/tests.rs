//! A configuration file is taken whole or not at all, and each mistake says where it is and what to write instead.

use super::*;

const SMALLEST: &str = r#"
apiVersion: holdfast.dev/v1alpha1
kind: Config
upstream:
  servers: ["https://192.0.2.10:6443"]
"#;

fn mistakes(text: &str) -> Vec<String> {
    match parse("f.yaml", text) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// The smallest file plus these lines; the first of them is line 6.
fn with(lines: &str) -> Vec<String> {
    mistakes(&format!("{SMALLEST}{lines}"))
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let printed = parse("defaults", &default_yaml()).expect("the defaults are valid");
    let smallest = parse("smallest", SMALLEST).expect("the smallest file is valid");
    assert_eq!(format!("{printed:?}"), format!("{smallest:?}"));
}

#[test]
fn the_contract_is_read_as_written() {
    let config = parse(
        "contract",
        r#"
apiVersion: holdfast.dev/v1alpha1
kind: Config
upstream:
  servers: ["https://192.0.2.10:6443", "https://[fd00::1]:6443"]
  caFile: /ca.crt
  strategy: round-robin
  certFile: /own.crt
  keyFile: /own.key
  probe: {path: /readyz, interval: 7s, downInterval: 500ms, timeout: 3s}
  answerTimeout: 2s
  resumeJitter: 0s
listen: []
intercept:
  cgroup: /sys/fs/cgroup/kubepods.slice
  port: 20000
  destinations: ["10.0.0.1:443", "[fd00::1]:443"]
tls:
  serverNames: [Kubernetes]
  caCertFile: /i.crt
  caKeyFile: /i.key
tokens: {issuer: "https://issuer", audiences: [a, b], expiredGrace: 1h}
cache:
  {path: /c.redb, maxBytes: 1GiB, commitInterval: 3s, secrets: never, tail: "", maxAge: [{resource: pods, maxAge: 5m}, {group: apps, resource: deployments, maxAge: 1h}]}
admin: {listen: "127.0.0.1:1"}
log: {filter: "warn,holdfast=debug", format: json}
"#,
    )
    .expect("valid");
    assert_eq!(config.upstream.servers[1].host, "fd00::1");
    assert_eq!(config.upstream.strategy, Strategy::RoundRobin);
    assert!(matches!(
        config.upstream.credential,
        OwnCredential::Certificate { .. }
    ));
    assert_eq!(
        config.upstream.probe.down_interval,
        Duration::from_millis(500)
    );
    assert_eq!(config.upstream.resume_jitter, Duration::ZERO);
    assert!(config.listen.is_empty());
    assert_eq!(config.intercept.port, 20000);
    assert_eq!(config.intercept.destinations.len(), 2);
    assert_eq!(config.tls.server_names, ["kubernetes"]);
    assert_eq!(config.tokens.audiences, ["a", "b"]);
    assert_eq!(config.cache.max_bytes, 1 << 30);
    assert_eq!(config.cache.secrets, Secrets::Never);
    assert_eq!(config.cache.tail, None);
    let [pods, deployments] = config.cache.max_age.as_slice() else {
        panic!("{:?}", config.cache.max_age);
    };
    assert_eq!((pods.group.as_str(), pods.resource.as_str()), ("", "pods"));
    assert_eq!(pods.max_age, Duration::from_secs(300));
    assert_eq!(deployments.group, "apps");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn a_mistake_names_file_line_field_and_remedy() {
    assert_eq!(
        with("cache:\n  maxBytes: lots\n"),
        ["f.yaml:7:13: cache.maxBytes: \"lots\" is not a size of at least 1MiB; write e.g. 256MiB"]
    );
    assert_eq!(
        with("cache:\n  maxbytes: 1GiB\n"),
        ["f.yaml:7:3: cache.maxbytes: there is no such field; did you mean `maxBytes`?"]
    );
    assert_eq!(
        with("colour: red\n"),
        [
            "f.yaml:6:1: colour: there is no such field; the fields here are apiVersion, kind, upstream, listen, intercept, tls, clientCertificates, tokens, cache, admin, log"
        ]
    );
}

#[test]
fn each_age_that_is_wrong_is_told_with_what_to_write() {
    for (item, expected) in [
        (
            "{maxAge: 1h}",
            "18: cache.maxAge[0].resource: it is missing; write e.g. resource: pods",
        ),
        (
            "{resource: pods}",
            "18: cache.maxAge[0].maxAge: it is missing; write e.g. maxAge: 1h",
        ),
        (
            "{resource: pods, maxAge: 5}",
            "43: cache.maxAge[0].maxAge: \"5\" is not a duration",
        ),
        (
            "{resource: pods, maxAge: 0s}",
            "43: cache.maxAge[0].maxAge: 0s is too short",
        ),
        (
            "{resource: apps/pods, maxAge: 1h}",
            "29: cache.maxAge[0].resource: \"apps/pods\" is not a resource; write its plural",
        ),
        (
            "{resource: Pods, maxAge: 1h}",
            "29: cache.maxAge[0].resource: \"Pods\" is not a resource",
        ),
        (
            "{resource: pods.apps, maxAge: 1h}",
            "29: cache.maxAge[0].resource: \"pods.apps\" is not",
        ),
        (
            "{group: apps/v1, resource: pods, maxAge: 1h}",
            "26: cache.maxAge[0].group: \"apps/v1\" is not an API group",
        ),
        (
            "{resources: pods, maxAge: 1h}",
            "19: cache.maxAge[0].resources: there is no such field; did you mean `resource`?",
        ),
        (
            "{resource: pods, maxAge: 1h}, {group: \"\", resource: pods, maxAge: 2h}",
            "48: cache.maxAge[1]: \"pods\" of this group has a maxAge already; write one",
        ),
        (
            "pods",
            "18: cache.maxAge[0]: this is a single value; write a section",
        ),
    ] {
        let told = with(&format!("cache: {{maxAge: [{item}]}}"));
        let expected = format!("f.yaml:6:{expected}");
        assert!(
            told.iter().any(|line| line.starts_with(&expected)),
            "{item}: {told:?}"
        );
    }
    assert_eq!(
        with("cache: {maxAge: 1h}"),
        ["f.yaml:6:17: cache.maxAge: this is a single value; write a list, e.g. `[a, b]`"]
    );
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_file() {
    let told =
        with("admin: {listen: here}\nintercept:\n  port: 70000\n  destinations: [\"10.96.0.1\"]\n");
    assert_eq!(told.len(), 3);
    assert!(
        told[0].starts_with("f.yaml:6:17: admin.listen: "),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("f.yaml:8:9: intercept.port: "),
        "{told:?}"
    );
    assert!(
        told[2].starts_with("f.yaml:9:18: intercept.destinations[0]: "),
        "{told:?}"
    );
}

#[test]
fn what_is_not_there_yet_says_so() {
    for lines in [
        "intercept: {host: true}",
        "tls: {mode: csr}",
        "tls: {mode: bundle}",
        "cache: {secrets: encrypted}",
        "clientCertificates: [{certFile: /a, keyFile: /a}]",
    ] {
        let told = with(lines);
        assert_eq!(told.len(), 1, "{lines}: {told:?}");
        assert!(told[0].contains("not there yet"), "{told:?}");
        assert!(told[0].starts_with("f.yaml:6:"), "{told:?}");
    }
}

#[test]
fn a_wrong_shape_is_a_mistake_with_a_line() {
    for (lines, expected) in [
        (
            "listen: 127.0.0.1:1",
            "f.yaml:6:9: listen: this is a single value; write a list",
        ),
        (
            "listen: [[a]]",
            "f.yaml:6:10: listen[0]: this is a list; write a single value",
        ),
        (
            "cache: [a]",
            "f.yaml:6:8: cache: this is a list; write a section",
        ),
        (
            "cache: {path: {a: b}}",
            "f.yaml:6:15: cache.path: this is a section; write a single value",
        ),
        (
            "cache: {path: \"\"}",
            "f.yaml:6:15: cache.path: the path is empty",
        ),
        (
            "kind: Config",
            "f.yaml:6:1: not YAML that can be read: the field `kind` is written twice",
        ),
        ("cache: {path: [}", "f.yaml:6:"),
    ] {
        let told = with(lines);
        assert!(
            told.iter().any(|line| line.starts_with(expected)),
            "{lines}: {told:?}"
        );
    }
    for text in [
        "",
        "[]",
        "just text",
        "- a\n- b",
        "---\na: b\n---\nc: d",
        "\u{0}",
    ] {
        assert!(!mistakes(text).is_empty(), "{text:?}");
    }
}

#[test]
fn apiversion_kind_and_servers_must_be_written() {
    let told = mistakes("upstream: {servers: []}");
    let joined = told.join("\n");
    assert!(joined.contains("apiVersion: it is missing; write apiVersion: holdfast.dev/v1alpha1"));
    assert!(joined.contains("kind: it is missing; write kind: Config"));
    assert!(joined.contains("upstream.servers: there is no API server to forward to"));
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn holdfast_has_one_credential_or_none() {
    let credential = |lines: &str| {
        parse("f.yaml", &format!("{SMALLEST}  {lines}")).map(|config| config.upstream.credential)
    };
    assert_eq!(
        credential("tokenFile: \"\"").expect("none"),
        OwnCredential::None
    );
    assert!(matches!(
        credential("tokenFile: /t"),
        Ok(OwnCredential::TokenFile(_))
    ));
    assert!(credential("certFile: /c").is_err());
    assert!(credential("keyFile: /c").is_err());
    assert!(credential("tokenFile: /t\n  certFile: /c\n  keyFile: /c").is_err());
}

#[test]
fn two_listeners_cannot_have_one_address() {
    assert_eq!(with("admin: {listen: \"127.0.0.1:10445\"}").len(), 1);
    assert_eq!(with("listen: [\"127.0.0.1:19443\"]").len(), 1);
    assert_eq!(with("admin: {listen: \"0.0.0.0:19443\"}").len(), 1);
    assert_eq!(with("listen: [\"0.0.0.0:10445\"]").len(), 1);
    assert_eq!(with("listen: []\nintercept: {enabled: false}").len(), 1);
    assert_eq!(with("listen: []\nintercept: {destinations: []}").len(), 1);
    assert!(with("listen: []").is_empty());
}

#[test]
fn without_the_redirect_there_is_no_destination_unless_written() {
    let destinations = |lines: &str| {
        let config = parse("f.yaml", &format!("{SMALLEST}intercept: {lines}")).expect("valid");
        config.intercept.destinations.len()
    };
    assert_eq!(destinations("{}"), 1);
    assert_eq!(destinations("{enabled: false}"), 0);
    assert_eq!(
        destinations("{enabled: false, destinations: [\"10.0.0.1:443\"]}"),
        1
    );
}

#[test]
fn a_configmap_with_one_key_is_validated_by_that_key() {
    let manifest = |body: &str| {
        let indented = body.replace('\n', "\n    ");
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: holdfast}}\ndata:\n  config.yaml: |\n    {indented}\n"
        )
    };
    assert!(parse_manifest("m.yaml", &manifest(SMALLEST.trim())).is_ok());
    assert!(parse_manifest("f.yaml", SMALLEST).is_ok());
    let wrong = parse_manifest("m.yaml", &manifest("kind: Config"));
    let told = wrong.expect_err("apiVersion is missing").to_string();
    assert!(
        told.starts_with("m.yaml, line in data[\"config.yaml\"]:1:1: "),
        "{told}"
    );
    let two = "kind: ConfigMap\ndata: {a: b, c: d}";
    assert!(parse_manifest("m.yaml", two).is_err());
}

#[test]
fn a_deep_or_cyclic_document_is_refused_without_harm() {
    assert!(!mistakes(&"[".repeat(100_000)).is_empty());
    assert!(!mistakes(&format!("a: &a [{}]\n", "*a, ".repeat(1000))).is_empty());
}

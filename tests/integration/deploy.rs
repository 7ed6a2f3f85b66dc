//! The files of deploy/ as a user applies them, on the real API server.

use std::process::{Command, Output};

use anyhow::{Result, ensure};
use holdfast_tests::assets::{asset, holdfast, source};
use holdfast_tests::{ApiServer, Node};

/// kubectl as the cluster's administrator.
fn kubectl(node: &Node, api: &ApiServer<'_>, args: &[&str]) -> Result<Output> {
    let file = |name: &str| api.pki().path(name).display().to_string();
    let mut command = node.control_plane_command(asset("kubectl")?, ["--server", &api.url()]);
    command.args(["--certificate-authority", &file("ca.crt")]);
    command.args(["--client-certificate", &file("admin.crt")]);
    command.args(["--client-key", &file("admin.key")]);
    // Neither a kubeconfig nor a discovery cache of whoever runs the tests.
    command
        .env("HOME", node.folder())
        .args(["--kubeconfig", "/dev/null"]);
    Ok(command.args(args).output()?)
}

#[test]
fn the_api_server_accepts_the_manifests_and_the_rights_are_enough() -> Result<()> {
    let node = Node::new()?;
    let api = ApiServer::start(&node)?;
    let folder = source("deploy").display().to_string();
    // A dry run creates no namespace for what follows.
    let namespace = format!("{folder}/00-namespace.yaml");
    let applied = kubectl(&node, &api, &["apply", "-f", &namespace])?;
    ensure!(applied.status.success(), "{applied:?}");
    let dry = kubectl(
        &node,
        &api,
        &[
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &folder,
        ],
    )?;
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    ensure!(dry.status.success(), "{dry:?}");
    ensure!(dry.stderr.is_empty(), "a warning: {dry:?}");
    for object in ["namespace", "serviceaccount", "configmap", "daemonset.apps"] {
        ensure!(said.contains(&format!("{object}/holdfast")), "{said}");
    }
    for path in [
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "/livez",
    ] {
        let allowed = kubectl(
            &node,
            &api,
            &[
                "auth",
                "can-i",
                "get",
                path,
                "--as",
                "system:serviceaccount:holdfast:holdfast",
            ],
        )?;
        ensure!(allowed.status.success(), "{path}: {allowed:?}");
    }
    Ok(())
}

#[test]
fn holdfast_accepts_the_configuration_in_the_configmap() -> Result<()> {
    let mut command = Command::new(holdfast()?);
    command.args(["config", "validate"]);
    let checked = command.arg(source("deploy/20-config.yaml")).output()?;
    ensure!(checked.status.success(), "{checked:?}");
    Ok(())
}

//! The files of deploy/ as a user applies them, on the real API server.

use std::process::Command;

use anyhow::{Result, ensure};
use holdfast_tests::assets::{holdfast, source};
use holdfast_tests::{ApiServer, Node};

#[test]
fn the_api_server_accepts_the_manifests_and_the_rights_are_enough() -> Result<()> {
    let node = Node::new()?;
    let api = ApiServer::start(&node)?;
    let folder = source("deploy").display().to_string();
    // A dry run creates no namespace for what follows.
    let namespace = format!("{folder}/00-namespace.yaml");
    let applied = api.kubectl(&["apply", "-f", &namespace])?.output()?;
    ensure!(applied.status.success(), "{applied:?}");
    let dry = api
        .kubectl(&[
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &folder,
        ])?
        .output()?;
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
        let allowed = api
            .kubectl(&[
                "auth",
                "can-i",
                "get",
                path,
                "--as",
                "system:serviceaccount:holdfast:holdfast",
            ])?
            .output()?;
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

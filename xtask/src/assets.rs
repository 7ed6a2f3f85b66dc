//! What the tests run beside Holdfast: control plane, client programs, Python. Built once into the user's cache folder,
//! so that a fresh clone does not pay again, and linked into `target/assets`, where the harness looks.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::shell::{root, step, target};

/// The Kubernetes release of tests/go/cluster/go.mod; kubectl refuses to compare versions when it is not set.
const KUBERNETES: &str = "v1.36.3";
const CONTROL_PLANE: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// Makes everything the tests run and returns the folder that holds a link to each.
pub(crate) fn ensure() -> Result<PathBuf> {
    let links = target().join("assets");
    fs::create_dir_all(&links)?;
    for (name, path) in control_plane()? {
        link(&links, &name, &path)?;
    }
    for name in folders(&root().join("tests/go"))? {
        if name != "cluster" {
            link(&links, &name, &go_program(&name)?)?;
        }
    }
    if let Some(venv) = python()? {
        link(&links, "venv", &venv)?;
    }
    if let Some(modules) = node()? {
        link(&links, "node_modules", &modules)?;
    }
    Ok(links)
}

fn control_plane() -> Result<BTreeMap<String, PathBuf>> {
    let dir = match std::env::var_os("KUBEBUILDER_ASSETS") {
        Some(dir) => PathBuf::from(dir),
        None => build_control_plane()?,
    };
    let mut found = BTreeMap::new();
    for name in CONTROL_PLANE {
        let path = dir.join(name);
        if !path.is_file() {
            bail!(
                "{} is missing: KUBEBUILDER_ASSETS must hold {}",
                path.display(),
                CONTROL_PLANE.join(", ")
            );
        }
        found.insert(name.to_owned(), path);
    }
    Ok(found)
}

fn build_control_plane() -> Result<PathBuf> {
    let source = root().join("tests/go/cluster");
    let dir = cache()?.join(format!("cluster-{KUBERNETES}-{}", hash(&source)?));
    make(&dir, |fresh| {
        let version = "k8s.io/component-base/version";
        let ldflags = format!(
            "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
        );
        let mut go = go_build(&source, &fresh.join("cluster"));
        step(
            "building etcd, kube-apiserver and kubectl from their Go modules (minutes, once)",
            go.args(["-ldflags", &ldflags, "."]),
        )?;
        for name in CONTROL_PLANE {
            symlink("cluster", fresh.join(name))?;
        }
        Ok(())
    })?;
    Ok(dir)
}

fn go_program(name: &str) -> Result<PathBuf> {
    let source = root().join("tests/go").join(name);
    let dir = cache()?.join(format!("{name}-{}", hash(&source)?));
    make(&dir, |fresh| {
        step(
            &format!("building tests/go/{name}"),
            go_build(&source, &fresh.join(name)).args(["-ldflags", "-s -w", "."]),
        )
    })?;
    Ok(dir.join(name))
}

fn go_build(source: &Path, output: &Path) -> Command {
    let mut go = Command::new("go");
    go.current_dir(source)
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-o"])
        .arg(output);
    go
}

/// A Python environment with the client of tests/python, if there is one.
fn python() -> Result<Option<PathBuf>> {
    let requirements = root().join("tests/python/requirements.txt");
    if !requirements.is_file() {
        return Ok(None);
    }
    let dir = cache()?.join(format!("venv-{}", digest(&[fs::read(&requirements)?])));
    // Not made aside and renamed as the others: a Python environment knows its own path.
    if !dir.join("complete").is_file() {
        let _ = fs::remove_dir_all(&dir);
        step(
            "making a Python environment",
            Command::new("python3").args(["-m", "venv"]).arg(&dir),
        )?;
        let mut pip = Command::new(dir.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(&requirements);
        step("installing the Python client", &mut pip)?;
        fs::write(dir.join("complete"), "")?;
    }
    Ok(Some(dir))
}

/// The modules that the programs of tests/node import, if there are any.
fn node() -> Result<Option<PathBuf>> {
    let source = root().join("tests/node");
    if !source.join("package.json").is_file() {
        return Ok(None);
    }
    let manifests: Vec<Vec<u8>> = ["package.json", "package-lock.json"]
        .iter()
        .map(|name| fs::read(source.join(name)).unwrap_or_default())
        .collect();
    let dir = cache()?.join(format!("node-{}", digest(&manifests)));
    make(&dir, |fresh| {
        fs::write(fresh.join("package.json"), &manifests[0])?;
        let locked = !manifests[1].is_empty();
        if locked {
            fs::write(fresh.join("package-lock.json"), &manifests[1])?;
        }
        let verb = if locked { "ci" } else { "install" };
        step(
            "installing the JavaScript client",
            Command::new("npm").current_dir(fresh).args([
                verb,
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
            ]),
        )
    })?;
    Ok(Some(dir.join("node_modules")))
}

/// Fills `dir` once: made aside and renamed, so that a folder that exists is complete.
fn make(dir: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let fresh = dir.with_extension(format!("{}.tmp", std::process::id()));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;
    fill(&fresh)?;
    // Another run may have been first: its result is as good.
    if fs::rename(&fresh, dir).is_err() && !dir.is_dir() {
        bail!("cannot rename {} to {}", fresh.display(), dir.display());
    }
    let _ = fs::remove_dir_all(&fresh);
    Ok(())
}

fn cache() -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => bail!(
            "neither XDG_CACHE_HOME nor HOME is set: no folder to keep the built API server in"
        ),
    };
    let dir = base.join("holdfast");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().join("go.mod").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn link(links: &Path, name: &str, to: &Path) -> Result<()> {
    let link = links.join(name);
    let _ = fs::remove_file(&link);
    symlink(to, &link).with_context(|| format!("cannot link {}", link.display()))
}

/// Names the content of a folder of sources (flat or nested), so that changed sources are built anew.
fn hash(dir: &Path) -> Result<String> {
    let mut paths = Vec::new();
    collect(dir, &mut paths)?;
    paths.sort();
    let mut parts = Vec::new();
    for path in paths {
        parts.push(
            path.strip_prefix(dir)?
                .to_string_lossy()
                .into_owned()
                .into_bytes(),
        );
        parts.push(fs::read(&path)?);
    }
    Ok(digest(&parts))
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path
            .extension()
            .is_some_and(|e| e == "go" || e == "mod" || e == "sum")
        {
            into.push(path);
        }
    }
    Ok(())
}

fn digest(parts: &[Vec<u8>]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

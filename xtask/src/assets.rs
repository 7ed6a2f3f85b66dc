//! What the tests run beside Holdfast: control plane, client programs, Python, JavaScript. Built once into the user's cache folder,
//! so that a fresh clone does not pay again, and linked into `target/assets`, where the harness looks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::shell::{cargo, root, step, target};

/// The Kubernetes release of tests/go/cluster/go.mod; kubectl refuses to compare versions when it is not set.
const KUBERNETES: &str = "v1.36.3";
/// How the names of a Go module's sources end.
const GO: [&str; 3] = ["go", "mod", "sum"];
const CONTROL_PLANE: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// Makes everything the demo runs and returns the folder that holds a link to each.
pub(crate) fn for_demo() -> Result<PathBuf> {
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
    Ok(links)
}

/// As [`for_demo`], with what the tests run besides.
pub(crate) fn for_tests() -> Result<PathBuf> {
    let links = for_demo()?;
    link(&links, "node", &node()?)?;
    link(&links, "kube-rs", &kube_rs()?)?;
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
    let dir = cache()?.join(format!(
        "cluster-{KUBERNETES}-{}",
        hash(&sources(&source, &GO)?)
    ));
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
    let dir = cache()?.join(format!("{name}-{}", hash(&sources(&source, &GO)?)));
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

/// The programs of tests/node, beside the modules that they import.
fn node() -> Result<PathBuf> {
    let source = root().join("tests/node");
    let sources = sources(&source, &["json", "js", "mjs"])?;
    let dir = cache()?.join(format!("node-{}", hash(&sources)));
    make(&dir, |fresh| {
        for (name, text) in &sources {
            fs::write(fresh.join(name), text)?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(fresh)
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
        step("installing the JavaScript client", &mut npm)
    })?;
    Ok(dir)
}

/// The program of tests/kube-rs, which is no part of the workspace.
fn kube_rs() -> Result<PathBuf> {
    let source = root().join("tests/kube-rs");
    let dir = cache()?.join(format!(
        "kube-rs-{}",
        hash(&sources(&source, &["toml", "lock", "rs"])?)
    ));
    make(&dir, |fresh| {
        let target = fresh.join("target");
        let mut build = cargo();
        build.args(["build", "--locked", "--manifest-path"]);
        build.arg(source.join("Cargo.toml"));
        build.arg("--target-dir").arg(&target);
        step("building tests/kube-rs (a minute or two, once)", &mut build)?;
        fs::rename(target.join("debug/kube-rs"), fresh.join("kube-rs"))?;
        Ok(fs::remove_dir_all(&target)?)
    })?;
    Ok(dir.join("kube-rs"))
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

/// Files of a folder, by their path in it.
type Sources = Vec<(String, Vec<u8>)>;

/// What a build left in a folder of sources is none of them.
const NOT_SOURCES: [&str; 2] = ["target", "node_modules"];

/// The files in a folder (flat or nested) with one of these endings, in the order of their paths.
fn sources(dir: &Path, endings: &[&str]) -> Result<Sources> {
    let mut paths = Vec::new();
    collect(dir, endings, &mut paths)?;
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let name = path.strip_prefix(dir)?.to_string_lossy().into_owned();
        sources.push((name, fs::read(&path)?));
    }
    Ok(sources)
}

fn collect(dir: &Path, endings: &[&str], into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is = |names: &[&str], part: Option<&OsStr>| {
            part.is_some_and(|part| names.iter().any(|name| part == *name))
        };
        if path.is_dir() && !is(&NOT_SOURCES, path.file_name()) {
            collect(&path, endings, into)?;
        } else if path.is_file() && is(endings, path.extension()) {
            into.push(path);
        }
    }
    Ok(())
}

/// Names the content of sources, so that changed ones are built anew.
fn hash(sources: &Sources) -> String {
    let parts = sources
        .iter()
        .flat_map(|(name, text)| [name.clone().into_bytes(), text.clone()]);
    digest(&parts.collect::<Vec<_>>())
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

//! The system programs that the tests need: installed on Debian and its like, named elsewhere.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{has, run, say};

/// A program and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("curl", "curl"),
    ("python3", "python3"),
];

/// The tests alone run JavaScript.
const FOR_TESTS: &[(&str, &str)] = &[("node", "nodejs"), ("npm", "npm")];

/// The bench alone compares.
const FOR_BENCH: &[(&str, &str)] = &[("nginx", "nginx")];

/// Makes sure of the system programs that the demo runs.
pub(crate) fn for_demo() -> Result<()> {
    ensure(&[])
}

/// Makes sure of the system programs that the tests run.
pub(crate) fn for_tests() -> Result<()> {
    ensure(FOR_TESTS)
}

/// Makes sure of what counts instructions.
pub(crate) fn for_instructions() -> Result<()> {
    if has("valgrind") {
        return Ok(());
    }
    install(&["valgrind"])
}

/// Makes sure of the system programs that the bench runs.
pub(crate) fn for_bench() -> Result<()> {
    ensure(FOR_BENCH)
}

/// Root is asked for first, since nothing of the tests works without.
fn ensure(besides: &[(&str, &'static str)]) -> Result<()> {
    if !is_root()? {
        bail!(
            "network namespaces, cgroups and eBPF need root: run this as root (sudo -E env PATH=\"$PATH\" cargo xtask ...)"
        );
    }
    if !has("go") {
        bail!(
            "Go is missing: install Go 1.26 or later (the API server and the client programs of the tests are built with it)"
        );
    }
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .chain(besides)
        .filter(|(program, _)| !has(program))
        .map(|(_, package)| *package)
        .collect();
    if has("python3") && !python_has_venv() {
        missing.push("python3-venv");
    }
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs Debian packages, or says which ones are needed where there is no apt-get.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !has("apt-get") {
        bail!("missing programs; install what your system calls these Debian packages: {list}");
    }
    say(&format!("installing {list} with apt-get"));
    run(apt().args(["update", "-qq"]))?;
    run(apt()
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages))
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::process::Stdio::null());
    apt
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output()?;
    Ok(id.stdout.trim_ascii() == b"0")
}

fn python_has_venv() -> bool {
    let probe = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    probe.is_ok_and(|probe| probe.status.success())
}

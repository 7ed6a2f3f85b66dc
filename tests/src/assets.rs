//! Where the programs are that `cargo xtask` built.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// A program or folder that `cargo xtask test` made: `etcd`, `kube-apiserver`, `kubectl`, `informer`, `venv`, ...
pub fn asset(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("HOLDFAST_ASSETS") {
        Some(folder) => PathBuf::from(folder),
        None => target()?.join("assets"),
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is missing: `cargo xtask test --no-run` makes it",
            path.display()
        );
    }
    // The link itself is kept: the control plane's one program goes by the name it is started under.
    Ok(path)
}

/// The holdfast binary under test.
pub fn holdfast() -> Result<PathBuf> {
    let path = match std::env::var_os("HOLDFAST_BIN") {
        Some(path) => PathBuf::from(path),
        None => target()?.join("debug/holdfast"),
    };
    if !path.is_file() {
        bail!(
            "{} is missing: `cargo build -p holdfast` makes it",
            path.display()
        );
    }
    Ok(path)
}

/// The Python with the client of tests/python.
pub fn python() -> Result<PathBuf> {
    asset("venv").map(|venv| venv.join("bin/python"))
}

/// A file of the sources, such as `tests/python/reader.py`.
pub fn source(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Cargo's target folder, found from this very program: `target/debug/demo` or `target/debug/deps/integration-1234`.
fn target() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let found = exe
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    found.map(PathBuf::from).context(
        "this program is not inside a cargo target folder: set HOLDFAST_ASSETS and HOLDFAST_BIN",
    )
}

//! `cargo xtask build-ebpf`: the eBPF programs, built, stripped and written to `proxy-ebpf/prebuilt/`.
//!
//! The binary embeds the object from there, so `cargo build` needs no BPF toolchain. One toolchain gives the same bytes
//! from any folder; `BUILDINFO` names the one that was used, and `--check` rebuilds and compares.

mod elf;
mod toolchain;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use toolchain::{BuildInfo, Toolchain};

use crate::shell;

const OBJECT: &str = "holdfast.bpf.o";
const TARGET: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing: rebuild, and compare with the prebuilt object
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = shell::root();
    let prebuilt = root.join("proxy-ebpf/prebuilt");
    if args.check {
        check(&root, &prebuilt)
    } else {
        write(&root, &prebuilt)
    }
}

fn write(root: &Path, prebuilt: &Path) -> anyhow::Result<()> {
    let toolchain = toolchain::find_or_install(None)?;
    let object = build(root, &toolchain)?;
    std::fs::create_dir_all(prebuilt)?;
    std::fs::write(prebuilt.join(OBJECT), &object)?;
    std::fs::write(prebuilt.join("SHA256SUMS"), sums(&object))?;
    std::fs::write(prebuilt.join("BUILDINFO"), toolchain.info.to_string())?;
    println!(
        "wrote {} ({} bytes, sha256 {})",
        prebuilt.join(OBJECT).display(),
        object.len(),
        sha256(&object)
    );
    Ok(())
}

fn check(root: &Path, prebuilt: &Path) -> anyhow::Result<()> {
    let path = prebuilt.join(OBJECT);
    let committed = std::fs::read(&path)
        .with_context(|| format!("{} is missing: run cargo xtask build-ebpf", path.display()))?;
    let written = std::fs::read_to_string(prebuilt.join("SHA256SUMS"))?;
    ensure!(
        written == sums(&committed),
        "SHA256SUMS does not name the bytes of {OBJECT}"
    );
    let recorded = BuildInfo::parse(&std::fs::read_to_string(prebuilt.join("BUILDINFO"))?)?;

    let toolchain = toolchain::find_or_install(Some(&recorded))?;
    let rebuilt = build(root, &toolchain)?;
    if toolchain.info == recorded {
        return same_bytes(&committed, &rebuilt);
    }
    println!(
        "another toolchain than that of BUILDINFO, so the bytes may differ; comparing programs, maps and sections\n\
         BUILDINFO:\n{recorded}here:\n{}",
        toolchain.info
    );
    same_shape(root, &path, &committed, &rebuilt)
}

fn same_bytes(committed: &[u8], rebuilt: &[u8]) -> anyhow::Result<()> {
    ensure!(
        committed == rebuilt,
        "the prebuilt object is not what its sources give with the toolchain of BUILDINFO \
         (sha256 {} committed, {} rebuilt): run cargo xtask build-ebpf and commit the result",
        sha256(committed),
        sha256(rebuilt)
    );
    println!(
        "the prebuilt object is byte for byte what its sources give (sha256 {})",
        sha256(rebuilt)
    );
    Ok(())
}

fn same_shape(root: &Path, path: &Path, committed: &[u8], rebuilt: &[u8]) -> anyhow::Result<()> {
    let (before, after) = (elf::sections(committed)?, elf::sections(rebuilt)?);
    ensure!(
        before == after,
        "sections differ: {before:?} committed, {after:?} rebuilt"
    );
    let other = root.join("proxy-ebpf/target").join(OBJECT);
    std::fs::write(&other, rebuilt)?;
    let (before, after) = (load(path)?, load(&other)?);
    ensure!(
        before == after,
        "programs or maps differ:\n{before}\ncommitted\n{after}\nrebuilt"
    );
    println!("both load into this kernel, with the same sections, programs and maps:\n{before}");
    Ok(())
}

/// Loads an object into the kernel, as Holdfast would, and lists its programs and maps.
fn load(object: &Path) -> anyhow::Result<String> {
    let output = shell::cargo()
        .args(["run", "--quiet", "-p", "holdfast", "--example", "load-ebpf"])
        .arg("--")
        .arg(object)
        .output()?;
    if !output.status.success() {
        bail!(
            "{} does not load: {}",
            object.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Builds and strips.
fn build(root: &Path, toolchain: &Toolchain) -> anyhow::Result<Vec<u8>> {
    let folder = root.join("proxy-ebpf");
    let target = folder.join("target");
    println!("building the eBPF programs with {}", toolchain.info.rustc);
    let mut fetch = toolchain.command()?;
    let fetched = fetch
        .current_dir(&folder)
        .args(["fetch", "--locked"])
        .status();
    ensure!(
        fetched?.success(),
        "the crates of proxy-ebpf cannot be fetched"
    );
    let mut cargo = toolchain.command()?;
    cargo
        .current_dir(&folder)
        .args(["build", "--release", "--locked", "--target", TARGET])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root)?.join("\x1f"))
        // What a developer's environment may carry must not reach the object.
        .env("RUSTC_WRAPPER", "")
        .env_remove("RUSTFLAGS");
    let status = cargo.status().context("cannot run cargo")?;
    ensure!(status.success(), "the eBPF programs did not build");

    // Before the strip, which sorts the names it writes: a hash forgotten after it would still decide their order.
    let mut object = std::fs::read(target.join(TARGET).join("release/holdfast"))?;
    forget_hashes(&mut object);
    let (named, stripped) = (target.join("named.o"), target.join("stripped.o"));
    std::fs::write(&named, object)?;
    let status = Command::new(&toolchain.strip)
        .arg("--strip-debug")
        .arg("-o")
        .arg(&stripped)
        .arg(&named)
        .status()
        .with_context(|| format!("cannot run {}", toolchain.strip.display()))?;
    ensure!(status.success(), "llvm-strip failed");
    Ok(std::fs::read(stripped)?)
}

/// The name of a local function ends in a hash (`17h`, 16 digits, `E`) that depends on the absolute path of proxy-common,
/// because Cargo names a crate outside the workspace's folder by that. Nothing reads it: zeros instead.
fn forget_hashes(object: &mut [u8]) {
    const DIGITS: usize = 16;
    for start in 0..object.len().saturating_sub(DIGITS + 3) {
        let Some((b"17h", rest)) = object
            .get_mut(start..)
            .and_then(|rest| rest.split_at_mut_checked(3))
            .map(|(mark, rest)| (&*mark, rest))
        else {
            continue;
        };
        if let Some((digits, [b'E', 0, ..])) = rest.split_at_mut_checked(DIGITS)
            && digits.iter().all(u8::is_ascii_hexdigit)
        {
            digits.fill(b'0');
        }
    }
}

/// No path of this machine reaches the object, so that every folder gives the same bytes.
fn flags(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut flags = vec![
        // aya-ebpf-bindings picks its registers by the architecture of the kernel; these programs use none.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/src", root.display()),
    ];
    // Each registry has a folder of its own, named by its address: another mirror must not give other bytes.
    let registries = toolchain::cargo_home()?.join("registry/src");
    for registry in std::fs::read_dir(&registries)? {
        flags.push(format!(
            "--remap-path-prefix={}=/cargo",
            registry?.path().display()
        ));
    }
    Ok(flags)
}

fn sums(object: &[u8]) -> String {
    format!("{}  {OBJECT}\n", sha256(object))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::forget_hashes;

    #[test]
    fn a_hash_in_a_function_s_name_is_forgotten_and_nothing_else() {
        let mut object = *b"x\0_ZN4miss17h6f7df047da899820E\0connect4:17hshort:17h6f7df047da89982";
        forget_hashes(&mut object);
        assert_eq!(
            &object,
            b"x\0_ZN4miss17h0000000000000000E\0connect4:17hshort:17h6f7df047da89982"
        );
    }
}

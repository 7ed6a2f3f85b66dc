//! A rustc that knows bpfel-unknown-none, a bpf-linker whose LLVM is not older than that rustc's, and an llvm-strip.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::{packages, shell};

const BPF_LINKER_VERSION: &str = "0.13.0";

/// Debian's rustc with a core for the target, and its LLVM. rustc 1.96 stands on LLVM 22.
const DEBIAN_PACKAGES: [&str; 4] = [
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libpolly-22-dev",
];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// What decides the bytes of the object, beside its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildInfo {
    pub(super) rustc: String,
    pub(super) llvm: String,
    pub(super) bpf_linker: String,
}

impl fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rustc: {}", self.rustc)?;
        writeln!(f, "LLVM: {}", self.llvm)?;
        writeln!(f, "bpf-linker: {}", self.bpf_linker)
    }
}

impl BuildInfo {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let field = |name: &str| {
            field(text, name).with_context(|| format!("BUILDINFO has no line '{name}: ...'"))
        };
        Ok(Self {
            rustc: field("rustc")?,
            llvm: field("LLVM")?,
            bpf_linker: field("bpf-linker")?,
        })
    }
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .map(str::to_owned)
}

pub(super) struct Toolchain {
    kind: Kind,
    pub(super) strip: PathBuf,
    pub(super) info: BuildInfo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Debian's rustc: a prebuilt core for the target.
    Debian,
    /// rustup's nightly with rust-src: core is built with the programs.
    Nightly,
}

impl Toolchain {
    /// A cargo that builds with this toolchain.
    pub(super) fn command(&self) -> anyhow::Result<Command> {
        let mut command = match self.kind {
            Kind::Debian => {
                let mut command = shell::cargo();
                command.env("RUSTC", DEBIAN_RUSTC);
                // aya-ebpf uses an unstable feature. Its own name and not `1`: `1` makes its build script ask for
                // build-std, and Debian has no rust-src.
                command.env("RUSTC_BOOTSTRAP", "aya_ebpf");
                command
            }
            Kind::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "-Zbuild-std=core"]);
                command.env_remove("RUSTC");
                command
            }
        };
        // rustc looks for bpf-linker on the PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = cargo_home()?.join("bin");
        let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)))?;
        command.env("PATH", path);
        Ok(command)
    }
}

pub(super) fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// The toolchain that `wanted` names where there is a choice; installs what is missing where it can.
pub(super) fn find_or_install(wanted: Option<&BuildInfo>) -> anyhow::Result<Toolchain> {
    let mut kinds: Vec<Kind> = [Kind::Debian, Kind::Nightly]
        .into_iter()
        .filter(|kind| kind.is_here())
        .collect();
    if let Some(wanted) = wanted {
        // Stable sort: the recorded one first, else the usual order.
        kinds.sort_by_key(|kind| kind.rustc().is_ok_and(|(rustc, _)| rustc != wanted.rustc));
    }
    let kind = match kinds.first() {
        Some(kind) => *kind,
        None => install_debian()?,
    };
    let (rustc, llvm) = kind.rustc()?;
    let bpf_linker = match bpf_linker_version() {
        Some(version) if version == BPF_LINKER_VERSION => version,
        _ => install_bpf_linker(kind)?,
    };
    Ok(Toolchain {
        kind,
        strip: find_strip(kind)?,
        info: BuildInfo {
            rustc,
            llvm,
            bpf_linker,
        },
    })
}

impl Kind {
    fn is_here(self) -> bool {
        match self {
            Kind::Debian => stdout(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))
                .is_ok_and(|root| {
                    Path::new(root.trim())
                        .join("lib/rustlib/bpfel-unknown-none")
                        .is_dir()
                }),
            Kind::Nightly => stdout(
                Command::new("rustup").args(["run", "nightly", "rustc", "--print", "sysroot"]),
            )
            .is_ok_and(|root| {
                Path::new(root.trim())
                    .join("lib/rustlib/src/rust/library/core")
                    .is_dir()
            }),
        }
    }

    /// rustc's release with its commit, and its LLVM.
    fn rustc(self) -> anyhow::Result<(String, String)> {
        let version = match self {
            Kind::Debian => stdout(Command::new(DEBIAN_RUSTC).arg("-vV")),
            Kind::Nightly => {
                stdout(Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]))
            }
        }?;
        let field = |name| field(&version, name).context("rustc -vV has another form than known");
        let rustc = format!("{} ({})", field("release")?, field("commit-hash")?);
        Ok((rustc, field("LLVM version")?))
    }
}

fn bpf_linker_version() -> Option<String> {
    let path = cargo_home().ok()?.join("bin/bpf-linker");
    let text = stdout(Command::new(path).arg("--version"))
        .or_else(|_| stdout(Command::new("bpf-linker").arg("--version")))
        .ok()?;
    Some(text.trim().strip_prefix("bpf-linker ")?.to_owned())
}

fn install_debian() -> anyhow::Result<Kind> {
    let packages = DEBIAN_PACKAGES.join(" ");
    let remedy = format!(
        "no rustc for bpfel-unknown-none: either `apt-get install {packages}` (Debian 12 and later), or \
         `rustup toolchain install nightly --component rust-src` with an LLVM as new as that rustc's"
    );
    if !shell::has("apt-get") {
        bail!(remedy);
    }
    packages::install(&DEBIAN_PACKAGES).context(remedy.clone())?;
    ensure!(Kind::Debian.is_here(), remedy);
    Ok(Kind::Debian)
}

fn install_bpf_linker(kind: Kind) -> anyhow::Result<String> {
    let mut command = shell::cargo();
    command.args(["install", "bpf-linker", "--locked", "--force"]);
    command.args(["--version", BPF_LINKER_VERSION]);
    if kind == Kind::Debian {
        // Without the prefix it finds another LLVM, or none, and does not link.
        command.args(["--no-default-features", "--features", "llvm-22"]);
        command.env("LLVM_PREFIX", DEBIAN_LLVM);
    }
    let what = format!("installing bpf-linker {BPF_LINKER_VERSION} (about a minute)");
    shell::step(&what, &mut command).context(
        "bpf-linker did not install: it needs the development files of an LLVM that is not older than rustc's; \
         name its folder with LLVM_PREFIX",
    )?;
    bpf_linker_version().context("bpf-linker was installed, but does not run")
}

fn find_strip(kind: Kind) -> anyhow::Result<PathBuf> {
    let debian = Path::new(DEBIAN_LLVM).join("bin/llvm-strip");
    let prefix = std::env::var_os("LLVM_PREFIX").map(|p| Path::new(&p).join("bin/llvm-strip"));
    let candidates = match kind {
        Kind::Debian => vec![debian],
        Kind::Nightly => prefix
            .into_iter()
            .chain(["llvm-strip".into(), debian])
            .collect(),
    };
    candidates
        .into_iter()
        .find(|path| stdout(Command::new(path).arg("--version")).is_ok())
        .context("no llvm-strip: install the package llvm, or name LLVM's folder with LLVM_PREFIX")
}

fn stdout(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::BuildInfo;

    #[test]
    fn buildinfo_reads_back_as_written() -> anyhow::Result<()> {
        let info = BuildInfo {
            rustc: "1.96.0 (abc)".into(),
            llvm: "22.1.8".into(),
            bpf_linker: "0.13.0".into(),
        };
        assert_eq!(BuildInfo::parse(&info.to_string())?, info);
        Ok(())
    }

    #[test]
    fn a_buildinfo_without_llvm_is_refused_by_name() {
        let error = BuildInfo::parse("rustc: 1\nbpf-linker: 2\n").expect_err("no LLVM line");
        assert!(error.to_string().contains("LLVM"));
    }
}

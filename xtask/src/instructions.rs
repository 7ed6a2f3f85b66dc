//! `cargo xtask instructions`: the instructions of the hot parsers over fixed inputs, as callgrind counts them, against the
//! counts that are committed. Nothing else of Holdfast's speed is a test: instructions are the same on a busy machine.
//!
//! The counts are of one kind of CPU: memchr, and what uses it, chooses its code by what it finds. On another kind they are
//! shown and not compared. glibc's choice is made for it, see `TUNABLES`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{cargo, root, say, target};
use crate::{packages, shell};

/// Flags of `cargo xtask instructions`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the counts of now to tests/instructions/counts.tsv.
    #[arg(long)]
    update: bool,
}

/// A count may grow by this factor.
const AT_MOST: f64 = 1.05;
/// The function of tests/instructions that is counted, whatever its mangled name.
const COUNTED: &str = "--toggle-collect=*counted*";
/// glibc copies memory as the CPU does it best; these words make it the same on all of x86_64.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load";

/// Counts by case.
type Counts = BTreeMap<String, u64>;

/// Builds, counts, compares.
pub(crate) fn run(args: &Args) -> Result<()> {
    packages::for_instructions()?;
    let mut build = cargo();
    build.args(["build", "--profile=counted", "-p", "holdfast-instructions"]);
    shell::step("building what is counted", build.arg("--quiet"))?;
    let now = count()?;
    let here = machine()?;
    if args.update {
        fs::write(file(), written(&here, &now))?;
        say(&format!("{} is written", file().display()));
        return Ok(());
    }
    let committed = fs::read_to_string(file())?;
    let (there, before) = read(&committed)?;
    if !is_alike(&there, &here) {
        for (case, count) in &now {
            say(&format!("{case}: {count}"));
        }
        say(&format!(
            "instructions NOT compared: the committed ones are of {there}, this is {here}"
        ));
        return Ok(());
    }
    let worse = compare(&before, &now)?;
    ensure!(
        worse.is_empty(),
        "{} above {AT_MOST} of the committed instructions (of {there}; this is {here}); if that is meant to be: cargo xtask instructions --update",
        worse.join(", ")
    );
    say("instructions: ok");
    Ok(())
}

fn file() -> PathBuf {
    root().join("tests/instructions/counts.tsv")
}

fn count() -> Result<Counts> {
    let program = target().join("counted/holdfast-instructions");
    let listed = Command::new(&program).output()?;
    ensure!(listed.status.success(), "{} failed", program.display());
    let mut counts = Counts::new();
    for case in String::from_utf8(listed.stdout)?.lines() {
        let mut valgrind = Command::new("valgrind");
        valgrind.args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            COUNTED,
        ]);
        valgrind.arg(&program).arg(case);
        // Where the stack begins depends on the environment.
        valgrind.env_clear().env("GLIBC_TUNABLES", TUNABLES);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ran = valgrind.env("PATH", path).output();
        let ran = ran.context("cannot start valgrind")?;
        let said = String::from_utf8_lossy(&ran.stderr);
        ensure!(ran.status.success(), "{case} failed:\n{said}");
        counts.insert(case.to_owned(), collected(&said).context(case.to_owned())?);
    }
    Ok(counts)
}

/// The sum that callgrind prints at its end.
fn collected(said: &str) -> Result<u64> {
    let sum = said
        .lines()
        .find_map(|line| Some(line.split_once("Collected : ")?.1.trim()));
    let sum: u64 = sum.context("callgrind told no sum")?.parse()?;
    ensure!(
        sum > 0,
        "callgrind did not see the function that is counted"
    );
    Ok(sum)
}

/// What the counts depend on besides the code: architecture and CPU, then the compiler.
fn machine() -> Result<String> {
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") {
        " with AVX2"
    } else {
        ""
    };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    let rustc = Command::new("rustc").arg("--version").output()?;
    let rustc = String::from_utf8_lossy(&rustc.stdout);
    let version = rustc.split(' ').nth(1).context("a version of rustc")?;
    Ok(format!(
        "{}{vectors}, rustc {version}",
        std::env::consts::ARCH
    ))
}

/// The same kind of CPU; another compiler is compared all the same.
fn is_alike(one: &str, other: &str) -> bool {
    one.split(", ").next() == other.split(", ").next()
}

fn written(machine: &str, counts: &Counts) -> String {
    let mut text = format!("# {machine}\n");
    for (case, count) in counts {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{case}\t{count}");
    }
    text
}

fn read(text: &str) -> Result<(String, Counts)> {
    let mut lines = text.lines();
    let machine = lines.next().and_then(|line| line.strip_prefix("# "));
    let machine = machine.context("the first line says of what machine the counts are")?;
    let mut counts = Counts::new();
    for line in lines {
        let (case, count) = line.split_once('\t').context("a case, a tab, a count")?;
        counts.insert(case.to_owned(), count.parse()?);
    }
    Ok((machine.to_owned(), counts))
}

/// Shows all; the cases that grew too much.
fn compare(before: &Counts, now: &Counts) -> Result<Vec<String>> {
    if before.keys().ne(now.keys()) {
        bail!("other cases are counted than are committed: cargo xtask instructions --update");
    }
    let mut worse = Vec::new();
    for ((case, before), now) in before.iter().zip(now.values()) {
        let ratio = *now as f64 / *before as f64;
        say(&format!("{case}: {now} of {before}, {ratio:.3}"));
        if ratio > AT_MOST {
            worse.push(case.clone());
        }
    }
    Ok(worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = "# x86_64 with AVX2, rustc 1.95.0\nlist\t1000\nmeta\t20\n";

    fn counts(list: u64, meta: u64) -> Counts {
        [("list".to_owned(), list), ("meta".to_owned(), meta)].into()
    }

    #[test]
    fn what_is_written_reads_the_same() -> Result<()> {
        let (machine, read) = read(COMMITTED)?;
        assert_eq!(read, counts(1000, 20));
        assert_eq!(written(&machine, &read), COMMITTED);
        Ok(())
    }

    #[test]
    fn a_case_is_worse_above_its_share_and_none_may_be_missing() -> Result<()> {
        let before = counts(1000, 20);
        assert!(compare(&before, &counts(1050, 21))?.is_empty());
        assert_eq!(compare(&before, &counts(1051, 2))?, ["list"]);
        assert!(compare(&before, &Counts::new()).is_err());
        Ok(())
    }

    #[test]
    fn counts_of_another_cpu_are_not_compared_and_those_of_another_compiler_are() {
        let there = "x86_64 with AVX2, rustc 1.95.0";
        assert!(is_alike(there, "x86_64 with AVX2, rustc 1.96.0"));
        assert!(!is_alike(there, "aarch64, rustc 1.95.0"));
        assert!(!is_alike(there, "x86_64, rustc 1.95.0"));
    }

    #[test]
    fn the_sum_is_the_one_callgrind_tells() {
        let said = "==7== Events    : Ir\n==7== Collected : 4711\n==7== \n";
        assert_eq!(collected(said).ok(), Some(4711));
        assert!(collected("==7== Collected : 0\n").is_err());
    }
}

//! House rules, run as a test on the source text: who may name which crate, which stage may name which other, and what
//! pure modules must not touch. A rule that the code has to break is changed here, in the commit that breaks it.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::shell::{root, say};

/// `word` may be named only by files under one of `homes`.
struct OnlyIn {
    word: &'static str,
    homes: &'static [&'static str],
}

const ONLY_IN: &[OnlyIn] = &[
    OnlyIn {
        word: "redb",
        homes: &["proxy/src/cache/store"],
    },
    OnlyIn {
        word: "bincode",
        homes: &["proxy/src/cache/record"],
    },
    OnlyIn {
        word: "aya",
        homes: &["proxy/src/intercept", "proxy-common/", "proxy-ebpf/"],
    },
    OnlyIn {
        word: "aya_log",
        homes: &["proxy/src/intercept", "proxy-ebpf/"],
    },
    OnlyIn {
        word: "rcgen",
        homes: &["proxy/src/tls", "tests/"],
    },
    OnlyIn {
        word: "unsafe",
        homes: &[
            "proxy/src/intercept",
            "proxy/src/runtime/heap.rs",
            "proxy-common/",
            "proxy-ebpf/",
        ],
    },
];

/// The steps of a connection, in their order: a stage names earlier ones only. `upstream` and `cache` share a place and
/// so never name each other.
const STAGES: &[&[&str]] = &[
    &["intercept"],
    &["accept"],
    &["tls"],
    &["identity"],
    &["request_info"],
    &["policy"],
    &["upstream", "cache"],
    &["tee"],
    &["respond"],
    &["serve"],
    &["app"],
];

/// Where the client is (its place, its pod) is found by early stages and told in the words of `identity`.
const WORDS_OF_IDENTITY: &[&str] = &["ConnectionId", "Place", "PodUid"];

/// Step 1 gives each connection to the story, and knows nothing else of it.
const HANDS_OVER: (&str, &str) = ("accept", "serve");

/// Modules without I/O, clock or log.
const PURE: &[&str] = &[
    "proxy/src/request_info/",
    "proxy/src/policy/",
    "proxy/src/tls/client_hello",
    "proxy/src/upstream/health",
    "proxy/src/cache/wire/",
    "proxy/src/cache/record",
    "proxy-common/",
];
const IMPURE: &[&str] = &[
    "tokio::",
    "Instant::now",
    "SystemTime::now",
    "tracing::",
    "std::fs",
    "std::net::Tcp",
    "println!",
    "eprintln!",
];

/// Nowhere outside tests, whatever the module.
const NOWHERE: &[(&str, &str)] = &[
    ("#[allow(", "use #[expect(.., reason = \"..\")]"),
    ("#![allow(", "use #![expect(.., reason = \"..\")]"),
    (
        ".unwrap()",
        "return the error, or expect(\"why\") where it cannot happen",
    ),
];

/// Files of more non-test lines than this are reported, not refused.
const LONG_FILE: usize = 400;

/// Checks the clone; every broken rule is one line.
pub(crate) fn run() -> Result<()> {
    let mut broken = Vec::new();
    for (path, text) in sources(&root())? {
        let code = code_of(&text);
        if code.lines().count() > LONG_FILE {
            say(&format!(
                "note: {path} has {} lines without its tests",
                code.lines().count()
            ));
        }
        broken.extend(check_file(&path, &code));
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!("house rules broken:\n  {}", broken.join("\n  "))
}

fn check_file(path: &str, code: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let at = format!("{path}:{}", number + 1);
        for rule in ONLY_IN {
            if names(line, rule.word) && !rule.homes.iter().any(|home| path.starts_with(home)) {
                broken.push(format!(
                    "{at}: `{}` belongs in {}",
                    rule.word,
                    rule.homes.join(", ")
                ));
            }
        }
        if PURE.iter().any(|pure| path.starts_with(pure)) {
            broken.extend(
                IMPURE
                    .iter()
                    .filter(|word| line.contains(*word))
                    .map(|word| format!("{at}: `{word}` in a pure module")),
            );
        }
        if !path.starts_with("tests/") {
            broken.extend(
                NOWHERE
                    .iter()
                    .filter(|(word, _)| line.contains(word))
                    .map(|(word, instead)| format!("{at}: `{word}`: {instead}")),
            );
        }
        if let Some(stage) = later_stage(path, line) {
            broken.push(format!(
                "{at}: names `{stage}`, which is a later stage of the connection (or its sibling)"
            ));
        }
    }
    broken
}

/// The stage named by `line` that the stage of `path` may not know.
fn later_stage(path: &str, line: &str) -> Option<&'static str> {
    let module = path.strip_prefix("proxy/src/")?.split(['/', '.']).next()?;
    let own = STAGES.iter().position(|stages| stages.contains(&module))?;
    if let Some(words) = line.trim().strip_prefix("use crate::identity::") {
        let mut words = words
            .trim_matches(['{', '}', ';'])
            .split(',')
            .map(|word| word.trim().trim_end_matches('}'));
        if words.all(|word| WORDS_OF_IDENTITY.contains(&word)) {
            return None;
        }
    }
    let named = |stage: &str| {
        line.contains(&format!("crate::{stage}::"))
            || line.contains(&format!("use crate::{stage};"))
    };
    STAGES[own..]
        .iter()
        .copied()
        .flatten()
        .find(|stage| **stage != module && (module, **stage) != HANDS_OVER && named(stage))
        .copied()
}

/// True when `word` stands in `line` as a crate or keyword: `word::`, `use word`, `word {`.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = &line[start + word.len()..];
        let bounded = !before.is_some_and(|c| c.is_alphanumeric() || "_:\"'-.".contains(c));
        bounded
            && (after.starts_with("::")
                || after.starts_with(';')
                || after.starts_with(" {")
                || after.starts_with(" fn")
                || after.starts_with(" impl"))
    })
}

/// The text without comment lines and without what follows the tests' `#[cfg(test)]`; line numbers stay.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let tests_follow = line == "#[cfg(test)]"
            && lines
                .clone()
                .take(8)
                .any(|next| next.starts_with("mod ") && next.ends_with('{'));
        if tests_follow {
            break;
        }
        let line = line.trim_start();
        code.push_str(if line.starts_with("//") { "" } else { line });
        code.push('\n');
    }
    code
}

/// Every Rust file of the project, by its path in the clone.
fn sources(root: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = [
        "proxy/src",
        "proxy-common/src",
        "proxy-ebpf/src",
        "tests/src",
        "tests/history/src",
        "xtask/src",
    ]
    .iter()
    .map(|dir| root.join(dir))
    .collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test_file(&path) {
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                // The rules quote the words they forbid.
                if name != "xtask/src/tidy.rs" {
                    found.push((name, fs::read_to_string(&path)?));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Modules that exist in tests alone.
const TEST_MODULES: &[&str] = &["proxy/src/model"];

/// A sibling file of tests: `tests.rs`, `x_tests.rs`, or in a module's `tests` folder.
fn is_test_file(path: &Path) -> bool {
    let in_test_module = path
        .parent()
        .is_some_and(|folder| TEST_MODULES.iter().any(|module| folder.ends_with(module)));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let in_tests_folder = path
        .parent()
        .is_some_and(|folder| folder.ends_with("tests"));
    stem == "tests" || stem.ends_with("_tests") || in_tests_folder || in_test_module
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_clone_keeps_the_house_rules() {
        run().expect("the rules hold");
    }

    #[test]
    fn a_crate_named_outside_its_home_is_found() {
        assert_eq!(
            check_file("proxy/src/policy/mod.rs", "use redb::Database;\n").len(),
            1
        );
        assert!(check_file("proxy/src/cache/store.rs", "use redb::Database;\n").is_empty());
    }

    #[test]
    fn a_later_stage_or_the_sibling_may_not_be_named() {
        assert_eq!(
            later_stage("proxy/src/tls/mod.rs", "use crate::cache::Cache;"),
            Some("cache")
        );
        assert_eq!(
            later_stage("proxy/src/upstream/mod.rs", "use crate::cache::Cache;"),
            Some("cache")
        );
        assert_eq!(
            later_stage(
                "proxy/src/cache/mod.rs",
                "use crate::request_info::RequestInfo;"
            ),
            None
        );
    }

    #[test]
    fn comments_and_tests_are_not_code() {
        let code =
            code_of("// use redb::X\nfn a() {}\n#[cfg(test)]\nmod tests {\n    use redb::Y;\n}\n");
        assert_eq!(code, "\nfn a() {}\n");
    }

    #[test]
    fn a_word_inside_another_word_is_not_that_word() {
        assert!(!names("let x = my_redb::open();", "redb"));
        assert!(names("redb::Database::open()", "redb"));
        assert!(names("unsafe { x }", "unsafe"));
    }
}

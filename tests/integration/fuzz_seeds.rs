//! Every fuzz target's body over its seeds, on the stable toolchain.

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library where it is fuzzed")]
mod bodies;

use std::path::Path;

type Body = fn(&[u8]);

const TARGETS: &[(&str, Body)] = &[
    ("watch_json", bodies::watch_json),
    ("watch_protobuf", bodies::watch_protobuf),
    ("list_json", bodies::list_json),
    ("list_protobuf", bodies::list_protobuf),
    ("metadata", bodies::metadata),
    ("row", bodies::row),
    ("yaml", bodies::yaml),
    ("transcode", bodies::transcode),
    ("client_hello", bodies::client_hello),
    ("request_info", bodies::request_info),
    ("accept", bodies::accept),
    ("selectors", bodies::selectors),
    ("fields", bodies::fields),
    ("jwt", bodies::jwt),
    ("jwks", bodies::jwks),
];

#[test]
fn every_fuzz_target_passes_its_seeds_whole_and_cut_short() -> anyhow::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, body) in TARGETS {
        let mut seeds = 0;
        for seed in std::fs::read_dir(corpus.join(target))? {
            let seed = std::fs::read(seed?.path())?;
            for end in 0..=seed.len() {
                body(&seed[..end]);
            }
            seeds += 1;
        }
        anyhow::ensure!(seeds > 0, "{target} has no seeds");
    }
    Ok(())
}

#[test]
fn the_seed_token_of_the_jwt_target_is_valid() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/jwt/valid");
    let account = bodies::service_account_of(&std::fs::read(path)?);
    anyhow::ensure!(account.as_deref() == Some("a/reader"), "{account:?}");
    Ok(())
}

//! The fuzz targets' seeds: made from the cases in `mistakes.rs`, checked in, and run here.
//!
//! A seed is a byte that chooses the behavior (see the targets) and a conversation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::mistakes::{Case, to_application, to_web_server};

// What the targets run, without libFuzzer; public in their own crate.
#[allow(unreachable_pub)]
#[path = "../../../../fuzz/src/client_connection.rs"]
mod client_connection;
#[allow(unreachable_pub)]
#[path = "../../../../fuzz/src/server_connection.rs"]
mod server_connection;

/// Set it to write the seeds.
const WRITE: &str = "WRITE_SEEDS";

/// Pieces of 37 bytes, the largest there are.
const MOOD: u8 = 36;

/// A target by name, what it runs, and its seeds by name.
type Target = (&'static str, fn(&[u8]), BTreeMap<String, Vec<u8>>);

fn targets() -> [Target; 2] {
    [
        ("server_connection", server_connection::run, seeds(to_application())),
        ("client_connection", client_connection::run, seeds(to_web_server())),
    ]
}

fn seeds(cases: Vec<Case>) -> BTreeMap<String, Vec<u8>> {
    let count = cases.len();
    let seeds: BTreeMap<_, _> = cases
        .into_iter()
        .map(|Case { mistake, case, wire, .. }| {
            let name = format!("{mistake}: {case}").replace(' ', "-");
            (name.replace([',', ':', '\''], ""), [&[MOOD], &wire.bytes[..]].concat())
        })
        .collect();
    assert_eq!(seeds.len(), count, "two seeds have one name");
    seeds
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../fuzz/seeds", target].iter().collect()
}

/// The seeds that are checked in.
fn checked_in(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder(target)).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect()
}

#[test]
fn every_case_is_a_seed_and_every_seed_a_case() {
    for (target, _, seeds) in targets() {
        if std::env::var_os(WRITE).is_some() {
            let _ = std::fs::remove_dir_all(folder(target));
            std::fs::create_dir_all(folder(target)).unwrap();
            for (name, seed) in &seeds {
                std::fs::write(folder(target).join(name), seed).unwrap();
            }
        }
        let names = |seeds: &BTreeMap<String, Vec<u8>>| seeds.keys().cloned().collect::<Vec<_>>();
        let files = checked_in(target);
        assert_eq!(names(&files), names(&seeds), "{target}: {WRITE}=1 writes them");
        for (name, seed) in &seeds {
            assert!(files[name] == *seed, "{target}/{name} is not the case: {WRITE}=1 writes it");
        }
    }
}

#[test]
fn the_targets_survive_every_seed_in_many_moods() {
    for (target, run, _) in targets() {
        for (name, mut seed) in checked_in(target) {
            // A failure inside says where, but not for which seed.
            println!("{target}/{name}");
            // Long ones with 16 behaviors, which takes as long as all others together.
            for mood in (0..=255).step_by(if seed.len() > 50_000 { 17 } else { 1 }) {
                seed[0] = mood;
                run(&seed);
            }
        }
    }
}

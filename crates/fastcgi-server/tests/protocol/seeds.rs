//! The fuzz targets' seeds: made from the cases in `mistakes.rs`, checked in, and run here, unchanged and
//! with random changes. This does not replace cargo-fuzz, which sees what an input reaches; it keeps the
//! targets working on a stable compiler, and finds what lies near the seeds.
//!
//! A seed is a byte that selects the behavior (see the targets) and a conversation.

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

/// Pieces of 37 bytes, the largest possible.
const BEHAVIOR: u8 = 36;

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
            (name.replace([',', ':', '\''], ""), [&[BEHAVIOR], &wire.bytes[..]].concat())
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
            assert!(
                files[name] == *seed,
                "{target}/{name} differs from its case: {WRITE}=1 writes it"
            );
        }
    }
}

#[test]
fn the_targets_survive_every_seed_with_many_behaviors() {
    for (target, run, _) in targets() {
        for (name, mut seed) in checked_in(target) {
            // A panic inside says where, but not for which seed.
            println!("{target}/{name}");
            // Long ones with 16 behaviors, which takes as long as all others together.
            for behavior in (0..=255).step_by(if seed.len() > 50_000 { 17 } else { 1 }) {
                seed[0] = behavior;
                run(&seed);
            }
        }
    }
}

/// How many changed seeds a target gets: some seconds' worth. With `tests/run --long` a hundred times as many.
const CHANGED: u32 = 20_000;

#[test]
fn the_targets_survive_seeds_changed_at_random() {
    let long = std::env::var_os("TOOLSHED_TESTS_LONG").is_some_and(|value| !value.is_empty());
    let inputs = if long { CHANGED * 100 } else { CHANGED };
    for (target, run, _) in targets() {
        // The two seeds of more than 50,000 bytes would take as long as all others together.
        let seeds = checked_in(target).into_values().filter(|seed| seed.len() < 50_000);
        let seeds: Vec<_> = seeds.collect();
        for number in 0..inputs {
            let input = changed(&seeds, &mut Random(u64::from(number)));
            if std::panic::catch_unwind(|| run(&input)).is_err() {
                panic!("{target}, input {number}: {input:?}");
            }
        }
    }
}

/// A seed with a few changes of the kind that a parser trips over.
fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(input.len());
        match random.below(6) {
            0 => input[at] ^= 1 << random.below(8),
            1 => input[at] = [0, 1, 4, 8, 127, 128, 255][random.below(7)],
            2 => input.truncate(at.max(1)),
            3 => drop(input.drain(at.max(1)..input.len().min(at + 1 + random.below(16)).max(1))),
            4 => input.insert(at, input[random.below(input.len())]),
            _ => {
                let other = &seeds[random.below(seeds.len())];
                input.extend_from_slice(&other[random.below(other.len())..]);
            }
        }
    }
    input
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

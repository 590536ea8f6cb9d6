//! Every dependency builds with the Rust version that Cargo.toml promises (`rust-version`), according to its manifest.
//!
//! Nothing is built with that version: the tests need no second compiler. The lint `incompatible_msrv` checks that our
//! own code needs no newer standard library; newer syntax would be missed.

use serde_json::Value;

use crate::packages;

#[test]
fn no_dependency_needs_a_newer_rust_than_is_promised() {
    let packages = packages(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let promised = packages.iter().find(|package| package["name"] == "toolshed").unwrap();
    let promised = version(promised).expect("toolshed has a rust-version");
    let mut newer = Vec::new();
    for package in &packages {
        if version(package).is_some_and(|version| version > promised) {
            newer.push(format!("{} {}", package["name"], package["version"]));
        }
    }
    assert_eq!(newer, [""; 0], "need a newer Rust than {promised:?}");
}

/// The oldest Rust that a package says it builds with.
fn version(package: &Value) -> Option<(u32, u32)> {
    let mut numbers =
        package["rust_version"].as_str()?.split('.').map(|part| part.parse().unwrap());
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

//! Every dependency builds with the Rust version that Cargo.toml promises (`rust-version`), by its own word.
//!
//! There is no compiler of that version here. That our own code needs no younger standard library is checked by the
//! lint `incompatible_msrv`, together with this as much as can be known without one; younger syntax would be missed.

use serde_json::Value;

use crate::packages;

#[test]
fn no_dependency_needs_a_younger_rust_than_is_promised() {
    let packages = packages(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let promised = packages.iter().find(|package| package["name"] == "toolshed").unwrap();
    let promised = version(promised).expect("toolshed has a rust-version");
    let mut younger = Vec::new();
    for package in &packages {
        if version(package).is_some_and(|version| version > promised) {
            younger.push(format!("{} {}", package["name"], package["version"]));
        }
    }
    assert_eq!(younger, [""; 0], "need a younger Rust than {promised:?}");
}

/// The oldest Rust that a package says it builds with.
fn version(package: &Value) -> Option<(u32, u32)> {
    let mut numbers =
        package["rust_version"].as_str()?.split('.').map(|part| part.parse().unwrap());
    Some((numbers.next()?, numbers.next().unwrap_or(0)))
}

//! What the compiler does not check of the project's structure: `cycles.rs`, that the files of a crate can be read
//! one by one; `crates.rs`, that docs/architecture.md names the crates' real dependencies; `dependencies.rs`, that
//! these say they build with the oldest Rust promised; `docs.rs`, that the files named in the documentation exist;
//! `messages.rs`, that log messages start with fixed words; `packages.rs`, that what is published can be.
//!
//! Nothing is built or run here but `cargo metadata` and `cargo package`, so it takes some seconds; `tests/run --long`
//! also compiles the packages.

// clippy sees tests only in functions marked as such; here even the helpers are nothing else.
#![allow(clippy::unwrap_used)]

mod crates;
mod cycles;
mod dependencies;
mod docs;
mod imports;
mod messages;
mod packages;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The project's folder.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The files in a folder of the project and below, without build output.
fn files_below(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(project().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == "target" => {}
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// The packages that `cargo metadata` lists with these arguments.
fn packages(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(arguments)
        .current_dir(project())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("no list of packages: {other}"),
    }
}

/// The name of a package, or of a dependency.
fn name_of(package: &Value) -> String {
    package["name"].as_str().unwrap().to_owned()
}

/// The lines of the block of a page that begins with "```text" and this name.
fn block(page: &str, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project().join(page)).unwrap();
    let begin = format!("```text {name}");
    let lines = text.lines().skip_while(|line| *line != begin);
    let lines: Vec<_> =
        lines.skip(1).take_while(|line| *line != "```").map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{page} has no block that begins with {begin}");
    lines
}

#[test]
fn no_file_is_forgotten() {
    for entry in std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else {
            continue;
        };
        assert!(include_str!("main.rs").contains(&format!("\nmod {module};\n")), "{name}");
    }
}

//! What the compiler says to who makes one of the usual mistakes is what the file with the mistake expects, so that it
//! starts with the cure.

// clippy sees tests only in functions marked as such; here even the helpers are nothing else.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn each_mistake_gets_the_cure_that_it_expects() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = said(folder);
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder.join("src")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if matches!(name.as_str(), "lib.rs" | "parts.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let expected: Vec<_> = text.lines().map_while(|line| line.strip_prefix("//! ")).collect();
        assert!(expected.first().is_some_and(|line| line.starts_with("error: ")), "{name}");
        let said = said.get(&name).map(Vec::as_slice).unwrap_or_default();
        for line in expected {
            if !said.iter().any(|said| said == line) {
                wrong.push(format!(
                    "{name}\n  expects  {line}\n  said     {}",
                    said.join("\n           ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first error in each file: its message, label and notes, each with its kind.
fn said(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo has told this test of its own package. ring's build script looks at it: ring, and all above it, would be
    // compiled here and again in the next build.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["check", "--package", "mistakes", "--lib", "--features", "mistakes"])
        .args(["--locked", "--message-format", "json"])
        .current_dir(folder)
        .output()
        .unwrap();
    let mut said = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let error = &line["message"];
        if line["reason"] != "compiler-message" || error["level"] != "error" {
            continue;
        }
        let spans = error["spans"].as_array().unwrap();
        let Some(place) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        let file = Path::new(place["file_name"].as_str().unwrap());
        let mut lines = vec![
            format!("error: {}", error["message"].as_str().unwrap()),
            format!("label: {}", place["label"].as_str().unwrap_or_default()),
        ];
        for child in error["children"].as_array().unwrap() {
            lines.push(format!(
                "{}: {}",
                child["level"].as_str().unwrap(),
                child["message"].as_str().unwrap()
            ));
        }
        said.entry(file.file_name().unwrap().to_str().unwrap().to_owned()).or_insert(lines);
    }
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

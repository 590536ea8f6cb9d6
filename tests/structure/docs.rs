//! The files that the documentation names exist.

use std::fs;

use crate::{files_below, project};

/// Pages that name files of the source, in backticks.
const PAGES: &[&str] = &[
    "docs/life-of-a-request.md",
    "docs/architecture.md",
    "docs/adding-a-tool.md",
    "CONTRIBUTING.md",
];

#[test]
fn every_file_that_is_named_exists() {
    let folders = ["crates", "tests", "docs", "fuzz/src"];
    let files: Vec<String> =
        folders.into_iter().flat_map(files_below).map(|file| format!("/{file}")).collect();
    let mut missing = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(project().join(page)).unwrap();
        let named = text.split('`').skip(1).step_by(2).filter(|code| code.ends_with(".rs"));
        for name in named.filter(|name| !name.contains(char::is_whitespace)) {
            // `commands/serve.rs` and `toolshed/main.rs` are enough where there is only one.
            let end = format!("/{name}");
            let is_file =
                |file: &String| file.ends_with(&end) || file.replace("/src/", "/").ends_with(&end);
            if !files.iter().any(is_file) {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

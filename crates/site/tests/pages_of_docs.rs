//! Checks pages of docs/: headers.md lists the headers that are sent, and the tests that pages name exist.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use site::testing::get;

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn page() -> String {
    fs::read_to_string(project().join("docs/headers.md")).expect("the page")
}

#[test]
fn the_headers_of_the_page_are_those_that_are_sent() {
    let (site, page) = (site::router(&[]), page());
    let blocks: Vec<_> = page.split("```text\n").skip(1).collect();
    for (block, path) in blocks.iter().zip(["/healthz", "/"]) {
        let response = get(&site, path);
        let (lines, _) = block.split_once("```").expect("it ends");
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            assert_eq!(response.header(name), Some(value), "{path}: {name}");
        }
    }
    assert_eq!(blocks.len(), 2);
}

/// Test names are sentences; most settings have two words, and these have more.
const NO_TESTS: [&str; 1] = ["requests_per_connection"];

#[test]
fn every_test_that_a_page_names_exists() {
    let tests = names_of_tests();
    for (page, min) in [("security", 40), ("headers", 30), ("fastcgi-support", 10)] {
        let file = project().join(format!("docs/{page}.md"));
        let page_text = fs::read_to_string(file).expect("the page");
        // Drop code blocks: only inline code names tests.
        let text: String = page_text.split("```").step_by(2).collect();
        let of_names =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_test = |name: &&str| {
            name.bytes().all(of_names) && name.matches('_').count() >= 2 && !NO_TESTS.contains(name)
        };
        let names: Vec<_> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
        assert!(names.len() >= min, "{page}: {names:?}");
        for name in names {
            assert!(tests.contains(name), "{page}: there is no test {name}");
        }
    }
}

/// The names of all tests, in the crates and the end-to-end tests.
fn names_of_tests() -> HashSet<String> {
    let mut names = HashSet::new();
    let mut folders = vec![project().join("crates"), project().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let source = fs::read_to_string(&path).expect("a source");
                let after = source.split("#[test]").skip(1).map(str::trim_start);
                let function = after.filter_map(|rest| rest.strip_prefix("fn "));
                names.extend(function.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
            }
        }
    }
    names
}

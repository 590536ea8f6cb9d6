//! docs/headers.md is true: the headers in it are those that are sent, and the tests it names are there.

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
        let answer = get(&site, path);
        let (lines, _) = block.split_once("```").expect("it ends");
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").expect("a header");
            assert_eq!(answer.header(name), Some(value), "{path}: {name}");
        }
    }
    assert_eq!(blocks.len(), 2);
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let mut sources = String::new();
    let mut folders = vec![project().join("crates"), project().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources += &fs::read_to_string(&path).expect("a source");
            }
        }
    }
    let page = page();
    // Names of tests are sentences; settings have two words.
    let of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_test = |name: &&str| name.bytes().all(of_names) && name.matches('_').count() >= 2;
    // What is between lines of code is no inline code.
    let text = page.split("```").step_by(2).collect::<String>();
    let names: Vec<_> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(sources.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}

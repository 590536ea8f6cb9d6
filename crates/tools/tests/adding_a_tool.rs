//! Checks docs/adding-a-tool.md: its tool is compiled and tested here exactly as on the page, and its lines for the
//! table are the real table's with one more tool.

use std::fs;
use std::path::Path;

mod reverse;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first code block in the page after these words.
fn block_after(words: &str) -> String {
    let page = read("../../docs/adding-a-tool.md");
    let (_, rest) = page.split_once(words).unwrap_or_else(|| panic!("{words} is not in the page"));
    let (_, rest) = rest.split_once("```").expect("a block begins");
    let (_, rest) = rest.split_once('\n').expect("its first line");
    rest.split_once("```").expect("it ends").0.to_owned()
}

#[test]
fn the_files_of_the_page_are_those_that_are_tested_here() {
    for file in ["logic.rs", "mod.rs", "page.html", "tests.rs"] {
        let found = read(&format!("tests/reverse/{file}"));
        assert_eq!(block_after(&format!("**`{file}`**")), found, "tests/reverse/{file}");
    }
}

#[test]
fn the_icon_of_the_page_can_be_referred_to() {
    let icon = block_after("## 2. The icon");
    assert!(icon.contains("id=\"icon\"") && icon.contains("currentColor"), "{icon}");
}

/// Copying the lines of the page must not lose a tool.
#[test]
fn the_lines_of_the_page_are_those_of_the_table_and_one_tool_more() {
    let (page, table) = (block_after("## 3. The line"), read("src/table.rs"));
    for (begin, end, more) in
        [("use crate::{", "};", "reverse"), ("pub const TABLE: &[Tool] =", "];", "reverse::TOOL")]
    {
        let names = |text: &str| -> Vec<String> {
            let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
            let (list, _) = rest.split_once(end).expect("it ends");
            let names = list.trim().trim_start_matches("&[").split(',').map(str::trim);
            names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let (mut with_one_more, there) = (names(&page), names(&table));
        assert!(with_one_more.iter().any(|name| name == more), "{with_one_more:?}");
        with_one_more.retain(|name| name != more);
        assert_eq!(with_one_more, there, "{begin}");
    }
}

//! The crate is built in floors: a file imports its own floor and those below it, never one above.
//!
//! `src/lib.rs` describes the floors; this keeps them.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up, by the first part of a module's path.
const FLOORS: [&[&str]; 7] = [
    &["crashes", "expiry", "password", "random", "server", "tool", "words"],
    &["http"],
    &["pages"],
    &["login"],
    &["middleware", "settings", "testing"],
    &["router"],
    &["around"],
];

#[test]
fn no_file_imports_a_floor_above_its_own() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut count = 0;
    for file in files_below(&source) {
        let name = file.strip_prefix(&source).expect("a file below src").with_extension("");
        let own = name.iter().next().and_then(|part| part.to_str()).expect("a name");
        if own == "lib" || name.iter().any(|part| part == "tests") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source file");
        // Written so, a path to another floor would not be seen below.
        let to_the_root = "super::".repeat(name.iter().count());
        assert!(!shipped(&source).contains(&to_the_root), "{}: write crate::", file.display());
        for imported in imports(&source) {
            let (own, imported) = (floor_of(own), (floor_of(&imported), imported));
            assert!(imported.0 <= own, "{} imports crate::{}", file.display(), imported.1);
            count += 1;
        }
    }
    assert!(count > 100, "{count} imports were found");
}

fn floor_of(module: &str) -> usize {
    let floor = FLOORS.iter().position(|floor| floor.contains(&module));
    floor.unwrap_or_else(|| panic!("{module} is on no floor; import from the module itself"))
}

/// Returns the first parts of the paths that begin with `crate::`, in code that ships.
fn imports(source: &str) -> Vec<String> {
    let code = shipped(source);
    let paths = code.split("crate::").skip(1);
    let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    paths.map(|path| path.chars().take_while(|letter| is_of_a_name(*letter)).collect()).collect()
}

/// The code that ships, without comments and line ends.
fn shipped(source: &str) -> String {
    let shipped = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    shipped.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

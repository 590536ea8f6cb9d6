//! No file of a crate imports another that imports it, directly or by way of others: then each can be read alone,
//! after those it imports.
//!
//! What counts as an import is in `imports.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{File, imports};
use crate::project;

/// Files of a crate that are still in circles. A crate that is not listed has none. Only ever lower a number, and
/// remove the line at zero.
const STILL_IN_CIRCLES: &[(&str, usize)] = &[];

#[test]
fn no_file_imports_what_imports_it() {
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(project().join("crates")).unwrap() {
        let folder = entry.unwrap();
        let name = folder.file_name().into_string().unwrap();
        let circles = circles(&imports(&folder.path().join("src")));
        let found: usize = circles.iter().map(BTreeSet::len).sum();
        let allowed = STILL_IN_CIRCLES.iter().find(|(allowed, _)| *allowed == name);
        let allowed = allowed.map_or(0, |(_, count)| *count);
        if found != allowed {
            wrong.push(format!(
                "{name}: {found} files in circles, allowed are {allowed}: {circles:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The largest groups of files each of which reaches all others of its group.
fn circles(imports: &BTreeMap<File, BTreeSet<File>>) -> Vec<BTreeSet<File>> {
    let reached: BTreeMap<_, _> =
        imports.keys().map(|file| (file, reached(imports, file))).collect();
    let mut circles: Vec<BTreeSet<File>> = Vec::new();
    for (&file, reached_from) in &reached {
        let is_mutual = |other: &&File| reached[*other].contains(file);
        let circle: BTreeSet<_> = reached_from.iter().filter(is_mutual).cloned().collect();
        if !circle.is_empty() && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

/// The files that a file imports, and those that these import, and so on.
fn reached(imports: &BTreeMap<File, BTreeSet<File>>, from: &File) -> BTreeSet<File> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = imports[from].iter().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file.clone()) {
            next.extend(&imports[file]);
        }
    }
    reached
}

#[test]
fn circles_are_found() {
    let arrows = |text: &str| -> BTreeMap<File, BTreeSet<File>> {
        let mut arrows = BTreeMap::new();
        for arrow in text.split_whitespace() {
            let (from, to) = arrow.split_once('>').unwrap();
            let [from, to] = [from, to].map(|name| vec![name.to_owned()]);
            arrows.entry(to.clone()).or_insert_with(BTreeSet::new);
            arrows.entry(from).or_insert_with(BTreeSet::new).insert(to);
        }
        arrows
    };
    for (text, sizes) in [
        ("a>b b>c a>c", &[] as &[usize]),
        ("a>b b>a", &[2]),
        ("a>b b>c c>a c>d", &[3]),
        ("a>b b>a c>d d>c a>c", &[2, 2]),
        ("a>b b>a b>c c>b", &[3]),
    ] {
        let found: Vec<_> = circles(&arrows(text)).iter().map(BTreeSet::len).collect();
        assert_eq!(found, sizes, "{text}");
    }
}

//! No file of a crate imports another that imports it, directly or through others: then each can be read alone,
//! after those it imports. Nor does a room, so that rooms have an order, too.
//!
//! What counts as an import is in `imports.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::crates::picture;
use crate::imports::{File, imports};
use crate::project;

#[test]
fn no_file_imports_what_imports_it() {
    let cycles = cycles_of_crates(|imports| imports);
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

/// A room is a module of the crate's root with all that is in it, a folder or a single file.
#[test]
fn no_room_imports_what_imports_it() {
    let cycles = cycles_of_crates(|imports| rooms(&imports));
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

/// docs/architecture.md lists the rooms of app-server from the top down.
#[test]
fn rooms_import_only_those_on_lines_below_in_the_picture() {
    let rooms = rooms(&imports(&project().join("crates/app-server/src")));
    let picture = picture("rooms");
    let line = |room: &File| {
        let names = |line: &String| line.split_whitespace().any(|name| name == room[0]);
        picture.iter().position(names).unwrap_or_else(|| panic!("{room:?} is not in the picture"))
    };
    let named: usize = picture.iter().map(|line| line.split_whitespace().count()).sum();
    assert_eq!(named, rooms.len(), "the picture names a room that is not there, or one twice");
    for (room, imported) in &rooms {
        for other in imported {
            assert!(line(other) > line(room), "{room:?} imports {other:?}, which is not below it");
        }
    }
}

/// One line for each crate with cycles.
fn cycles_of_crates(
    view: impl Fn(BTreeMap<File, BTreeSet<File>>) -> BTreeMap<File, BTreeSet<File>>,
) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(project().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let cycles = cycles(&view(imports(&folder.join("src"))));
        if !cycles.is_empty() {
            found.push(format!("{}: {cycles:?}", folder.display()));
        }
    }
    found
}

/// What each room imports of other rooms.
fn rooms(imports: &BTreeMap<File, BTreeSet<File>>) -> BTreeMap<File, BTreeSet<File>> {
    let mut rooms = BTreeMap::<File, BTreeSet<File>>::new();
    for (file, imported) in imports {
        let room = &file[..1];
        let others = imported.iter().map(|file| file[..1].to_vec()).filter(|other| other != room);
        rooms.entry(room.to_vec()).or_default().extend(others);
    }
    rooms
}

/// The largest groups of files each of which reaches all others of its group.
fn cycles(imports: &BTreeMap<File, BTreeSet<File>>) -> Vec<BTreeSet<File>> {
    let reached: BTreeMap<_, _> =
        imports.keys().map(|file| (file, reached(imports, file))).collect();
    let mut cycles: Vec<BTreeSet<File>> = Vec::new();
    for (&file, reached_from) in &reached {
        let is_mutual = |other: &&File| reached[*other].contains(file);
        let cycle: BTreeSet<_> = reached_from.iter().filter(is_mutual).cloned().collect();
        if !cycle.is_empty() && !cycles.contains(&cycle) {
            cycles.push(cycle);
        }
    }
    cycles
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
fn cycles_are_found() {
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
        let found: Vec<_> = cycles(&arrows(text)).iter().map(BTreeSet::len).collect();
        assert_eq!(found, sizes, "{text}");
    }
}

#[test]
fn rooms_are_modules_of_the_root() {
    let file = |name: &str| -> File { name.split('/').map(str::to_owned).collect() };
    let arrows = [("a", "a/x"), ("a/x", "b"), ("b", "c/y"), ("c", "a"), ("c/y", "d")];
    let mut imports = BTreeMap::<File, BTreeSet<File>>::new();
    for (from, to) in arrows {
        imports.entry(file(from)).or_default().insert(file(to));
        imports.entry(file(to)).or_default();
    }
    assert_eq!(cycles(&imports), []);
    let rooms = rooms(&imports);
    assert_eq!(rooms[&file("a")], BTreeSet::from([file("b")]));
    assert_eq!(cycles(&rooms), [BTreeSet::from(["a", "b", "c"].map(file))]);
}

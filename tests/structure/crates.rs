//! The picture of the crates in docs/architecture.md names every dependency of one on another, and no other.
//!
//! A line is `crate → those it uses`, an optional one with `?`. Arrows lead down: what is used is a later line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{block, name_of, packages, project};

/// Crates and the crates they use, those that are optional with a question mark.
type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_arrow_in_the_picture_is_a_dependency_and_every_dependency_an_arrow() {
    assert_eq!(in_the_picture(&crates()), in_the_manifests());
}

#[test]
fn arrows_lead_down() {
    let picture = crates();
    let order: Vec<_> = picture.iter().map(|(name, _)| name.as_str()).collect();
    let line_of = |name: &str| order.iter().position(|line| *line == name.trim_end_matches('?'));
    for (name, uses) in &picture {
        for used in uses {
            assert!(
                line_of(used) > line_of(name),
                "{used}, which {name} uses, has no line below it"
            );
        }
    }
}

/// The lines of a picture in docs/architecture.md.
pub(crate) fn picture(name: &str) -> Vec<String> {
    block("docs/architecture.md", name)
}

/// The crates of the picture, each with the ones it uses.
fn crates() -> Vec<(String, Vec<String>)> {
    let parse = |line: &str| {
        let (name, uses) = line.split_once('→').unwrap_or((line, ""));
        let uses = uses.split(',').map(str::trim).filter(|name| !name.is_empty());
        (name.trim().to_owned(), uses.map(str::to_owned).collect())
    };
    picture("crates").iter().map(|line| parse(line)).collect()
}

fn in_the_picture(lines: &[(String, Vec<String>)]) -> Arrows {
    let arrows: Arrows =
        lines.iter().map(|(name, uses)| (name.clone(), uses.iter().cloned().collect())).collect();
    assert_eq!(arrows.len(), lines.len(), "a crate has two lines");
    arrows
}

fn in_the_manifests() -> Arrows {
    let folder = project().join("crates");
    let packages = packages(&["--no-deps", "--offline"]);
    let is_a_crate = |package: &&Value| {
        let manifest = package["manifest_path"].as_str().unwrap();
        manifest.starts_with(folder.to_str().unwrap())
    };
    packages.iter().filter(is_a_crate).map(|package| (name_of(package), uses(package))).collect()
}

/// The crates of this project that a package ships with.
fn uses(package: &Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().unwrap().iter();
    let ours = all.filter(|dependency| dependency["path"].is_string());
    let shipped = ours.filter(|dependency| dependency["kind"].is_null());
    shipped
        .map(|dependency| match dependency["optional"].as_bool() {
            Some(true) => name_of(dependency) + "?",
            _ => name_of(dependency),
        })
        .collect()
}

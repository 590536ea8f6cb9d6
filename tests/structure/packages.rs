//! What a registry would get: the list in docs/crates.md is what the manifests publish, each crate of it says what a
//! registry shows, ships with nothing that stays here, and can be packaged.
//!
//! With `TOOLSHED_TESTS_LONG` each package is compiled, too, from what is in it (three minutes on two cores).

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::{block, name_of, packages, project};

#[test]
fn the_list_is_what_the_manifests_publish() {
    let of_manifests: BTreeSet<_> = published().iter().map(name_of).collect();
    let list = list();
    assert_eq!(of_manifests, list.iter().cloned().collect());
    assert_eq!(of_manifests.len(), list.len(), "docs/crates.md lists a crate twice");
}

#[test]
fn a_published_crate_stands_below_those_that_use_it() {
    let list = list();
    let line_of = |name: &str| list.iter().position(|line| line == name);
    for package in published() {
        for used in ours(&package, |kind| kind != "dev") {
            assert!(
                line_of(&name_of(used)) > line_of(&name_of(&package)),
                "{} uses {}, which is not published or has no line below",
                package["name"],
                used["name"],
            );
        }
    }
}

#[test]
fn a_published_crate_says_what_a_registry_shows() {
    let mut missing = Vec::new();
    for package in published() {
        let mut check = |what, is_there: bool| {
            if !is_there {
                missing.push(format!("{}: {what}", package["name"]));
            }
        };
        // crates.io accepts no more than five of each.
        let has_some = |list: &str| (1..=5).contains(&package[list].as_array().map_or(0, Vec::len));
        check("description", package["description"].is_string());
        check("readme", package["readme"] == "README.md");
        check("license", package["license"].is_string());
        check("rust-version", package["rust_version"].is_string());
        check("1 to 5 keywords", has_some("keywords"));
        check("1 to 5 categories", has_some("categories"));
        check("docs.rs: all-features", package["metadata"]["docs"]["rs"]["all-features"] == true);
        check("docs.rs: targets", package["metadata"]["docs"]["rs"]["targets"].is_array());
        let folder = project().join("crates").join(name_of(&package));
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let root = read(root_of(&package));
        check(
            "the README's examples are compiled",
            match root_of(&package) {
                LIBRARY => root.contains("#[doc = include_str!(\"../README.md\")]"),
                // A program has no place where they would be.
                _ => {
                    read("README.md").split("```").skip(1).step_by(2).all(|it| it.starts_with("sh"))
                }
            },
        );
        check(
            "labels of features",
            package["features"].as_object().unwrap().is_empty()
                || root.contains("cfg_attr(docsrs, feature(doc_cfg))")
                || !root.contains("cfg(feature"),
        );
    }
    assert_eq!(missing, [""; 0]);
}

/// A crate for tests that had a version would be looked for in the registry by whoever builds the package.
#[test]
fn a_published_crate_names_a_version_of_published_crates_only() {
    let published: Vec<_> = published();
    let names: BTreeSet<_> = published.iter().map(name_of).collect();
    for package in &published {
        let own = format!("={}", package["version"].as_str().unwrap());
        for used in ours(package, |_| true) {
            let is_itself = used["name"] == package["name"];
            let expected = if names.contains(&name_of(used)) && !is_itself { &own } else { "*" };
            assert_eq!(used["req"], expected, "{} uses {}", package["name"], used["name"]);
        }
    }
}

#[test]
fn packages_are_whole() {
    let is_long = std::env::var_os("TOOLSHED_TESTS_LONG").is_some();
    // Another one each time: from a registry at a path that it knows, cargo compiles what it unpacked before.
    let target = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(env!("CARGO"));
    // What is packaged is what lies there, committed or not.
    command
        .args(["package", "--locked", "--allow-dirty", "--quiet", "--target-dir"])
        .arg(target.path());
    if !is_long {
        // What the registry would be asked is known since the workspace was built.
        command.args(["--no-verify", "--offline"]);
    }
    for name in list() {
        command.args(["--package", &name]);
    }
    let output = command.current_dir(project()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for package in published() {
        let name = name_of(&package);
        let file = format!("{name}-{}.crate", package["version"].as_str().unwrap());
        let listed =
            Command::new("tar").arg("-tzf").arg(target.path().join("package").join(&file)).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        for needed in [root_of(&package), "README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(listed.lines().any(|line| line.ends_with(needed)), "{file} has no {needed}");
        }
    }
}

const LIBRARY: &str = "src/lib.rs";

/// The file that a package's target is made of: a library, or else a program.
fn root_of(package: &Value) -> &'static str {
    let targets = package["targets"].as_array().unwrap();
    let is_library = targets.iter().any(|target| target["kind"][0] == "lib");
    if is_library { LIBRARY } else { "src/main.rs" }
}

/// The published crates, as `cargo metadata` describes them.
fn published() -> Vec<Value> {
    let mut packages = packages(&["--no-deps", "--offline"]);
    // `null` is "to any registry"; an empty list is `publish = false`.
    packages.retain(|package| package["publish"].is_null());
    packages
}

/// The names in docs/crates.md, those first that use the others.
fn list() -> Vec<String> {
    block("docs/crates.md", "published")
}

/// The crates of this project that a package depends on, by kind of dependency.
fn ours(package: &Value, of_kind: impl Fn(&str) -> bool) -> Vec<&Value> {
    let all = package["dependencies"].as_array().unwrap().iter();
    let ours = all.filter(|dependency| dependency["path"].is_string());
    ours.filter(|dependency| of_kind(dependency["kind"].as_str().unwrap_or("normal"))).collect()
}

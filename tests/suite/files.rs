//! Checks of the repository's files: a module that its parent does not declare would never run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use end_to_end::fixtures::project;

#[test]
fn every_file_is_a_module_of_the_suite() {
    check_modules(&project().join("tests/suite"), "main.rs");
}

/// Checks that `parent` declares all modules in its folder, and so on in folders below.
fn check_modules(folder: &Path, parent: &str) {
    let source = fs::read_to_string(folder.join(parent)).expect("the parent can be read");
    let declared: BTreeSet<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let below = folder.join(parent.trim_end_matches(".rs"));
    let folder = if parent == "main.rs" { folder } else { &below };
    let present: BTreeSet<_> = fs::read_dir(folder)
        .expect("the folder can be read")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .filter(|name| name != "main")
        .collect();
    assert_eq!(declared, present, "{}", folder.display());
    for module in present {
        if folder.join(&module).is_dir() {
            check_modules(folder, &format!("{module}.rs"));
        }
    }
}

#[test]
fn shell_scripts_have_unix_line_endings_and_the_right_mode() {
    use std::os::unix::fs::PermissionsExt;
    for (name, runs) in
        [("dispatch.fcgi", true), ("htaccess", false), ("tests/run", true), (".ci/run", true)]
    {
        let path = project().join(name);
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!text.contains(&b'\r'), "{name} has a carriage return");
        let mode = path.metadata().expect("it was just read").permissions().mode();
        assert_eq!(mode & 0o111 == 0o111, runs, "{name} has mode {mode:o}");
    }
}

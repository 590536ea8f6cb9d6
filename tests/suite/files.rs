//! No test file is forgotten: a module that `main.rs` does not name would never run.

use std::collections::BTreeSet;
use std::fs;

use end_to_end::fixtures::project;

#[test]
fn every_file_is_a_module_of_the_suite() {
    let folder = project().join("tests/suite");
    let main = fs::read_to_string(folder.join("main.rs")).expect("main.rs is there");
    let named: BTreeSet<_> = main
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .filter(|name| name != "main")
        .collect();
    assert_eq!(named, there);
}

#[test]
fn what_a_shell_reads_has_unix_line_ends_and_may_be_run() {
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

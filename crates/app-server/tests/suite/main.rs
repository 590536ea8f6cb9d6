//! The server with its real sockets, in the test's own event loop: server and client take turns on one
//! thread, so the order is deterministic. One file per subject.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod applications;
mod cgi;
mod client;
mod deadlines;
mod failed_handlers;
mod failures;
mod flow;
mod http_conformance;
mod overload;
mod responses;

/// No file in this folder is forgotten.
#[test]
fn every_file_is_in_the_list() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = format!("mod {};", name.trim_end_matches(".rs"));
        assert!(
            name == "main.rs" || include_str!("main.rs").contains(&module),
            "tests/suite/main.rs lacks `{module}`"
        );
    }
}

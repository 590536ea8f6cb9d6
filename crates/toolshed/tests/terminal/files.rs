//! Every file that the program creates is in its list of files, with the mode given there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use crate::login::{PASSWORD, log_in};
use crate::program::Installation;

// Its own tests run once more here.
#[allow(dead_code, reason = "the program uses the rest")]
#[path = "../../src/installation.rs"]
mod list;

#[test]
fn every_file_that_a_site_creates_is_listed_with_its_mode() {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    running.end();
    let (code, said) = installation.run(&["backup", "data/copy.db"], &[]);
    assert_eq!(code, 0, "{said}");
    fs::remove_file(installation.path().join("data/copy.db")).unwrap();

    let listed: BTreeMap<String, u32> =
        list::all().map(|(entry, path)| (path, entry.mode)).collect();
    let mut found = BTreeMap::new();
    modes(installation.path(), installation.path(), &mut found);
    for path in ["toolshed", "data/toolshed.db", "data/secret.key", "logs/toolshed.log"] {
        assert!(found.contains_key(path), "{path} was not created: {found:?}");
    }
    for (path, mode) in &found {
        // The files of the queue are numbered.
        let queue = hosted_login::entries::QUEUE.path(list::PROGRAM, "");
        let is_queued = path.strip_prefix(&format!("{queue}/"));
        if is_queued.is_some_and(|number| number.parse::<u32>().is_ok()) {
            assert_eq!(*mode, 0o600, "{path}");
        } else {
            assert_eq!(listed.get(path), Some(mode), "{path} has mode {mode:o}");
        }
    }
}

/// Returns the modes of everything in and below a folder, by path, without the web server's socket.
fn modes(root: &Path, folder: &Path, found: &mut BTreeMap<String, u32>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.file_type().is_socket() {
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        found.insert(name, metadata.permissions().mode() & 0o7777);
        if metadata.is_dir() {
            modes(root, &path, found);
        }
    }
}

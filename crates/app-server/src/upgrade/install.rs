//! Installs a version that has passed its check.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use atomic_file::Durability;

use crate::upgrade::watch::{Paths, Version};

/// Renames the arrived version into the program's place and keeps the previous one. The program exists at
/// every moment.
pub(crate) fn install(paths: &Paths) -> io::Result<()> {
    let (program, previous) = (&paths.program, paths.previous());
    let _ = fs::remove_file(&previous);
    let copy = || {
        let mut from = File::open(program)?;
        let mode = from.metadata()?.mode() & 0o7777;
        atomic_file::replace(&previous, mode, Durability::Cached, |file| {
            io::copy(&mut from, file).map(drop)
        })
    };
    // A hard link, or a copy where links are not allowed.
    if fs::hard_link(program, &previous).is_err()
        && let Err(error) = copy()
    {
        tracing::info!("Cannot keep the previous version: {error}.");
    }
    fs::rename(paths.of(Version::Arriving), program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_the_new_version_and_keeps_the_previous() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "one").unwrap();
        let paths = Paths { launcher: None, program, others: Vec::new() };
        for (new, old) in [("two", "one"), ("three", "two")] {
            fs::write(folder.path().join("program.new"), new).unwrap();
            install(&paths).unwrap();
            let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!((read("program").as_str(), read("program.previous").as_str()), (new, old));
            assert!(!folder.path().join("program.new").exists());
        }
    }
}

//! A version that has passed its check takes the program's place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use atomic_file::Durability;

use crate::upgrade::watch::{Paths, Version};

/// Lets what has arrived take the program's place, and keeps the version before. At no moment there is no
/// program.
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
    // A second name for the same file; where that is not allowed, a copy.
    if fs::hard_link(program, &previous).is_err()
        && let Err(error) = copy()
    {
        tracing::info!("The previous version was not kept: {error}.");
    }
    fs::rename(paths.of(Version::Arriving), program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_takes_the_place_and_the_previous_version_is_kept() {
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

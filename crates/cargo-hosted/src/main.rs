//! `cargo hosted new NAME`: begins an application of one's own that builds, passes its test and serves at once.
//!
//! `name.rs` says which names are possible, `files.rs` what is written, from `template/`.

#![forbid(unsafe_code)]

mod files;
mod name;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hosted::Program;
use hosted::report::{self, Failure};

/// Applications for shared hosting
#[derive(Debug, Parser)]
#[command(name = "cargo hosted", bin_name = "cargo hosted", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a new application into a folder of its own: a page, a form, rows in a store, a test.
    New {
        /// What it is called, and its folder: letters, digits, - and _.
        name: String,
    },
}

fn main() -> ExitCode {
    let program = Program { name: "cargo hosted", version: env!("CARGO_PKG_VERSION") };
    let flags = match Flags::try_parse_from(arguments()) {
        Ok(flags) => flags,
        Err(error) => return program.usage(&error),
    };
    let Command::New { name } = flags.command;
    program.exit_code(begin(&name, Path::new("")))
}

/// cargo passes its subcommand on as the first argument.
fn arguments() -> impl Iterator<Item = OsString> {
    let mut arguments = std::env::args_os().peekable();
    let program = arguments.next();
    arguments.next_if(|argument| argument == "hosted");
    program.into_iter().chain(arguments)
}

/// Writes the application into `folder`: all of it, or nothing.
fn begin(name: &str, folder: &Path) -> Result<(), Failure> {
    name::check(name).map_err(|why| Failure::wrong(why).hint("Nothing was written."))?;
    let target = folder.join(name);
    if fs::symlink_metadata(&target).is_ok() {
        return Err(is_taken(&target));
    }
    let unwritable = |error: io::Error| {
        Failure::refused(format!("{} cannot be written: {error}.", target.display()))
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Under another name until it is complete.
    let unfinished = tempfile::Builder::new()
        .prefix(&format!(".{name}-"))
        // As mkdir creates it, and as the umask says; otherwise it would be private.
        .permissions(fs::Permissions::from_mode(0o777))
        .tempdir_in(folder);
    let unfinished = unfinished.map_err(unwritable)?;
    files::write(name, hosted_here().as_deref(), unfinished.path()).map_err(unwritable)?;
    // On every file system: of what has appeared there meanwhile, this replaces an empty folder, and nothing else.
    match fs::rename(unfinished.path(), &target) {
        Ok(()) => drop(unfinished.keep()),
        Err(_) if fs::symlink_metadata(&target).is_ok() => return Err(is_taken(&target)),
        Err(error) => return Err(unwritable(error)),
    }
    report::print(&format!(
        "Written: {name}/\n\n\
         \x20 cd {name}\n\
         \x20 cargo run      # http://127.0.0.1:8080\n\
         \x20 cargo test\n\n\
         README.md says how to put it online.\n"
    ))
}

fn is_taken(target: &Path) -> Failure {
    Failure::wrong(format!("{} is there already.", target.display()))
        .hint("Choose another name, or remove it first. Nothing was written.")
}

/// Returns the folder of the crate `hosted` that this program was built with, if it is still there.
fn hosted_here() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("hosted");
    folder.join("Cargo.toml").is_file().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over_and_a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("my-app");
        fs::write(&there, "mine").unwrap();
        assert!(begin("my-app", folder.path()).is_err());
        assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
        assert!(begin("a/b", folder.path()).is_err());
        assert!(begin("other", &folder.path().join("nowhere")).is_err());
        std::os::unix::fs::symlink("nowhere", folder.path().join("link")).unwrap();
        assert!(begin("link", folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        begin("other", folder.path()).unwrap();
        fs::create_dir(folder.path().join("like-any")).unwrap();
        let mode = |name| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("other"), mode("like-any"));
    }
}

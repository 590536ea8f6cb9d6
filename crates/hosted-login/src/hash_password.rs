//! `hash-password`: prints the line for the settings file; the password is not shown.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use hosted::Program;
use hosted::report::{self, Failure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use site::Password;
use toml::de::DeTable;

use crate::settings::PASSWORD_HASH as KEY;

/// A file longer than this is not a settings file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the password and prints the line.
///
/// # Errors
///
/// Also if standard output is appended to a file that already has the setting: twice is not valid TOML.
pub(crate) fn run(program: Program) -> Result<(), Failure> {
    let output = file_of_output();
    let has_setting = output.as_deref().is_some_and(|text| {
        let (table, _) = DeTable::parse_recoverable(text);
        table.get_ref().contains_key(KEY)
    });
    if has_setting {
        return Err(Failure::wrong(format!(
            "The output file already sets {KEY}; a second one would make it invalid."
        ))
        .hint(format!("{} set-password replaces it.", program.name)));
    }
    let password = new_password()?;
    if let Some(words) = Password::weakness(&password) {
        // The warning is lost if standard error has no reader.
        let _ = writeln!(io::stderr(), "{}: {words} Hash created anyway.", program.name);
    }
    let hash = Password::make_hash(&password).map_err(Failure::refused)?;
    // A last line without a line end would continue with ours.
    let line_end = output.is_some_and(|text| !text.is_empty() && !text.ends_with('\n'));
    let line_end = if line_end { "\n" } else { "" };
    report::print(&format!("{line_end}{KEY} = \"{hash}\"\n"))
}

/// Returns the content of the file that standard output is appended to, if any: `>> app.toml`.
fn file_of_output() -> Option<String> {
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from).ok()?;
    let metadata =
        output.metadata().ok().filter(|it| it.is_file() && it.len() <= MAX_FILE_BYTES)?;
    if metadata.len() == 0 {
        return None;
    }
    // The descriptor itself is write-only.
    let number = io::stdout().as_fd().as_raw_fd();
    let mut text = Vec::new();
    let file = File::open(format!("/proc/self/fd/{number}")).ok()?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Asks for the password at the terminal, or reads it from standard input.
///
/// # Errors
///
/// If it is empty or longer than a login accepts, or was not typed the same way twice.
pub(crate) fn new_password() -> Result<String, Failure> {
    let password = if io::stdin().is_terminal() {
        let password = asked("Password: ")?;
        if asked("Repeat password: ")? != password {
            return Err(Failure::wrong("The passwords do not match."));
        }
        password
    } else {
        read_line()?
    };
    if password.is_empty() {
        return Err(Failure::wrong("An empty password would open the site to everybody."));
    }
    if password.len() > Password::MAX_BYTES {
        return Err(Failure::wrong(format!(
            "The password is longer than {} bytes.",
            Password::MAX_BYTES
        )));
    }
    Ok(password)
}

/// Asks at the terminal, which does not show what is typed.
fn asked(question: &str) -> Result<String, Failure> {
    let mut error = io::stderr();
    let asked = error.write_all(question.as_bytes()).and_then(|()| error.flush());
    asked.map_err(Failure::refused)?;
    let silence = Silence::begin();
    let line = read_line();
    drop(silence);
    // The line end that was typed did not show either.
    let _ = writeln!(error);
    line
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|error| Failure::refused(format!("The password cannot be read: {error}.")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// While it lives, the terminal does not show what is typed.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Silence(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // If that fails, the password is typed visibly.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &silent);
        Silence(Some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}

//! `toolshed hash-password`: the line for toolshed.toml, made of a password that is shown nowhere.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use site::Password;

use crate::report::{self, Failure};

/// The shortest password that is not warned about, in characters.
const SHORTEST: usize = 10;

/// Reads the password and prints the line.
pub(crate) fn run() -> Result<(), Failure> {
    let password = if io::stdin().is_terminal() {
        let password = asked("Password: ")?;
        if asked("Once more: ")? != password {
            return Err(Failure::wrong("The two are not the same."));
        }
        password
    } else {
        read_line()?
    };
    if password.is_empty() {
        return Err(Failure::wrong("An empty password would open the site to everybody."));
    }
    if password.chars().count() < SHORTEST {
        // Somebody who does not listen need not be warned.
        let _ = writeln!(
            io::stderr(),
            "toolshed: That is short; {SHORTEST} characters or more are better."
        );
    }
    let hash = Password::make_hash(&password).map_err(Failure::refused)?;
    report::print(&format!("password_hash = \"{hash}\"\n"))
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

/// While it lives the terminal shows nothing of what is typed.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Silence(None) };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // A terminal that cannot be silent is typed into all the same.
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

//! What a program is called: its messages, its files and its environment variables follow from it.

use std::fmt;
use std::path::Path;

/// The name and version of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name, of letters, digits, `-` and `_`: the file `NAME` and the settings in `NAME.toml`.
    pub name: &'static str,
    /// Its version, as `check` shows it; may be empty.
    pub version: &'static str,
}

impl Program {
    /// Returns the name of one of its environment variables: of `listen`, `NAME_LISTEN`.
    pub fn variable(self, setting: &str) -> String {
        format!("{}_{setting}", self.name.replace('-', "_")).to_ascii_uppercase()
    }
}

/// The name, and the version if there is one.
impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        match self.version {
            "" => Ok(()),
            version => write!(formatter, " {version}"),
        }
    }
}

impl Program {
    /// A program called what its file is called, without what upgrades append to that. Its version is not known.
    pub fn of_this_file() -> Program {
        Program { name: name_of_file().leak(), version: "" }
    }
}

/// Returns the name of the program's file, without what upgrades append to it, as a program's name.
fn name_of_file() -> String {
    let file = std::env::current_exe().ok();
    let name = file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    name_of(name.unwrap_or_default())
}

fn name_of(file: &str) -> String {
    // The kernel adds the first if the file was replaced meanwhile.
    let name = [" (deleted)", ".good", ".new", ".previous"]
        .into_iter()
        .fold(file, |name, suffix| name.strip_suffix(suffix).unwrap_or(name));
    let name: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' })
        .collect();
    if name.is_empty() { "app".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_after_the_program() {
        let program = Program { name: "my-app", version: "1.0.0" };
        assert_eq!(program.variable("log_bytes"), "MY_APP_LOG_BYTES");
        assert_eq!(program.to_string(), "my-app 1.0.0");
        assert_eq!(Program { version: "", ..program }.to_string(), "my-app");
    }

    #[test]
    fn all_versions_of_a_program_have_one_name() {
        for (file, name) in [
            ("my-app", "my-app"),
            ("my_app", "my_app"),
            ("my app", "my-app"),
            ("my-app.good", "my-app"),
            ("my-app.new", "my-app"),
            ("my-app.good (deleted)", "my-app"),
            ("", "app"),
        ] {
            assert_eq!(name_of(file), name, "{file}");
        }
    }
}

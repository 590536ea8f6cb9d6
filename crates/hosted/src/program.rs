//! What a program is called: its messages, its files and its environment variables follow from it.

use std::fmt;

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
}

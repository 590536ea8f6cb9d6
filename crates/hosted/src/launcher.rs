//! The launcher and the rewrite rules, for a program of any name.

use crate::program::Program;

/// Those of the site, whose program is called toolshed.
const LAUNCHER: &str = include_str!("../dispatch.fcgi");
const RULES: &str = include_str!("../htaccess");

impl Program {
    /// Returns the launcher `dispatch.fcgi` of this version.
    pub fn launcher(self) -> String {
        self.named(LAUNCHER)
    }

    /// Returns the rewrite rules of this version, for `.htaccess`.
    pub fn rewrite_rules(self) -> String {
        self.named(RULES)
    }

    fn named(self, text: &str) -> String {
        text.replace("TOOLSHED_", &self.variable("")).replace("toolshed", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_of_an_application_names_nothing_of_the_site() {
        let program = Program { name: "my-app", version: "1.0.0" };
        for text in [program.launcher(), program.rewrite_rules()] {
            assert!(!text.to_lowercase().contains("toolshed"), "{text}");
        }
        assert!(program.launcher().contains("MY_APP_HOME"));
        let own = Program { name: "toolshed", version: "1.0.0" };
        assert_eq!(own.launcher(), LAUNCHER);
    }
}

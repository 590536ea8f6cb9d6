//! What the site has on disk, beside what every program with store and login has (`entries` of their crates).
//!
//! The launcher (`dispatch.fcgi`) and the rewrite rules (`htaccess`) spell some of these names again; the tests
//! below parse both files and compare. The code that writes the files is elsewhere. For owners, docs/deploying.md and
//! docs/reloading.md describe the layout.

use hosted::Program;
use hosted::installation::{Entry, Within};
use site::EXPIRY_FILE;

/// What everything is named after.
pub(crate) const PROGRAM: Program =
    Program { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };

/// Declares a constant for each entry, and a list of all of them.
macro_rules! entries {
    ($($(#[$doc:meta])+ $constant:ident: $within:ident, $name:expr, $mode:literal;)+) => {
        $(
            $(#[$doc])+
            #[allow(dead_code, reason = "some are created by other crates; the tests compare all")]
            pub(crate) const $constant: Entry = Entry::new(Within::$within, $name, $mode);
        )+

        /// Every entry, in the order above.
        #[cfg(test)]
        const ENTRIES: &[Entry] = &[$($constant),+];
    };
}

entries! {
    /// Blobs, unless they are in an S3 store.
    BLOBS: Data, "blobs", 0o700;
    /// When expired blobs were removed last, and the lock of who is doing it.
    BLOB_EXPIRY: Data, EXPIRY_FILE, 0o600;
    /// Style sheets, scripts and pictures, which the web server may send by itself.
    STATIC: Site, "static", 0o755;
}

/// Returns every entry, and its path relative to the folder of the installation or the site.
#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (Entry, String)> {
    let all = [
        hosted::installation::ENTRIES,
        hosted::store::entries::ENTRIES,
        hosted_login::entries::ENTRIES,
        ENTRIES,
    ];
    let all = all.into_iter().flatten();
    let store = hosted::store::entries::STORE.path(PROGRAM, "");
    all.map(move |entry| (*entry, entry.path(PROGRAM, &store)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use fancy_regex::Regex;
    use hosted::installation::{GOOD, LAUNCHER, PROGRAM_FILE, RULES};

    use super::*;

    const LAUNCHER_TEXT: &str = include_str!("../../../dispatch.fcgi");
    const RULES_TEXT: &str = include_str!("../../../htaccess");

    fn is_folder(entry: Entry) -> bool {
        entry.mode == 0o700
    }

    /// The launcher without its comments.
    fn launcher_code() -> String {
        let code = LAUNCHER_TEXT.lines().filter(|line| !line.trim_start().starts_with('#'));
        code.collect::<Vec<_>>().join("\n")
    }

    fn found(pattern: &str, text: &str) -> Vec<String> {
        let pattern = Regex::new(pattern).unwrap();
        let all = pattern.captures_iter(text).map(|found| found.unwrap()[1].to_owned());
        all.collect()
    }

    #[test]
    fn the_launcher_looks_for_the_program_in_the_same_places() {
        let lists = found(r"(?m)^.*set -- (.*)$", &launcher_code());
        let mut places = found(r#""([^"]+)""#, &lists.join(" "));
        places.retain(|place| place != "$@");
        let [home, site, account] = ["${TOOLSHED_HOME%/}", "$here", "${home%/}"].map(PathBuf::from);
        let mut expected = PROGRAM.launched_programs(&site, Some(home), None);
        expected.extend(PROGRAM.launched_programs(&site, None, Some(account)));
        let expected: Vec<_> = expected.iter().map(|place| place.to_str().unwrap()).collect();
        // `Path::parent` of "$here" is empty; the shell's is "${here%/*}".
        let places: Vec<_> = places.iter().map(|place| place.replace("${here%/*}/", "")).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn the_launcher_uses_the_same_names() {
        let code = launcher_code();
        let endings = found(r"\$(?:program|place)(\.[a-z]+)", &code);
        assert!(
            !endings.is_empty() && endings.iter().all(|it| *it == GOOD.name(PROGRAM)),
            "{endings:?}"
        );
        let mut variables = found(r"\b(TOOLSHED_[A-Z_]+)", &code);
        variables.sort();
        variables.dedup();
        assert_eq!(variables, [PROGRAM.home_variable(), PROGRAM.launcher_variable()]);
        let own = found(r#"echo "([^:]+): \$2""#, &code);
        assert_eq!(own, [LAUNCHER.name(PROGRAM)]);
        for uploaded in found(r"upload (?:the file )?'([^']+)'", &code) {
            assert_eq!(uploaded, PROGRAM_FILE.name(PROGRAM));
        }
    }

    /// What the rewrite rules deny to visitors although the file exists.
    fn denied() -> Vec<Regex> {
        let rules = RULES_TEXT.lines().filter_map(|line| line.strip_prefix("RewriteCond $1 !"));
        let patterns = rules.map(|rule| match rule.strip_suffix(" [NC]") {
            Some(pattern) => Regex::new(&format!("(?i){pattern}")),
            None => Regex::new(rule),
        });
        patterns.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_rewrite_rules_deny_every_file_but_those_for_visitors() {
        let rules = denied();
        assert_eq!(rules.len(), 5, "the form of the rules has changed");
        let is_denied = |path: &str| rules.iter().any(|rule| rule.is_match(path).unwrap());
        let mut seen = 0;
        for (entry, path) in all().filter(|(entry, _)| entry.is_within() != Within::Site) {
            let path = if is_folder(entry) { path + "/file" } else { path };
            // The installation's folder is the site's own, or is inside it.
            for path in [path.clone(), format!("{}/{path}", PROGRAM.folder_next_to_site())] {
                assert!(is_denied(&path), "{path} would be sent to visitors");
            }
            seen += 1;
        }
        assert_eq!(seen, all().count() - 3);
        assert!(is_denied(&RULES.name(PROGRAM)));
        // This has rules of its own, above.
        assert!(
            !is_denied(&LAUNCHER.name(PROGRAM)) && RULES_TEXT.contains("<Files \"dispatch.fcgi\">")
        );
        assert!(!is_denied(&format!("{}/site.css", STATIC.name(PROGRAM))));
    }

    #[test]
    fn the_rewrite_rules_run_the_launcher() {
        let files = found(r#"<Files "([^"]+)">"#, RULES_TEXT);
        let mut targets = found(r"(?m)^RewriteRule \^ (\S+) \[L\]$", RULES_TEXT);
        targets.extend(files);
        let launcher = LAUNCHER.name(PROGRAM);
        assert_eq!(targets, [launcher.clone(), launcher]);
    }

    /// The site and the program around it agree on where the store is.
    #[test]
    fn the_store_is_where_the_login_has_it() {
        assert_eq!(hosted::store::entries::STORE.name(PROGRAM), site::login::STORE_FILE);
    }

    #[test]
    fn no_two_entries_are_the_same_file() {
        let mut paths: Vec<_> = all().map(|(_, path)| path).collect();
        paths.sort();
        let all = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}

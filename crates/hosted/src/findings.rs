//! What `check` has found, and how it looks at files.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings {
    pub(crate) text: String,
    pub(crate) wrong: usize,
}

impl Findings {
    /// Returns how many problems there are so far.
    pub fn problems(&self) -> usize {
        self.wrong
    }

    /// Adds that something is as it should be: `what`, without a period.
    pub fn ok(&mut self, subject: &str, what: impl AsRef<str>) {
        self.line("ok", subject, what.as_ref());
    }

    /// Adds something that may be intended, with a hint: a sentence.
    pub fn note(&mut self, subject: &str, what: impl AsRef<str>, hint: impl AsRef<str>) {
        self.line("note", subject, what.as_ref());
        self.hint(hint.as_ref());
    }

    /// Adds something that would not work, with a hint: a sentence.
    pub fn wrong(&mut self, subject: &str, what: impl AsRef<str>, hint: impl AsRef<str>) {
        self.wrong += 1;
        self.line("wrong", subject, what.as_ref());
        self.hint(hint.as_ref());
    }

    fn line(&mut self, verdict: &str, subject: &str, what: &str) {
        self.text += &format!("{verdict:5}  {subject:13}  {what}.\n");
    }

    fn hint(&mut self, hint: &str) {
        self.text += &format!("{:22}Hint: {hint}\n", "");
    }
}

/// Returns whether its group or everybody may change it: suexec does not run such files.
pub fn may_be_changed_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o022 != 0
}

/// Returns the mode as chmod takes it: `755`.
pub fn mode(metadata: &Metadata) -> String {
    format!("{:o}", metadata.mode() & 0o7777)
}

/// Returns the nearest existing folder above a file: missing folders would be created in it.
pub fn nearest_existing_folder(file: &Path) -> PathBuf {
    let above = file.ancestors().skip(1).map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    above.into_iter().find(|folder| folder.exists()).unwrap_or(Path::new(".")).to_owned()
}

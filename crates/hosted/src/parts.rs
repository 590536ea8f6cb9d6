//! What is around a program's service.

/// What is around a program's service beside its settings: each is on, and can be left out. What guards a process (`crash_guard`,
/// `watchdog`, `memory`) is a setting, because owners decide about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parts {
    /// Touching the launcher reloads the program, and a new version is checked and takes over. Without it, processes go on as they
    /// are until somebody ends them.
    pub upgrades: bool,
    /// What is logged behind a web server is in a file that the owner can read. Without it, it goes to standard error, which web
    /// servers put into a log of theirs.
    pub log_file: bool,
    /// Arguments are commands. Without it, they are the application's, and the program serves; except `check --upgrade`,
    /// which running processes ask of a new version.
    pub command_line: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Parts { upgrades: true, log_file: true, command_line: true }
    }
}

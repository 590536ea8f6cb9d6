//! Which names an application may have. Its name is that of a package, of a program, of the folder of that program on a host, and the
//! beginning of its variables.

use hosted::Program;
use hosted::installation::{DATA, DOCUMENT_ROOTS, LOGS};

/// What the compiler has taken, also for the name of a crate.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that are there already: Rust's, what the template depends on, and what `hosted` depends on in this project. Where an
/// application finds those by path, its lock file could not tell a package with such a name, in the same version, from them.
const CRATES: &[&str] = &[
    "alloc",
    "core",
    "proc-macro",
    "std",
    "test",
    "axum",
    "hosted",
    "maud",
    "serde",
    "tempfile",
    "tokio",
    "tower",
    "app-server",
    "atomic-file",
    "event-loop",
    "fastcgi-server",
    "host-emulator",
    "postgres-pool",
    "process",
    "resolve",
    "storage",
    "sys",
    "tls-client",
];

/// Folders in the target folder that a program would be mistaken for.
const FOLDERS: &[&str] = &["build", "deps", "examples", "incremental"];

/// How the variables begin that a web server sets for a program (RFC 3875 §4.1, and those of Apache's modules). `HTTP_…` are
/// headers: as CGI, `http-proxy` would take a visitor's `Proxy-Log` for its own setting `log`.
const WEB_SERVER_WORDS: &[&str] = &[
    "auth", "content", "context", "document", "fcgi", "gateway", "http", "https", "path", "query",
    "redirect", "remote", "request", "script", "server", "ssl",
];

/// The longest name: with a suffix it still is the name of a file.
const MAX_LETTERS: usize = 64;

/// Checks a name.
///
/// # Errors
///
/// What is wrong with it and what to do, as a sentence.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if !name.chars().all(is_letter) || !name.starts_with(|first: char| first.is_ascii_alphabetic())
    {
        return Err(format!(
            "{name:?} is no name of a program: write letters, digits, - and _, and begin with a letter, as in \
             my-app."
        ));
    }
    if name.len() > MAX_LETTERS {
        return Err(format!("The name has more than {MAX_LETTERS} letters; choose a shorter one."));
    }
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let taken = |list: &[&str]| list.contains(&lower.as_str());
    let why = if taken(KEYWORDS) {
        "a word of Rust"
    } else if taken(CRATES) {
        "a crate that the application uses"
    } else if taken(FOLDERS) {
        "a folder of cargo's"
    } else if is_folder_of_a_host(&lower) {
        "a folder on a host, where the program's own would be"
    } else if lower.split('-').next().is_some_and(|word| WEB_SERVER_WORDS.contains(&word)) {
        "a name whose settings web servers would set, some of them to what visitors send"
    } else {
        return Ok(());
    };
    Err(format!("{name} is {why}; choose another name, such as my-{name}."))
}

/// Whether a program of this name, which is `~/NAME/NAME`, would be in the way of its own data and log, or be in a document root.
fn is_folder_of_a_host(name: &str) -> bool {
    let program = Program { name: "", version: "" };
    let beside = [DATA, LOGS].map(|folder| folder.name(program));
    beside.iter().any(|folder| folder == name) || name == "bin" || DOCUMENT_ROOTS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_not_work_are_refused_with_a_way_out() {
        for good in ["my-app", "a", "Guest_Book2", "hosted-app", "httpd", "my-http"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            ("", "begin with a letter"),
            ("2fast", "begin with a letter"),
            ("-v", "begin with a letter"),
            ("my app", "write letters"),
            ("../up", "write letters"),
            ("büro", "write letters"),
            ("match", "a word of Rust; choose another name, such as my-match."),
            ("Self", "a word of Rust"),
            ("axum", "a crate that the application uses"),
            ("proc_macro", "a crate that"),
            ("event_loop", "a crate that"),
            ("deps", "a folder of cargo's"),
            ("data", "a folder on a host"),
            ("logs", "a folder on a host"),
            ("bin", "a folder on a host"),
            ("www", "a folder on a host"),
            ("http", "a name whose settings web servers would set"),
            ("HTTP_proxy", "a name whose settings web servers would set"),
            ("server-status", "such as my-server-status."),
            (&"a".repeat(65), "more than 64"),
        ] {
            let why = check(bad).unwrap_err();
            assert!(why.contains(said), "{bad}: {why}");
        }
    }
}

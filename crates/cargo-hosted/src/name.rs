//! Which names an application may have: those that cargo takes for a package, and that are no trap.

/// What the compiler has taken, also for the name of a crate.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that are there already: Rust's, and what the template depends on.
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
];

/// Folders in the target folder that a program would be mistaken for.
const FOLDERS: &[&str] = &["build", "deps", "examples", "incremental"];

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
    } else {
        return Ok(());
    };
    Err(format!("{name} is {why}; choose another name, such as my-{name}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_not_work_are_refused_with_a_way_out() {
        for good in ["my-app", "a", "Guest_Book2", "hosted-app"] {
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
            ("deps", "a folder of cargo's"),
            (&"a".repeat(65), "more than 64"),
        ] {
            let why = check(bad).unwrap_err();
            assert!(why.contains(said), "{bad}: {why}");
        }
    }
}

//! How keys map to files.
//!
//! Each segment of a key but the last is a folder, the last is a file with `=` at the end of its name, so that a blob
//! `a` and a blob `a/b` do not collide. File systems that ignore case, or that strip a dot at the end of a name, must
//! not mix up two keys, so in each segment
//!
//! * a capital letter is `=` and the small letter: `Report` is `=report`;
//! * a dot at the start or end is `==`: `.x` is `==x`. That no name starts with a dot also means that none is `..`.
//!
//! | key | file |
//! | --- | --- |
//! | `a` | `a=` |
//! | `uploads/2026/Report.pdf` | `uploads/2026/=report.pdf=` |

use std::path::{Path, PathBuf};

use crate::key::Key;

/// Returns the path of a blob's file below the folder `stored`.
pub(super) fn path_of(stored: &Path, key: &Key) -> PathBuf {
    let mut path = stored.to_owned();
    path.extend(key.as_str().split('/').map(escape));
    let mut path = path.into_os_string();
    path.push("=");
    path.into()
}

/// What a file name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A blob, by the last segment of its key.
    Blob(String),
    /// A folder, by the segment.
    Folder(String),
}

/// Reads a file name; `None` if it is none of ours.
pub(super) fn parse(name: &str) -> Option<Entry> {
    let mut segment = String::new();
    let mut characters = name.chars();
    let mut is_blob = false;
    while let Some(character) = characters.next() {
        match character {
            '=' => match characters.next() {
                None => is_blob = true,
                Some('=') => segment.push('.'),
                Some(letter) => segment.push(letter.to_ascii_uppercase()),
            },
            other => segment.push(other),
        }
    }
    // Anything else that would be read as this segment is no name of ours.
    let expected = escape(&segment) + if is_blob { "=" } else { "" };
    (expected == name).then_some(if is_blob {
        Entry::Blob(segment)
    } else {
        Entry::Folder(segment)
    })
}

fn escape(segment: &str) -> String {
    let last = segment.len().saturating_sub(1);
    let mut name = String::with_capacity(segment.len() + 8);
    for (at, character) in segment.char_indices() {
        match character {
            '.' if at == 0 || at == last => name.push_str("=="),
            'A'..='Z' => name.extend(['=', character.to_ascii_lowercase()]),
            other => name.push(other),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_and_files() {
        for (key, file) in [
            ("a", "/s/a="),
            ("a/b", "/s/a/b="),
            ("uploads/2026/Report.pdf", "/s/uploads/2026/=report.pdf="),
            (".x/y./...", "/s/==x/y==/==.==="),
            ("A_b-C/..x", "/s/=a_b-=c/==.x="),
        ] {
            let path = path_of(Path::new("/s"), &key.parse().unwrap());
            assert_eq!(path, Path::new(file), "{key}");
            let mut segments = Vec::new();
            for name in path.strip_prefix("/s").unwrap() {
                match parse(name.to_str().unwrap()) {
                    Some(Entry::Folder(segment) | Entry::Blob(segment)) => segments.push(segment),
                    None => panic!("{name:?}"),
                }
            }
            assert_eq!(segments.join("/"), key);
        }
    }

    proptest! {
        #[test]
        fn no_two_keys_share_a_file_on_any_file_system(key in "([aAbB.=_-]{1,9}/){0,3}[aAbB._-]{1,9}") {
            let Ok(key) = key.parse::<Key>() else { return Ok(()) };
            let path = path_of(Path::new(""), &key);
            let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
            let is_safe = |name: &&str| {
                !name.starts_with('.') && !name.ends_with('.') && name.to_lowercase() == **name
            };
            prop_assert!(names.iter().all(is_safe), "{names:?}");
            let (last, folders) = names.split_last().unwrap();
            let folder = |name: &&str| match parse(name) {
                Some(Entry::Folder(segment)) => segment + "/",
                other => panic!("{other:?}"),
            };
            let start: String = folders.iter().map(folder).collect();
            prop_assert_eq!(parse(last), Some(Entry::Blob(key.as_str()[start.len()..].to_owned())));
            prop_assert!(key.as_str().starts_with(&start));
        }
    }

    #[test]
    fn other_names_are_none_of_ours() {
        assert_eq!(parse("x=="), Some(Entry::Folder("x.".into())));
        assert_eq!(parse("x==="), Some(Entry::Blob("x.".into())));
        for name in ["A", ".", "..", ".x", "x.", "=", "a==b", "=1", "=A", "x=.=", "a=-"] {
            // `=` would be a blob with an empty segment, which no key has.
            assert!(matches!(parse(name), None | Some(Entry::Blob(_))), "{name}");
            assert!(name == "=" || parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let key = "X".repeat(Key::MAX_SEGMENT_BYTES).parse().unwrap();
        let path = path_of(Path::new("/s"), &key);
        assert!(path.file_name().unwrap().len() <= 255);
    }
}

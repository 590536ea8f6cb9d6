//! The names of blobs: which texts are keys.

use std::fmt;
use std::str::FromStr;

/// The name of a blob: one or more segments separated by `/`, of the characters `A-Z a-z 0-9 - _ .`
///
/// At most [`Key::MAX_BYTES`] long, each segment at most [`Key::MAX_SEGMENT_BYTES`]; no segment is empty, `.` or `..`.
/// Keys are ordered by their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The longest key, in bytes. S3 allows 1,024, of which its engine needs some.
    pub const MAX_BYTES: usize = 512;

    /// The longest segment, in bytes: with each byte escaped, it still fits into the 255 bytes of a file name.
    pub const MAX_SEGMENT_BYTES: usize = 120;

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key under which the store keeps it: with the prefix of a handle, it may be longer than others.
    pub(crate) fn within(&self, prefix: &str) -> Key {
        Key([prefix, &self.0].concat().into())
    }

    /// Reads a key as the store keeps it; `None` if it is none of ours.
    pub(crate) fn of_stored(text: &str) -> Option<Key> {
        problem_of(text, Key::MAX_BYTES + MAX_PREFIX_BYTES).is_none().then(|| Key(text.into()))
    }
}

/// The longest prefix of a handle, in bytes.
pub(crate) const MAX_PREFIX_BYTES: usize = 200;

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match problem_of(text, Key::MAX_BYTES) {
            None => Ok(Key(text.into())),
            Some(problem) => {
                let start = text.chars().take(SHOWN_CHARACTERS).collect();
                Err(KeyError { start, problem })
            }
        }
    }
}

fn problem_of(text: &str, max_bytes: usize) -> Option<&'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if text.len() > max_bytes {
        return Some("it is longer than 512 bytes");
    }
    if !text.bytes().all(is_allowed) {
        return Some("only letters and digits of ASCII and the characters -_./ are allowed");
    }
    text.split('/').find_map(|segment| match segment {
        "" => Some("a segment between slashes is empty"),
        "." | ".." => Some("a segment is . or .."),
        long if long.len() > Key::MAX_SEGMENT_BYTES => {
            Some("a segment between slashes is longer than 120 bytes")
        }
        _ => None,
    })
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a text is not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    start: String,
    problem: &'static str,
}

/// How much of a text that is not a key is shown.
const SHOWN_CHARACTERS: usize = 80;

impl fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} cannot be the key of a blob: {}", self.start, self.problem)
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_texts_are_keys() {
        let long_segment = "x".repeat(Key::MAX_SEGMENT_BYTES + 1);
        let long_key = ["x".repeat(100), "y/".repeat(206), "z".into()].concat();
        for (text, problem) in [
            ("a", None),
            ("uploads/2026/Report_1.final.pdf", None),
            (".hidden/..x/x..", None),
            (&long_segment[1..], None),
            (&long_key[1..], None),
            (&long_key, Some("longer than 512")),
            (&long_segment, Some("longer than 120")),
            ("", Some("empty")),
            ("/a", Some("empty")),
            ("a/", Some("empty")),
            ("a//b", Some("empty")),
            ("a/./b", Some(". or ..")),
            ("../a", Some(". or ..")),
            ("a b", Some("allowed")),
            ("a\0", Some("allowed")),
            ("a=b", Some("allowed")),
            ("käse", Some("allowed")),
        ] {
            let error = text.parse::<Key>().err().map(|error| error.to_string());
            match (problem, &error) {
                (None, None) => {}
                (Some(problem), Some(error)) => assert!(error.contains(problem), "{text}: {error}"),
                _ => panic!("{text}: {error:?}"),
            }
        }
        let endless = "é".repeat(100_000).parse::<Key>().unwrap_err().to_string();
        assert!(endless.len() < 300, "{endless}");
    }
}

//! The owner's password: how it is stored and checked. `rules.rs` says which one a form accepts.
//!
//! A hash is a line that can be put into a TOML file, a shell and an .htaccess without quoting:
//! `pbkdf2-sha256:600000:SALT:HASH`, the last two in base64url.

pub(crate) mod rules;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use ring::pbkdf2;
use subtle::ConstantTimeEq;

use crate::random::{NoRandomness, random};

/// The cost of PBKDF2-HMAC-SHA256: OWASP's Password Storage Cheat Sheet asks for 600,000 rounds, about 0.1 to 0.3 s.
pub const ROUNDS: u32 = 600_000;

/// More rounds than this would delay a login for minutes: a mistake.
const MAX_ROUNDS: u32 = 20_000_000;

const SCHEME: &str = "pbkdf2-sha256";
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// The owner's password. `Debug` reveals nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(PasswordForm);

#[derive(Clone, PartialEq, Eq)]
enum PasswordForm {
    Clear(String),
    Hash { rounds: NonZeroU32, salt: Vec<u8>, hash: Vec<u8> },
}

impl Password {
    /// The longest password that a login accepts, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Accepts a password in clear text; `None` for an empty one, which means that there is none.
    pub fn clear(text: impl Into<String>) -> Option<Password> {
        let text = text.into();
        (!text.is_empty()).then_some(Password(PasswordForm::Clear(text)))
    }

    /// Parses the output of [`Password::make_hash`].
    ///
    /// # Errors
    ///
    /// If it is not such a line.
    pub fn from_hash(line: &str) -> Result<Password, BadHash> {
        let mut parts = line.trim().split(':');
        let mut next = || parts.next().unwrap_or("");
        let (scheme, rounds, salt, hash) = (next(), next(), next(), next());
        let decoded = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| BadHash);
        let rounds = rounds.parse().ok().filter(|rounds| (1..=MAX_ROUNDS).contains(rounds));
        let rounds = rounds.and_then(NonZeroU32::new).ok_or(BadHash)?;
        let (salt, hash) = (decoded(salt)?, decoded(hash)?);
        if scheme != SCHEME || salt.len() < 8 || hash.len() != HASH_BYTES || parts.next().is_some()
        {
            return Err(BadHash);
        }
        Ok(Password(PasswordForm::Hash { rounds, salt, hash }))
    }

    /// Makes the hash of a password with a fresh salt, at the current cost ([`ROUNDS`]): some tenths of a second.
    ///
    /// # Errors
    ///
    /// If the system provides no random bytes.
    pub fn make_hash(text: &str) -> Result<String, NoRandomness> {
        Ok(hash_with(text, &random::<SALT_BYTES>()?))
    }

    /// Returns whether checking it takes too long for the loop.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.0, PasswordForm::Hash { .. })
    }

    /// Returns whether this is the password, in a time that does not depend on where it differs.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match &self.0 {
            PasswordForm::Clear(password) => {
                // Digests are of equal length, so the comparison does not reveal the password's.
                let digest = |text: &str| digest(&SHA256, text.as_bytes());
                digest(password).as_ref().ct_eq(digest(text).as_ref()).into()
            }
            PasswordForm::Hash { rounds, salt, hash } => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
                pbkdf2::verify(algorithm, *rounds, salt, text.as_bytes(), hash).is_ok()
            }
        }
    }

    /// Returns what identifies it, for a session's proof: the form it has, and its bytes.
    pub(crate) fn identity(&self) -> (&'static str, Cow<'_, [u8]>) {
        match &self.0 {
            PasswordForm::Clear(password) => ("password", password.as_bytes().into()),
            PasswordForm::Hash { salt, hash, .. } => ("hash", [&salt[..], hash].concat().into()),
        }
    }
}

fn hash_with(text: &str, salt: &[u8]) -> String {
    let rounds = NonZeroU32::new(ROUNDS).unwrap_or(NonZeroU32::MIN);
    let mut hash = [0; HASH_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, text.as_bytes(), &mut hash);
    format!("{SCHEME}:{rounds}:{}:{}", BASE64URL_NOPAD.encode(salt), BASE64URL_NOPAD.encode(&hash))
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            PasswordForm::Clear(_) => "Password(clear text)",
            PasswordForm::Hash { .. } => "Password(hash)",
        })
    }
}

/// A line that is not a password hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHash;

impl fmt::Display for BadHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "write the line that the command `hash-password` prints (`set-password` writes it into the settings)",
        )
    }
}

impl std::error::Error for BadHash {}

#[cfg(test)]
mod tests {
    use super::*;

    /// From another implementation: Python's hashlib.pbkdf2_hmac("sha256", b"correct horse", b"0123456789abcdef",
    /// 600000).
    const KNOWN: &str =
        "pbkdf2-sha256:600000:MDEyMzQ1Njc4OWFiY2RlZg:kYKAg_dg7WC7VQ4k8-iaopu8snxCGdA0xMTwPC5tudk";

    #[test]
    fn a_hash_matches_another_implementation() {
        assert_eq!(hash_with("correct horse", b"0123456789abcdef"), KNOWN);
        let password = Password::from_hash(KNOWN).unwrap();
        assert!(password.matches("correct horse") && !password.matches("correct hors"));
    }

    #[test]
    fn clear_text_is_compared_completely() {
        let password = Password::clear("pässword").unwrap();
        for (text, expected) in
            [("pässword", true), ("pässwor", false), ("", false), ("PÄSSWORD", false)]
        {
            assert_eq!(password.matches(text), expected, "{text}");
        }
        assert_eq!(Password::clear(""), None);
    }

    #[test]
    fn rejects_malformed_hashes() {
        for line in [
            "",
            "secret",
            "pbkdf2-sha256:0:MDEyMzQ1Njc4OWFiY2RlZg:AAAA",
            &KNOWN.replace("600000", "4000000000"),
            &KNOWN.replace("600000", "20000001"),
            &KNOWN.replace("sha256", "sha1"),
            &KNOWN.replace("MDEyMzQ1Njc4OWFiY2RlZg", "MDE"),
            &KNOWN[..KNOWN.len() - 1],
            &format!("{KNOWN}:x"),
        ] {
            assert_eq!(Password::from_hash(line), Err(BadHash), "{line}");
        }
        assert!(Password::from_hash(&format!(" {KNOWN}\n")).is_ok());
    }

    #[test]
    fn debug_reveals_nothing_of_a_password() {
        let shown = format!("{:?} {:?}", Password::clear("hunter2"), Password::from_hash(KNOWN));
        assert!(!shown.contains("hunter2") && !shown.contains("MDEy"), "{shown}");
    }
}

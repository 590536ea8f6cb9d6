//! Which new passwords a form accepts: long ones that are not easy to guess. There are no rules about kinds of
//! characters: they make passwords worse (NIST SP 800-63B §5.1.1.2).

use super::Password;

/// The minimum length of a new password, in characters (OWASP ASVS 4, 2.1.1).
pub(crate) const MIN_CHARACTERS: usize = 12;

/// The most common passwords of at least [`MIN_CHARACTERS`] characters, one per line, in lower case.
const COMMON: &str = include_str!("common-passwords.txt");

/// The words that most common passwords consist of, with digits and symbols around them.
const COMMON_WORDS: &[&str] = &[
    "123", "abc", "admin", "changeme", "dragon", "football", "hello", "iloveyou", "letmein",
    "login", "master", "monkey", "owner", "pass", "princess", "qazwsx", "qwertz", "qwerty",
    "secret", "sunshine", "superman", "test", "toolshed", "user", "welcome", "word", "wort",
    "zxcvbn",
];

impl Password {
    /// Returns what is wrong with a new password, for the person who chooses it: one sentence. `None` if it is
    /// good.
    pub fn weakness(text: &str) -> Option<&'static str> {
        if text.chars().count() < MIN_CHARACTERS {
            Some("Use at least 12 characters.")
        } else if text.len() > Password::MAX_BYTES {
            Some("The password is longer than 1024 bytes.")
        } else if is_common(&text.to_lowercase()) {
            Some("This password is too common. Choose another, such as a few random words.")
        } else {
            None
        }
    }
}

fn is_common(text: &str) -> bool {
    let is_listed = || COMMON.lines().any(|line| !line.starts_with('#') && line == text);
    is_common_by_rule(text) || is_listed()
}

fn is_common_by_rule(text: &str) -> bool {
    is_repetition(text) || is_sequence(text) || consists_of_common_words(text)
}

/// Matches `abcabcabcabc`: a prefix of at most a third, repeated.
fn is_repetition(text: &str) -> bool {
    let letters: Vec<char> = text.chars().collect();
    (1..=letters.len() / 3)
        .any(|length| letters.iter().zip(&letters[length..]).all(|(one, next)| one == next))
}

/// Matches `abcdefghijkl`, `987654321098`: each character is the successor or predecessor of the one before.
fn is_sequence(text: &str) -> bool {
    let steps = |step: i32| {
        let letters = text.chars().zip(text.chars().skip(1));
        letters.into_iter().all(|(one, next)| {
            let (one, next) = (one as i32, next as i32);
            next - one == step || (next - one).abs() == 9 && (next - one).signum() == -step
        })
    };
    steps(1) || steps(-1)
}

/// Matches `Password2024!`: common words, and otherwise only digits and symbols.
fn consists_of_common_words(text: &str) -> bool {
    let mut rest = text.replace('0', "o").replace('@', "a").replace('$', "s");
    for word in COMMON_WORDS {
        rest = rest.replace(word, "1");
    }
    // A genuine zero has become an "o".
    rest.chars().all(|letter| !letter.is_alphabetic() || letter == 'o')
        && text.chars().any(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_uncommon_passwords_are_accepted_whatever_they_contain() {
        for good in [
            "correct horse battery",
            "vier kleine Enten",
            "пароль мой длинный",
            "🐎🔋📎🐎🔋📎📎🔋📎🐎📎🐎",
            "only lower case letters",
            "384950273641",
            "my admin is a gardener",
            &"long ".repeat(25).replacen("long", "short", 1),
        ] {
            assert_eq!(Password::weakness(good), None, "{good}");
        }
        for (bad, words) in [
            ("", "12 characters"),
            ("elevenchars", "12 characters"),
            ("ÄÖÜäöüßÄÖÜä", "12 characters"),
            ("aaaaaaaaaaaaaa", "too common"),
            ("abcabcabcabcab", "too common"),
            ("1234567890123", "too common"),
            ("abcdefghijklm", "too common"),
            ("nmlkjihgfedcba", "too common"),
            ("Password2024!", "too common"),
            ("P@ssw0rd-2000", "too common"),
            ("toolshedtoolshed", "too common"),
            ("qwertyqwerty12", "too common"),
            ("Unbelievable", "too common"),
            ("1QAZ2wsx3edc4rfv", "too common"),
            (&"x1y2".repeat(300), &format!("{} bytes", Password::MAX_BYTES)),
        ] {
            assert!(Password::weakness(bad).is_some_and(|said| said.contains(words)), "{bad}");
        }
    }

    #[test]
    fn the_list_holds_only_passwords_that_no_other_rule_refuses() {
        let lines: Vec<_> = COMMON.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.len() > 250);
        for line in lines {
            assert!(
                line.chars().count() >= MIN_CHARACTERS && line == line.to_lowercase(),
                "{line}"
            );
            assert!(!is_common_by_rule(line), "{line} needs no line");
            assert!(Password::weakness(line).is_some(), "{line}");
        }
    }
}

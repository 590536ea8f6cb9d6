//! Turns any log message into one line.
//!
//! Messages quote what clients send, and most logs write what they are given: a newline in a message
//! would forge a log line, and an escape sequence would take effect in the reader's terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Turns a message into one line: trailing newlines are dropped, any other control character is escaped
/// as in a Rust string (`\n`, `\u{1b}`), and a byte that is not UTF-8 as `\x9b`. Other text, in any
/// language, is unchanged, and is not copied if nothing has to change.
pub fn one_line(message: &[u8]) -> Cow<'_, str> {
    let end = message.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    let message = &message[..end.map_or(0, |last| last + 1)];
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(escape(message)),
    }
}

fn escape(message: &[u8]) -> String {
    let mut line = String::with_capacity(message.len() + 16);
    for chunk in message.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character.is_control() {
                true => line.extend(character.escape_default()),
                false => line.push(character),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_not_copied() {
        for text in ["", "a message", "größer als erlaubt: 数え切れない", "a \\ and a \"quote\""]
        {
            assert!(
                matches!(one_line(text.as_bytes()), Cow::Borrowed(line) if line == text),
                "{text}"
            );
            let ended = format!("{text}\r\n");
            assert!(
                matches!(one_line(ended.as_bytes()), Cow::Borrowed(line) if line == text),
                "{text}"
            );
        }
        assert_eq!(one_line(b"\n\r\n"), "");
    }

    #[test]
    fn control_characters_and_invalid_utf8_are_escaped() {
        let cases: [(&[u8], &str); 8] = [
            (b"bad 'x\r\nFAKE: all is well'", "bad 'x\\r\\nFAKE: all is well'"),
            (b"\nat the beginning", "\\nat the beginning"),
            (b"\x1b[31mred\x07\x7f", "\\u{1b}[31mred\\u{7}\\u{7f}"),
            ("\u{9b}31m\u{85}".as_bytes(), "\\u{9b}31m\\u{85}"),
            (b"\x9b31m", "\\x9b31m"),
            (b"\0tab\there", "\\u{0}tab\\there"),
            (b"cut: \xe6\x95", "cut: \\xe6\\x95"),
            ("größer\n\n!\n\n".as_bytes(), "größer\\n\\n!"),
        ];
        for (message, expected) in cases {
            assert_eq!(one_line(message), expected, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn no_control_character_is_left() {
        for first in 0..=255_u8 {
            for second in 0..=255_u8 {
                for message in [[first, second, b'x'], [b'x', first, second]] {
                    let line = one_line(&message);
                    assert!(!line.contains(char::is_control), "{}", message.escape_ascii());
                }
            }
        }
    }
}

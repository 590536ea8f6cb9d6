//! A message as a line of the log: limited in length, and nothing in it can pass for another line.

/// Bytes of one message. A backtrace takes about 6,000; paths and panics may quote what visitors sent.
const MAX_BYTES: usize = 8 * 1024;

/// The prefix of each line of a message except the first.
const CONTINUED: &str = "    ";

/// Turns a formatted message into a line, with its line end, and `more` after the message.
///
/// Further lines of a message are indented; control characters and those that start a line or reorder text are
/// shown as numbers. So nothing a message quotes can look like the start of a message or affect a terminal.
pub(super) fn line(message: &[u8], more: &str) -> Vec<u8> {
    let message = String::from_utf8_lossy(message);
    let message = message.trim_end_matches('\n');
    let mut line = String::with_capacity(message.len() + more.len() + 1);
    for letter in message.chars() {
        if line.len() >= MAX_BYTES {
            line.push('…');
            break;
        }
        match letter {
            '\n' => line.extend(["\n", CONTINUED]),
            '\t' => line.push('\t'),
            letter if letter.is_control() || is_layout(letter) => {
                line.extend(letter.escape_unicode());
            }
            letter => line.push(letter),
        }
    }
    line.push_str(more);
    line.push('\n');
    line.into_bytes()
}

/// Line and paragraph separators, and what changes the direction of text (Unicode's property Bidi_Control).
fn is_layout(letter: char) -> bool {
    matches!(
        letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_imitate_another() {
        for (message, expected) in [
            ("plain\n", "plain\n"),
            ("no end", "no end\n"),
            ("", "\n"),
            ("two\nlines\n", "two\n    lines\n"),
            ("a\r\n2026 ERROR forged", "a\\u{d}\n    2026 ERROR forged\n"),
            ("\u{1b}[2J\u{7}\0\u{9b}", "\\u{1b}[2J\\u{7}\\u{0}\\u{9b}\n"),
            ("tab\tä", "tab\tä\n"),
            ("a\u{2028}b\u{202e}c\u{2069}", "a\\u{2028}b\\u{202e}c\\u{2069}\n"),
        ] {
            assert_eq!(String::from_utf8(line(message.as_bytes(), "")).unwrap(), expected);
        }
        assert_eq!(line(b"a\xff", " (more)"), "a\u{fffd} (more)\n".as_bytes());
    }

    #[test]
    fn a_message_is_truncated_at_a_character_boundary() {
        for letter in ["x", "ä", "\u{1b}", "\nx"] {
            let long = line(letter.repeat(3 * MAX_BYTES).as_bytes(), " (more)");
            assert!(long.len() < MAX_BYTES + 32, "{}", long.len());
            assert!(String::from_utf8(long).unwrap().ends_with("… (more)\n"));
        }
    }
}

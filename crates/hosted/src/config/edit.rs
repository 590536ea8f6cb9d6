//! Changes one setting in the text of a file and nothing else: comments, order and line ends stay.
//!
//! The parser says where a key's value starts and ends, so anything that TOML allows there is replaced as a
//! whole. The result is parsed again, and must differ from the original only in that setting.

use toml::de::{DeTable, DeValue};

/// Returns the text of a file with the setting `key` set to the text `value`: replaced where it is, otherwise
/// added. A key that appears several times (which is not valid TOML) then appears once.
///
/// `None` if the text cannot be changed like this, for example because it is not TOML.
pub fn with_text(text: &str, key: &str, value: &str) -> Option<String> {
    let mut text = text.to_owned();
    // Each round removes a line.
    while let Some(again) = statement_again(&text, key) {
        text.replace_range(again, "");
    }
    let before = parsed(&text)?;
    let quoted = format!("{value:?}");
    let location = before.get(key).map(|value| value.span());
    let candidates = match location {
        Some(location) => {
            let mut changed = text.clone();
            changed.replace_range(location, &quoted);
            vec![changed]
        }
        None => {
            let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
            let line = format!("{key} = {quoted}{line_end}");
            let missing = if text.is_empty() || text.ends_with('\n') { "" } else { line_end };
            // After a section header it would belong to that section.
            let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
            let (mark, rest) = text.split_at(start);
            vec![format!("{text}{missing}{line}"), format!("{mark}{line}{rest}")]
        }
    };
    candidates.into_iter().find(|changed| differs_only_by(changed, &before, key, value))
}

fn parsed(text: &str) -> Option<DeTable<'_>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    errors.is_empty().then(|| table.into_inner())
}

/// Whether a text has this value for the key, and is otherwise unchanged.
fn differs_only_by(text: &str, before: &DeTable<'_>, key: &str, value: &str) -> bool {
    let Some(after) = parsed(text) else { return false };
    let others = |table: &DeTable<'_>| -> Vec<String> {
        let others = table.iter().filter(|(name, _)| name.get_ref() != key);
        others
            .map(|(name, value)| format!("{} {}", name.get_ref(), plain(value.get_ref())))
            .collect()
    };
    after.get(key).and_then(|found| found.get_ref().as_str()) == Some(value)
        && others(&after) == others(before)
}

/// A value without its positions in the text.
fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| plain(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let items = table.iter().map(|(name, value)| (name.get_ref(), plain(value.get_ref())));
            format!("{:?}", items.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    }
}

/// Where a key is set again: from the start of its line to the end of the last.
fn statement_again(text: &str, key: &str) -> Option<std::ops::Range<usize>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let (_, at) = errors
        .iter()
        .filter_map(|error| super::file::twice(text, &table, error).zip(error.span()))
        .find(|((name, _), _)| name == key)?;
    let begins = text[..at.start].rfind('\n').map_or(0, |before| before + 1);
    // A text may span several lines.
    let ends = text[begins..].match_indices('\n').map(|(at, _)| begins + at + 1);
    ends.chain([text.len()])
        .map(|end| begins..end)
        .find(|range| parsed(&text[range.clone()]).is_some_and(|it| it.contains_key(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "password_hash";

    #[test]
    fn only_the_value_changes() {
        for (before, after) in [
            ("", "password_hash = \"new\"\n"),
            ("a = 1", "a = 1\npassword_hash = \"new\"\n"),
            ("# last line without an end", "# last line without an end\npassword_hash = \"new\"\n"),
            (
                "# first\npassword_hash   =  \"old\"   # mine\n\n  a=1\n",
                "# first\npassword_hash   =  \"new\"   # mine\n\n  a=1\n",
            ),
            // Every kind of string, and other types.
            ("password_hash = 'old'\r\na = 1\r\n", "password_hash = \"new\"\r\na = 1\r\n"),
            ("password_hash = \"\"\"o\nl # \\\"d\"\"\"", "password_hash = \"new\""),
            ("password_hash = '''\no\nld''' # x", "password_hash = \"new\" # x"),
            ("\"password_hash\" = \"a \\\" # = b\"", "\"password_hash\" = \"new\""),
            ("password_hash = [\n 1, # one\n]\nb = 2", "password_hash = \"new\"\nb = 2"),
            ("password_hash = 5", "password_hash = \"new\""),
            // Windows: a byte order mark, its own line ends.
            ("\u{feff}a = 1\r\n", "\u{feff}a = 1\r\npassword_hash = \"new\"\r\n"),
            ("\u{feff}password_hash=\"old\"", "\u{feff}password_hash=\"new\""),
            // Text that only looks like it.
            (
                "# password_hash = \"x\"\nlog = \"\"\"\npassword_hash = 1\n\"\"\"\n",
                "# password_hash = \"x\"\nlog = \"\"\"\npassword_hash = 1\n\"\"\"\npassword_hash = \"new\"\n",
            ),
            // A section has its own keys.
            ("a = 1\n[b]\nc = 2\n", "password_hash = \"new\"\na = 1\n[b]\nc = 2\n"),
            (
                "\u{feff}[b]\r\npassword_hash = 2",
                "\u{feff}password_hash = \"new\"\r\n[b]\r\npassword_hash = 2",
            ),
            // Twice, as `hash-password >> toolshed.toml` makes it.
            (
                "password_hash = \"one\"\na = 1\npassword_hash = \"two\"\n'password_hash' = '''\n3'''\nb = 2",
                "password_hash = \"new\"\na = 1\nb = 2",
            ),
        ] {
            assert_eq!(with_text(before, KEY, "new").as_deref(), Some(after), "{before:?}");
        }
    }

    #[test]
    fn invalid_files_are_not_changed() {
        for text in [
            "a = 1 2",
            "password_hash = \"no end",
            "a = 1\na = 2",
            "[password_hash]\na = 1",
            "password_hash.a = 1",
            "password_hash = 1 password_hash = 2",
        ] {
            assert_eq!(with_text(text, KEY, "new"), None, "{text:?}");
        }
    }

    /// Files are truncated by uploads and typed by people.
    #[test]
    fn everything_else_in_the_file_stays() {
        const FILE: &str = "# ä\npublic = [\"all\", 'inspect']\npassword_hash = \"\"\"a\nb\"\"\" # c\r\nbody_bytes=0x2000";
        let check = |text: &str| {
            let Some(changed) = with_text(text, KEY, "new") else { return };
            let table = parsed(&changed).unwrap_or_else(|| panic!("{text:?} became {changed:?}"));
            assert_eq!(table.get(KEY).and_then(|value| value.get_ref().as_str()), Some("new"));
            assert_eq!(with_text(&changed, KEY, "new").as_deref(), Some(&*changed), "{text:?}");
        };
        for (at, letter) in FILE.char_indices() {
            check(&FILE[..at]);
            for typo in
                ["", "\"", "'", "[", "]", "=", "\n", "\r", "#", "ß", "\npassword_hash = 1\n"]
            {
                check(&format!("{}{typo}{}", &FILE[..at], &FILE[at + letter.len_utf8()..]));
                check(&format!("{}{typo}{}", &FILE[..at], &FILE[at..]));
            }
        }
    }
}

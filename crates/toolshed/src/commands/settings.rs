//! `toolshed settings [NAME]`: what is set and where, or the description of one setting.

use std::fmt::Write;

use super::valid_settings;
use crate::config::{CommandLine, Configuration, KEYS, Key, nearest};
use crate::report::{self, Failure};

/// Prints a line per setting, or the description of one.
pub(crate) fn run(command_line: &CommandLine, name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else {
        return report::print(&list(&valid_settings(command_line)?));
    };
    let names = || KEYS.iter().map(|key| key.name);
    match KEYS.iter().find(|key| key.name == name || key.variable() == name) {
        Some(key) => report::print(&description(key)),
        None => {
            let failure = Failure::wrong(format!("Unknown setting `{name}`."));
            Err(match nearest(name, names()) {
                Some(nearest) => failure.hint(format!("toolshed settings {nearest}")),
                None => failure.hint("toolshed settings lists them all."),
            })
        }
    }
}

fn list(configuration: &Configuration) -> String {
    let width = KEYS.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for key in KEYS {
        // Writing to a text cannot fail.
        let _ = match configuration.set.get(key.name) {
            Some((value, place)) => {
                writeln!(text, "{:width$}  {value}  ({})", key.name, place.in_short())
            }
            None => writeln!(text, "{:width$}  {}", key.name, key.default_in_short()),
        };
    }
    text
}

fn description(key: &Key) -> String {
    let mut text = format!("{} ({})\n\n", key.name, key.variable());
    for paragraph in [key.what, key.why] {
        text += &wrapped(&paragraph.replace(['`', '*'], ""));
        text.push('\n');
    }
    text += &wrapped(&format!("Default: {}.", key.default_in_words().replace('`', "")));
    let limits = key.limits().map_or(String::new(), |limits| format!(", from {limits}"));
    text += &wrapped(&format!("Write {}{limits}.", key.write()));
    text
}

/// Lines of at most 80 characters.
fn wrapped(paragraph: &str) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 80 {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text.push('\n');
    text
}

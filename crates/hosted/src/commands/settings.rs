//! `settings [NAME]`: what is set and where, or the description of one setting.

use std::fmt::Write;

use super::Context;
use crate::app::App;
use crate::config::{CommandLine, Configuration, Key, Keys, nearest};
use crate::program::Program;
use crate::report::{self, Failure};

/// Prints a line per setting, or the description of one.
pub(crate) fn run<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
    name: Option<&str>,
) -> Result<(), Failure> {
    let keys = &context.keys;
    let Some(name) = name else {
        return report::print(&list(keys, &keys.load_valid(command_line)?));
    };
    let program = keys.program();
    let names = || keys.iter().map(|key| key.name);
    match keys.iter().find(|key| key.name == name || program.variable(key.name) == name) {
        Some(key) => report::print(&description(program, key)),
        None => {
            let failure = Failure::wrong(format!("Unknown setting `{name}`."));
            Err(match nearest(name, names()) {
                Some(nearest) => failure.hint(format!("{} settings {nearest}", program.name)),
                None => failure.hint(format!("{} settings lists them all.", program.name)),
            })
        }
    }
}

fn list<O: Default>(keys: &Keys<O>, configuration: &Configuration<O>) -> String {
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for key in keys.iter() {
        // Writing to a text cannot fail.
        let _ = match configuration.set.get(key.name) {
            Some((value, place)) => {
                writeln!(text, "{:width$}  {value}  ({})", key.name, place.in_short())
            }
            None => writeln!(text, "{:width$}  {}", key.name, key.default_in_short(keys.program())),
        };
    }
    text
}

fn description<O: Default>(program: Program, key: &Key<O>) -> String {
    let mut text = format!("{} ({})\n\n", key.name, program.variable(key.name));
    for paragraph in [key.what, key.why] {
        text += &wrapped(&paragraph.replace(['`', '*'], ""));
        text.push('\n');
    }
    text += &wrapped(&format!("Default: {}.", key.default_in_words(program).replace('`', "")));
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

//! A log message starts with a capital word, so that it can be searched for. Values are fields, or come later.

use std::fs;

use proc_macro2::{TokenStream, TokenTree};

use crate::{files_below, project};

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

#[test]
fn every_log_message_starts_with_a_capital_word() {
    let mut wrong = Vec::new();
    for file in files_below("crates") {
        if !file.ends_with(".rs") {
            continue;
        }
        let text = fs::read_to_string(project().join(&file)).unwrap();
        let tokens = text.parse().unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut messages = Vec::new();
        find_messages(tokens, &mut messages);
        let is_wrong = |message: &String| !message.starts_with(|it: char| it.is_ascii_uppercase());
        wrong.extend(messages.into_iter().filter(is_wrong).map(|it| format!("{file}: {it}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Finds what is written as `tracing::warn!(field, "message")`, or with `$level` in a macro; of what has no message,
/// nothing.
fn find_messages(tokens: TokenStream, messages: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let before: String =
            tokens[at.saturating_sub(6)..at].iter().map(ToString::to_string).collect();
        let is_log = |level: &&str| before.ends_with(&format!("tracing::{level}!"));
        if LEVELS.iter().chain(&["$level"]).any(is_log) {
            messages.extend(message(group.stream()));
        }
        find_messages(group.stream(), messages);
    }
}

/// Returns the argument that is only a text, without its first quotation mark.
fn message(arguments: TokenStream) -> Option<String> {
    let arguments: Vec<TokenTree> = arguments.into_iter().collect();
    let mut starts = arguments.split(|token| token.to_string() == ",").filter_map(<[_]>::first);
    starts.find_map(|first| match first {
        TokenTree::Literal(text) => text.to_string().strip_prefix('"').map(str::to_owned),
        _ => None,
    })
}

#[test]
fn messages_are_found_wherever_they_are() {
    for (source, expected) in [
        ("tracing::warn!(\"Text {x}.\")", &["Text {x}.\""][..]),
        ("fn f() { if y { tracing::info!(%x, y = \"z\", \"Text\", w) } }", &["Text\""]),
        ("x => tracing::$level!(x, \"{x}\")", &["{x}\""]),
        ("println!(\"text\"); error!(\"text\"); tracing::warn!(x)", &[]),
    ] {
        let mut messages = Vec::new();
        find_messages(source.parse().unwrap(), &mut messages);
        assert_eq!(messages, expected, "{source}");
    }
}

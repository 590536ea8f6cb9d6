//! Reverses a text: characters in, characters out.

/// Returns the text with its characters in the opposite order.
pub(crate) fn reverse(text: &str) -> String {
    text.chars().rev().collect()
}

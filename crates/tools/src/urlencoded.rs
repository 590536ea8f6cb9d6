//! Queries and forms without files.

/// Returns the first value of a name.
pub(crate) fn value(encoded: impl AsRef<[u8]>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(encoded.as_ref());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

//! A request's parameters: one block of pairs in one allocation, looked up by name.
//!
//! The block is kept as it was on the wire and validated once on construction; reading and writing single
//! pairs is in `pairs.rs`. The parameters leave with [`Event::Request`](crate::Event::Request).

use std::fmt;

use bytes::Bytes;

use crate::pairs;

/// A list of names and values in one allocation: a request's parameters, or what an application reports
/// about itself. Cloning counts a reference and copies nothing.
///
/// Names are bytes and may occur more than once. Values may be secrets: `Debug` shows only names.
#[derive(Clone, Default)]
pub struct Params {
    /// Complete pairs only: validated on construction.
    block: Bytes,
}

impl Params {
    /// Creates an empty list without allocating.
    pub const fn empty() -> Params {
        Params { block: Bytes::new() }
    }

    /// Creates a list of the given pairs. A pair whose name or value has more than 2³¹ − 1 bytes cannot
    /// be encoded in FastCGI and is left out.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Params {
        let mut block = Vec::new();
        for (name, value) in pairs {
            pairs::encode(name, value, |piece| block.extend_from_slice(piece));
        }
        Params { block: Bytes::from(block) }
    }

    /// Creates a list from a block gathered from the wire.
    ///
    /// # Errors
    ///
    /// The offset of the first pair that extends beyond the block's end.
    pub(crate) fn from_block(block: Bytes) -> Result<Params, usize> {
        pairs::check(&block)?;
        Ok(Params { block })
    }

    /// Returns the value of the *first* pair with this name. Scans the block, which for the usual 20 to
    /// 40 parameters is faster than building a table.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Returns the value of the first pair with this name, sharing the block, which lives as long as the
    /// result.
    pub fn get_bytes(&self, name: &[u8]) -> Option<Bytes> {
        self.get(name).map(|value| self.block.slice_ref(value))
    }

    /// Returns a name or value obtained from this list as a share of the block, without copying.
    ///
    /// # Panics
    ///
    /// If `part` is not a part of this list.
    pub fn slice(&self, part: &[u8]) -> Bytes {
        self.block.slice_ref(part)
    }

    /// Iterates over all names and values in the order they were sent.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs { rest: &self.block }
    }

    /// Returns the size of the block in bytes: names, values and their lengths.
    pub fn len_bytes(&self) -> usize {
        self.block.len()
    }

    /// Returns whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Pairs<'a>;

    fn into_iter(self) -> Pairs<'a> {
        self.iter()
    }
}

/// Two lists are equal if they have equal pairs in the same order, however their lengths are encoded.
impl PartialEq for Params {
    fn eq(&self, other: &Params) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Params {}

impl fmt::Debug for Params {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Params")?;
        formatter
            .debug_set()
            .entries(self.iter().map(|(name, _)| name.escape_ascii().to_string()))
            .finish()
    }
}

/// The pairs of a [`Params`], first to last.
#[derive(Clone)]
pub struct Pairs<'a> {
    /// Complete pairs only.
    rest: &'a [u8],
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pairs({} bytes left)", self.rest.len())
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let (name, value, rest) = pairs::split_pair(self.rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

impl std::iter::FusedIterator for Pairs<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_returns_the_first_pair_and_iter_lists_all() {
        let pairs: [(&[u8], &[u8]); 4] =
            [(b"HTTP_X", b"1"), (b"EMPTY", b""), (b"HTTP_X", b"2"), (b"", b"nameless")];
        let params = Params::from_pairs(pairs);
        assert_eq!(params.get(b"HTTP_X"), Some(&b"1"[..]));
        assert_eq!(params.get(b"EMPTY"), Some(&b""[..]));
        assert_eq!(params.get(b""), Some(&b"nameless"[..]));
        assert_eq!(params.get(b"HTTP_"), None);
        assert_eq!(params.iter().collect::<Vec<_>>(), pairs);
        assert!(Params::empty().is_empty());
    }

    #[test]
    fn shared_values_point_into_the_block() {
        let params = Params::from_pairs([(&b"NAME"[..], &b"value"[..])]);
        let value = params.get_bytes(b"NAME").unwrap();
        assert_eq!(value.as_ptr(), params.get(b"NAME").unwrap().as_ptr());
        assert_eq!(params.get_bytes(b"OTHER"), None);
    }

    #[test]
    fn debug_hides_values() {
        let params = Params::from_pairs([(&b"APP_PASSWORD"[..], &b"hunter2"[..])]);
        let shown = format!("{params:?} {:?}", params.iter());
        assert!(shown.contains("APP_PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn equality_ignores_the_encoding_of_lengths() {
        let long = Params::from_block(Bytes::from_static(&[0x80, 0, 0, 1, 0, b'A'])).unwrap();
        assert_eq!(long, Params::from_pairs([(&b"A"[..], &b""[..])]));
    }

    #[test]
    fn params_are_send_and_sync() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<Params>();
    }
}

//! A request's parameters: one block of pairs in one allocation, asked by name.
//!
//! The block is kept as it stood on the wire, and checked once when it is made; reading and
//! writing single pairs is in `pairs.rs`. From here the parameters leave with
//! [`Event::Request`](crate::Event::Request).

use std::fmt;

use bytes::Bytes;

use crate::pairs;

/// A list of names and values in one allocation: a request's parameters, or what an application
/// said about itself. Cloning counts a reference and copies nothing.
///
/// Names are bytes and may come twice. Values may be secrets: `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Params {
    /// Whole pairs only: checked when the value is made.
    block: Bytes,
}

impl Params {
    /// Makes a list without entries, without allocating.
    pub const fn empty() -> Params {
        Params { block: Bytes::new() }
    }

    /// Makes a list of the given pairs. One whose name or value has more than 2³¹ − 1 bytes
    /// cannot be written in FastCGI and is left out.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Params {
        let mut block = Vec::new();
        for (name, value) in pairs {
            pairs::encode(name, value, |piece| block.extend_from_slice(piece));
        }
        Params { block: Bytes::from(block) }
    }

    /// Makes a list of a block gathered from the wire.
    ///
    /// # Errors
    /// The offset of the first pair that reaches beyond the block's end.
    pub(crate) fn from_block(block: Bytes) -> Result<Params, usize> {
        pairs::check(&block)?;
        Ok(Params { block })
    }

    /// Returns the value of the *first* pair of that name: a scan through the block, which for
    /// the usual 20 to 40 parameters is faster than a table would be made.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(candidate, _)| *candidate == name).map(|(_, value)| value)
    }

    /// Returns the value of the first pair of that name as a share of the block, which lives as
    /// long as the share does.
    pub fn get_bytes(&self, name: &[u8]) -> Option<Bytes> {
        self.get(name).map(|value| self.block.slice_ref(value))
    }

    /// Returns a name or value that came from this list as a share of the block, without copying.
    ///
    /// # Panics
    /// When `part` is no part of this list.
    pub fn slice(&self, part: &[u8]) -> Bytes {
        self.block.slice_ref(part)
    }

    /// Iterates over all names and values in the order they were sent.
    pub fn iter(&self) -> Pairs<'_> {
        Pairs { rest: &self.block }
    }

    /// Returns the block's size in bytes: names, values and their lengths.
    pub fn len_bytes(&self) -> usize {
        self.block.len()
    }

    /// Says whether there is no pair.
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

/// Two lists are equal when they have equal pairs in equal order, however their lengths are written.
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
    /// Whole pairs only.
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
    fn the_first_pair_of_a_name_counts_and_all_are_listed() {
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
    fn debug_keeps_values_to_itself() {
        let params = Params::from_pairs([(&b"APP_PASSWORD"[..], &b"hunter2"[..])]);
        let shown = format!("{params:?} {:?}", params.iter());
        assert!(shown.contains("APP_PASSWORD") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn equal_pairs_are_equal_however_written() {
        let long = Params::from_block(Bytes::from_static(&[0x80, 0, 0, 1, 0, b'A'])).unwrap();
        assert_eq!(long, Params::from_pairs([(&b"A"[..], &b""[..])]));
    }

    #[test]
    fn params_may_cross_threads() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<Params>();
    }
}

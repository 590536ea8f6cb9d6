//! A table with generational keys.
//!
//! Tasks, sources and timers are rows of such tables, and public handles hold a [`Key`]: plain numbers, hence
//! `Send`. The index of a removed row is reused; the generation in the key distinguishes the old row from the new
//! one, so that a late event or waker finds no row instead of another one.

use slab::Slab;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("epoll carries a Key as a 64-bit token");

/// Identifies a row of a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// A key that no table ever returns; see [`Table::insert`].
    pub(crate) const fn reserved(number: u32) -> Self {
        Key { index: u32::MAX, generation: number }
    }

    /// Packs the key into an epoll token.
    pub(crate) const fn to_token(self) -> mio::Token {
        mio::Token(self.index as usize | (self.generation as usize) << 32)
    }

    /// Same as [`to_token`](Self::to_token), as the number that the kernel stores.
    pub(crate) const fn to_u64(self) -> u64 {
        self.to_token().0 as u64
    }

    /// Unpacks an epoll token.
    pub(crate) const fn from_token(token: mio::Token) -> Self {
        Key { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

/// Rows of `T` by [`Key`].
#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: Slab<TableRow<T>>,
    /// The generation of the next row, whatever its index: a key recurs only after exactly 2^32 insertions, and
    /// only if the last one gets the same index.
    generation: u32,
}

#[derive(Debug)]
struct TableRow<T> {
    generation: u32,
    value: T,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Table { rows: Slab::new(), generation: 0 }
    }

    /// Returns the key that the next [`insert`](Self::insert) will use.
    pub(crate) fn next_key(&self) -> Key {
        Key { index: self.rows.vacant_key() as u32, generation: self.generation }
    }

    /// Adds a row. Descriptors and memory run out long before the 2^32 - 1 rows that a table can hold.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        assert!(key.index != u32::MAX, "a table of the event loop is full");
        self.generation = self.generation.wrapping_add(1);
        self.rows.insert(TableRow { generation: key.generation, value });
        key
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let row = self.rows.get(key.index as usize)?;
        (row.generation == key.generation).then_some(&row.value)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let row = self.rows.get_mut(key.index as usize)?;
        (row.generation == key.generation).then_some(&mut row.value)
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.rows.remove(key.index as usize).value)
    }

    /// Returns the key of some row, or `None` if the table is empty.
    pub(crate) fn any_key(&self) -> Option<Key> {
        let (index, row) = self.rows.iter().next()?;
        Some(Key { index: index as u32, generation: row.generation })
    }

    /// Returns the key of the row at `index`, for iterations that end the borrow between rows: `index` goes from 0 to
    /// [`capacity`](Self::capacity).
    pub(crate) fn key_at(&self, index: usize) -> Option<Key> {
        let row = self.rows.get(index)?;
        Some(Key { index: index as u32, generation: row.generation })
    }

    /// Returns an upper bound of the indexes.
    pub(crate) fn capacity(&self) -> usize {
        self.rows.capacity()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_has_a_new_key() {
        let mut table = Table::new();
        let old = table.insert("old");
        assert_eq!(table.remove(old), Some("old"));
        let new = table.insert("new");
        assert_eq!(old.index, new.index, "the index is reused");
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&"new"));
    }

    #[test]
    fn keys_survive_the_conversion_to_tokens() {
        for key in [
            Key { index: 0, generation: 0 },
            Key { index: 7, generation: u32::MAX },
            Key { index: u32::MAX - 1, generation: 1 },
            Key::reserved(2),
        ] {
            assert_eq!(Key::from_token(key.to_token()), key);
        }
    }

    #[test]
    fn next_key_predicts_the_key_of_the_next_row() {
        let mut table = Table::new();
        for _ in 0..3 {
            let predicted = table.next_key();
            assert_eq!(table.insert(()), predicted);
        }
        assert_eq!(table.len(), 3);
    }
}

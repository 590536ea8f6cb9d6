//! What a program with a store has on disk beside what every program has.

use storage::{MOVED_SUFFIX, REPLACED_SUFFIX};

use crate::installation::{Entry, Within};

/// The SQLite database.
pub const STORE: Entry = Entry::new(Within::Data, "*.db", 0o600);
/// SQLite's rollback journal.
pub const JOURNAL: Entry = Entry::new(Within::BesideStore, "-journal", 0o600);
/// SQLite creates it in WAL mode, which no program here uses; a foreign tool may.
pub const WAL: Entry = Entry::new(Within::BesideStore, "-wal", 0o600);
/// As above.
pub const SHM: Entry = Entry::new(Within::BesideStore, "-shm", 0o600);
/// The store that was replaced by the last `restore`.
pub const REPLACED: Entry = Entry::new(Within::BesideStore, REPLACED_SUFFIX, 0o600);
/// The store that `store move` has moved to another place.
pub const MOVED: Entry = Entry::new(Within::BesideStore, MOVED_SUFFIX, 0o600);

/// What is beside the store.
pub(super) const BESIDE: [Entry; 5] = [JOURNAL, WAL, SHM, REPLACED, MOVED];

/// All of them.
pub const ENTRIES: &[Entry] = &[STORE, JOURNAL, WAL, SHM, REPLACED, MOVED];

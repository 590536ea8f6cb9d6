//! What a program with a login has on disk beside its store.

use hosted::installation::{Entry, Within};
use site::login::{BACKUPS_FOLDER, KEY_FILE, QUEUE_FOLDER};

/// The owner creates it to open the set-up page.
pub const SET_UP: Entry = Entry::new(Within::Home, "*.setup", 0o600);
/// The key of cookies and second factors.
pub const KEY: Entry = Entry::new(Within::Data, KEY_FILE, 0o600);
/// Locks that limit how many passwords are checked at once.
pub const QUEUE: Entry = Entry::new(Within::Data, QUEUE_FOLDER, 0o700);
/// Backups that the owner made on the page about the store, or has put there to restore them.
pub const BACKUPS: Entry = Entry::new(Within::Data, BACKUPS_FOLDER, 0o700);

/// All of them.
pub const ENTRIES: &[Entry] = &[SET_UP, KEY, QUEUE, BACKUPS];

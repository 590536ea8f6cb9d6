//! The setting `database`.

use storage::StoreError;

use crate::config::{Advice, Key, Kind, Location, Settings, Value, name_of_host};

/// The name of the setting that names a database. Its value is a secret ([`Keys::secret`](crate::config::Keys::secret)).
pub const SETTING: &str = "database";

/// Returns the setting that names a database, for a program that does not describe it in its own words.
pub fn setting<O>() -> Key<O> {
    Key {
        name: SETTING,
        kind: Kind::Custom {
            write: "a URL such as \"postgres://USER:PASSWORD@HOST/DATABASE\"",
            default: "the file `{name}.db` in the folder `data`",
            take: take_setting,
        },
        what: "PostgreSQL database (10 or newer) that keeps the application's rows. The tables are made when they are first \
               used. Encrypted connections (TLS) are the default unless the server is on this machine.",
        why: "A file needs no server, and is faster. The URL may contain a password, so it is never shown.",
    }
}

/// Names this machine after its host if the store is on a server: then several machines can serve the site.
pub fn name_machine<O>(settings: &mut Settings<O>) {
    if settings.database.is_some() {
        settings.node.get_or_insert_with(name_of_host);
    }
}

/// Takes the value of the setting, for a program that describes it in its own words.
///
/// # Errors
///
/// If it is not a URL of PostgreSQL's.
pub fn take_setting<O>(
    settings: &mut Settings<O>,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    let (Value::Text(url) | Value::Secret(url)) = value else { return Err(Advice::Default) };
    let url = url.trim().parse();
    settings.database = Some(url.map_err(|error: StoreError| {
        Advice::Specific(format!(
            "write a URL such as postgres://USER:PASSWORD@HOST/DATABASE: {error}"
        ))
    })?);
    Ok(())
}

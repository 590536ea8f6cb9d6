//! How often a password may be tried: by one address, by one browser that knew it before, by all
//! together.
//!
//! Every try is counted in the store before the password is looked at, so that of many processes none lets
//! one through that another has just counted. The rules are here as functions of numbers; the password is
//! checked elsewhere.

use std::net::IpAddr;

use rusqlite::{OptionalExtension, Transaction, params};

/// Seconds since 1970.
pub(crate) type Seconds = i64;

/// Tries in a row that cost no waiting.
const FREE_TRIES: i64 = 5;

/// The longest wait of one address, in seconds: 5 min, that is 288 tries a day. Longer would lock an owner
/// out who shares an address with whoever is guessing.
const LONGEST_WAIT: i64 = 300;

/// After this long without a try an address begins anew, in seconds.
const FORGOTTEN_AFTER: i64 = 3600;

/// Tries of all unknown browsers together that cost no waiting …
const FREE_TRIES_OF_ALL: i64 = 50;

/// … and how many seconds each further one takes.
const SECONDS_A_TRY_OF_ALL: i64 = 10;

/// Rows that are kept. With the rest of the rules, more than this cannot be of use to anybody.
const MOST_ROWS: i64 = 2000;

/// Whose tries are counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A browser in which the owner has logged in before, by its number. What others try does not delay it.
    Known(String),
    /// Any other, by its address; `None` where nobody tells one.
    Unknown(Option<IpAddr>),
}

impl Who {
    fn name(&self) -> String {
        match self {
            Who::Known(number) => format!("known {number}"),
            Who::Unknown(None) => "no address".to_owned(),
            Who::Unknown(Some(IpAddr::V4(address))) => address.to_string(),
            // One customer has a /64.
            Who::Unknown(Some(IpAddr::V6(address))) => match address.to_ipv4_mapped() {
                Some(address) => address.to_string(),
                None => {
                    let [a, b, c, d, ..] = address.segments();
                    format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
                }
            },
        }
    }
}

/// The row of all unknown browsers together.
const ALL: &str = "all";

/// Counts a try, unless it has to wait: then returns for how many seconds.
pub(crate) fn count(
    store: &Transaction<'_>,
    who: &Who,
    now: Seconds,
) -> rusqlite::Result<Result<(), u32>> {
    // What a clock that was ahead has written would hold until the time it showed has come.
    store.execute("UPDATE attempts SET last = ?1 WHERE last > ?1", [now])?;
    let name = who.name();
    let own = row(store, &name)?;
    let all = match who {
        Who::Known(_) => None,
        Who::Unknown(_) => Some(row(store, ALL)?),
    };
    let wait = own.wait(now).max(all.map_or(0, |all| all.wait_of_all(now)));
    if wait > 0 {
        return Ok(Err(u32::try_from(wait).unwrap_or(u32::MAX)));
    }
    put(store, &name, own.next(now))?;
    if let Some(all) = all {
        put(store, ALL, all.next_of_all(now))?;
    }
    store.execute(
        "DELETE FROM attempts WHERE last < ?1 AND who <> ?2",
        params![now - FORGOTTEN_AFTER, ALL],
    )?;
    store.execute(
        "DELETE FROM attempts WHERE who IN
             (SELECT who FROM attempts WHERE who <> ?1 ORDER BY last DESC LIMIT -1 OFFSET ?2)",
        params![ALL, MOST_ROWS],
    )?;
    Ok(Ok(()))
}

/// Forgets the tries of somebody who knew the password, the one of just now among those of all.
pub(crate) fn forgive(store: &Transaction<'_>, who: &Who) -> rusqlite::Result<()> {
    store.execute("DELETE FROM attempts WHERE who = ?1", [who.name()])?;
    if matches!(who, Who::Unknown(_)) {
        store
            .execute("UPDATE attempts SET failures = max(failures - 1, 0) WHERE who = ?1", [ALL])?;
    }
    Ok(())
}

/// Takes the try of just now back: the password was not looked at.
pub(crate) fn take_back(store: &Transaction<'_>, who: &Who) -> rusqlite::Result<()> {
    let of_all = matches!(who, Who::Unknown(_)).then_some(ALL);
    for name in [Some(&*who.name()), of_all].into_iter().flatten() {
        store.execute(
            "UPDATE attempts SET failures = max(failures - 1, 0) WHERE who = ?1",
            [name],
        )?;
    }
    Ok(())
}

/// Tries so far, and when the last one was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    tries: i64,
    last: Seconds,
}

impl Row {
    /// How long this one has to wait yet.
    fn wait(self, now: Seconds) -> i64 {
        let beyond = self.tries - FREE_TRIES;
        if beyond < 0 || self.is_forgotten(now) {
            return 0;
        }
        let length = (1_i64 << beyond.min(32)).min(LONGEST_WAIT);
        (self.last + length - now).clamp(0, length)
    }

    fn next(self, now: Seconds) -> Row {
        let tries = if self.is_forgotten(now) { 0 } else { self.tries };
        Row { tries: tries.saturating_add(1), last: now }
    }

    fn is_forgotten(self, now: Seconds) -> bool {
        now - self.last >= FORGOTTEN_AFTER
    }

    /// Of all together: a bucket that leaks.
    fn wait_of_all(self, now: Seconds) -> i64 {
        let beyond = self.level(now) - FREE_TRIES_OF_ALL;
        if beyond < 0 {
            return 0;
        }
        let since = (now - self.last).max(0) % SECONDS_A_TRY_OF_ALL;
        ((beyond + 1) * SECONDS_A_TRY_OF_ALL - since).clamp(1, SECONDS_A_TRY_OF_ALL)
    }

    fn next_of_all(self, now: Seconds) -> Row {
        let level = self.level(now);
        // What has leaked of the next one is not lost.
        let since = if level == 0 { 0 } else { (now - self.last).max(0) % SECONDS_A_TRY_OF_ALL };
        Row { tries: level + 1, last: now - since }
    }

    fn level(self, now: Seconds) -> i64 {
        (self.tries - (now - self.last).max(0) / SECONDS_A_TRY_OF_ALL).max(0)
    }
}

fn row(store: &Transaction<'_>, who: &str) -> rusqlite::Result<Row> {
    let found = store
        .query_row("SELECT failures, last FROM attempts WHERE who = ?1", [who], |row| {
            Ok(Row { tries: row.get(0)?, last: row.get(1)? })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn put(store: &Transaction<'_>, who: &str, row: Row) -> rusqlite::Result<()> {
    store.execute(
        "INSERT OR REPLACE INTO attempts (who, failures, last) VALUES (?1, ?2, ?3)",
        params![who, row.tries, row.last],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::testing::block_on;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("store.db"));
        (folder, store)
    }

    fn tries(store: &Store, who: &Who, now: Seconds) -> Result<(), u32> {
        block_on(store.write(|store| count(store, who, now))).unwrap()
    }

    fn address(text: &str) -> Who {
        Who::Unknown(Some(text.parse().unwrap()))
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_are_forgotten() {
        let (_folder, store) = store();
        let who = address("192.0.2.1");
        let mut now = 1_000_000;
        let mut waits = Vec::new();
        for _ in 0..17 {
            if let Err(wait) = tries(&store, &who, now) {
                waits.push(wait);
                // Asking again meanwhile neither helps nor harms.
                assert_eq!(tries(&store, &who, now + i64::from(wait) - 1), Err(1));
                now += i64::from(wait);
                assert_eq!(tries(&store, &who, now), Ok(()));
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(tries(&store, &who, now + FORGOTTEN_AFTER), Ok(()));
        assert_eq!(tries(&store, &who, now + FORGOTTEN_AFTER), Ok(()));
    }

    #[test]
    fn one_address_delays_no_other_and_success_is_forgiven() {
        let (_folder, store) = store();
        let (guesser, owner) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..5 {
            assert_eq!(tries(&store, &guesser, 100), Ok(()));
        }
        assert_eq!(tries(&store, &guesser, 100), Err(1));
        assert_eq!(tries(&store, &owner, 100), Ok(()));
        block_on(store.write(|store| forgive(store, &guesser))).unwrap();
        assert_eq!(tries(&store, &guesser, 100), Ok(()));
    }

    #[test]
    fn a_try_that_was_not_looked_at_is_taken_back() {
        let (_folder, store) = store();
        let who = address("192.0.2.1");
        for _ in 0..3 * FREE_TRIES_OF_ALL {
            assert_eq!(tries(&store, &who, 100), Ok(()));
            block_on(store.write(|store| take_back(store, &who))).unwrap();
        }
    }

    #[test]
    fn a_net_of_64_bits_is_one_address_and_a_mapped_one_is_its_ipv4() {
        for (left, right, same) in [
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8:0:1::1", "2001:db8::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(address(left).name() == address(right).name(), same, "{left} {right}");
        }
    }

    #[test]
    fn many_addresses_together_get_one_try_in_ten_seconds() {
        let (_folder, store) = store();
        let mut number = 0;
        let mut fresh = || {
            number += 1;
            Who::Unknown(Some(IpAddr::from([10, 0, (number / 250) as u8, (number % 250) as u8])))
        };
        let mut allowed = 0;
        // Ten a second, for ten minutes.
        for now in 0..600 {
            for _ in 0..10 {
                allowed += i64::from(tries(&store, &fresh(), now).is_ok());
            }
        }
        assert_eq!(allowed, FREE_TRIES_OF_ALL + 59);
        // A browser that is known does not wait with them.
        let known = Who::Known("7".to_owned());
        for _ in 0..FREE_TRIES {
            assert_eq!(tries(&store, &known, 600), Ok(()));
        }
        assert_eq!(tries(&store, &known, 600), Err(1), "but has its own limit");
        // Some time later all is as at the beginning.
        assert_eq!(tries(&store, &fresh(), 600 + 600), Ok(()));
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_moment_keeps_nobody_out() {
        let (_folder, store) = store();
        let who = address("192.0.2.1");
        for _ in 0..FREE_TRIES {
            assert_eq!(tries(&store, &who, 1_000_000), Ok(()));
        }
        assert_eq!(tries(&store, &who, 10), Err(1));
        assert_eq!(tries(&store, &who, 11), Ok(()), "as long as it would have been, no longer");
        let (_folder, store) = self::store();
        for number in 0..FREE_TRIES_OF_ALL {
            let other = Who::Unknown(Some(IpAddr::from([10, 0, 0, number as u8])));
            assert_eq!(tries(&store, &other, 1_000_000), Ok(()));
        }
        assert_eq!(tries(&store, &who, 10), Err(10));
        assert_eq!(tries(&store, &who, 20), Ok(()));
    }

    #[test]
    fn the_table_stays_small() {
        let (_folder, store) = store();
        block_on(store.write(|store| {
            for number in 0..MOST_ROWS + 100 {
                put(store, &format!("row {number}"), Row { tries: 1, last: 1000 + number })?;
            }
            Ok(())
        }))
        .unwrap();
        assert_eq!(tries(&store, &address("192.0.2.1"), 3500), Ok(()));
        let rows: i64 =
            block_on(store.read(|store| {
                store.query_row("SELECT count(*) FROM attempts", [], |row| row.get(0))
            }))
            .unwrap();
        assert_eq!(rows, MOST_ROWS + 1);
    }
}

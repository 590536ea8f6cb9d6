//! How often a password may be tried: by one address, by one browser that the owner has used before, by all together.
//!
//! Every attempt is counted in the store before the password is checked, so that no process lets one through that
//! another has just counted. The rules are functions of numbers; the password is checked elsewhere. Under load, who
//! is next is drawn by lot (`draw.rs`): first come, first served would favor clients that poll.

use storage::{Snapshot, StoreError, Transaction, params};

use super::client::Client;
use super::clock::Seconds;
use super::draw::{self, Lot, ROUND_SECONDS};
use super::secrets::Secrets;

/// Attempts in a row without waiting.
const FREE_ATTEMPTS: i64 = 5;

/// The longest wait of one address, in seconds: 5 min, which allows 288 attempts a day. A longer one would lock out an
/// owner who shares an address with an attacker.
const MAX_WAIT: i64 = 300;

/// After this many seconds without an attempt an address starts over.
const FORGOTTEN_AFTER: i64 = 3600;

/// Attempts of all unknown browsers together without waiting …
const FREE_ATTEMPTS_TOGETHER: i64 = 50;

/// … and how many seconds each further one takes: one round of the draw.
const SECONDS_PER_ATTEMPT: i64 = ROUND_SECONDS;

/// Rows that are kept. Given the other rules, more would be of no use to anybody.
const MAX_ROWS: i64 = 2000;

/// The row of all unknown browsers together.
const ALL: &str = "all";

/// Why an attempt has to wait, and for how many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// This address or browser has tried too often.
    Own(u32),
    /// Many try at once: a draw decides who is next, and asking again takes part in the next one.
    Crowd(u32),
}

impl Wait {
    pub(crate) fn seconds(self) -> u32 {
        let (Wait::Own(seconds) | Wait::Crowd(seconds)) = self;
        seconds
    }
}

/// Counts an attempt, unless it has to wait.
pub(crate) async fn count(
    store: &Transaction<'_>,
    who: &Client,
    now: Seconds,
    secrets: &Secrets,
) -> Result<Result<(), Wait>, StoreError> {
    // A record from a clock that was ahead would count until that time.
    store.execute("UPDATE attempts SET last = $1 WHERE last > $1", params![now]).await?;
    let name = who.name();
    let own = row(store, &name).await?;
    let wait = own.wait(now);
    if wait > 0 {
        return Ok(Err(Wait::Own(u32::try_from(wait).unwrap_or(u32::MAX))));
    }
    if matches!(who, Client::Unknown(_))
        && let Err(seconds) = count_among_all(store, who, now, secrets).await?
    {
        return Ok(Err(Wait::Crowd(u32::try_from(seconds).unwrap_or(u32::MAX))));
    }
    put(store, &name, own.next(now)).await?;
    store
        .execute(
            "DELETE FROM attempts WHERE last < $1 AND who <> $2",
            params![now - FORGOTTEN_AFTER, ALL],
        )
        .await?;
    store
        .execute(
            "DELETE FROM attempts WHERE who <> $1 AND who NOT IN
             (SELECT who FROM attempts WHERE who <> $1 ORDER BY last DESC LIMIT $2)",
            params![ALL, MAX_ROWS],
        )
        .await?;
    Ok(Ok(()))
}

/// Counts an attempt by an unknown browser, unless others come first: then returns when to ask again, in
/// seconds.
async fn count_among_all(
    store: &Transaction<'_>,
    who: &Client,
    now: Seconds,
    secrets: &Secrets,
) -> Result<Result<(), Seconds>, StoreError> {
    if draw::has_pass(store, who, now).await? {
        // It was counted when the pass was given.
        return draw::use_pass(store, who, now).await.map(Ok);
    }
    if is_crowded(store, now).await?
        && let Lot::Drawn(seconds) = draw::ask(store, who, now, secrets).await?
    {
        return Ok(Err(seconds));
    }
    let all = row(store, ALL).await?;
    put(store, ALL, all.next_together(now)).await?;
    Ok(Ok(()))
}

/// Returns whether unknown browsers together have used up their attempts. Only reads, for the form.
pub(crate) async fn is_crowded(store: &Snapshot<'_>, now: Seconds) -> Result<bool, StoreError> {
    let all = row(store, ALL).await?;
    // While others wait, an attempt that becomes available is theirs.
    Ok(all.wait_together(now) > 0 || draw::is_on(store, now).await?)
}

/// Returns how long this client has to wait for its own attempts. Only reads, and ignores a last attempt in the future:
/// counting repairs that.
pub(crate) async fn own_wait(
    store: &Snapshot<'_>,
    who: &Client,
    now: Seconds,
) -> Result<Option<Wait>, StoreError> {
    let own = row(store, &who.name()).await?;
    let wait = own.wait(now);
    let has_to_wait = wait > 0 && own.last <= now;
    Ok(has_to_wait.then(|| Wait::Own(u32::try_from(wait).unwrap_or(u32::MAX))))
}

/// Takes part in the draw before a password is typed, under load. The winner gets time to type it.
pub(crate) async fn ask_for_pass(
    store: &Transaction<'_>,
    who: &Client,
    now: Seconds,
    secrets: &Secrets,
) -> Result<Result<(), Wait>, StoreError> {
    if let Some(wait) = own_wait(store, who, now).await? {
        return Ok(Err(wait));
    }
    if draw::has_pass(store, who, now).await? {
        return Ok(Ok(()));
    }
    match draw::ask(store, who, now, secrets).await? {
        Lot::Drawn(seconds) => Ok(Err(Wait::Crowd(u32::try_from(seconds).unwrap_or(u32::MAX)))),
        Lot::Won => {
            let all = row(store, ALL).await?;
            put(store, ALL, all.next_together(now)).await?;
            draw::give_pass(store, who, now).await?;
            Ok(Ok(()))
        }
    }
}

/// Forgets the attempts of a client that knew the password, and the last one among those of all.
pub(crate) async fn forgive(store: &Transaction<'_>, who: &Client) -> Result<(), StoreError> {
    store.execute("DELETE FROM attempts WHERE who = $1", params![who.name()]).await?;
    if matches!(who, Client::Unknown(_)) {
        store
            .execute(
                "UPDATE attempts SET failures = failures - 1 WHERE who = $1 AND failures > 0",
                params![ALL],
            )
            .await?;
    }
    Ok(())
}

/// Takes back the last attempt: the password was not checked.
pub(crate) async fn take_back(store: &Transaction<'_>, who: &Client) -> Result<(), StoreError> {
    let of_all = matches!(who, Client::Unknown(_)).then_some(ALL);
    for name in [Some(&*who.name()), of_all].into_iter().flatten() {
        store
            .execute(
                "UPDATE attempts SET failures = failures - 1 WHERE who = $1 AND failures > 0",
                params![name],
            )
            .await?;
    }
    Ok(())
}

/// The attempts so far, and when the last one was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    attempts: i64,
    last: Seconds,
}

impl Row {
    /// Returns how long the client still has to wait.
    fn wait(self, now: Seconds) -> i64 {
        let beyond = self.attempts - FREE_ATTEMPTS;
        if beyond < 0 || self.is_forgotten(now) {
            return 0;
        }
        let length = (1_i64 << beyond.min(32)).min(MAX_WAIT);
        (self.last + length - now).clamp(0, length)
    }

    fn next(self, now: Seconds) -> Row {
        let attempts = if self.is_forgotten(now) { 0 } else { self.attempts };
        Row { attempts: attempts.saturating_add(1), last: now }
    }

    fn is_forgotten(self, now: Seconds) -> bool {
        now - self.last >= FORGOTTEN_AFTER
    }

    /// How long all together have to wait: a leaky bucket.
    fn wait_together(self, now: Seconds) -> i64 {
        let beyond = self.level(now) - FREE_ATTEMPTS_TOGETHER;
        if beyond < 0 {
            return 0;
        }
        let since = (now - self.last).max(0) % SECONDS_PER_ATTEMPT;
        ((beyond + 1) * SECONDS_PER_ATTEMPT - since).clamp(1, SECONDS_PER_ATTEMPT)
    }

    fn next_together(self, now: Seconds) -> Row {
        let level = self.level(now);
        // The part of the next one that has already leaked is not lost.
        let since = if level == 0 { 0 } else { (now - self.last).max(0) % SECONDS_PER_ATTEMPT };
        Row { attempts: level + 1, last: now - since }
    }

    fn level(self, now: Seconds) -> i64 {
        (self.attempts - (now - self.last).max(0) / SECONDS_PER_ATTEMPT).max(0)
    }
}

async fn row(store: &Snapshot<'_>, who: &str) -> Result<Row, StoreError> {
    let find = "SELECT failures, last FROM attempts WHERE who = $1";
    let found = store.query_opt(find, params![who]).await?;
    Ok(found.map(|(attempts, last)| Row { attempts, last }).unwrap_or_default())
}

async fn put(store: &Transaction<'_>, who: &str, row: Row) -> Result<(), StoreError> {
    store
        .execute(
            "INSERT INTO attempts (who, failures, last) VALUES ($1, $2, $3)
             ON CONFLICT (who) DO UPDATE SET failures = excluded.failures, last = excluded.last",
            params![who, row.attempts, row.last],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use storage::Store;

    use super::*;
    use crate::login::tests::store_in;
    use crate::testing::block_on;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        (folder, store)
    }

    /// The secret key is the same in every run, so every draw is, too.
    fn secrets() -> Secrets {
        Secrets::of_key(&[7; 64])
    }

    fn tries(store: &Store, who: &Client, now: Seconds) -> Result<(), u32> {
        let tried =
            block_on(store.write(async |store| count(store, who, now, &secrets()).await)).unwrap();
        tried.map_err(Wait::seconds)
    }

    fn address(text: &str) -> Client {
        Client::Unknown(Some(text.parse().unwrap()))
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
                // Asking again meanwhile neither helps nor hurts.
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
        block_on(store.write(async |store| forgive(store, &guesser).await)).unwrap();
        assert_eq!(tries(&store, &guesser, 100), Ok(()));
    }

    #[test]
    fn an_attempt_that_was_not_checked_is_taken_back() {
        let (_folder, store) = store();
        let who = address("192.0.2.1");
        for _ in 0..3 * FREE_ATTEMPTS_TOGETHER {
            assert_eq!(tries(&store, &who, 100), Ok(()));
            block_on(store.write(async |store| take_back(store, &who).await)).unwrap();
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
    fn many_addresses_together_get_one_attempt_in_ten_seconds() {
        let (_folder, store) = store();
        let mut number = 0;
        let mut fresh = || {
            number += 1;
            Client::Unknown(Some(IpAddr::from([10, 0, (number / 250) as u8, (number % 250) as u8])))
        };
        let mut allowed = 0;
        // Ten a second, for ten minutes.
        for now in 0..600 {
            for _ in 0..10 {
                allowed += i64::from(tries(&store, &fresh(), now).is_ok());
            }
        }
        // A winner does not always come back from the same address: some attempts go unused.
        assert!(
            (FREE_ATTEMPTS_TOGETHER..=FREE_ATTEMPTS_TOGETHER + 59).contains(&allowed),
            "{allowed}"
        );
        // A known browser does not wait with them.
        let known = Client::Known("7".to_owned());
        for _ in 0..FREE_ATTEMPTS {
            assert_eq!(tries(&store, &known, 600), Ok(()));
        }
        assert_eq!(tries(&store, &known, 600), Err(1), "but has its own limit");
        // Some time later everything starts over.
        assert_eq!(tries(&store, &fresh(), 600 + 600), Ok(()));
    }

    #[test]
    fn a_clock_that_was_briefly_ahead_locks_nobody_out() {
        let (_folder, store) = store();
        let who = address("192.0.2.1");
        for _ in 0..FREE_ATTEMPTS {
            assert_eq!(tries(&store, &who, 1_000_000), Ok(()));
        }
        assert_eq!(tries(&store, &who, 10), Err(1));
        assert_eq!(tries(&store, &who, 11), Ok(()), "as long as it would have been, no longer");
        let (_folder, store) = self::store();
        for number in 0..FREE_ATTEMPTS_TOGETHER {
            let other = Client::Unknown(Some(IpAddr::from([10, 0, 0, number as u8])));
            assert_eq!(tries(&store, &other, 1_000_000), Ok(()));
        }
        assert_eq!(tries(&store, &who, 10), Err(10));
        assert_eq!(tries(&store, &who, 20), Ok(()));
    }

    /// Sixty networks and a rented /48 ask at every useful moment, always before the owner, whose login page
    /// reloads every five seconds.
    #[test]
    fn constant_polling_by_a_crowd_does_not_lock_the_owner_out() {
        const CROWD: u8 = 60;
        let (_folder, store) = store();
        let (secrets, owner) = (secrets(), address("192.0.2.1"));
        block_on(store.write(async |store| {
            let (mut guesses, mut began) = (0, 0);
            for now in 0..12 * 3600 {
                if ![0, 5, 9].contains(&(now % ROUND_SECONDS)) {
                    continue;
                }
                for network in 0..CROWD {
                    let who = Client::Unknown(Some(IpAddr::from([10, 0, network, 1])));
                    guesses += i64::from(count(store, &who, now, &secrets).await?.is_ok());
                    let rented = [0x2001, 0xdb8, 0, u16::from(network), 0, 0, 0, now as u16];
                    let who = Client::Unknown(Some(IpAddr::from(rented)));
                    guesses += i64::from(count(store, &who, now, &secrets).await?.is_ok());
                }
                if began == 0 && guesses < FREE_ATTEMPTS_TOGETHER {
                    continue;
                }
                began = began.max(now);
                if now % 5 == 0 && ask_for_pass(store, &owner, now, &secrets).await?.is_ok() {
                    assert_eq!(count(store, &owner, now + 1, &secrets).await?, Ok(()));
                    assert!(count(store, &owner, now + 1, &secrets).await?.is_err(), "one try");
                    // One chance in 62 every ten seconds: ten minutes, give or take.
                    assert!(now < 3600, "after {now} s");
                    assert!(guesses <= FREE_ATTEMPTS_TOGETHER + now / SECONDS_PER_ATTEMPT);
                    return Ok(());
                }
            }
            panic!("the owner is kept out");
        }))
        .unwrap();
    }

    #[test]
    fn the_table_stays_small() {
        let (_folder, store) = store();
        block_on(store.write(async |store| {
            for number in 0..MAX_ROWS + 100 {
                put(store, &format!("row {number}"), Row { attempts: 1, last: 1000 + number })
                    .await?;
            }
            Ok(())
        }))
        .unwrap();
        assert_eq!(tries(&store, &address("192.0.2.1"), 3500), Ok(()));
        let rows: i64 = block_on(
            store.read(async |store| store.query_one("SELECT count(*) FROM attempts", &[]).await),
        )
        .unwrap();
        assert_eq!(rows, MAX_ROWS + 1);
    }
}

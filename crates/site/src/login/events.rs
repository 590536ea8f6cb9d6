//! What has happened to the owner's account, shown to the owner: the site cannot send messages.

use http::HeaderMap;
use http::header::USER_AGENT;
use storage::{FromRow, Row, Snapshot, StoreError, Transaction, params};

use super::clock::Seconds;

/// The maximum number of events; the oldest are removed first.
const MAX_EVENTS: i64 = 20;

/// Something the owner should know about, as worded on the account page.
pub(crate) const NEW_BROWSER: &str = "Login from a new browser";
pub(crate) const PASSWORD_SET: &str = "Password set";
pub(crate) const PASSWORD_CHANGED: &str = "Password changed";
pub(crate) const SECOND_FACTOR_ON: &str = "Second factor turned on";
pub(crate) const SECOND_FACTOR_OFF: &str = "Second factor turned off";
pub(crate) const NEW_RECOVERY_CODES: &str = "Recovery codes replaced";
pub(crate) const ENDED: &str = "Session ended from another browser";
pub(crate) const ENDED_EVERYWHERE: &str = "Logged out everywhere";
pub(crate) const BACKUP_MADE: &str = "Backup made";
pub(crate) const BACKUP_DOWNLOADED: &str = "Backup downloaded";
pub(crate) const BACKUP_DELETED: &str = "Backup deleted";
pub(crate) const RESTORED: &str = "Backup restored";

/// Where a request comes from, in words for its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// For example `Firefox on Linux`; empty if unknown.
    pub(crate) browser: String,
    /// Empty if unknown.
    pub(crate) address: String,
}

/// An event, as recorded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: Seconds,
    pub(crate) what: String,
    pub(crate) origin: Origin,
}

/// Records an event.
pub(crate) async fn record(
    store: &Transaction<'_>,
    now: Seconds,
    what: &'static str,
    origin: &Origin,
) -> Result<(), StoreError> {
    store
        .execute(
            "INSERT INTO events (at, what, browser, address) VALUES ($1, $2, $3, $4)",
            params![now, what, origin.browser, origin.address],
        )
        .await?;
    store
        .execute(
            "DELETE FROM events WHERE id NOT IN (SELECT id FROM events ORDER BY id DESC LIMIT $1)",
            params![MAX_EVENTS],
        )
        .await?;
    Ok(())
}

/// Returns the events, newest first.
pub(crate) async fn list(store: &Snapshot<'_>) -> Result<Vec<Event>, StoreError> {
    store.query("SELECT at, what, browser, address FROM events ORDER BY id DESC", &[]).await
}

impl FromRow for Event {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        let (at, what) = (row.read()?, row.read()?);
        Ok(Event { at, what, origin: Origin { browser: row.read()?, address: row.read()? } })
    }
}

/// Returns the browser and its system, as they call themselves. Good enough for the question "was that me?"; nothing is
/// decided by it.
pub(crate) fn browser(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("");
    // Each also claims to be those after it.
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| *name)
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Chromium/", "Chromium"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("CrOS", "ChromeOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (one, other) => one.or(other).unwrap_or_default().to_owned(),
    }
}

/// Returns how long ago something was.
pub(crate) fn ago(at: Seconds, now: Seconds) -> String {
    let passed = (now - at).max(0);
    let (count, unit) = match passed {
        0..600 => return "just now".to_owned(),
        600..7200 => (passed / 60, "minutes"),
        7200..172_800 => (passed / 3600, "hours"),
        _ => (passed / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::tests::store_in;
    use crate::testing::block_on;

    #[test]
    fn the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let origin = Origin { browser: "Firefox on Linux".into(), address: "192.0.2.1".into() };
        let events = block_on(store.write(async |store| {
            for now in 0..MAX_EVENTS + 5 {
                record(store, now, NEW_BROWSER, &origin).await?;
            }
            list(store).await
        }));
        let events = events.unwrap();
        assert_eq!(events.len() as i64, MAX_EVENTS);
        let last = Event { at: MAX_EVENTS + 4, what: NEW_BROWSER.to_owned(), origin };
        assert_eq!(events[0], last);
    }

    #[test]
    fn browsers_and_times_in_words() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 \
                 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.0 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            ("<script>", ""),
            ("curl/8.5.0", "curl"),
            ("", ""),
        ] {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            assert_eq!(browser(&headers), expected);
        }
        for (passed, expected) in [
            (-5, "just now"),
            (599, "just now"),
            (600, "10 minutes ago"),
            (7200, "2 hours ago"),
            (172_800, "2 days ago"),
        ] {
            assert_eq!(ago(1000, 1000 + passed), expected);
        }
    }
}

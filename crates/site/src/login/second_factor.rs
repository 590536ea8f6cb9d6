//! The second factor: codes of an authenticator app (TOTP, RFC 6238) and recovery codes.
//!
//! SHA-1, six digits and 30 s are what every app supports. Every code, recovery codes included, is accepted once. The
//! store holds the key, encrypted with the site's secret because codes are computed from it, and the hashes of recovery
//! codes: a copy of the store is not enough for a login.

use data_encoding::BASE32_NOPAD;
use qrcodegen::{QrCode, QrCodeEcc};
use ring::digest::{SHA256, digest};
use ring::hmac;
use storage::{Snapshot, StoreError, Transaction, params};
use subtle::ConstantTimeEq;

use super::clock::Seconds;
use super::facts::{fact, set_fact};
use super::secrets::Secrets;
use crate::random::{NoRandomness, random};

pub(super) const KEY_FACT: &str = "totp_key";
/// The prefix of an encrypted key; a key without it is base32.
const SEALED: &str = "sealed:";
/// The last step whose code was used.
pub(super) const STEP_FACT: &str = "totp_step";

/// Bytes of a key: as long as the digest, as RFC 4226 §4 recommends.
const KEY_BYTES: usize = 20;
const STEP_SECONDS: Seconds = 30;
/// How many steps a clock may be off, in either direction.
const STEPS_OFF: Seconds = 1;
const RECOVERY_CODES: usize = 10;
/// Bytes of a recovery code: 120 bits, 24 characters. OWASP's ASVS 4 requires 112 (2.6.2) if the hash has no
/// salt.
const RECOVERY_BYTES: usize = 15;

/// Returns whether a code is required.
pub(crate) async fn is_on(store: &Snapshot<'_>) -> Result<bool, StoreError> {
    Ok(fact(store, KEY_FACT).await?.is_some())
}

/// Uses up a code: the app's current one, or a recovery code; neither is accepted again.
///
/// The store is queried in the same way whether or not the password was right (`is_password`), unless both are
/// right: otherwise the response time would reveal which of the two was wrong. With a wrong password no code is
/// used up.
pub(crate) async fn take(
    store: &Transaction<'_>,
    typed: &str,
    now: Seconds,
    secrets: &Secrets,
    is_password: bool,
) -> Result<bool, StoreError> {
    let Some(stored) = fact(store, KEY_FACT).await? else { return Ok(is_password) };
    let key = opened(store, &stored, secrets).await?;
    let typed = normalized(typed);
    let mut last = fact(store, STEP_FACT).await?.and_then(|step| step.parse().ok()).unwrap_or(0);
    let current = now / STEP_SECONDS;
    if last > current + STEPS_OFF {
        // From a clock that was ahead. If it were forgotten entirely, a code used just now would work again.
        last = current;
        set_fact(store, STEP_FACT, Some(&last.to_string())).await?;
    }
    let step = key.and_then(|key| step_of(&key, &typed, last, now));
    if let (Some(step), true) = (step, is_password) {
        set_fact(store, STEP_FACT, Some(&step.to_string())).await?;
        return Ok(true);
    }
    let delete = "DELETE FROM recovery_codes WHERE hash = $1 AND $2";
    Ok(store.execute(delete, params![hash(&typed), is_password]).await? > 0)
}

/// Returns the key; one that an older version stored unencrypted is encrypted now. If the site's secret has changed
/// since, no code is accepted, and only recovery codes are left.
async fn opened(
    store: &Transaction<'_>,
    stored: &str,
    secrets: &Secrets,
) -> Result<Option<String>, StoreError> {
    let Some(sealed) = stored.strip_prefix(SEALED) else {
        set_fact(store, KEY_FACT, Some(&seal(stored, secrets))).await?;
        return Ok(Some(stored.to_owned()));
    };
    let key = secrets.open(KEY_FACT, sealed);
    if key.is_none() {
        tracing::error!(
            "The key of the second factor was encrypted with another secret.key, so no code is accepted. Restore that \
             file, or log in with a recovery code and turn the second factor off and on again."
        );
    }
    Ok(key)
}

/// Encrypts a key for the store.
pub(crate) fn seal(key: &str, secrets: &Secrets) -> String {
    format!("{SEALED}{}", secrets.seal(KEY_FACT, key))
}

/// Returns the key that [`seal`] has encrypted with this secret.
pub(crate) fn unsealed(stored: &str, secrets: &Secrets) -> Option<String> {
    secrets.open(KEY_FACT, stored.strip_prefix(SEALED)?)
}

/// Turns the second factor on, if the code matches the key; returns whether it did.
pub(crate) async fn turn_on(
    store: &Transaction<'_>,
    key: &str,
    typed: &str,
    now: Seconds,
    secrets: &Secrets,
    recovery_codes: &[String],
) -> Result<bool, StoreError> {
    let Some(step) = step_of(key, &normalized(typed), 0, now) else { return Ok(false) };
    set_fact(store, KEY_FACT, Some(&seal(key, secrets))).await?;
    set_fact(store, STEP_FACT, Some(&step.to_string())).await?;
    replace_recovery_codes(store, recovery_codes).await?;
    Ok(true)
}

/// Replaces all recovery codes by new ones.
pub(crate) async fn replace_recovery_codes(
    store: &Transaction<'_>,
    codes: &[String],
) -> Result<(), StoreError> {
    store.execute("DELETE FROM recovery_codes", &[]).await?;
    for code in codes {
        store
            .execute(
                "INSERT INTO recovery_codes (hash) VALUES ($1)",
                params![hash(&normalized(code))],
            )
            .await?;
    }
    Ok(())
}

/// Turns it off.
pub(crate) async fn turn_off(store: &Transaction<'_>) -> Result<(), StoreError> {
    set_fact(store, KEY_FACT, None).await?;
    set_fact(store, STEP_FACT, None).await?;
    store.execute("DELETE FROM recovery_codes", &[]).await.map(drop)
}

/// Returns how many recovery codes are left.
pub(crate) async fn codes_left(store: &Snapshot<'_>) -> Result<i64, StoreError> {
    store.query_one("SELECT count(*) FROM recovery_codes", &[]).await
}

/// Makes a key, in the encoding in which apps accept it when typed.
pub(crate) fn new_key() -> Result<String, NoRandomness> {
    Ok(BASE32_NOPAD.encode(&random::<KEY_BYTES>()?))
}

/// Makes recovery codes, in readable groups.
pub(crate) fn new_recovery_codes() -> Result<Vec<String>, NoRandomness> {
    let code = |_| {
        let letters = BASE32_NOPAD.encode(&random::<RECOVERY_BYTES>()?).to_ascii_lowercase();
        let groups: Vec<_> = (0..6).filter_map(|at| letters.get(at * 4..at * 4 + 4)).collect();
        Ok(groups.join("-"))
    };
    (0..RECOVERY_CODES).map(code).collect()
}

/// Returns the URI that an app reads from the QR code. `site` and `host` name the site in the app.
pub(crate) fn address(key: &str, site: &str, host: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let (site, host) = (encoded(site), encoded(host));
    format!("otpauth://totp/{site}:{host}?secret={key}&issuer={site}")
}

/// Draws a QR code: returns the modules per side, margin included, and the path of an SVG with the dark ones.
pub(crate) fn picture(address: &str) -> Option<(i32, String)> {
    /// The margin that the standard requires.
    const MARGIN: i32 = 4;
    let code = QrCode::encode_text(address, QrCodeEcc::Medium).ok()?;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            path += &format!("M{} {}h1v1h-1z", x + MARGIN, y + MARGIN);
        }
    }
    Some((code.size() + 2 * MARGIN, path))
}

/// Returns the step whose code was typed, if it is about now and later than the last one used.
fn step_of(key: &str, typed: &str, last: Seconds, now: Seconds) -> Option<Seconds> {
    let key = BASE32_NOPAD.decode(key.as_bytes()).ok()?;
    let step = now / STEP_SECONDS;
    (step - STEPS_OFF..=step + STEPS_OFF)
        .filter(|step| *step > last)
        .find(|step| code(&key, *step).as_bytes().ct_eq(typed.as_bytes()).into())
}

/// RFC 4226 §5.3, RFC 6238 §4.
fn code(key: &[u8], step: Seconds) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0xf);
    let number = tag[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

/// Removes the spaces and hyphens that people type between groups.
fn normalized(typed: &str) -> String {
    typed.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase()
}

fn hash(code: &str) -> Vec<u8> {
    digest(&SHA256, code.as_bytes()).as_ref().to_vec()
}

/// Returns the code of a moment, for tests.
#[cfg(test)]
pub(crate) fn code_at(key: &str, now: Seconds) -> String {
    code(&BASE32_NOPAD.decode(key.as_bytes()).unwrap(), now / STEP_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::block_on;
    use storage::Trust;

    use crate::login::tests::store_in;

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B; its codes have eight digits, ours their last six.
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(
                code(b"12345678901234567890", seconds / STEP_SECONDS),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn every_code_is_accepted_once() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::load(&folder.path().join("secret.key"), Trust::default()).unwrap();
        let store = store_in(folder.path());
        let (key, codes) = (new_key().unwrap(), new_recovery_codes().unwrap());
        let now = 1_700_000_000;
        let try_to_take = |typed: &str, now| {
            block_on(store.write(async |store| take(store, typed, now, &secrets, true).await))
                .unwrap()
        };
        let try_to_turn_on = |typed: &str| {
            block_on(
                store.write(async |store| turn_on(store, &key, typed, now, &secrets, &codes).await),
            )
        };
        assert!(try_to_take("anything", now), "it is off");
        assert!(!try_to_turn_on("000000").unwrap() && !block_on(store.read(is_on)).unwrap());
        assert!(try_to_turn_on(&code_at(&key, now)).unwrap());
        assert!(!try_to_take(&code_at(&key, now), now), "the code that turned it on");
        assert!(!try_to_take("", now) && !try_to_take("000000", now + 30));
        let next = code_at(&key, now + 30);
        assert!(
            try_to_take(&format!("{} {}", &next[..3], &next[3..]), now),
            "a clock that is 30 s late"
        );
        assert!(!try_to_take(&next, now + 30), "a code that was used");
        assert!(!try_to_take(&code_at(&key, now + 90), now + 300), "a code that is too old");
        assert!(try_to_take(&codes[3].to_ascii_uppercase(), now) && !try_to_take(&codes[3], now));
        assert_eq!(block_on(store.read(codes_left)).unwrap(), 9);
        block_on(store.write(turn_off)).unwrap();
        assert!(try_to_take("", now) && block_on(store.read(codes_left)).unwrap() == 0);
    }

    #[test]
    fn a_clock_that_was_briefly_ahead_locks_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::load(&folder.path().join("secret.key"), Trust::default()).unwrap();
        let store = store_in(folder.path());
        let key = new_key().unwrap();
        let (now, ahead) = (1_700_000_000, 1_800_000_000);
        let on = async |store: &Transaction<'_>| {
            turn_on(store, &key, &code_at(&key, ahead), ahead, &secrets, &[]).await
        };
        assert!(block_on(store.write(on)).unwrap());
        let try_to_take =
            |now| {
                block_on(store.write(async |store| {
                    take(store, &code_at(&key, now), now, &secrets, true).await
                }))
                .unwrap()
            };
        assert!(!try_to_take(now), "it may have been used already");
        assert!(try_to_take(now + STEP_SECONDS), "the next one counts");
    }

    #[test]
    fn a_copy_of_the_store_reveals_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::of_key(&[7; 64]);
        let store = store_in(folder.path());
        let (key, now) = (new_key().unwrap(), 1_700_000_000);
        let stored =
            || block_on(store.read(async |store| fact(store, KEY_FACT).await)).unwrap().unwrap();
        let try_to_take = |typed: &str, now, secrets: &Secrets| {
            block_on(store.write(async |store| take(store, typed, now, secrets, true).await))
                .unwrap()
        };
        let on = async |store: &Transaction<'_>| {
            let code = code_at(&key, now);
            turn_on(store, &key, &code, now, &secrets, &["abcd-efgh".to_owned()]).await
        };
        assert!(block_on(store.write(on)).unwrap());
        assert!(!stored().contains(&key), "{}", stored());
        assert!(try_to_take(&code_at(&key, now + 30), now, &secrets));
        // One that an older version stored unencrypted.
        block_on(store.write(async |store| set_fact(store, KEY_FACT, Some(&key)).await)).unwrap();
        assert!(try_to_take(&code_at(&key, now + 60), now + 60, &secrets));
        assert!(stored().starts_with(SEALED) && !stored().contains(&key), "{}", stored());
        // With another secret.key no code is accepted, but recovery codes still work.
        let other = Secrets::of_key(&[8; 64]);
        assert!(!try_to_take(&code_at(&key, now + 90), now + 90, &other));
        assert!(!try_to_take("", now + 90, &other));
        assert!(try_to_take("abcd-efgh", now + 90, &other));
    }

    #[test]
    fn recovery_codes_are_long_and_differ() {
        let codes = new_recovery_codes().unwrap();
        let different: std::collections::BTreeSet<_> =
            codes.iter().map(|code| normalized(code)).collect();
        assert_eq!((codes.len(), different.len()), (10, 10));
        assert!(different.iter().all(|code| code.len() * 5 >= 112), "{codes:?}");
    }

    #[test]
    fn the_qr_code_is_square() {
        let address = address(&"A".repeat(32), "Toolshed", "my site.test:80");
        assert_eq!(address.split('?').next(), Some("otpauth://totp/Toolshed:my+site.test%3A80"));
        let (size, path) = picture(&address).unwrap();
        assert!((29..80).contains(&size) && path.starts_with("M4 4h1v1h-1z"), "{size}");
    }
}

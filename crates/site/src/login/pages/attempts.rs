//! Trying a password: whether an attempt is allowed now, and whether the password is right.

use super::login_request::LoginRequest;
use crate::http::error::HttpError;
use crate::login::client::Client;
use crate::login::clock::now;
use crate::login::draw;
use crate::login::hashing;
use crate::login::queue::Busy;
use crate::login::throttle::{self, Wait};
use crate::password::Password;

/// Returns whether a password may be tried now: an unknown browser may have to wait for others. Counts nothing.
pub(super) async fn admission(
    request: &LoginRequest,
    client: &Client,
) -> Result<Admission, HttpError> {
    let (store, now) = (&request.gate.store, now());
    let state = store.read(async |store| {
        Ok((throttle::own_wait(store, client, now).await?, throttle::is_crowded(store, now).await?))
    });
    let (wait, is_crowded) = state.await?;
    if let Some(wait) = wait {
        return Ok(Admission::Wait(wait));
    }
    if !is_crowded || matches!(client, Client::Known(_)) {
        return Ok(Admission::Free);
    }
    let secrets = request.gate.secrets().await?;
    let asked = store
        .write(async |store| throttle::ask_for_pass(store, client, now, secrets).await)
        .await?;
    Ok(match asked {
        Ok(()) => Admission::Drawn,
        Err(wait) => Admission::Wait(wait),
    })
}

/// The result of [`admission`].
pub(super) enum Admission {
    /// Nobody has to wait.
    Free,
    /// This client won the draw: one attempt.
    Drawn,
    /// Not yet.
    Wait(Wait),
}

impl Admission {
    /// The message beside the form.
    pub(super) fn words(&self) -> Option<String> {
        let minutes = draw::PASS_SECONDS / 60;
        let words = || {
            format!(
                "It is your turn: one attempt within {minutes} minutes, from this network address."
            )
        };
        matches!(self, Admission::Drawn).then(words)
    }
}

/// Counts an attempt and then returns whether this is the password, or how long to wait.
///
/// A client that has to wait gets that response before the queue, and takes no slot in it. The attempt is counted once
/// there is a permit, before the password is checked, and taken back if it could not be checked.
pub(super) async fn try_password(
    request: &LoginRequest,
    client: &Client,
    password: &Password,
    typed: &str,
) -> Result<Result<bool, Wait>, HttpError> {
    if let Admission::Wait(wait) = admission(request, client).await? {
        return Ok(Err(wait));
    }
    let permit = request.gate.hashing.permit(password).await?;
    let secrets = request.gate.secrets().await?;
    let counted = request
        .gate
        .store
        .write(async |store| throttle::count(store, client, now(), secrets).await);
    if let Err(wait) = counted.await? {
        return Ok(Err(wait));
    }
    if typed.len() > Password::MAX_BYTES {
        return Ok(Ok(false));
    }
    let checked = hashing::matches(password, typed, permit, request.process()).await;
    Ok(Ok(or_take_back(request, client, checked).await?))
}

/// Makes the hash of a new password. If that fails, the attempt that was counted for it is taken back.
pub(super) async fn hash_of(
    request: &LoginRequest,
    client: &Client,
    password: &str,
) -> Result<String, HttpError> {
    let hashed = request.gate.hashing.hash_of(password, request.process()).await;
    or_take_back(request, client, hashed).await
}

async fn or_take_back<T>(
    request: &LoginRequest,
    client: &Client,
    done: Result<T, Busy>,
) -> Result<T, HttpError> {
    if done.is_err() {
        request.gate.store.write(async |store| throttle::take_back(store, client).await).await?;
    }
    Ok(done?)
}

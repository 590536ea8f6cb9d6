//! `/set-up`: the first visit, for owners who have no shell and cannot write a configuration file. They upload a file
//! with a text of their own, type that text here and choose a password. After that the page is closed for good: an
//! owner who forgets the password uploads the setting.

use std::io;
use std::path::{Path, PathBuf};

use atomic_file::{foreign_owner, read_small};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use subtle::ConstantTimeEq;
use tera::context;

use super::attempts::{Admission, admission, hash_of};
use super::login_request::{LoginRequest, WithoutBody};
use super::new_session::start_session;
use super::waiting;
use crate::http::error::HttpError;
use crate::login::clock::now;
use crate::login::events;
use crate::login::facts::{self, fact, set_fact};
use crate::login::gate::Gate;
use crate::login::session::proof_of;
use crate::login::throttle::{self, Wait};
use crate::password::Password;
use crate::password::rules::MIN_CHARACTERS;

/// The shortest text that unlocks the page, in bytes: nobody guesses 16 at the throttle's pace.
const MIN_TOKEN_BYTES: usize = 16;

/// The longest text that is read, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// The page's path, below BASE.
const SET_UP: &str = "/set-up";

/// Returns whether this program has a set-up page at all.
pub(super) fn is_possible(gate: &Gate) -> bool {
    gate.settings.set_up_file.is_some()
}

/// `GET /set-up`
pub(super) async fn form(WithoutBody(request): WithoutBody) -> Result<Response, HttpError> {
    file_while_open(&request).await?;
    let client = request.client(request.gate.secrets().await?, b"");
    match admission(&request, &client).await? {
        Admission::Wait(wait @ Wait::Crowd(_)) => too_many_attempts(&request, wait).await,
        // The winner of a draw gets no message: the page is clear enough.
        _ => show(&request, StatusCode::OK, None).await,
    }
}

/// `POST /set-up`
pub(super) async fn set_password(request: LoginRequest) -> Result<Response, HttpError> {
    let file = file_while_open(&request).await?;
    request.refuse_forgery().await?;
    let gate = &request.gate;
    let secrets = gate.secrets().await?;
    let client = request.client(secrets, b"");
    let counted =
        gate.store.write(async |store| throttle::count(store, &client, now(), secrets).await);
    if let Err(wait) = counted.await? {
        return too_many_attempts(&request, wait).await;
    }
    let failure =
        async |words: &str| show(&request, StatusCode::UNPROCESSABLE_ENTITY, Some(words)).await;
    let token = match token(&file) {
        Ok(token) => token,
        Err(words) => return failure(words).await,
    };
    let typed = request.field("token").trim();
    if !bool::from(token.as_bytes().ct_eq(typed.as_bytes())) {
        return failure("This is not the text in the file.").await;
    }
    let password = request.field("password");
    if let Some(words) = Password::weakness(password) {
        return failure(words).await;
    }
    if password != request.field("again") {
        return failure("The two passwords don't match.").await;
    }
    let hash = hash_of(&request, &client, password).await?;
    let origin = request.origin();
    let was_open = gate.store.write(async |store| {
        // Of two that come at once one is first.
        if fact(store, facts::PASSWORD).await?.is_some() {
            return Ok(false);
        }
        set_fact(store, facts::PASSWORD, Some(&hash)).await?;
        events::record(store, now(), events::PASSWORD_SET, &origin).await?;
        Ok(true)
    });
    if !was_open.await? {
        return Err(closed());
    }
    tracing::info!("The owner set a password on the set-up page, which is now closed.");
    if let Err(error) = std::fs::remove_file(&file) {
        tracing::info!(file = %file.display(), "Cannot remove the set-up file, which is no longer needed: {error}.");
    }
    let Ok(password) = Password::from_hash(&hash) else { return Err(closed()) };
    let mut response = Redirect::to(&request.base().link("/")).into_response();
    start_session(&request, &client, &proof_of(&password, secrets), response.headers_mut()).await?;
    Ok(response)
}

/// Asks a visitor to wait: in the form, or under load with the page that reloads it.
async fn too_many_attempts(request: &LoginRequest, wait: Wait) -> Result<Response, HttpError> {
    waiting::refuse_program(request, wait)?;
    let page = match wait {
        Wait::Own(_) => {
            show(request, StatusCode::TOO_MANY_REQUESTS, Some(&waiting::words(wait))).await?
        }
        Wait::Crowd(_) => waiting::page(request, SET_UP),
    };
    Ok(waiting::refusing(page, wait))
}

/// Returns the file that unlocks the page, as long as there is no password.
async fn file_while_open(request: &LoginRequest) -> Result<PathBuf, HttpError> {
    let file = request.gate.settings.set_up_file.clone().ok_or_else(closed)?;
    let password = request.gate.password(&request.head.extensions).await;
    match password? {
        Some(_) => Err(closed()),
        None => Ok(file),
    }
}

fn closed() -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND).message("This site has already been set up.")
}

/// Shows the form, with a failure message. It keeps the text from the file: the person who typed it knows it, and no
/// response of the login is cached. Passwords have to be typed again.
async fn show(
    request: &LoginRequest,
    status: StatusCode,
    failure: Option<&str>,
) -> Result<Response, HttpError> {
    let (token, cookie) = request.new_form().await?;
    let name = request.gate.settings.set_up_file.as_deref().and_then(|file| file.file_name());
    let name = name.map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let mut response = request.page.show(
        "set-up.html",
        context! {
            failure => &failure,
            form_token => &token,
            file => &name,
            typed => request.field("token"),
            shortest => &MIN_CHARACTERS,
        },
    );
    *response.status_mut() = status;
    response.headers_mut().extend(cookie);
    Ok(response)
}

/// Returns the text in the file, or what is wrong with the file.
fn token(file: &Path) -> Result<String, &'static str> {
    let (opened, bytes) =
        read_small(file, MAX_TOKEN_BYTES).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "The file has not arrived yet.",
            io::ErrorKind::InvalidInput => "The file is not a regular file.",
            io::ErrorKind::FileTooLarge => "The text in the file is longer than 4096 bytes.",
            _ => "The site is not allowed to read the file. Set its mode to 644.",
        })?;
    let foreign = opened.metadata().and_then(|found| foreign_owner(file, &found));
    if !foreign.is_ok_and(|owner| owner.is_none()) {
        return Err("The file belongs to another account on this machine.");
    }
    let text = decoded(&bytes).ok_or("The file is not plain UTF-8 text.")?;
    let text = text.trim();
    match text.len() {
        MIN_TOKEN_BYTES.. => Ok(text.to_owned()),
        _ => Err("The text in the file is shorter than 16 characters."),
    }
}

/// Decodes UTF-8 or UTF-16, with the byte order mark that editors on Windows write.
fn decoded(bytes: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]]));
        String::from_utf16(&units.collect::<Vec<_>>()).ok()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => String::from_utf8(rest.to_vec()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const TEXT: &str = "a text that only the owner uploads";

    #[test]
    fn the_text_is_read_as_editors_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolshed.setup");
        let wide: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide_too: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for (what, content) in [
            ("plain", TEXT.as_bytes().to_vec()),
            ("lines", format!("\r\n {TEXT}\r\n").into_bytes()),
            ("a mark before it", format!("\u{feff}{TEXT}\r\n").into_bytes()),
            ("UTF-16", [&[0xff, 0xfe][..], &wide].concat()),
            ("UTF-16, the other", [&[0xfe, 0xff][..], &wide_too].concat()),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(token(&file).as_deref(), Ok(TEXT), "{what}");
        }
        for (content, words) in [
            (b"\xef\xbb\xbf  short  ".to_vec(), "shorter than 16"),
            (b"a text with an \xfcmlaut in it".to_vec(), "UTF-8"),
            (vec![b'a'; 5000], "longer than 4096"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert!(token(&file).is_err_and(|message| message.contains(words)), "{words}");
        }
    }

    /// In a folder where others can create files, the file does not prove that the owner has uploaded it.
    #[test]
    fn a_file_of_another_account_unlocks_nothing() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolshed.setup");
        std::fs::write(&file, TEXT).unwrap();
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(folder.path(), open_to_all).unwrap();
        assert!(token(&file).is_err_and(|message| message.contains("another account")));
        std::os::unix::fs::chown(folder.path(), Some(4242), None).unwrap();
        assert_eq!(token(&file).as_deref(), Ok(TEXT), "uploaded by the folder's owner");
    }

    /// A neighbor or an upload may create anything under that name; the loop must not wait for it.
    #[test]
    fn a_pipe_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("toolshed.setup");
        assert!(token(&file).is_err_and(|message| message.contains("not arrived")));
        mknodat(CWD, &file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (done, result) = mpsc::channel();
        std::thread::spawn(move || done.send(token(&file)));
        let message = result.recv_timeout(Duration::from_secs(20)).expect("it waits for the pipe");
        assert!(message.is_err_and(|message| message.contains("regular file")));
    }
}

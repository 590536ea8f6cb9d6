//! What `check` finds out about the site: login, data, store, blobs, static files.
//!
//! It changes nothing, except that it keeps a blob of a few bytes for a moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use atomic_file::is_foreign;
use axum::body::Body;
use bytes::Bytes;
use hosted::findings::{Findings, may_be_changed_by_others, mode};
use hosted::store::Keeps;
use http_body_util::BodyExt;
use rustix::process::geteuid;
use site::blobs::{BlobError, BlobSettings, Blobs, Key, PutOptions};

use crate::application;
use crate::config::{Configuration, OwnSettings};
use crate::installation::STATIC;

/// Adds all of it, except the static files.
pub(crate) fn run(
    site: &impl Keeps<Own = OwnSettings>,
    findings: &mut Findings,
    configuration: &Configuration,
    folder: Option<&Path>,
) {
    let consequence = "Until then nobody can log in, and tools that store something do not work.";
    hosted_login::look(site, findings, configuration, folder, consequence);
    blobs(findings, configuration);
}

/// Whether tools can keep blobs: whether the folder or the S3 store keeps a few bytes for a moment.
fn blobs(findings: &mut Findings, configuration: &Configuration) {
    const SUBJECT: &str = "Blobs";
    let settings = application::blobs(&configuration.settings);
    let good = match &settings {
        BlobSettings::Folder(folder) => match folder_of_blobs(findings, SUBJECT, folder) {
            Some(shown) => shown,
            None => return,
        },
        // Wrong settings are reported already.
        _ if !configuration.problems.is_empty() => return,
        _ => "the S3 store keeps what it is given".to_owned(),
    };
    let hint = "Until then tools that keep files do not work.";
    match event_loop::run(probe(&Blobs::new(settings))) {
        Ok(Ok(true)) => findings.ok(SUBJECT, good),
        Ok(Ok(false)) => findings.wrong(SUBJECT, "what is read is not what was written", hint),
        Ok(Err(error @ BlobError::Unreachable { .. })) => findings.wrong(
            SUBJECT,
            error.to_string(),
            "Check s3_endpoint, and whether this machine may connect to it: some hosts forbid that.",
        ),
        Ok(Err(error)) => findings.wrong(SUBJECT, error.to_string(), hint),
        Err(error) => findings.wrong(SUBJECT, format!("cannot be checked: {error}"), "Try again."),
    }
}

/// Returns how the folder is shown, unless a look at it says enough, or opening it would change it.
fn folder_of_blobs(findings: &mut Findings, subject: &str, folder: &Path) -> Option<String> {
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => findings.wrong(
            subject,
            format!("{shown} is not a folder, so tools cannot keep files"),
            "Remove it.",
        ),
        // As for Data.
        Ok(found) if is_foreign(&found) && geteuid().is_root() => findings.note(
            subject,
            format!("{shown} belongs to another account (uid {})", found.uid()),
            "Fine if the site runs as that account; check as that one whether it can be written.",
        ),
        Ok(found) if may_be_changed_by_others(&found) => findings.wrong(
            subject,
            format!("{shown} is writable by others (mode {})", mode(&found)),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => return Some(shown.to_string()),
        // Whether it can be created is said under Data.
        Err(_) => findings.ok(subject, format!("{shown}, not yet created")),
    }
    None
}

/// Puts a blob, finds it in a list, reads it and deletes it. Returns whether it came back as it was. Its key is random:
/// another check may run at the same time.
async fn probe(blobs: &Blobs) -> Result<bool, BlobError> {
    let blobs = blobs.with_prefix(&"toolshed-check".parse().expect("letters are a key"));
    let text = site::storage::new_id().unwrap_or_else(|_| "probe".to_owned());
    let key: Key = text.parse().expect("letters and digits are a key");
    blobs.put(&key, Body::from(text.clone()), PutOptions::default()).await?;
    let found = read_back(&blobs, &key).await;
    blobs.delete(&key).await?;
    Ok(found? == Some(text.into()) && blobs.head(&key).await?.is_none())
}

/// Returns what a blob contains, if it is in a list.
async fn read_back(blobs: &Blobs, key: &Key) -> Result<Option<Bytes>, BlobError> {
    if !blobs.list(key.as_str(), None, 1).await?.iter().any(|listed| listed.key == *key) {
        return Ok(None);
    }
    let Some(blob) = blobs.get(key, ..).await? else { return Ok(None) };
    Ok(Some(blob.body.collect().await?.to_bytes()))
}

/// Adds whether the static files in the folder of the site are those of this version.
pub(crate) fn static_files(findings: &mut Findings, site: &Path) {
    let folder = &STATIC.within(site);
    let shown = folder.display();
    if !folder.is_dir() {
        findings.ok("Static files", format!("no {shown}: the program serves them itself"));
        return;
    }
    let all = site::assets::all();
    let (mut other, mut unreadable) = (Vec::new(), Vec::new());
    for asset in all {
        let file = folder.join(asset.path);
        if !fs::read(&file).is_ok_and(|content| content == asset.content) {
            other.push(asset.path);
        } else if fs::metadata(&file).is_ok_and(|metadata| metadata.mode() & 0o044 == 0) {
            unreadable.push(asset.path);
        }
    }
    if !other.is_empty() {
        findings.wrong(
            "Static files",
            format!("{shown} is not from this version: {}", some_of(&other)),
            "Remove that folder (the program has these files in it), or upload the one that came with it.",
        );
    } else if !unreadable.is_empty() {
        findings.wrong(
            "Static files",
            format!("the web server cannot read {} in {shown}", some_of(&unreadable)),
            "Folders need mode 755, files 644.",
        );
    } else {
        findings.ok("Static files", format!("{shown}, {} files, from this version", all.len()));
    }
}

/// The first few names.
fn some_of(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

//! Reads the values of settings that are not simply a number, size, time or list: addresses, paths, words.

use hosted::config::{Advice, Location, Value};
use site::ALL_TOOLS;
use site::blobs::AddressStyle;

use super::Settings;

pub(super) fn public(settings: &mut Settings, names: Vec<String>) -> Result<(), Advice> {
    let known: Vec<&str> =
        [ALL_TOOLS].into_iter().chain(tools::TABLE.iter().map(|tool| tool.name)).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Advice::Specific(format!(
            "no such tool: {unknown:?}; write names from {}",
            known.join(", ")
        )));
    }
    settings.own.public = names.into_iter().collect();
    Ok(())
}

pub(super) fn s3_endpoint(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3.endpoint = word(value)?;
    Ok(())
}

pub(super) fn s3_region(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3.region = word(value)?;
    Ok(())
}

pub(super) fn s3_bucket(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3.bucket = word(value)?;
    Ok(())
}

pub(super) fn s3_access_key(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3.access_key = word(value)?;
    Ok(())
}

pub(super) fn s3_secret_key(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3.secret_key = word(value)?;
    Ok(())
}

pub(super) fn s3_prefix(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3.prefix = word(value)?;
    Ok(())
}

/// Some text of visible ASCII without spaces.
fn word(value: &Value) -> Result<String, Advice> {
    let (Value::Text(text) | Value::Secret(text)) = value else { return Err(Advice::Default) };
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| text.clone()).ok_or(Advice::Default)
}

pub(super) fn s3_style(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    settings.own.s3_style = Some(match &**text {
        "path" => AddressStyle::Path,
        "virtual-host" => AddressStyle::VirtualHost,
        _ => return Err(Advice::Default),
    });
    Ok(())
}

pub(super) fn s3_redirect(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.own.s3_redirect = Some(match value {
        Value::Bool(value) => *value,
        Value::Text(text) => text.parse().map_err(|_| Advice::Default)?,
        _ => return Err(Advice::Default),
    });
    Ok(())
}

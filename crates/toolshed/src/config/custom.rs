//! Reads the values of settings that are not simply a number, size, time or list: addresses, paths, words.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use app_server::Address;
use site::blobs::AddressStyle;
use site::login::CookiePath;
use site::storage::StoreError;
use site::{ALL_TOOLS, BasePath, Password};

use super::Settings;
use super::key::Advice;
use super::node::is_name;
use super::problem::Location;
use super::quantity::parse_time;
use super::value::Value;

pub(super) fn public(settings: &mut Settings, names: Vec<String>) -> Result<(), Advice> {
    let known: Vec<&str> =
        [ALL_TOOLS].into_iter().chain(tools::TABLE.iter().map(|tool| tool.name)).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Advice::Specific(format!(
            "no such tool: {unknown:?}; write names from {}",
            known.join(", ")
        )));
    }
    settings.public = names.into_iter().collect();
    Ok(())
}

pub(super) fn trusted_proxies(settings: &mut Settings, items: Vec<String>) -> Result<(), Advice> {
    let proxies = items.iter().map(|item| item.parse()).collect::<Result<_, _>>();
    settings.server.trusted_proxies = proxies.map_err(|_: String| Advice::Default)?;
    Ok(())
}

pub(super) fn log(
    settings: &mut Settings,
    value: &Value,
    location: &Location,
) -> Result<(), Advice> {
    let Value::Text(path) = value else { return Err(Advice::Default) };
    if path.trim().is_empty() || path.ends_with('/') {
        return Err(Advice::Default);
    }
    settings.log = Some(relative_to(location, path));
    Ok(())
}

pub(super) fn password_hash(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    let (Value::Text(line) | Value::Secret(line)) = value else { return Err(Advice::Default) };
    settings.password = Some(Password::from_hash(line).map_err(|_| Advice::Default)?);
    Ok(())
}

pub(super) fn data(
    settings: &mut Settings,
    value: &Value,
    location: &Location,
) -> Result<(), Advice> {
    let Value::Text(path) = value else { return Err(Advice::Default) };
    if path.trim().is_empty() {
        return Err(Advice::Default);
    }
    settings.data = Some(relative_to(location, path));
    Ok(())
}

pub(super) fn database(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    let (Value::Text(url) | Value::Secret(url)) = value else { return Err(Advice::Default) };
    let url = url.trim().parse();
    settings.database = Some(url.map_err(|error: StoreError| {
        Advice::Specific(format!(
            "write a URL such as postgres://USER:PASSWORD@HOST/DATABASE: {error}"
        ))
    })?);
    Ok(())
}

pub(super) fn s3_endpoint(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.s3.endpoint = word(value)?;
    Ok(())
}

pub(super) fn s3_region(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.s3.region = word(value)?;
    Ok(())
}

pub(super) fn s3_bucket(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.s3.bucket = word(value)?;
    Ok(())
}

pub(super) fn s3_access_key(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.s3.access_key = word(value)?;
    Ok(())
}

pub(super) fn s3_secret_key(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.s3.secret_key = word(value)?;
    Ok(())
}

pub(super) fn s3_prefix(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    settings.s3.prefix = word(value)?;
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
    settings.s3_style = Some(match &**text {
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
    settings.s3_redirect = Some(match value {
        Value::Bool(value) => *value,
        Value::Text(text) => text.parse().map_err(|_| Advice::Default)?,
        _ => return Err(Advice::Default),
    });
    Ok(())
}

pub(super) fn cookie_path(
    settings: &mut Settings,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    settings.cookie_path = Some(CookiePath::new(text).ok_or(Advice::Default)?);
    Ok(())
}

pub(super) fn https(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    settings.redirects_to_https = match &**text {
        "redirect" => true,
        "optional" => false,
        _ => return Err(Advice::Default),
    };
    Ok(())
}

pub(super) fn hsts(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    /// Two years: what preload lists ask for.
    const MAX_DURATION: Duration = Duration::from_secs(17_520 * 60 * 60);
    let time =
        value.as_scalar().and_then(|text| parse_time(&text)).filter(|time| *time <= MAX_DURATION);
    settings.hsts = Some(time.ok_or(Advice::Default)?);
    Ok(())
}

pub(super) fn listen(
    settings: &mut Settings,
    value: &Value,
    location: &Location,
) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let is_whole = text.starts_with("unix:") || text.starts_with("tcp:");
    let text = if is_whole { text.to_owned() } else { format!("tcp:{text}") };
    let address = match text.parse().map_err(|_| Advice::Default)? {
        Address::Unix(path) => Address::Unix(relative_to(location, path)),
        address => address,
    };
    settings.listen = Some(address);
    Ok(())
}

pub(super) fn workers(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    let text = value.as_scalar().ok_or(Advice::Default)?;
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|it| WORKERS.contains(it));
    settings.workers = if text == "auto" {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        1..=processors.min(*WORKERS.end())
    } else if let Some((min, max)) = text.split_once('-') {
        let (Some(min), Some(max)) = (number(min), number(max)) else {
            return Err(Advice::Default);
        };
        if min > max {
            return Err(Advice::Specific(format!(
                "write the smaller number first: \"{max}-{min}\""
            )));
        }
        min..=max
    } else {
        let count = number(&text).ok_or(Advice::Default)?;
        count..=count
    };
    Ok(())
}

/// A larger number is probably a typo: each takes memory of its own.
const WORKERS: RangeInclusive<usize> = 1..=256;

pub(super) fn node(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    if !is_name(text) {
        return Err(Advice::Default);
    }
    settings.node = Some(text.clone());
    Ok(())
}

pub(super) fn base(settings: &mut Settings, value: &Value, _: &Location) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    let base = BasePath::new(text);
    if base.as_str().is_empty() && text != "/" {
        return Err(Advice::Default);
    }
    settings.base = Some(base.as_str()).filter(|base| !base.is_empty()).map(str::to_owned);
    Ok(())
}

/// A path, relative to the file it is written in.
fn relative_to(location: &Location, path: impl AsRef<Path>) -> PathBuf {
    location.folder().map_or_else(|| path.as_ref().to_owned(), |folder| folder.join(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_a_path_that_the_site_can_be_mounted_at() {
        for (text, expected) in [
            ("/", Some(None)),
            ("/project", Some(Some("/project"))),
            ("/project/", Some(Some("/project"))),
            ("", None),
            ("project", None),
            ("//host", None),
            ("/a b", None),
            ("/a;b", None),
        ] {
            let mut settings = Settings::default();
            let location = Location::Flag("--base");
            let taken = base(&mut settings, &Value::Text(text.to_owned()), &location).ok();
            assert_eq!(taken.map(|()| settings.base.as_deref()), expected, "{text}");
        }
    }
}

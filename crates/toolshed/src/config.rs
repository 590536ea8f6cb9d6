//! The site's settings, beside those that every program has ([`hosted::config`]).

mod custom;
mod keys;
mod s3;

use std::collections::BTreeSet;
use std::time::Duration;

use hosted::config::Location;
use site::Password;
use site::blobs::{AddressStyle, S3Settings};
use site::login::CookiePath;

pub(crate) use self::keys::keys;

/// Holds the password that `serve` has generated, for its workers and for later versions of the process; without the
/// program's name.
pub(crate) const GENERATED: &str = "generated_password";

/// The owner's password in the environment: itself, and a hash of it. Named as many applications name it.
const PASSWORD_VARIABLE: &str = "APP_PASSWORD";
const HASH_VARIABLE: &str = "APP_PASSWORD_HASH";

/// All settings.
pub(crate) type Settings = hosted::config::Settings<OwnSettings>;

/// All settings, and where they come from.
pub(crate) type Configuration = hosted::config::Configuration<OwnSettings>;

/// The site's part of the settings.
#[derive(Clone, Debug)]
pub(crate) struct OwnSettings {
    /// The public tools, by name; `all` stands for those that do not have to be named.
    pub(crate) public: BTreeSet<String>,
    /// The owner's password.
    pub(crate) password: Option<Password>,
    /// The S3 store that keeps blobs, as far as it is set; without an endpoint, blobs are in a folder. Style and
    /// addresses are in the two below.
    pub(crate) s3: S3Settings,
    /// How addresses name the bucket; `None`: see [`OwnSettings::blobs`].
    pub(crate) s3_style: Option<AddressStyle>,
    /// Whether visitors are redirected to the S3 store; `None`: see [`OwnSettings::blobs`].
    pub(crate) s3_redirect: Option<bool>,
    /// After how long without a request a session ends.
    pub(crate) session_idle: Duration,
    /// After how long a session ends in any case.
    pub(crate) session_longest: Duration,
    /// The path below which cookies are sent; `None`: where the site is mounted.
    pub(crate) cookie_path: Option<CookiePath>,
    /// Whether requests over HTTP are redirected to HTTPS.
    pub(crate) redirects_to_https: bool,
    /// How long browsers are told to use only HTTPS; zero disables it; `None`: see [`OwnSettings::hsts`].
    pub(crate) hsts: Option<Duration>,
}

impl Default for OwnSettings {
    fn default() -> Self {
        OwnSettings {
            public: BTreeSet::new(),
            password: None,
            s3: S3Settings::new("", "us-east-1", "", "", ""),
            s3_style: None,
            s3_redirect: None,
            session_idle: Duration::from_secs(7 * 24 * 3600),
            session_longest: Duration::from_secs(30 * 24 * 3600),
            cookie_path: None,
            redirects_to_https: false,
            hsts: None,
        }
    }
}

impl OwnSettings {
    /// Returns how long browsers are told to use only HTTPS. Unless the owner sets it, a day: long enough to be useful,
    /// and short enough to survive a certificate that was not renewed. With HTTPS for everyone, half a year,
    /// which is what scanners ask for.
    pub(crate) fn hsts(&self) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        const HALF_A_YEAR: Duration = Duration::from_secs(4380 * 3600);
        self.hsts.unwrap_or(if self.redirects_to_https { HALF_A_YEAR } else { DAY })
    }
}

/// Returns the environment variable that sets the owner's password; it takes precedence over the file.
pub(crate) fn password_variable(configuration: &Configuration) -> Option<&str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match configuration.set.get("password_hash") {
        Some((_, Location::Variable(name))) => Some(name),
        _ => Some(PASSWORD_VARIABLE).filter(is_set),
    }
}

//! What the owner sets about the login, and how it is read.

use std::path::PathBuf;
use std::time::Duration;

use hosted::Program;
use hosted::config::{
    Advice, Configuration, Key, Kind, Location, Settings, Takes, Value, Variable, parse_time,
};
use hosted::installation::{DATA, home};
use hosted::store::Done;
use hosted::store::entries::STORE;
use site::login::CookiePath;
use site::{LoginSettings, Password, SiteSettings};

use crate::entries::{KEY, SET_UP};

/// The setting with the password's hash.
pub const PASSWORD_HASH: &str = "password_hash";

/// Holds the password that `serve` has generated, for its workers and for later versions of the process; without the
/// program's name.
pub const GENERATED: &str = "generated_password";

/// The owner's password in the environment: itself, and a hash of it. Named as many applications name it.
const PASSWORD_VARIABLE: &str = "APP_PASSWORD";
const HASH_VARIABLE: &str = "APP_PASSWORD_HASH";

/// What the owner sets about the login.
#[derive(Clone, Debug)]
pub struct OwnerSettings {
    /// The owner's password.
    pub password: Option<Password>,
    /// After how long without a request a session ends.
    pub session_idle: Duration,
    /// After how long a session ends in any case.
    pub session_longest: Duration,
    /// The path below which cookies are sent; `None`: where the site is mounted.
    pub cookie_path: Option<CookiePath>,
    /// Whether requests over HTTP are redirected to HTTPS.
    pub redirects_to_https: bool,
    /// How long browsers are told to use only HTTPS; zero disables it; `None`: see [`OwnerSettings::hsts`].
    pub hsts: Option<Duration>,
}

impl Default for OwnerSettings {
    fn default() -> Self {
        OwnerSettings {
            password: None,
            session_idle: Duration::from_secs(7 * 24 * 3600),
            session_longest: Duration::from_secs(30 * 24 * 3600),
            cookie_path: None,
            redirects_to_https: false,
            hsts: None,
        }
    }
}

impl OwnerSettings {
    /// Returns how long browsers are told to use only HTTPS. Unless the owner sets it, a day: long enough to be useful,
    /// and short enough to survive a certificate that was not renewed. With HTTPS for everyone, half a year,
    /// which is what scanners ask for.
    pub fn hsts(&self) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        const HALF_A_YEAR: Duration = Duration::from_secs(4380 * 3600);
        self.hsts.unwrap_or(if self.redirects_to_https { HALF_A_YEAR } else { DAY })
    }
}

/// A program's own settings with those of the login among them.
pub trait HasOwner: Clone + Default + std::fmt::Debug + 'static {
    /// Returns them.
    fn owner(&self) -> &OwnerSettings;

    /// Returns them, to be changed.
    fn owner_mut(&mut self) -> &mut OwnerSettings;
}

impl HasOwner for OwnerSettings {
    fn owner(&self) -> &OwnerSettings {
        self
    }

    fn owner_mut(&mut self) -> &mut OwnerSettings {
        self
    }
}

/// Returns the settings of the login, for the crate `site`.
pub fn login<O: HasOwner>(program: Program, settings: &Settings<O>) -> LoginSettings {
    let owner = settings.own.owner();
    LoginSettings {
        store_file: STORE.name(program),
        database: settings.database.clone(),
        password: owner.password.clone(),
        session_idle: owner.session_idle,
        session_longest: owner.session_longest,
        cookie_path: owner.cookie_path.clone(),
        set_up_file: home().map(|home| SET_UP.of(program, &home)),
        ..LoginSettings::in_folder(
            settings.data_folder().unwrap_or_else(|| DATA.name(program).into()),
        )
    }
}

/// Returns the settings of a site with that login.
pub fn site<O: HasOwner>(program: Program, settings: &Settings<O>) -> SiteSettings {
    let owner = settings.own.owner();
    SiteSettings {
        login: Some(login(program, settings)),
        hsts: owner.hsts(),
        redirects_to_https: owner.redirects_to_https,
        ..SiteSettings::default()
    }
}

/// Returns the login's own files, which a backup must not replace.
pub fn own_files<O: HasOwner>(program: Program, settings: &Settings<O>) -> Vec<PathBuf> {
    let LoginSettings { data, set_up_file, .. } = login(program, settings);
    [Some(KEY.within(&data)), set_up_file].into_iter().flatten().collect()
}

/// Returns what is said after something was done to the store: what it means for who is logged in.
pub fn remark<O: HasOwner>(program: Program, settings: &Settings<O>, done: Done<'_>) -> String {
    match done {
        Done::Restored => "All browsers have been logged out.\n".to_owned(),
        Done::MovedToFolder(folder) => {
            let key = KEY.within(&login(program, settings).data);
            if !key.exists() || KEY.within(folder).exists() {
                return String::new();
            }
            format!(
                "Copy {} there, too: without it, all browsers are logged out and second factors lost.\n",
                key.display()
            )
        }
        Done::BackedUp | Done::MovedToPostgres => String::new(),
    }
}

/// Returns the variables with the password, which many applications have.
pub fn variables<O: HasOwner>() -> Vec<Variable<O>> {
    let clear = Takes::Text(|settings: &mut Settings<O>, text| {
        settings.own.owner_mut().password = Password::clear(text);
    });
    vec![
        Variable { name: PASSWORD_VARIABLE, takes: clear },
        Variable { name: HASH_VARIABLE, takes: Takes::Key(PASSWORD_HASH) },
    ]
}

/// Returns the environment variable that sets the owner's password; it takes precedence over the file.
pub fn password_variable<O>(configuration: &Configuration<O>) -> Option<&str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match configuration.set.get(PASSWORD_HASH) {
        Some((_, Location::Variable(name))) => Some(name),
        _ => Some(PASSWORD_VARIABLE).filter(is_set),
    }
}

macro_rules! time_field {
    ($range:expr, $field:ident) => {
        Kind::Time {
            range: $range,
            get: |settings| settings.own.owner().$field,
            set: |settings, value| settings.own.owner_mut().$field = value,
        }
    };
}

const HOUR: u64 = 3600;

/// Returns the setting with the password.
pub fn password_key<O: HasOwner>() -> Key<O> {
    Key {
        name: "password_hash",
        kind: Kind::Custom {
            write: "the line that the command `hash-password` prints (`set-password` writes it into the file)",
            default: "none: nobody can log in",
            take: take_password_hash,
        },
        what: "Hash of the owner's password. The command `set-password` sets it.",
        why: "The password cannot be recovered from it. The environment variables `APP_PASSWORD_HASH` \
          (such a hash) and `APP_PASSWORD` (the password itself) take precedence; under Apache, \
          `SetEnv` in .htaccess is used if nothing else is set. docs/login.md has all the ways.",
    }
}

/// Returns the other settings: how long a session lasts, where cookies are sent, HTTPS.
pub fn keys<O: HasOwner>() -> Vec<Key<O>> {
    vec![
        Key {
            name: "session_idle",
            kind: time_field!(60..=8760 * HOUR, session_idle),
            what: "Idle time after which the owner has to log in again.",
            why: "A week: long enough for a tool that is used now and then, short enough for a browser that \
              was left behind.",
        },
        Key {
            name: "session_longest",
            kind: time_field!(60..=8760 * HOUR, session_longest),
            what: "Time after which the owner has to log in again in any case.",
            why: "A month: a stolen cookie does not work forever.",
        },
        Key {
            name: "cookie_path",
            kind: Kind::Custom {
                write: "a path such as \"/\", only letters, digits and - . _ ~ %",
                default: "where the site is mounted",
                take: take_cookie_path,
            },
            what: "Path that browsers send the login cookies to.",
            why: "Needed only if the login guards folders beside the site: then `/`. On a host where other \
              people have folders under the same name, they would receive the cookies too.",
        },
        Key {
            name: "https",
            kind: Kind::Custom {
                write: "\"redirect\" or \"optional\"",
                default: "`\"optional\"`",
                take: take_https,
            },
            what: "Whether the site requires HTTPS: `redirect` sends visitors who use HTTP to the same address \
               over HTTPS, and raises the default of `hsts` to 4380 h, half a year. `/healthz`, `/readyz` and \
               local host names (localhost) are still answered over HTTP.",
            why: "Only the owner knows whether HTTPS works and will keep working. There are no redirect loops: \
              a request that shows in any way that the visitor used HTTPS (`X-Forwarded-Proto`, trusted or \
              not, or headers that browsers send only over HTTPS) is answered.",
        },
        Key {
            name: "hsts",
            kind: Kind::Custom {
                write: "a time from 0 s to 17520 h such as \"4380 h\"",
                default: "`\"24 h\"`; `\"4380 h\"` if `https` is redirect",
                take: take_hsts,
            },
            what: "How long browsers are told to use only HTTPS (Strict-Transport-Security). 0 disables it.",
            why: "A day, because it applies to the whole host, including other sites on it, and nobody can \
              click through the warning about an expired certificate. Owners who set `https = \
              \"redirect\"` have committed to HTTPS and get half a year. docs/headers.md has the reasons.",
        },
    ]
}

fn take_password_hash<O: HasOwner>(
    settings: &mut Settings<O>,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    let (Value::Text(line) | Value::Secret(line)) = value else { return Err(Advice::Default) };
    settings.own.owner_mut().password =
        Some(Password::from_hash(line).map_err(|_| Advice::Default)?);
    Ok(())
}

fn take_cookie_path<O: HasOwner>(
    settings: &mut Settings<O>,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    settings.own.owner_mut().cookie_path = Some(CookiePath::new(text).ok_or(Advice::Default)?);
    Ok(())
}

fn take_https<O: HasOwner>(
    settings: &mut Settings<O>,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    let Value::Text(text) = value else { return Err(Advice::Default) };
    settings.own.owner_mut().redirects_to_https = match &**text {
        "redirect" => true,
        "optional" => false,
        _ => return Err(Advice::Default),
    };
    Ok(())
}

fn take_hsts<O: HasOwner>(
    settings: &mut Settings<O>,
    value: &Value,
    _: &Location,
) -> Result<(), Advice> {
    /// Two years: what preload lists ask for.
    const MAX_DURATION: Duration = Duration::from_secs(17_520 * 60 * 60);
    let time =
        value.as_scalar().and_then(|text| parse_time(&text)).filter(|time| *time <= MAX_DURATION);
    settings.own.owner_mut().hsts = Some(time.ok_or(Advice::Default)?);
    Ok(())
}

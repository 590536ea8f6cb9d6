//! The URL of a database, as libpq documents it, with stricter TLS: see [`Settings::from_url`].
//!
//! No message quotes what may be part of a password: in a URL with a typo that may be the port.
//!
//! [`Settings::from_url`]: crate::Settings::from_url

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tls_client::Roots;
use tokio_postgres::Config;
use tokio_postgres::config::ChannelBinding;

use crate::error::PoolError;

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// In the order in which they are tried.
    pub(crate) hosts: Vec<Host>,
    /// User, password, database, options, name of the application, channel binding. (Its `Debug` hides the password.)
    pub(crate) login: Config,
    /// `None` for the default, which depends on the host.
    pub(crate) security: Option<Security>,
    /// Whether the server has to accept writes.
    pub(crate) read_write: bool,
    pub(crate) connect_timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// The path of a unix socket.
    Socket(PathBuf),
    Tcp {
        /// A name or an IP address.
        name: String,
        port: u16,
    },
}

/// How a connection over TCP is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// By TLS with whoever responds: only against listeners.
    Unverified,
    /// By TLS with a server whose certificate one of the authorities in this file has signed, for whatever name.
    Authority(PathBuf),
    /// By TLS with a server that has a certificate for its name, signed by one of these authorities.
    Name(Roots),
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Target, PoolError> {
        let schemes = ["postgres://", "postgresql://"];
        let Some(rest) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
            return Err(PoolError::url("scheme", "it does not start with postgres://"));
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if login.is_empty() && hosts.contains(':') && url.contains('@') {
            return Err(PoolError::url(
                "password",
                "write %2F for / and %3F for ? in it, and %40 for @ elsewhere",
            ));
        }
        let (user, password) = login.split_once(':').unwrap_or((login, ""));

        let mut parts = Parts::default();
        parts.set("user", decode("user", user)?)?;
        parts.set("password", decode("password", password)?)?;
        parts.set("dbname", decode("database", database)?)?;
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            let (name, port) = split_port(host)?;
            parts.hosts.push(decode("host", name)?);
            parts.ports.push(decode("port", port)?);
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else {
                return Err(PoolError::url("query", "a parameter has no ="));
            };
            let name = decode("query", name)?;
            parts.set(&name, decode(&format!("parameter {name}"), value)?)?;
        }
        parts.into_target()
    }

    /// Returns how a connection to this host over TCP is protected.
    pub(crate) fn security(&self, name: &str) -> &Security {
        const LOCAL: &Security = &Security::Plain;
        const REMOTE: &Security = &Security::Name(Roots::System);
        match &self.security {
            Some(security) => security,
            None if is_this_machine(name) => LOCAL,
            None => REMOTE,
        }
    }
}

/// Returns whether bytes to this host stay on this machine.
fn is_this_machine(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// What was written, before it is clear what it means together.
#[derive(Default)]
struct Parts {
    login: Config,
    hosts: Vec<String>,
    ports: Vec<String>,
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    read_write: bool,
    connect_timeout: Option<Duration>,
}

impl Parts {
    /// Takes a part or parameter; an empty one is as good as none.
    fn set(&mut self, name: &str, value: String) -> Result<(), PoolError> {
        if value.is_empty() {
            return Ok(());
        }
        let invalid = |expected: &str| {
            Err(PoolError::url(
                format!("parameter {name}"),
                format!("{value:?} is not one of {expected}"),
            ))
        };
        match name {
            "user" => {
                self.login.user(value);
            }
            "password" => {
                self.login.password(value);
            }
            "dbname" => {
                self.login.dbname(value);
            }
            "host" if !self.hosts.is_empty() => {
                return Err(PoolError::url("host", "it is there twice"));
            }
            "host" => self.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => self.ports = value.split(',').map(str::to_owned).collect(),
            "application_name" => {
                self.login.application_name(value);
            }
            "options" => {
                self.login.options(value);
            }
            "sslmode" => self.sslmode = Some(value),
            "sslrootcert" => self.sslrootcert = Some(value),
            "channel_binding" => {
                self.login.channel_binding(match value.as_str() {
                    "disable" => ChannelBinding::Disable,
                    "prefer" => ChannelBinding::Prefer,
                    "require" => ChannelBinding::Require,
                    _ => return invalid("disable, prefer, require"),
                });
            }
            "connect_timeout" => match value.parse() {
                Ok(seconds @ 1..=600) => self.connect_timeout = Some(Duration::from_secs(seconds)),
                _ => return invalid("the seconds from 1 to 600"),
            },
            "target_session_attrs" => match value.as_str() {
                "any" => self.read_write = false,
                "read-write" => self.read_write = true,
                _ => return invalid("any, read-write"),
            },
            _ => {
                return Err(PoolError::url(
                    format!("parameter {name}"),
                    format!("it is not known; {PARAMETERS} are"),
                ));
            }
        }
        Ok(())
    }

    fn into_target(self) -> Result<Target, PoolError> {
        if self.login.get_user().is_none() {
            return Err(PoolError::url(
                "user",
                "it is missing; write postgres://USER@HOST/DATABASE",
            ));
        }
        Ok(Target {
            hosts: self.hosts()?,
            security: self.security()?,
            login: self.login,
            read_write: self.read_write,
            connect_timeout: self.connect_timeout,
        })
    }

    fn hosts(&self) -> Result<Vec<Host>, PoolError> {
        let default = [DEFAULT_SOCKET_FOLDER.to_owned()];
        let hosts = if self.hosts.is_empty() { &default } else { &self.hosts[..] };
        if hosts.len() > MAX_HOSTS {
            return Err(PoolError::url("host", format!("more than {MAX_HOSTS} are named")));
        }
        let port = |index: usize| match &self.ports[..] {
            [] => Ok(DEFAULT_PORT),
            [one] => parse_port(one),
            several => several.get(index).map_or(Ok(DEFAULT_PORT), |port| parse_port(port)),
        };
        if self.ports.len() > 1 && self.ports.len() != hosts.len() {
            return Err(PoolError::url("port", "there is neither one nor one for each host"));
        }
        let host = |(index, name): (usize, &String)| {
            let port = port(index)?;
            if name.starts_with('/') {
                return Ok(Host::Socket(format!("{name}/.s.PGSQL.{port}").into()));
            }
            if name.is_empty() {
                return Err(PoolError::url("host", "one is empty"));
            }
            Ok(Host::Tcp { name: name.clone(), port })
        };
        hosts.iter().enumerate().map(host).collect()
    }

    /// Never less than was asked for: what would be is an error.
    fn security(&self) -> Result<Option<Security>, PoolError> {
        let wrong = |problem: &str| Err(PoolError::url("parameter sslmode", problem));
        let roots = self.sslrootcert.as_deref().map(|file| match file {
            "system" => Roots::System,
            file => Roots::File(file.into()),
        });
        let security = match (self.sslmode.as_deref(), roots) {
            (None, None) => return Ok(None),
            (Some("disable"), _) => Security::Plain,
            (Some("require"), None) => Security::Unverified,
            (Some("require" | "verify-ca"), Some(Roots::File(file))) => Security::Authority(file),
            (Some("require" | "verify-ca"), Some(Roots::System)) => {
                return wrong("sslrootcert=system needs verify-full");
            }
            (Some("verify-ca"), None) => return wrong("verify-ca needs sslrootcert=FILE"),
            (None | Some("verify-full"), roots) => Security::Name(roots.unwrap_or(Roots::System)),
            (Some("allow" | "prefer"), _) => {
                return wrong(
                    "allow and prefer would silently go without encryption if somebody in between \
                     wants that; write verify-full, require or disable",
                );
            }
            (Some(_), _) => {
                return wrong("it is not one of disable, require, verify-ca, verify-full");
            }
        };
        Ok(Some(security))
    }
}

const PARAMETERS: &str = "application_name, channel_binding, connect_timeout, dbname, host, options, \
                          password, port, sslmode, sslrootcert, target_session_attrs, user";

/// Where Debian's and Red Hat's PostgreSQL have their socket.
const DEFAULT_SOCKET_FOLDER: &str = "/var/run/postgresql";

const DEFAULT_PORT: u16 = 5432;

/// Each may take the whole `connect_timeout`.
const MAX_HOSTS: usize = 8;

/// Splits `HOST[:PORT]`, where HOST may be an IPv6 address in brackets.
fn split_port(host: &str) -> Result<(&str, &str), PoolError> {
    let Some(bracketed) = host.strip_prefix('[') else {
        return Ok(host.split_once(':').unwrap_or((host, "")));
    };
    match bracketed.split_once(']') {
        Some((name, "")) => Ok((name, "")),
        Some((name, port)) if port.starts_with(':') => Ok((name, &port[1..])),
        _ => Err(PoolError::url("host", "a bracket is open, or followed by more than a port")),
    }
}

fn parse_port(port: &str) -> Result<u16, PoolError> {
    if port.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    match port.parse() {
        Ok(port @ 1..) => Ok(port),
        // Not quoted: without an @, this would be the password.
        _ => Err(PoolError::url("port", "it is not a number from 1 to 65535")),
    }
}

fn decode(part: &str, text: &str) -> Result<String, PoolError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(PoolError::url(part, "it is not UTF-8 without zero bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(path: &str) -> Host {
        Host::Socket(path.into())
    }

    fn tcp(name: &str, port: u16) -> Host {
        Host::Tcp { name: name.to_owned(), port }
    }

    #[test]
    fn hosts() {
        for (url, hosts) in [
            ("postgres://u@db", vec![tcp("db", 5432)]),
            ("postgresql://u@db:1/x", vec![tcp("db", 1)]),
            ("postgres://u@[::1]:1/x", vec![tcp("::1", 1)]),
            ("postgres://u@[::1]", vec![tcp("::1", 5432)]),
            ("postgres://u@a,b:2,c", vec![tcp("a", 5432), tcp("b", 2), tcp("c", 5432)]),
            ("postgres://u@%2Frun%2Fpg/x", vec![socket("/run/pg/.s.PGSQL.5432")]),
            ("postgres://u@%2Frun:1,b", vec![socket("/run/.s.PGSQL.1"), tcp("b", 5432)]),
            ("postgres://u@/x?host=/run/pg&port=7", vec![socket("/run/pg/.s.PGSQL.7")]),
            ("postgres:///x?user=u&host=a,b&port=1,2", vec![tcp("a", 1), tcp("b", 2)]),
            ("postgres://u@/x", vec![socket("/var/run/postgresql/.s.PGSQL.5432")]),
        ] {
            assert_eq!(Target::parse(url).unwrap().hosts, hosts, "{url}");
        }
    }

    #[test]
    fn logins() {
        for (url, user, password, database) in [
            ("postgres://u@h", "u", None, None),
            ("postgres://u:p@h/d", "u", Some("p"), Some("d")),
            ("postgres://u%40x:p%3A%2F%3F@h/d%20e", "u@x", Some("p:/?"), Some("d e")),
            ("postgres://u:a@b:c@h/d", "u", Some("a@b:c"), Some("d")),
            ("postgres://h/d?user=u&password=p%26+", "u", Some("p&+"), Some("d")),
        ] {
            let login = Target::parse(url).unwrap().login;
            assert_eq!(login.get_user(), Some(user), "{url}");
            assert_eq!(login.get_password(), password.map(str::as_bytes), "{url}");
            assert_eq!(login.get_dbname(), database, "{url}");
        }
    }

    #[test]
    fn tls_is_never_weaker_than_asked_for() {
        let file = || Roots::File("/ca".into());
        for (host, query, security) in [
            ("localhost", "", Ok(Security::Plain)),
            ("127.0.0.1", "", Ok(Security::Plain)),
            ("[::1]", "", Ok(Security::Plain)),
            ("db", "", Ok(Security::Name(Roots::System))),
            ("db", "sslrootcert=/ca", Ok(Security::Name(file()))),
            ("localhost", "sslrootcert=/ca", Ok(Security::Name(file()))),
            ("db", "sslmode=disable", Ok(Security::Plain)),
            ("db", "sslmode=require", Ok(Security::Unverified)),
            ("db", "sslmode=require&sslrootcert=/ca", Ok(Security::Authority("/ca".into()))),
            ("db", "sslmode=require&sslrootcert=system", Err("needs verify-full")),
            ("db", "sslmode=verify-ca&sslrootcert=/ca", Ok(Security::Authority("/ca".into()))),
            ("db", "sslmode=verify-ca", Err("needs sslrootcert")),
            ("localhost", "sslmode=verify-full", Ok(Security::Name(Roots::System))),
            ("db", "sslmode=verify-full&sslrootcert=/ca", Ok(Security::Name(file()))),
            ("db", "sslmode=prefer", Err("silently")),
            ("db", "sslmode=allow", Err("silently")),
            ("db", "sslmode=on", Err("not one of disable, require, verify-ca, verify-full")),
        ] {
            let target = Target::parse(&format!("postgres://u@{host}/d?{query}"));
            match security {
                Ok(security) => {
                    let target = target.unwrap();
                    let Host::Tcp { name, .. } = &target.hosts[0] else { panic!("{host}") };
                    assert_eq!(target.security(name), &security, "{host} {query}");
                }
                Err(part) => assert!(target.unwrap_err().to_string().contains(part), "{query}"),
            }
        }
    }

    #[test]
    fn errors_name_the_part_and_never_the_password() {
        for (url, part) in [
            ("", "scheme"),
            ("mysql://u:secret@h/d", "scheme"),
            ("u:secret@h/d", "scheme"),
            ("postgres://h/d", "user"),
            ("postgres://:secret@h/d", "user"),
            ("postgres://u:secret/more@h/d", "password"),
            ("postgres://u:12?secret=x@h/d", "password"),
            ("postgres://u:secret", "user"),
            ("postgres://h:secret/d?user=u", "port"),
            ("postgres://u:secret@h:x/d", "port"),
            ("postgres://u:secret@h:0/d", "port"),
            ("postgres://u:secret@a,b,c/d?port=1,2", "port"),
            ("postgres://u:secret@[::1/d", "host"),
            ("postgres://u:secret@[::1]x/d", "host"),
            ("postgres://u:secret@/d?host=,", "host"),
            ("postgres://u:secret@a/d?host=b", "host"),
            ("postgres://u:secret@1,2,3,4,5,6,7,8,9/d", "host"),
            ("postgres://u:secret%FF@h/d", "password"),
            ("postgres://u:secret@h/%00", "database"),
            ("postgres://u:secret@h/d?sslmod=x", "parameter sslmod"),
            ("postgres://u:secret@h/d?connect_timeout=0", "parameter connect_timeout"),
            ("postgres://u:secret@h/d?target_session_attrs=x", "parameter target_session_attrs"),
            ("postgres://u:secret@h/d?channel_binding=x", "parameter channel_binding"),
            ("postgres://u:secret@h/d?x", "query"),
        ] {
            let error = Target::parse(url).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.starts_with(&format!("the {part} ")), "{url}: {text}");
            assert!(!text.contains("secret"), "{url}: {text}");
            assert!(!error.to_string().ends_with('.'), "{error}");
        }
        let target = Target::parse("postgres://u:secret@h/d").unwrap();
        assert!(!format!("{target:?}").contains("secret"), "{target:?}");
        assert!(format!("{target:?}").contains("\"u\""), "{target:?}");
    }
}

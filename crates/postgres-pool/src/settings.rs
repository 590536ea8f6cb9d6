//! The settings of a pool.

use std::time::Duration;

use crate::error::PoolError;
use crate::url::Target;

/// The settings of a pool: the URL, and limits.
///
/// ```
/// use postgres_pool::Settings;
///
/// let mut settings = Settings::from_url("postgres://me:secret@localhost/mine")?;
/// settings.max = 2;
/// # Ok::<(), postgres_pool::PoolError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    pub(crate) target: Target,
    /// The maximum number of connections of this process, those that are being opened or closed included. Default 4:
    /// shared PostgreSQL servers often allow an account ten to twenty, for all its processes.
    pub max: usize,
    /// The maximum number of callers that wait for a connection. Default 64.
    pub max_waiting: usize,
    /// How long a caller waits while all connections are in use. Default 10 s.
    pub wait: Duration,
    /// An unused connection is closed after this time. Default 60 s: a process of PostgreSQL takes some megabytes.
    pub idle: Duration,
    /// How long one attempt to connect may take: for a name's lookup, and for each address. Default 5 s, or
    /// `connect_timeout` in the URL.
    pub connect_timeout: Duration,
    /// PostgreSQL cancels a statement after this time (error 57014), in which also its rows have to be taken. Default
    /// 30 s; zero for never.
    pub statement_timeout: Duration,
    /// PostgreSQL cancels a statement that has waited for a lock for this time (error 55P03). Default 5 s; zero for
    /// never.
    pub lock_timeout: Duration,
    /// PostgreSQL closes a connection that is in a transaction but has sent no statement for this time, so that its
    /// locks do not outlive a process that has vanished. Default 10 s; zero for never.
    pub idle_in_transaction_timeout: Duration,
}

/// How much longer than for its slowest statement a server may be silent.
const SILENCE: Duration = Duration::from_secs(5);

impl Settings {
    /// Reads a URL and takes the defaults for all else:
    /// `postgres://USER[:PASSWORD]@HOST[:PORT][,HOST[:PORT]…]/DATABASE[?NAME=VALUE[&NAME=VALUE…]]`.
    ///
    /// * HOST is a name, an IP address (IPv6 in brackets) or the folder of a unix socket (`%2Fvar%2Frun%2Fpostgresql`, or
    ///   as the parameter `host=/var/run/postgresql`, which is also the default). Several are tried in order, from the one
    ///   on where it worked last; with `target_session_attrs=read-write`, those that accept no writes are passed over, and
    ///   connections to one that no longer does are closed.
    /// * `sslmode` over TCP; a unix socket needs no TLS.
    ///   * `verify-full`: the server's certificate has to be for its name and of a trusted authority. **The default**,
    ///     except for `localhost` and loopback addresses, where it is `disable`.
    ///   * `verify-ca`: of a trusted authority, which `sslrootcert` names; for whatever name.
    ///   * `require`: encrypted, but anybody may be the server, unless `sslrootcert` makes it the same as `verify-ca`.
    ///   * `disable`: no TLS.
    ///   * `allow` and libpq's default `prefer` are refused, because anybody in between can turn the encryption off.
    /// * `sslrootcert=FILE` has the certificates of trusted authorities (PEM); `system`, the default, means those of
    ///   the operating system.
    /// * `channel_binding=require` refuses servers that do not prove to know the password over this very TLS
    ///   connection, whatever their certificate: with `sslmode=require`, the protection against impostors.
    /// * `connect_timeout` (seconds), `application_name` (default `toolshed`), `options` (as for the program postgres;
    ///   they come after ours), `user`, `password`, `dbname`, `host`, `port` as in libpq.
    ///
    /// # Errors
    ///
    /// [`PoolError::Url`] with the part that is wrong.
    pub fn from_url(url: &str) -> Result<Settings, PoolError> {
        let target = Target::parse(url)?;
        Ok(Settings {
            connect_timeout: target.connect_timeout.unwrap_or(Duration::from_secs(5)),
            target,
            max: 4,
            max_waiting: 64,
            wait: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(10),
        })
    }

    /// Sets the password, unless the URL has one.
    pub fn or_password(&mut self, password: &str) {
        if self.target.login.get_password().is_none_or(<[u8]>::is_empty) {
            self.target.login.password(password);
        }
    }

    /// Returns how long a server may be silent while a response is awaited: longer than it takes to end a statement by
    /// itself, unless the URL says how long that is.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let options = self.target.login.get_options().unwrap_or_default();
        let is_known = !self.statement_timeout.is_zero() && !options.contains("statement_timeout");
        is_known.then(|| self.statement_timeout + SILENCE)
    }

    /// Returns the options that PostgreSQL gets at the start of a connection.
    pub(crate) fn options(&self) -> String {
        let timeouts = [
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction_timeout),
        ];
        let mut options: String = timeouts
            .iter()
            .map(|(name, timeout)| format!("-c {name}={} ", timeout.as_millis()))
            .collect();
        options.push_str(self.target.login.get_options().unwrap_or_default());
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_url_come_last() {
        let url = "postgres://u@h/d?options=-c%20lock_timeout%3D7";
        let mut settings = Settings::from_url(url).unwrap();
        settings.statement_timeout = Duration::from_millis(1500);
        assert_eq!(
            settings.options(),
            "-c statement_timeout=1500 -c lock_timeout=5000 \
             -c idle_in_transaction_session_timeout=10000 -c lock_timeout=7"
        );
    }

    #[test]
    fn the_password_is_not_shown() {
        let settings = Settings::from_url("postgres://u:secret@h/d?connect_timeout=3").unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        assert_eq!(settings.connect_timeout, Duration::from_secs(3));
    }
}

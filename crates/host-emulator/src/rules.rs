//! Which hosts are emulated, and the rules of each: one table, from which come defaults, help and greeting.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::time::Duration;

/// A kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Apache with mod_fcgid: FastCGI, one request at a time per process.
    ModFcgid,
    /// Apache with mod_cgid: a process per request.
    Cgi,
    /// The same as [`ModFcgid`](Self::ModFcgid) on CloudLinux, whose limits hold for each account.
    CloudLinux,
}

impl Host {
    /// All of them.
    pub const ALL: [Host; 3] = [Host::ModFcgid, Host::Cgi, Host::CloudLinux];

    /// Returns its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Host::ModFcgid => "mod_fcgid",
            Host::Cgi => "cgi",
            Host::CloudLinux => "cloudlinux",
        }
    }

    /// Returns what it is, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Host::ModFcgid => "Apache with mod_fcgid",
            Host::Cgi => "Apache with plain CGI",
            Host::CloudLinux => {
                "Apache with mod_fcgid on CloudLinux, where no thread can be started"
            }
        }
    }
}

impl FromStr for Host {
    type Err = UnknownHost;

    fn from_str(text: &str) -> Result<Self, UnknownHost> {
        let known = Host::ALL.into_iter().find(|host| host.name() == text);
        known.ok_or_else(|| UnknownHost(text.to_owned()))
    }
}

/// A host that is not emulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownHost(String);

impl fmt::Display for UnknownHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == "lsnode" {
            formatter.write_str(
                "lsnode (LiteSpeed) is not emulated: this version does not speak its protocol; ",
            )?;
        }
        let names: Vec<_> = Host::ALL.iter().map(|host| host.name()).collect();
        write!(formatter, "write one of {}", names.join(", "))
    }
}

impl std::error::Error for UnknownHost {}

/// A rule with a number, named after the directive that sets it on the host.
#[allow(clippy::upper_case_acronyms, reason = "they are called so")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    FcgidMaxRequestLen,
    FcgidOutputBufferSize,
    FcgidIOTimeout,
    FcgidBusyTimeout,
    FcgidIdleTimeout,
    FcgidMaxProcessesPerClass,
    Timeout,
    EP,
    PMEM,
}

/// A row of the table.
struct Row {
    directive: Directive,
    name: &'static str,
    hosts: &'static [Host],
    /// What hosts usually have: mostly the web server's own default.
    usual: u64,
    unit: &'static str,
    min: u64,
    what: &'static str,
}

const FCGID: &[Host] = &[Host::ModFcgid, Host::CloudLinux];
const CLOUDLINUX: &[Host] = &[Host::CloudLinux];

const TABLE: &[Row] = &[
    Row {
        directive: Directive::FcgidMaxRequestLen,
        name: "FcgidMaxRequestLen",
        hosts: FCGID,
        usual: 131_072,
        unit: "bytes",
        min: 0,
        what: "a longer request body is a 500",
    },
    Row {
        directive: Directive::FcgidOutputBufferSize,
        name: "FcgidOutputBufferSize",
        hosts: FCGID,
        usual: 65_536,
        unit: "bytes",
        min: 0,
        what: "output is held back until so much is there, or its end",
    },
    Row {
        directive: Directive::FcgidIOTimeout,
        name: "FcgidIOTimeout",
        hosts: FCGID,
        usual: 40,
        unit: "s",
        min: 1,
        what: "after that time without output: a 500, and the process is ended",
    },
    Row {
        directive: Directive::FcgidBusyTimeout,
        name: "FcgidBusyTimeout",
        hosts: FCGID,
        usual: 300,
        unit: "s",
        min: 1,
        what: "a longer request is cut off, and the process is ended",
    },
    Row {
        directive: Directive::FcgidIdleTimeout,
        name: "FcgidIdleTimeout",
        hosts: FCGID,
        usual: 300,
        unit: "s",
        min: 1,
        what: "a process without requests for that time is ended",
    },
    // Apache's default is 100; hosts have 5 to 25. Few of them show sooner what happens when all are busy.
    Row {
        directive: Directive::FcgidMaxProcessesPerClass,
        name: "FcgidMaxProcessesPerClass",
        hosts: FCGID,
        usual: 3,
        unit: "processes",
        min: 1,
        what: "each serves one request at a time, with a memory of its own",
    },
    Row {
        directive: Directive::Timeout,
        name: "Timeout",
        hosts: &[Host::Cgi],
        usual: 60,
        unit: "s",
        min: 1,
        what: "after that time without output: a 504, and the process is ended",
    },
    Row {
        directive: Directive::EP,
        name: "EP",
        hosts: CLOUDLINUX,
        usual: 20,
        unit: "requests",
        min: 1,
        what: "more of them at the same time are a 508",
    },
    // Of the whole account there, of each process here: what is left for the others nobody knows.
    Row {
        directive: Directive::PMEM,
        name: "PMEM",
        hosts: CLOUDLINUX,
        usual: 1024,
        unit: "MiB",
        min: 1,
        what: "memory of a process (RLIMIT_DATA), beyond which an allocation fails",
    },
];

impl Directive {
    /// Returns its name in the host's configuration.
    pub(crate) fn name(self) -> &'static str {
        // Every directive has a row: a test looks.
        TABLE.iter().find(|row| row.directive == self).map_or("", |row| row.name)
    }
}

/// The rules of a host.
#[derive(Clone, Debug)]
pub struct Rules {
    host: Host,
    /// What differs from the usual values.
    changed: Vec<(Directive, u64)>,
}

impl Rules {
    /// The usual rules of a host.
    pub fn of(host: Host) -> Rules {
        Rules { host, changed: Vec::new() }
    }

    /// Which host it is.
    pub fn host(&self) -> Host {
        self.host
    }

    /// Changes a rule: `FcgidIOTimeout=300`.
    ///
    /// # Errors
    ///
    /// If it is not a rule of this host, or not a value of it.
    pub fn set(&mut self, text: &str) -> Result<(), RuleError> {
        let error = |problem| RuleError { host: self.host, text: text.to_owned(), problem };
        let (name, value) = text.split_once('=').ok_or_else(|| error(Problem::NoValue))?;
        let row = self.rows().find(|row| row.name.eq_ignore_ascii_case(name.trim()));
        let row = row.ok_or_else(|| error(Problem::Unknown))?;
        let value = value.trim().parse().ok().filter(|value| *value >= row.min);
        self.changed.push((row.directive, value.ok_or_else(|| error(Problem::Value(row.min)))?));
        Ok(())
    }

    /// Returns the rules as a table: a line each, with a value, its unit and what follows from it.
    pub fn table(&self) -> String {
        let width = self.rows().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for row in self.rows() {
            let value = format!("{} {}", self.value(row), row.unit);
            // Writing to a text cannot fail.
            let _ = writeln!(text, "  {:width$}  {value:<12}  {}", row.name, row.what);
        }
        text
    }

    /// Returns the value of a rule; `None` if this host has no such rule.
    pub(crate) fn get(&self, directive: Directive) -> Option<u64> {
        self.rows().find(|row| row.directive == directive).map(|row| self.value(row))
    }

    /// The same, for one that limits a time.
    pub(crate) fn time(&self, directive: Directive) -> Option<Duration> {
        self.get(directive).map(Duration::from_secs)
    }

    fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        let host = self.host;
        TABLE.iter().filter(move |row| row.hosts.contains(&host))
    }

    fn value(&self, row: &Row) -> u64 {
        let changed = self.changed.iter().rev().find(|(directive, _)| *directive == row.directive);
        changed.map_or(row.usual, |(_, value)| *value)
    }
}

/// A rule that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    host: Host,
    text: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    NoValue,
    Unknown,
    /// The value is not a number from this one on.
    Value(u64),
}

impl fmt::Display for RuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleError { host, text, problem } = self;
        match problem {
            Problem::NoValue => write!(formatter, "{text:?} is not a rule; write NAME=NUMBER"),
            Problem::Value(min) => write!(formatter, "{text:?}: write a number from {min} on"),
            Problem::Unknown => {
                let names: Vec<_> = Rules::of(*host).rows().map(|row| row.name).collect();
                let (host, names) = (host.name(), names.join(", "));
                write!(formatter, "{text:?} is not a rule of {host}, which has {names}")
            }
        }
    }
}

impl std::error::Error for RuleError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_usual_values_and_may_be_changed() {
        let mut rules = Rules::of(Host::ModFcgid);
        assert_eq!(rules.get(Directive::FcgidMaxRequestLen), Some(131_072));
        assert_eq!(rules.get(Directive::Timeout), None, "it is CGI's");
        rules.set("fcgidiotimeout = 7").unwrap();
        rules.set("FcgidIOTimeout=8").unwrap();
        assert_eq!(rules.time(Directive::FcgidIOTimeout), Some(Duration::from_secs(8)));
        assert!(rules.table().contains("FcgidIOTimeout             8 s "), "{}", rules.table());
        for (text, why) in [
            ("FcgidIOTimeout", "write NAME=NUMBER"),
            ("FcgidIOTimeout=0", "from 1 on"),
            ("FcgidIOTimeout=soon", "from 1 on"),
            ("Timeout=3", "FcgidMaxRequestLen, "),
            ("EP=3", "not a rule of mod_fcgid"),
        ] {
            let error = rules.set(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn every_directive_has_one_row() {
        for row in TABLE {
            assert_eq!(row.directive.name(), row.name);
            assert_eq!(format!("{:?}", row.directive), row.name);
        }
    }

    #[test]
    fn hosts_are_named_as_they_are_written() {
        for host in Host::ALL {
            assert_eq!(host.name().parse(), Ok(host));
        }
        let error = "lsnode".parse::<Host>().unwrap_err().to_string();
        assert!(error.contains("does not speak its protocol"), "{error}");
    }
}

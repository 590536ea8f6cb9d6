//! The settings of the site: name, what it takes, default, what it means and why its default is what it is. Those of the
//! server and the program around it are [`hosted`]'s.
//!
//! The file, the environment, `docs/configuration.md` and the tests all come from this one table. A key
//! is `session_idle` in `toolshed.toml` and `TOOLSHED_SESSION_IDLE` in the environment. Values that are not a number,
//! size, time or list are read in `custom.rs`.

use hosted::config::{Key, Keys, Kind};
use hosted_login::settings::GENERATED;

use super::{Configuration, OwnSettings, custom, s3};
use crate::installation::PROGRAM;

/// Every setting.
pub(crate) fn keys() -> Keys<OwnSettings> {
    Keys::new(PROGRAM, own())
        .secret(&["password_hash", "database", "s3_access_key", "s3_secret_key"])
        .commands(hosted_login::commands::SETTERS)
        .variables(hosted_login::settings::variables())
        .not_settings(vec![GENERATED])
        .check(complete)
}

fn complete(configuration: &mut Configuration) {
    s3::check(configuration);
    hosted::store::name_machine(&mut configuration.settings);
}

/// First those that an owner sets at once.
fn own() -> Vec<Key<OwnSettings>> {
    let mut keys = vec![
        Key {
            name: "public",
            kind: Kind::List {
                write: "names of tools such as [\"all\"] or [\"checksum\"]",
                default: "[]",
                take: custom::public,
            },
            what: "Tools that need no login. `all` means every tool except those that expose the server's \
               environment (*inspect* and *diagnostics*), which have to be named as well: `[\"all\", \
               \"inspect\"]`.",
            why: "A tool uses the owner's disk, processor time and address, so every tool is private until it \
              is opened.",
        },
        hosted_login::settings::password_key(),
        Key {
            name: "data",
            kind: Kind::Custom {
                write: "the path of a folder such as \"data\"",
                default: "`data` beside the program",
                take: hosted::config::data,
            },
            what: "Folder of the site's state: `toolshed.db`, `secret.key`, `blobs`. Created when first needed, for \
               this account only. A relative path is resolved as for `log`.",
            why: "Several processes lock the database, so the file system has to support locks: a local disk, \
              or NFS with its lock service.",
        },
        Key {
            name: "database",
            kind: Kind::Custom {
                write: "a URL such as \"postgres://USER:PASSWORD@HOST/DATABASE\"",
                default: "the file `toolshed.db` in the folder `data`",
                take: hosted::store::take_setting,
            },
            what: "PostgreSQL database (10 or newer) that keeps what `toolshed.db` would: sessions, attempts, what \
               tools store. Then several machines can serve one site. The tables are made when they are first \
               used. Encrypted connections (TLS) are the default unless the server is on this machine; \
               docs/storing.md has all that the URL may contain.",
            why: "A file needs no server, and is faster. The URL may contain a password, so it is never shown.",
        },
        Key {
            name: "s3_endpoint",
            kind: Kind::Custom {
                write: "a URL such as \"https://s3.eu-central-1.amazonaws.com\"",
                default: "none: blobs are in the folder `blobs` in `data`",
                take: custom::s3_endpoint,
            },
            what: "S3-compatible store that keeps blobs: the large values of tools, such as uploads. With it go \
               `s3_bucket`, `s3_access_key` and `s3_secret_key`; docs/storing.md says more.",
            why: "A folder needs no server. Several machines that serve one site need a store that all can reach.",
        },
        Key {
            name: "s3_region",
            kind: Kind::Custom {
                write: "the name of a region such as \"eu-central-1\"",
                default: "`\"us-east-1\"`",
                take: custom::s3_region,
            },
            what: "Region of the S3 store, which is part of each signature.",
            why: "Most stores that are not AWS's accept the default; others say which one they expect.",
        },
        Key {
            name: "s3_bucket",
            kind: Kind::Custom {
                write: "the name of a bucket such as \"my-site\"",
                default: "none",
                take: custom::s3_bucket,
            },
            what: "Bucket in the S3 store. It has to exist.",
            why: "Creating one takes rights that the site does not need: it reads, writes, deletes and lists objects.",
        },
        Key {
            name: "s3_access_key",
            kind: Kind::Custom {
                write: "the access key that the store has issued",
                default: "none",
                take: custom::s3_access_key,
            },
            what: "Access key for the S3 store, its name for this site.",
            why: "It is never shown, like the secret key it belongs to.",
        },
        Key {
            name: "s3_secret_key",
            kind: Kind::Custom {
                write: "the secret key that the store has issued",
                default: "none",
                take: custom::s3_secret_key,
            },
            what: "Secret key for the S3 store.",
            why: "It signs requests and is never sent or shown.",
        },
        Key {
            name: "s3_prefix",
            kind: Kind::Custom {
                write: "the start of names with a slash at the end, such as \"my-site/\"",
                default: "none",
                take: custom::s3_prefix,
            },
            what: "What the names of all objects in the bucket start with.",
            why: "For a bucket that is used for other things, or for several sites.",
        },
        Key {
            name: "s3_style",
            kind: Kind::Custom {
                write: "\"path\" or \"virtual-host\"",
                default: "virtual-host for AWS, path for others",
                take: custom::s3_style,
            },
            what: "How addresses name the bucket: `https://ENDPOINT/BUCKET/…` (path) or \
               `https://BUCKET.ENDPOINT/…` (virtual-host).",
            why: "Nearly all stores know path, which needs neither names nor certificates for buckets. AWS has \
              announced to end it.",
        },
        Key {
            name: "s3_redirect",
            kind: Kind::Custom {
                write: "true or false",
                default: "true if `s3_endpoint` is https, otherwise false",
                take: custom::s3_redirect,
            },
            what: "Whether a visitor who downloads a blob is redirected to the S3 store, by an address that is \
               valid for five minutes. Otherwise the blob passes through the site.",
            why: "Large files then cost the site nothing. Visitors have to be able to reach the store: not so in \
              a private network, where stores mostly do without HTTPS.",
        },
    ];
    keys.extend(hosted_login::settings::keys());
    keys.push(Key {
            name: "node",
            kind: Kind::Custom {
                write: "a name such as \"web-1\": letters, digits and -, at most 32",
                default: "the host's name if `database` is set, otherwise none",
                take: hosted::config::node,
            },
            what: "Name of this machine, if several serve the site. It is in each line of the log, in `toolshed \
               check`, and among the facts that *inspect* shows; the references of errors differ between \
               machines with different names.",
            why: "Logs of several machines are read together. On one machine there is nothing to tell apart.",
        });
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use hosted::config::{Location, Value};

    use crate::config::Settings;

    fn location() -> Location {
        Location::Variable("TEST".to_owned())
    }

    #[test]
    fn every_key_is_described_and_unique() {
        let mut seen = HashSet::new();
        for key in keys().iter() {
            let name = key.name;
            assert!(seen.insert(name), "{name} is in the table twice");
            let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            assert!(name.bytes().all(is_plain), "{name}");
            for text in [key.what, key.why] {
                assert!(text.ends_with('.') && !text.contains("  "), "{name}: {text}");
            }
            assert!(!key.write().ends_with('.'), "{name}");
        }
    }

    #[test]
    fn defaults_that_are_values_are_accepted_and_change_nothing() {
        for key in keys().iter().filter(|key| key.default_in_words(PROGRAM).starts_with('`')) {
            let default = key.default_in_words(PROGRAM);
            let Some(written) = default.strip_prefix('`').and_then(|text| text.strip_suffix('`'))
            else {
                continue;
            };
            let text = format!("{} = {written}", key.name);
            let table = toml::de::DeTable::parse(&text).unwrap();
            let value = Value::from_toml(table.get_ref()[key.name].get_ref());
            let mut settings = Settings::default();
            assert_eq!(key.take(&mut settings, &value, &location()), Ok(()), "{text}");
            assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()), "{text}");
            assert_eq!(key.default_in_words(PROGRAM), default, "{text}");
        }
    }

    #[test]
    fn every_key_accepts_its_limits_and_nothing_beyond() {
        for key in keys().iter() {
            let (range, unit) = match &key.kind {
                Kind::Count { range, .. } => (range, ""),
                Kind::Size { range, .. } => (range, " B"),
                Kind::Time { range, .. } => (range, " s"),
                Kind::Bool { .. } | Kind::List { .. } | Kind::Custom { .. } => continue,
            };
            let take = |number: u64| {
                let value = Value::Text(format!("{number}{unit}"));
                key.take(&mut Settings::default(), &value, &location())
            };
            assert_eq!(take(*range.start()), Ok(()), "{}", key.name);
            assert_eq!(take(*range.end()), Ok(()), "{}", key.name);
            assert!(take(range.end() + 1).is_err(), "{}", key.name);
            assert!(*range.start() == 0 || take(range.start() - 1).is_err(), "{}", key.name);
        }
    }

    #[test]
    fn every_key_rejects_nonsense_with_advice() {
        let nonsense = [
            Value::Text("5 parsecs".to_owned()),
            Value::Number(-1),
            Value::List(vec!["quark".to_owned()]),
            Value::Other("a table"),
        ];
        for key in keys().iter() {
            for value in &nonsense {
                // A file may have any name, and so may a folder.
                if ["log", "data"].contains(&key.name) && *value == nonsense[0] {
                    continue;
                }
                let mut settings = Settings::default();
                let advice = key.take(&mut settings, value, &location()).unwrap_err();
                assert!(advice.contains("write "), "{}: {advice}", key.name);
                assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
            }
        }
    }

    /// A field of the server's settings without a key is a limit that nobody can change.
    #[test]
    fn every_limit_of_the_server_has_a_key() {
        const DECIDED_HERE: [&str; 3] = ["base_variable", "secret_variables", "state_folder"];
        let source = include_str!("../../../app-server/src/settings.rs");
        let (_, fields) = source.split_once("pub struct Settings {").unwrap();
        let (fields, _) = fields.split_once("\n}").unwrap();
        let fields = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
        let names: Vec<_> = fields.filter_map(|line| line.split(':').next()).collect();
        assert!(names.contains(&"max_connections"));
        for name in names.iter().filter(|name| !DECIDED_HERE.contains(name)) {
            assert!(keys().named(name).is_some(), "{name} has no key");
        }
    }

    /// `TOOLSHED_UPDATE_DOCS=1 cargo test -p toolshed` writes the table.
    #[test]
    fn docs_contain_this_table() {
        const BEGIN: &str = "<!-- The table is made from crates/toolshed/src/config/keys.rs, crates/hosted-login/src/settings.rs and crates/hosted/src/config/general.rs: begin -->\n";
        const END: &str = "<!-- end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let docs = std::fs::read_to_string(path).unwrap();
        let (before, rest) = docs.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        let mut table =
            String::from("| setting | default | what, and why |\n| --- | --- | --- |\n");
        for key in keys().iter() {
            let Key { name, what, why, .. } = key;
            let (variable, default) = (PROGRAM.variable(name), key.default_in_words(PROGRAM));
            let limits = key.limits().map_or(String::new(), |limits| format!(" From {limits}."));
            let write = key.write();
            table += &format!(
                "| **`{name}`**<br>`{variable}` | {default} | {what}<br>*Why:* {why}<br>*Write* {write}.{limits} |\n"
            );
        }
        if found != table && std::env::var_os("TOOLSHED_UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        } else {
            assert_eq!(found, table, "run this test with TOOLSHED_UPDATE_DOCS=1");
        }
    }
}

use std::time::Duration;

use super::*;
use crate::installation::SETTINGS;

const PROGRAM: Program = Program { name: "my-app", version: "1.0.0" };

/// Settings of an application's own.
#[derive(Clone, Debug, Default)]
struct Own {
    public: Vec<String>,
    pepper: Option<String>,
    salt: Option<String>,
}

fn keys() -> Keys<Own> {
    let own: Vec<Key<Own>> = vec![
        Key {
            name: "public",
            kind: Kind::List {
                write: "names such as [\"all\"]",
                default: "[]",
                take: |settings, names| {
                    settings.own.public = names;
                    Ok(())
                },
            },
            what: "What everybody may use.",
            why: "Nothing, until the owner decides.",
        },
        Key {
            name: "pepper",
            kind: Kind::Custom {
                write: "a word",
                default: "none",
                take: |settings, value, _| match value {
                    Value::Secret(pepper) => {
                        settings.own.pepper = Some(pepper.clone());
                        Ok(())
                    }
                    _ => Err(Advice::Default),
                },
            },
            what: "What is added to passwords.",
            why: "It is not in the database.",
        },
    ];
    let variable = |name, takes| Variable { name, takes };
    Keys::new(PROGRAM, own)
        .secret(&["pepper"])
        .commands(&[("pepper", "set-pepper")])
        .variables(vec![
            variable("PEPPER", Takes::Key("pepper")),
            variable("SALT", Takes::Text(|settings, text| settings.own.salt = Some(text.into()))),
        ])
        .not_settings(vec!["launched_at"])
}

fn gathered(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Configuration<Own> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(SETTINGS.of(PROGRAM, folder.path()), file).unwrap();
    let given = flags.iter().map(|(flag, key, value)| (*flag, *key, (*value).to_owned()));
    let command_line = CommandLine { config: None, keys: given.collect() };
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.into()));
    keys().load_from(&command_line, environment.collect(), Some(folder.path()))
}

fn sentences(configuration: &Configuration<Own>) -> Vec<String> {
    configuration.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_default() {
    let file = "listen = \"127.0.0.1:1\"";
    let variable = [("MY_APP_LISTEN", "127.0.0.1:2")];
    let flag = [("--listen", "listen", "127.0.0.1:3")];
    for (file, environment, flags, expected) in [
        ("", &[][..], &[][..], None),
        (file, &[], &[], Some("tcp:127.0.0.1:1")),
        (file, &variable, &[], Some("tcp:127.0.0.1:2")),
        (file, &variable, &flag, Some("tcp:127.0.0.1:3")),
        ("", &variable, &flag, Some("tcp:127.0.0.1:3")),
        ("", &[("MY_APP_LISTEN", "")], &[], None),
    ] {
        let found = gathered(file, environment, flags);
        assert_eq!(sentences(&found), [""; 0]);
        assert_eq!(found.settings.listen.map(|at| at.to_string()).as_deref(), expected);
    }
}

/// Nobody has named it: in a folder where others can create files, anybody may have put it there.
#[test]
fn a_default_file_of_another_account_is_a_problem_and_is_not_read() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = SETTINGS.of(PROGRAM, folder.path());
    std::fs::write(&file, "public = [\"all\"]").unwrap();
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(folder.path(), open_to_all).unwrap();
    std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
    let gathered_as = |command_line: &CommandLine| {
        keys().load_from(command_line, Vec::new(), Some(folder.path()))
    };
    let found = gathered_as(&CommandLine::default());
    assert!(found.settings.own.public.is_empty());
    assert!(sentences(&found)[0].contains("another account (uid 4242)"), "{found:?}");
    let named = CommandLine { config: Some(file.clone()), ..CommandLine::default() };
    assert_eq!(sentences(&gathered_as(&named)), [""; 0], "it is named on the command line");
    std::os::unix::fs::chown(folder.path(), Some(4242), None).unwrap();
    let found = gathered_as(&CommandLine::default());
    assert_eq!(sentences(&found), [""; 0], "the folder's owner uploaded it");
    assert!(!found.settings.own.public.is_empty());
}

#[test]
fn each_spelling_of_a_value_means_the_same() {
    for text in [
        "idle_timeout = 90",
        "idle_timeout = \"90\"",
        "idle_timeout = \"90 s\"",
        "idle_timeout='90s'",
    ] {
        let found = gathered(text, &[], &[]);
        assert_eq!(found.settings.server.idle_timeout, Duration::from_secs(90), "{text}");
    }
    for text in ["public = [\"all\", \"checksum\"]", "public = \"all, checksum\""] {
        let public = gathered(text, &[], &[]).settings.own.public;
        assert_eq!(public.into_iter().collect::<Vec<_>>(), ["all", "checksum"], "{text}");
    }
    assert!(gathered("public = []", &[], &[]).settings.own.public.is_empty());
    assert!(gathered("", &[("MY_APP_PUBLIC", "")], &[]).settings.own.public.is_empty());
}

#[test]
fn a_duplicate_key_is_reported_with_both_lines() {
    let file =
        "memory = 1\n\nlog = \"a\"\n'memory' = 2\n\"log\" = \"\"\"\nb\"\"\"\n# x\nlog = \"c\"\n";
    insta::assert_snapshot!(sentences(&gathered(file, &[], &[])).join("\n"), @r"
    my-app.toml, line 4: memory is already set in line 1; delete one of the two lines.
    my-app.toml, line 5: log is already set in line 3; delete one of the two lines.
    my-app.toml, line 8: log is already set in line 3; delete one of the two lines.
    ");
}

#[test]
fn relative_paths_in_a_file_are_relative_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.toml");
    std::fs::write(&file, "log = \"my.log\"\nlisten = \"unix:s\"").unwrap();
    let command_line = CommandLine { config: Some(file), ..CommandLine::default() };
    let settings = keys().load_from(&command_line, vec![], None).settings;
    assert_eq!(settings.log, Some(folder.path().join("my.log")));
    assert_eq!(settings.listen, Some(Address::Unix(folder.path().join("s"))));
    let settings = gathered("", &[("MY_APP_LOG", "my.log")], &[]).settings;
    assert_eq!(settings.log, Some("my.log".into()));
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let file = "# a comment
send_timeout = \"5 parsecs\"
idel_timeout = 5
public = 7
= 3
max_connections = 0
drain_timeout = 2 min
[server]
log = 1
";
    let found = gathered(file, &[("MY_APP_WORKERS", "many")], &[("--listen", "listen", "8080")]);
    insta::assert_snapshot!(sentences(&found).join("\n"), @r#"
    my-app.toml, line 2: send_timeout is "5 parsecs"; write a time such as "5 min" or "90 s".
    my-app.toml, line 3: unknown setting `idel_timeout`; did you mean `idle_timeout`?
    my-app.toml, line 4: public is 7; write names such as ["all"].
    my-app.toml, line 5: invalid TOML (unquoted keys cannot be empty, expected letters, numbers, `-`, `_`); write KEY = VALUE, with strings in double quotes.
    my-app.toml, line 6: max_connections is 0; write a whole number from 1 to 65,536.
    my-app.toml, line 7: invalid TOML (string values must be quoted, expected literal string); write KEY = VALUE, with strings in double quotes.
    my-app.toml, line 8: server is a section; write its settings without a section.
    MY_APP_WORKERS is "many"; write a number such as 2, a range such as "1-4", or "auto".
    --listen is "8080"; write an address such as "127.0.0.1:8080" or "unix:/run/app.sock".
    "#);
}

/// Files are cut off by uploads and typed by people.
#[test]
fn every_mistake_in_a_file_is_one_sentence() {
    const FILE: &str =
        "# ä\npublic = [\"all\", 'inspect']\nlog = \"\"\"a\nb\"\"\"\r\nbody_bytes=0x2000";
    let check = |text: &str| {
        let configuration = keys().load_as(&CommandLine::default(), text);
        for sentence in sentences(&configuration) {
            assert!(sentence.starts_with("my-app.toml, line "), "{text:?}: {sentence}");
            assert!(
                sentence.ends_with(['.', '?']) && !sentence.contains('\n'),
                "{text:?}: {sentence}"
            );
        }
    };
    for (at, letter) in FILE.char_indices() {
        check(&FILE[..at]);
        for typo in ["", "\"", "'", "[", "]", "=", ",", "\n", "\r", "\0", "ß", "{", "}", "."] {
            check(&format!("{}{typo}{}", &FILE[..at], &FILE[at + letter.len_utf8()..]));
            check(&format!("{}{typo}{}", &FILE[..at], &FILE[at..]));
        }
    }
}

#[test]
fn a_secret_is_never_shown_and_other_variables_count() {
    let found = gathered("pepper = \"hot\"", &[("SALT", "from a lake")], &[]);
    assert_eq!(found.settings.own.pepper.as_deref(), Some("hot"));
    assert_eq!(found.settings.own.salt.as_deref(), Some("from a lake"));
    let (value, _) = &found.set["pepper"];
    assert!(!value.to_string().contains("hot"), "{value}");
    let found = gathered("pepper = \"hot\"", &[("PEPPER", "hotter"), ("SALT", "")], &[]);
    assert_eq!(found.settings.own.pepper.as_deref(), Some("hotter"));
    assert_eq!(found.settings.own.salt, None);
    let twice = gathered("pepper = \"a\"\npepper = \"b\"", &[], &[]);
    insta::assert_snapshot!(sentences(&twice).join("\n"), @"my-app.toml, line 2: pepper is already set in line 1; delete one of the two lines, or replace both with `my-app set-pepper`.");
}

#[test]
fn a_variable_similar_to_one_of_ours_is_pointed_out() {
    let names = [
        "MY_APP_LISTE",
        "MY_APP_LAUNCHED_AT",
        "MY_APP_LAUNCHER",
        "MY_APP_SOMETHING_ELSE",
        // An application's own.
        "MY_APP_BASE_ID",
    ];
    let found = gathered("", &names.map(|name| (name, "x")), &[]);
    assert_eq!(
        found.warnings,
        ["The unknown variable `MY_APP_LISTE` has no effect; did you mean `MY_APP_LISTEN`?"]
    );
}

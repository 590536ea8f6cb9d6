//! The tool *passwords*: passphrases and random passwords, several at once.
//!
//! Here a query becomes options and passwords become a page, JSON or plain text; `logic.rs` makes them. The options
//! are in the URL, so that they can be bookmarked; the passwords are not stored.

use std::str::FromStr;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;
use site::{Access, Format, HttpError, Page, Runs, Template, Tool, context, grouped};

use logic::{Characters, Class, Passphrase, Separator, strength, time_to_guess};
use random::{Dice, NoRandomness};

mod logic;
mod random;
#[cfg(test)]
mod tests;

/// The tool's entry in the table.
pub(crate) const TOOL: Tool = Tool {
    name: "passwords",
    title: "Passwords",
    summary: "Passphrases and passwords that nobody can guess, and how strong they are.",
    icon: "passwords",
    access: Access::Open,
    runs: Runs::Inline,
    pages: &[Template { name: PAGE, source: include_str!("page.html") }],
    tables: &[],
    router,
};

const PAGE: &str = "passwords/page.html";

/// Limits and defaults: (min, max, default).
const WORDS: (usize, usize, usize) = (3, 20, 6);
const LENGTH: (usize, usize, usize) = (8, 128, 20);
const COUNT: (usize, usize, usize) = (1, 50, 5);

fn router() -> Router {
    Router::new().route("/", get(respond))
}

/// `GET`: passwords as requested. With a query, clients without a preference get plain text.
async fn respond(
    page: Page,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let query = query.unwrap_or_default();
    let default_format = if query.is_empty() { Format::Html } else { Format::Text };
    let options = Options::read(&query).map_err(|page| page.default_format(default_format))?;
    let generated = options.make().map_err(|error: NoRandomness| {
        HttpError::new(StatusCode::INTERNAL_SERVER_ERROR).cause(error)
    })?;
    let mut response = match Format::wanted(&headers, default_format) {
        Format::Html => page_of(&page, &options, &generated),
        Format::Json => json_response(&generated),
        Format::Text => generated
            .passwords
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>()
            .into_response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The options.
#[derive(Clone, Debug, PartialEq)]
struct Options {
    kind: Kind,
    count: usize,
    /// The options of both kinds are read, so that the page can show them.
    words: Passphrase,
    characters: Characters,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Words,
    Random,
}

impl Kind {
    /// Returns the name in URLs and JSON.
    fn name(self) -> &'static str {
        match self {
            Kind::Words => "words",
            Kind::Random => "random",
        }
    }
}

/// The passwords that were made.
struct Generated {
    kind: Kind,
    entropy: f64,
    passwords: Vec<String>,
}

impl Options {
    /// Parses the query. What is missing has its default; what is invalid is a 400 that names it.
    fn read(query: &str) -> Result<Options, HttpError> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let values = |name: &str| {
            let of_name = pairs.iter().filter(move |(key, _)| key == name);
            of_name.map(|(_, value)| value.as_ref()).collect::<Vec<_>>()
        };
        let last = |name: &str| values(name).last().copied().filter(|value| !value.is_empty());

        let kind = match last("kind") {
            None | Some("words") => Kind::Words,
            Some("random") => Kind::Random,
            Some(other) => return Err(unknown("kind", other, &["words", "random"])),
        };
        let separator = last("separator").unwrap_or("hyphen");
        let separator = Separator::ALL
            .into_iter()
            .find(|known| known.name() == separator)
            .ok_or_else(|| unknown("separator", separator, &Separator::ALL.map(Separator::name)))?;
        let mut classes = Vec::new();
        // Repeated, or several in one value: `chars=lower,digits`.
        for name in values("chars").iter().flat_map(|value| value.split(',')).map(str::trim) {
            let class = Class::ALL.into_iter().find(|known| known.name() == name);
            let class =
                class.ok_or_else(|| unknown("chars", name, &Class::ALL.map(Class::name)))?;
            if !classes.contains(&class) {
                classes.push(class);
            }
        }
        if classes.is_empty() {
            classes = vec![Class::Lower, Class::Upper, Class::Digits];
        }
        Ok(Options {
            kind,
            count: number("count", last("count"), COUNT)?,
            words: Passphrase {
                words: number("words", last("words"), WORDS)?,
                separator,
                capitals: switch("capitals", last("capitals"))?,
                digit: switch("digit", last("digit"))?,
            },
            characters: Characters {
                length: number("length", last("length"), LENGTH)?,
                classes,
                without_lookalikes: switch("no-lookalikes", last("no-lookalikes"))?,
            },
        })
    }

    fn make(&self) -> Result<Generated, NoRandomness> {
        let mut dice = Dice::new(random::system);
        let (entropy, passwords) = match self.kind {
            Kind::Words => {
                let words = logic::words();
                let one = |_| self.words.make(words, &mut dice);
                (self.words.entropy(words), (0..self.count).map(one).collect::<Result<_, _>>()?)
            }
            Kind::Random => {
                let one = |_| self.characters.make(&mut dice);
                (self.characters.entropy(), (0..self.count).map(one).collect::<Result<_, _>>()?)
            }
        };
        Ok(Generated { kind: self.kind, entropy, passwords })
    }
}

/// Reads a number within its limits.
fn number(
    name: &str,
    value: Option<&str>,
    (min, max, default): (usize, usize, usize),
) -> Result<usize, HttpError> {
    let Some(value) = value else { return Ok(default) };
    let number = usize::from_str(value).ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| refused(format!("\"{name}\" has to be a number from {min} to {max}.")))
}

/// Parses a checkbox: present or absent, as forms send it, or spelled out.
fn switch(name: &str, value: Option<&str>) -> Result<bool, HttpError> {
    match value {
        Some("on" | "yes" | "true" | "1") => Ok(true),
        None | Some("off" | "no" | "false" | "0") => Ok(false),
        Some(_) => Err(refused(format!("\"{name}\" is either \"on\" or \"off\"."))),
    }
}

fn unknown(name: &str, value: &str, known: &[&str]) -> HttpError {
    let value: String = value.chars().take(40).collect();
    let known = known.join(", ");
    refused(format!("\"{name}\" cannot be \"{value}\". It is one of these: {known}."))
}

fn refused(message: String) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST).title("Invalid request").message(message)
}

fn page_of(page: &Page, options: &Options, generated: &Generated) -> Response {
    let Options { words, characters, .. } = options;
    let separators = Separator::ALL.map(|separator| {
        let sample = format!("two{}words", separator.character());
        json!({
            "name": separator.name(),
            "sample": sample,
            "is_chosen": words.separator == separator,
        })
    });
    let classes = Class::ALL.map(|class| {
        json!({
            "name": class.name(),
            "title": class_title(class),
            "is_chosen": characters.classes.contains(&class),
        })
    });
    let limits = |(min, max, _): (usize, usize, usize)| json!({ "min": min, "max": max });
    page.show(
        PAGE,
        context! {
            kind => generated.kind.name(),
            passwords => &generated.passwords,
            bits => &format!("{:.0}", generated.entropy.floor()),
            strength => strength(generated.entropy),
            time => &time_to_guess(generated.entropy),
            count => &options.count,
            words => &words.words,
            list_length => &grouped(logic::words().len() as u64),
            separators => &separators,
            capitals => &words.capitals,
            digit => &words.digit,
            length => &characters.length,
            classes => &classes,
            no_lookalikes => &characters.without_lookalikes,
            lookalikes => logic::LOOKALIKES,
            limits => &json!({
                "words": limits(WORDS), "length": limits(LENGTH), "count": limits(COUNT),
            }),
        },
    )
}

/// Returns what the page calls a class.
fn class_title(class: Class) -> &'static str {
    match class {
        Class::Lower => "a to z",
        Class::Upper => "A to Z",
        Class::Digits => "0 to 9",
        Class::Symbols => "Symbols",
    }
}

fn json_response(generated: &Generated) -> Response {
    #[derive(Serialize)]
    struct Object<'a> {
        kind: &'a str,
        entropy_bits: f64,
        passwords: &'a [String],
    }

    let object = Object {
        kind: generated.kind.name(),
        entropy_bits: (generated.entropy * 10.0).floor() / 10.0,
        passwords: &generated.passwords,
    };
    // Numbers and strings cannot fail to become JSON.
    let response = serde_json::to_string(&object).unwrap_or_default() + "\n";
    ([(CONTENT_TYPE, "application/json")], response).into_response()
}

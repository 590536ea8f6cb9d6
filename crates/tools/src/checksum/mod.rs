//! The tool *checksum*: digests of a text or of a file of any size.
//!
//! Here requests become bytes and digests become pages, JSON or plain text; `logic.rs` computes the digests. A file
//! streams through and is not stored.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use site::{
    Access, Chunks, Format, HttpError, MediaType, Multipart, Page, Runs, Template, Tool, context,
    grouped,
};

use crate::urlencoded;
use logic::{Algorithm, Checksums, Comparison, Digest, Digester, compare};

mod logic;
#[cfg(test)]
mod tests;

/// The tool's entry in the table.
pub(crate) const TOOL: Tool = Tool {
    name: "checksum",
    title: "Checksums",
    summary: "Digests of a text or of a file of any size, from MD5 to BLAKE3.",
    icon: "checksum",
    access: Access::Open,
    runs: Runs::Inline,
    pages: &[Template { name: PAGE, source: include_str!("page.html") }],
    tables: &[],
    router,
};

const PAGE: &str = "checksum/page.html";

/// Bytes of text in a form, which is held in memory, unlike a file. 1 MiB is some 500 pages.
const TEXT_BYTES: usize = 1024 * 1024;

/// Bytes of the form for comparing: five digests, a file name and the pasted text take about 1 KiB.
const COMPARE_BYTES: usize = 64 * 1024;

fn router() -> Router {
    Router::new().route("/", get(form).post(hash)).route("/compare", post(compare_again))
}

/// `GET`: the empty form.
async fn form(page: Page) -> Response {
    page.show(
        PAGE,
        context! { result => &None::<Value>, names => &Algorithm::ALL.map(Algorithm::name) },
    )
}

/// `POST`: digests of what was sent.
///
/// A form sends text or a file and gets a page; with `?alg=` in the URL, or with a content type
/// that is not a form's, the body itself is hashed and the response is for a shell. `curl --data-binary` calls
/// every body a form (`application/x-www-form-urlencoded`): there `?alg=` makes the difference.
async fn hash(page: Page, request: Request) -> Result<Response, HttpError> {
    let (head, body) = request.into_parts();
    let requested = urlencoded::value(head.uri.query().unwrap_or_default(), "alg");
    let is_multipart = Multipart::is_in(&head.headers);
    let is_form = is_multipart || requested.is_none() && is_urlencoded(&head.headers);
    let default_format = if is_form && requested.is_none() { Format::Html } else { Format::Text };

    let algorithms =
        chosen(requested.as_deref()).map_err(|page| page.default_format(default_format))?;
    let submission = match (is_multipart, is_form) {
        (true, _) => from_multipart(&head.headers, body, &algorithms).await,
        (_, true) => from_urlencoded(body, &algorithms).await,
        (_, false) => from_raw_body(body, &algorithms).await,
    };
    let submission = submission.map_err(|page| page.default_format(default_format))?;

    Ok(match Format::wanted(&head.headers, default_format) {
        Format::Html if is_form => result_page(&page, &submission),
        Format::Json => json_response(&submission.checksums, requested.is_some()),
        Format::Html | Format::Text => text_response(&submission.checksums, requested.is_some()),
    })
}

/// `POST compare`: the result page again, with the result of the comparison. The digests come from the page itself,
/// because the input was not stored.
async fn compare_again(page: Page, body: Body) -> Result<Response, HttpError> {
    let body = Chunks::new(body).collect(COMPARE_BYTES).await?;
    let value = |name| urlencoded::value(&body, name);
    let digests: Vec<_> = Algorithm::ALL
        .into_iter()
        .filter_map(|algorithm| Digest::parse(algorithm, &value(algorithm.name())?))
        .collect();
    let bytes = value("bytes").and_then(|bytes| bytes.parse().ok());
    let (Some(bytes), false) = (bytes, digests.is_empty()) else {
        return Err(HttpError::new(StatusCode::BAD_REQUEST)
            .message("There is nothing to compare with. Calculate the checksums first."));
    };
    let submission = Submission {
        name: value("name").filter(|name| !name.is_empty()),
        expected: value("expected").unwrap_or_default(),
        checksums: Checksums { bytes, digests },
    };
    Ok(result_page(&page, &submission))
}

/// The digests of a visitor's input.
struct Submission {
    /// The file's name; a text has none.
    name: Option<String>,
    /// The digest to compare with; may be empty.
    expected: String,
    checksums: Checksums,
}

/// Reads the page's form: a file, streamed, or if none was chosen, the text.
async fn from_multipart(
    headers: &HeaderMap,
    body: Body,
    algorithms: &[Algorithm],
) -> Result<Submission, HttpError> {
    let mut form = Multipart::new(headers, body)?;
    let (mut text, mut expected, mut file) = (String::new(), String::new(), None);
    while let Some(mut field) = form.next_field().await? {
        match field.name() {
            "text" => text = field.text(TEXT_BYTES).await?,
            "expected" => expected = field.text(COMPARE_BYTES).await?,
            "file" => {
                let name = field.file_name().unwrap_or("").to_owned();
                let mut digester = Digester::new(algorithms);
                while let Some(chunk) = field.chunk().await? {
                    digester.update(&chunk);
                }
                let checksums = digester.finish();
                let was_chosen = !name.is_empty() || checksums.bytes > 0;
                if was_chosen && file.is_none() {
                    file = Some((name, checksums));
                }
            }
            _ => {}
        }
    }
    Ok(match file {
        Some((name, checksums)) => {
            let name = if name.is_empty() { "A file without a name".to_owned() } else { name };
            Submission { name: Some(name), expected, checksums }
        }
        None => Submission { name: None, expected, checksums: of_text(&text, algorithms) },
    })
}

/// Reads a form without files: the text in its field `text`.
async fn from_urlencoded(body: Body, algorithms: &[Algorithm]) -> Result<Submission, HttpError> {
    let body = Chunks::new(body).collect(TEXT_BYTES).await?;
    let Some(text) = urlencoded::value(&body, "text") else {
        return Err(HttpError::new(StatusCode::BAD_REQUEST).message(format!(
            "The form has no field \"text\". To get the digest of the body itself, add ?alg=NAME to \
             the address, where NAME is one of {}.",
            known_names()
        )));
    };
    let expected = urlencoded::value(&body, "expected").unwrap_or_default();
    Ok(Submission { name: None, expected, checksums: of_text(&text, algorithms) })
}

/// Digests the body as it is.
async fn from_raw_body(body: Body, algorithms: &[Algorithm]) -> Result<Submission, HttpError> {
    let mut chunks = Chunks::new(body);
    let mut digester = Digester::new(algorithms);
    while let Some(chunk) = chunks.next().await {
        digester.update(&chunk?);
    }
    Ok(Submission { name: None, expected: String::new(), checksums: digester.finish() })
}

/// Digests a text from a form. Browsers send its line breaks as CR LF whatever the visitor's system
/// uses; the digest is of the text as the visitor sees it, with LF, as `printf` in a shell makes it.
fn of_text(text: &str, algorithms: &[Algorithm]) -> Checksums {
    let mut digester = Digester::new(algorithms);
    digester.update(text.replace("\r\n", "\n").as_bytes());
    digester.finish()
}

fn result_page(page: &Page, submission: &Submission) -> Response {
    let Submission { name, expected, checksums } = submission;
    let comparison = compare(&checksums.digests, expected);
    let digests: Vec<_> = checksums
        .digests
        .iter()
        .map(|Digest { algorithm, hex }| {
            json!({
                "name": algorithm.name(),
                "title": algorithm.title(),
                "hex": hex,
                "matches": comparison == Some(Comparison::Match(*algorithm)),
            })
        })
        .collect();
    let result = json!({
        "name": name,
        "bytes": checksums.bytes,
        "size": size_in_words(checksums.bytes),
        "digests": digests,
        "expected": expected.trim(),
        "comparison": comparison.as_ref().map(comparison_in_words),
    });
    let mut response = page.show(PAGE, context! { result => &result });
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// Only the digest if one algorithm was chosen, otherwise a line for each.
fn text_response(checksums: &Checksums, one_was_chosen: bool) -> Response {
    let lines = checksums.digests.iter().map(|Digest { algorithm, hex }| {
        if one_was_chosen { format!("{hex}\n") } else { format!("{}  {hex}\n", algorithm.name()) }
    });
    ([(CACHE_CONTROL, "no-store")], lines.collect::<String>()).into_response()
}

/// One object if one algorithm was chosen, otherwise a list.
fn json_response(checksums: &Checksums, one_was_chosen: bool) -> Response {
    #[derive(Serialize)]
    struct Object<'a> {
        algorithm: &'a str,
        hex: &'a str,
        bytes: u64,
    }

    let objects: Vec<_> = checksums
        .digests
        .iter()
        .map(|Digest { algorithm, hex }| Object {
            algorithm: algorithm.name(),
            hex,
            bytes: checksums.bytes,
        })
        .collect();
    let response = match &*objects {
        [object] if one_was_chosen => serde_json::to_string(object),
        objects => serde_json::to_string(objects),
    };
    // Numbers and strings cannot fail to become JSON.
    let response = response.unwrap_or_default() + "\n";
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], response).into_response()
}

/// Describes the result of a comparison: whether it is good, a headline, and what it means.
fn comparison_in_words(comparison: &Comparison) -> Value {
    let (is_good, headline, meaning) = match comparison {
        Comparison::Match(algorithm) => (
            true,
            format!("It matches: {}.", algorithm.title()),
            "What you sent has the digest you expect.".to_owned(),
        ),
        Comparison::Different(candidates) => {
            let titles: Vec<_> = candidates.iter().map(|algorithm| algorithm.title()).collect();
            (
                false,
                "It does not match.".to_owned(),
                format!("Its length is that of {}, but it differs.", titles.join(" or ")),
            )
        }
        Comparison::NotADigest => (
            false,
            "This is not a digest.".to_owned(),
            "A digest is 32, 40, 64 or 128 characters long, with the digits 0 to 9 and the letters \
             a to f."
                .to_owned(),
        ),
    };
    json!({ "is_good": is_good, "headline": headline, "meaning": meaning })
}

/// Writes `1 byte`, `1,234 bytes`.
fn size_in_words(bytes: u64) -> String {
    format!("{} {}", grouped(bytes), if bytes == 1 { "byte" } else { "bytes" })
}

/// The requested algorithm, or all of them.
fn chosen(requested: Option<&str>) -> Result<Vec<Algorithm>, HttpError> {
    let Some(requested) = requested else { return Ok(Algorithm::ALL.to_vec()) };
    requested.parse().map(|algorithm| vec![algorithm]).map_err(|_| {
        HttpError::new(StatusCode::BAD_REQUEST)
            .title("Unknown algorithm")
            .message(format!("The known ones are {}.", known_names()))
    })
}

/// Lists the names for `?alg=`.
fn known_names() -> String {
    let names = Algorithm::ALL.map(Algorithm::name);
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    format!("{} and {last}", others.join(", "))
}

fn is_urlencoded(headers: &HeaderMap) -> bool {
    MediaType::of(headers).is_some_and(|media_type| media_type.is(MediaType::URLENCODED))
}

//! Tests of *checksum*: digests by known values, then the requests as browsers and shells send them.

use axum::Router;
use axum::body::Body;
use site::testing::{TestResponse, body_of_chunks, body_that_breaks_off, get, post, request, send};

use super::logic::{Algorithm, Comparison, Digest, Digester, compare};
use super::{TOOL, size_in_words};

const ADDRESS: &str = "/tools/checksum";
const URLENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=XX";

/// Name, digest of nothing, digest of `abc`: from RFC 1321 §A.5, FIPS 180-4's examples and b3sum.
const KNOWN: [(&str, &str, &str); 5] = [
    ("md5", "d41d8cd98f00b204e9800998ecf8427e", "900150983cd24fb0d6963f7d28e17f72"),
    (
        "sha1",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "a9993e364706816aba3e25717850c26c9cd0d89d",
    ),
    (
        "sha256",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    (
        "sha512",
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
         47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
    (
        "blake3",
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    ),
];

fn site() -> Router {
    site::router(const { &[TOOL] })
}

fn known(name: &str) -> &'static str {
    KNOWN.iter().find(|(known, ..)| *known == name).unwrap().2
}

/// A form as browsers send it: (name, file name, content).
fn form(fields: &[(&str, Option<&str>, &str)]) -> String {
    let mut form = String::new();
    for (name, file_name, content) in fields {
        let file_name = file_name.map_or(String::new(), |name| format!("; filename=\"{name}\""));
        form += &format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n{content}\r\n"
        );
    }
    form + "--XX--\r\n"
}

fn post_for(accept: &str, query: &str, content_type: &str, body: impl Into<Body>) -> TestResponse {
    let request = request("POST", &format!("{ADDRESS}{query}"))
        .header("content-type", content_type)
        .header("accept", accept);
    send(&site(), request.body(body.into()).unwrap())
}

// The logic.

#[test]
fn digests_match_known_values_however_the_input_is_split() {
    let digest = |chunks: &[&[u8]]| {
        let mut digester = Digester::new(&Algorithm::ALL);
        chunks.iter().for_each(|chunk| digester.update(chunk));
        digester.finish()
    };
    for (index, (name, of_nothing, of_abc)) in KNOWN.into_iter().enumerate() {
        for (chunks, expected, bytes) in [
            (&[] as &[&[u8]], of_nothing, 0),
            (&[b"", b""], of_nothing, 0),
            (&[b"abc"], of_abc, 3),
            (&[b"a", b"", b"bc"], of_abc, 3),
        ] {
            let checksums = digest(chunks);
            assert_eq!(checksums.bytes, bytes, "{name}");
            assert_eq!(checksums.digests[index].algorithm.name(), name);
            assert_eq!(checksums.digests[index].hex, expected, "{name} of {chunks:?}");
        }
    }
    // Longer than a round, split at odd positions.
    let long: Vec<u8> = (0..100_000_u32).map(|number| (number % 251) as u8).collect();
    let whole = digest(&[&long]);
    assert_eq!(digest(&long.chunks(33_333).collect::<Vec<_>>()), whole);
    assert_eq!(digest(&long.chunks(1).collect::<Vec<_>>()), whole);
}

#[test]
fn names_and_titles_are_understood_in_any_case() {
    for algorithm in Algorithm::ALL {
        for text in [algorithm.name(), algorithm.title(), &algorithm.name().to_uppercase()] {
            assert_eq!(text.parse(), Ok(algorithm), "{text}");
        }
        let length = Digester::new(&[algorithm]).finish().digests[0].hex.len();
        assert_eq!(length, algorithm.hex_length(), "{}", algorithm.name());
    }
    for text in ["", "sha", "sha-3", "md5 "] {
        assert!(text.parse::<Algorithm>().is_err(), "{text:?}");
    }
}

#[test]
fn a_pasted_digest_is_compared_in_the_forms_people_find() {
    let digests: Vec<Digest> = Algorithm::ALL
        .into_iter()
        .map(|algorithm| Digest::parse(algorithm, known(algorithm.name())).unwrap())
        .collect();
    let sha256 = known("sha256");
    let matches = Some(Comparison::Match(Algorithm::Sha256));
    let other = "0".repeat(64);
    let differs = Some(Comparison::Different(vec![Algorithm::Sha256, Algorithm::Blake3]));
    for (pasted, expected) in [
        (String::new(), None),
        (" \r\n".into(), None),
        (sha256.into(), matches.clone()),
        (sha256.to_uppercase(), matches.clone()),
        (format!(" {sha256} \n"), matches.clone()),
        (format!("{sha256}  some file.iso"), matches.clone()),
        (format!("{sha256} *some file.iso"), matches.clone()),
        (format!("sha256:{sha256}"), matches.clone()),
        (format!("SHA256 (some = file.iso) = {sha256}"), matches.clone()),
        (known("md5").into(), Some(Comparison::Match(Algorithm::Md5))),
        (other, differs),
        (sha256[1..].into(), Some(Comparison::NotADigest)),
        ("é".repeat(32), Some(Comparison::NotADigest)),
        ("hello".into(), Some(Comparison::NotADigest)),
    ] {
        assert_eq!(compare(&digests, &pasted), expected, "{pasted:?}");
    }
}

#[test]
fn sizes_are_formatted_with_units() {
    for (bytes, words) in [(0, "0 bytes"), (1, "1 byte"), (1_234_567, "1,234,567 bytes")] {
        assert_eq!(size_in_words(bytes), words);
    }
}

// A shell.

#[test]
fn a_shell_gets_the_digest_and_a_newline() {
    for (name, _, of_abc) in KNOWN {
        for content_type in [URLENCODED, "application/octet-stream", "text/html", ""] {
            let query = format!("?alg={name}");
            let response = post_for("*/*", &query, content_type, body_of_chunks(["a", "bc"]));
            assert_eq!(response.status, 200, "{name} {content_type}");
            assert_eq!(response.text(), format!("{of_abc}\n"), "{name} {content_type}");
            assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        }
    }
}

#[test]
fn a_raw_body_is_hashed_as_it_is() {
    // Text that looks like a form, with line breaks that a form would change.
    let response = post_for("*/*", "?alg=md5", URLENCODED, "text=a+b%20c\r\n");
    assert_eq!(response.text(), "35128f5b0f032898b00b990137bf3163\n");
}

#[test]
fn without_alg_a_raw_body_gets_all_five() {
    let response = post_for("*/*", "", "application/octet-stream", "abc");
    let expected: String = KNOWN.iter().map(|(name, _, hex)| format!("{name}  {hex}\n")).collect();
    assert_eq!(response.text(), expected);
}

#[test]
fn json_is_an_object_for_one_algorithm_and_otherwise_a_list() {
    let response = post_for("application/json", "?alg=MD5", URLENCODED, "abc");
    assert_eq!(response.header("content-type"), Some("application/json"));
    insta::assert_snapshot!(response.text(), @r#"{"algorithm":"md5","hex":"900150983cd24fb0d6963f7d28e17f72","bytes":3}"#);
    let response = post_for("application/json", "", "text/plain", "abc");
    let list: serde_json::Value = serde_json::from_str(response.text()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 5);
    assert_eq!(list[4]["hex"], known("blake3"));
    let response = post_for("application/json", "", MULTIPART, form(&[("text", None, "abc")]));
    assert_eq!(response.text().parse::<serde_json::Value>().unwrap()[1]["hex"], known("sha1"));
}

#[test]
fn an_unknown_algorithm_is_one_clear_sentence() {
    for query in ["?alg=sha3", "?alg=", "?alg=%00"] {
        let response = post_for("*/*", query, URLENCODED, "abc");
        assert_eq!(response.status, 400, "{query}");
        assert_eq!(
            response.text(),
            "Unknown algorithm. The known ones are md5, sha1, sha256, sha512 and blake3.\n",
        );
    }
    let response = post_for("text/html", "?alg=sha3", URLENCODED, "abc");
    assert!(response.text().starts_with("<!DOCTYPE html>"));
}

#[test]
fn a_shell_that_forgets_alg_gets_a_hint() {
    let response = post(&site(), ADDRESS, URLENCODED, "abc");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("add ?alg=NAME to the address"), "{}", response.text());
}

#[test]
fn a_large_body_is_streamed() {
    let piece = "0123456789abcdef".repeat(4096);
    let response = post_for("*/*", "?alg=sha256", URLENCODED, body_of_chunks(vec![piece; 160]));
    // 10 MiB: `for i in $(seq 655360); do printf 0123456789abcdef; done | sha256sum`.
    assert_eq!(
        response.text(),
        "3f5862181da2da49ce240dea1c5cfdafda27f0864f7576b59b0b437c3e463bfd\n"
    );
}

#[test]
fn a_body_that_breaks_off_is_a_400_with_a_sentence() {
    let form = form(&[("file", Some("a.txt"), "abc")]);
    for (query, content_type, body) in [
        ("?alg=md5", URLENCODED, "abc"),
        ("", "application/octet-stream", "abc"),
        ("", URLENCODED, "text=abc"),
        ("", MULTIPART, &form[..80]),
    ] {
        let response = post_for("*/*", query, content_type, body_that_breaks_off([body]));
        assert_eq!(response.status, 400, "{query} {content_type}");
        assert!(response.text().contains("did not arrive in full"), "{query} {content_type}");
    }
    let response = post_for("*/*", "", MULTIPART, form[..form.len() - 8].to_owned());
    assert_eq!(response.status, 400);
    assert!(response.text().contains("ended before its last part"), "{}", response.text());
}

// A browser.

#[test]
fn the_form_needs_no_script_and_has_a_label_for_each_field() {
    let response = get(&site(), ADDRESS);
    let html = response.text();
    assert!(html.contains("enctype=\"multipart/form-data\""));
    for id in ["text", "file", "expected"] {
        assert!(html.contains(&format!("<label for=\"{id}\"")), "{id}");
        assert!(html.contains(&format!("id=\"{id}\" name=\"{id}\"")), "{id}");
    }
}

#[test]
fn a_text_or_a_file_gets_a_page_with_all_five() {
    let empty_file = ("file", Some(""), "");
    for (fields, subject) in [
        (&[("text", None, "abc"), empty_file] as &[_], "Your text, 3 bytes"),
        (
            &[("text", None, ""), ("file", Some("a &amp; b.txt"), "abc")],
            "<strong class=\"file-name\">a &amp;amp; b.txt</strong>, 3 bytes",
        ),
        // A file takes precedence over a text, in any order.
        (&[("text", None, "x"), ("file", Some("f"), "abc")], "f</strong>, 3 bytes"),
        (&[("file", Some("f"), "abc"), ("text", None, "x")], "f</strong>, 3 bytes"),
        (&[("file", None, "abc")], "A file without a name</strong>, 3 bytes"),
        (&[("other", None, "y"), ("text", None, "abc")], "Your text, 3 bytes"),
    ] {
        let response = post(&site(), ADDRESS, MULTIPART, form(fields));
        assert_eq!(response.status, 200, "{fields:?}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(response.text().contains(subject), "{fields:?}: {}", response.text());
        for (name, _, hex) in KNOWN {
            assert!(response.text().contains(&format!(">{hex}</dd>")), "{fields:?}: {name}");
        }
        assert!(!response.text().contains("role=\"status\""), "{fields:?}");
    }
}

#[test]
fn nothing_and_an_empty_file_have_digests_too() {
    for (fields, subject) in [
        (&[("text", None, ""), ("file", Some(""), "")] as &[_], "Your text, 0 bytes"),
        (&[("file", Some("empty"), ""), ("text", None, "abc")], "empty</strong>, 0 bytes"),
    ] {
        let response = post(&site(), ADDRESS, MULTIPART, form(fields));
        assert!(response.text().contains(subject), "{fields:?}");
        assert!(response.text().contains(KNOWN[0].1), "{fields:?}");
    }
}

#[test]
fn line_breaks_of_a_text_count_once_and_those_of_a_file_stay() {
    let text = |fields: &[_]| post_for("text/plain", "?alg=md5", MULTIPART, form(fields));
    let with_lf = text(&[("text", None, "a\nb")]).text().to_owned();
    assert_eq!(text(&[("text", None, "a\r\nb")]).text(), with_lf);
    assert_ne!(text(&[("file", Some("f"), "a\r\nb")]).text(), with_lf);
    assert_eq!(text(&[("file", Some("f"), "a\nb")]).text(), with_lf);
    let urlencoded = post_for("text/plain", "", URLENCODED, "text=a%0D%0Ab");
    assert!(urlencoded.text().starts_with(&format!("md5  {with_lf}")));
}

#[test]
fn a_form_without_files_works_up_to_its_limit() {
    let response = post(&site(), ADDRESS, URLENCODED, "text=ab%63&expected=");
    assert!(response.text().contains(known("sha256")), "{}", response.text());
    let large = format!("text={}", "x".repeat(super::TEXT_BYTES));
    let response = post(&site(), ADDRESS, URLENCODED, large.clone());
    assert_eq!(response.status, 413);
    assert!(response.text().contains("larger than the limit of 1 MiB"), "{}", response.text());
    let response = post(&site(), ADDRESS, MULTIPART, form(&[("text", None, &large)]));
    assert_eq!(response.status, 413);
    let response = post(&site(), ADDRESS, MULTIPART, form(&[("file", Some("f"), &large)]));
    assert_eq!(response.status, 200);
}

#[test]
fn the_form_compares_at_once() {
    let upper = known("sha1").to_uppercase();
    for (expected, words, badge) in [
        (&*upper, "It matches: SHA-1.", true),
        ("900150983cd24fb0d6963f7d28e17f73", "It does not match.", false),
        ("hello", "This is not a digest", false),
    ] {
        let fields = [("text", None, "abc"), ("expected", None, expected)];
        let response = post(&site(), ADDRESS, MULTIPART, form(&fields));
        assert!(response.text().contains(words), "{expected}: {}", response.text());
        assert_eq!(response.text().contains("class=\"badge\""), badge, "{expected}");
    }
}

#[test]
fn the_result_page_compares_again() {
    let fields = [("file", Some("a\\\"b.txt"), "abc")];
    let page = post(&site(), ADDRESS, MULTIPART, form(&fields));
    // Submit the page's form.
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for hidden in page.text().split("<input type=\"hidden\" name=\"").skip(1) {
        let (name, rest) = hidden.split_once("\" value=\"").unwrap();
        let value = rest.split_once('"').unwrap().0.replace("&quot;", "\"");
        pairs.append_pair(name, &value);
    }
    pairs.append_pair("expected", known("sha512"));
    let response = post(&site(), "/tools/checksum/compare", URLENCODED, pairs.finish());
    assert_eq!(response.status, 200);
    assert!(response.text().contains("It matches: SHA-512."), "{}", response.text());
    assert!(response.text().contains("</strong>, 3 bytes"), "{}", response.text());
}

#[test]
fn the_result_page_compares_only_digests() {
    let path = "/tools/checksum/compare";
    for body in ["", "expected=abc", "bytes=3&md5=zz", "md5=900150983cd24fb0d6963f7d28e17f72"] {
        let response = post(&site(), path, URLENCODED, body);
        assert_eq!(response.status, 400, "{body}");
        assert!(response.text().contains("nothing to compare with"), "{body}");
    }
    let response = get(&site(), path);
    assert_eq!((response.status.as_u16(), response.header("allow")), (405, Some("POST")));
}

#[test]
fn what_visitors_send_is_escaped() {
    let nasty = "<script>alert(1)</script>";
    let fields = [("file", Some(nasty), "abc"), ("expected", None, nasty)];
    let response = post(&site(), ADDRESS, MULTIPART, form(&fields));
    assert_eq!(response.status, 200);
    assert!(!response.text().contains("<script>"), "{}", response.text());
}

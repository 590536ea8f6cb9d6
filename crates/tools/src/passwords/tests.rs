//! Tests of *passwords*: fairness and entropy by counting, then the requests as browsers and shells send
//! them.

use std::collections::HashSet;

use axum::Router;
use site::testing::{TestResponse, get, request, send};

use super::logic::{
    Characters, Class, LOOKALIKES, Passphrase, Separator, strength, time_to_guess, words,
};
use super::random::{Dice, NoRandomness, fair, system};
use super::{COUNT, Kind, LENGTH, Options, TOOL, WORDS};

const ADDRESS: &str = "/tools/passwords";

fn site() -> Router {
    site::router(const { &[TOOL] })
}

fn ask(query: &str, accept: &str) -> TestResponse {
    let request = request("GET", &format!("{ADDRESS}{query}")).header("accept", accept);
    send(&site(), request.body(Default::default()).unwrap())
}

fn phrase(words: usize) -> Passphrase {
    Passphrase { words, separator: Separator::Hyphen, capitals: false, digit: false }
}

fn characters(length: usize, classes: &[Class]) -> Characters {
    Characters { length, classes: classes.to_vec(), without_lookalikes: false }
}

// Randomness.

#[test]
fn every_side_of_every_die_has_the_same_chance() {
    for sides in [1, 2, 3, 6, 10, 26, 52, 62, 87, 1000, 2048, words().len() as u16, 40_000, 65_535]
    {
        let mut seen = vec![0_u32; sides.into()];
        for number in 0..=u16::MAX {
            if let Some(side) = fair(number, sides) {
                seen[side] += 1;
            }
        }
        let chance = 65_536 / u32::from(sides);
        assert!(seen.iter().all(|times| *times == chance), "{sides} sides");
    }
}

#[test]
fn biased_numbers_are_discarded_and_the_next_one_is_used() {
    // 65,535 is above the last multiple of ten, 65,530; the next number is 7.
    let mut dice = Dice::new(|buffer| {
        buffer.fill(0);
        buffer[..4].copy_from_slice(&[0xff, 0xff, 0, 7]);
        Ok(())
    });
    assert_eq!(dice.roll(10), Ok(7));
    assert_eq!(Dice::new(system).pick::<u8>(&[]), Ok(None));
}

#[test]
fn without_randomness_there_are_no_passwords() {
    let mut dice = Dice::new(|_| Err(NoRandomness("no".to_owned())));
    assert!(phrase(6).make(words(), &mut dice).is_err());
    assert!(characters(20, &Class::ALL).make(&mut dice).is_err());
}

// The list of words.

#[test]
fn the_words_are_short_plain_and_unique() {
    let words = words();
    assert!(words.len() >= 2048, "{}", words.len());
    let unique: HashSet<_> = words.iter().collect();
    assert_eq!(unique.len(), words.len());
    assert!(words.is_sorted(), "keep the list in order");
    for word in words {
        assert!((3..=8).contains(&word.len()), "{word}");
        assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
    }
}

// Entropy.

#[test]
fn the_entropy_of_a_passphrase_counts_its_choices() {
    let list = vec!["word"; 2048];
    assert_eq!(phrase(6).entropy(&list), 66.0);
    assert_eq!(Passphrase { capitals: true, ..phrase(6) }.entropy(&list), 66.0);
    // One of ten digits, after one of four words.
    let with_digit = Passphrase { digit: true, ..phrase(4) };
    assert!((with_digit.entropy(&list) - (44.0 + 40_f64.log2())).abs() < 1e-9);
}

#[test]
fn different_choices_make_different_passphrases() {
    let mut dice = Dice::new(system);
    let list = ["a", "ab", "b", "ba"];
    let options = Passphrase { digit: true, ..phrase(2) };
    let made: HashSet<_> = (0..20_000).map(|_| options.make(&list, &mut dice).unwrap()).collect();
    // Four words, twice; a digit of ten after one of the two.
    assert_eq!(made.len(), 4 * 4 * 10 * 2);
    assert_eq!(options.entropy(&list), (made.len() as f64).log2());
}

#[test]
fn the_entropy_of_characters_excludes_passwords_that_lack_a_class() {
    // Counted by hand, for passwords of three characters.
    for (length, classes, expected) in [
        (3, &[Class::Digits] as &[Class], 1000.0_f64),
        // All of 36³, less the 26³ without a digit and the 10³ without a letter.
        (3, &[Class::Lower, Class::Digits], 46_656.0 - 17_576.0 - 1000.0),
        // Three classes in three places: one of each, in six orders.
        (3, &[Class::Lower, Class::Upper, Class::Digits], 26.0 * 26.0 * 10.0 * 6.0),
        (4, &Class::ALL, 26.0 * 26.0 * 10.0 * 25.0 * 24.0),
    ] {
        let entropy = characters(length, classes).entropy();
        assert!((entropy - expected.log2()).abs() < 1e-9, "{classes:?}: {entropy}");
    }
    // Hardly any long password lacks a class.
    let long = characters(100, &Class::ALL).entropy();
    assert!((long - 100.0 * 87_f64.log2()).abs() < 0.01, "{long}");
}

#[test]
fn every_password_that_has_all_classes_can_be_made() {
    let mut dice = Dice::new(system);
    let options = characters(2, &[Class::Lower, Class::Digits]);
    let made: HashSet<_> = (0..20_000).map(|_| options.make(&mut dice).unwrap()).collect();
    assert_eq!(made.len(), 26 * 10 * 2);
    assert_eq!(options.entropy(), (made.len() as f64).log2());
}

#[test]
fn time_and_strength_are_described_in_words() {
    for (bits, time, is) in [
        (20.0, "less than a second", "weak"),
        (42.0, "2 seconds", "fair"),
        (50.0, "9 minutes", "fair"),
        (60.0, "6 days", "strong"),
        (66.0, "1 year", "strong"),
        (68.1, "5 years", "strong"),
        (80.0, "19 thousand years", "very strong"),
        (95.0, "millions of years", "very strong"),
        (128.0, "longer than the universe is old", "very strong"),
        (840.0, "longer than the universe is old", "very strong"),
    ] {
        assert_eq!((&*time_to_guess(bits), strength(bits)), (time, is), "{bits} bits");
    }
}

// Options.

#[test]
fn passphrases_follow_the_options() {
    for (query, separator, capital, digits) in [
        ("kind=words", '-', false, 0),
        ("kind=words&separator=space&capitals=on", ' ', true, 0),
        ("separator=dot&digit=on", '.', false, 1),
        ("separator=underscore&digit=yes&capitals=true", '_', true, 1),
    ] {
        let response = ask(&format!("?words=7&count=20&{query}"), "*/*");
        assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
        let lines: Vec<_> = response.text().lines().collect();
        assert_eq!(lines.len(), 20, "{query}");
        for line in lines {
            let parts: Vec<_> = line.split(separator).collect();
            assert_eq!(parts.len(), 7, "{line}");
            for part in &parts {
                let word = part.trim_end_matches(|c: char| c.is_ascii_digit());
                assert_eq!(word.starts_with(|c: char| c.is_uppercase()), capital, "{line}");
                assert!(words().contains(&&*word.to_lowercase()), "{line}");
            }
            assert_eq!(line.chars().filter(char::is_ascii_digit).count(), digits, "{line}");
        }
    }
}

#[test]
fn random_passwords_follow_the_options() {
    for (query, length, classes) in [
        ("", 20, &[Class::Lower, Class::Upper, Class::Digits] as &[Class]),
        ("&length=8&chars=digits", 8, &[Class::Digits]),
        ("&length=128&chars=lower&chars=symbols", 128, &[Class::Lower, Class::Symbols]),
        ("&length=8&chars=lower,upper,digits,symbols&no-lookalikes=on", 8, &Class::ALL),
    ] {
        let response = ask(&format!("?kind=random&count=50{query}"), "text/plain");
        let lines: Vec<_> = response.text().lines().collect();
        assert_eq!(lines.len(), 50, "{query}");
        for line in lines {
            assert_eq!(line.chars().count(), length, "{line}");
            for class in Class::ALL {
                let has_it = line.contains(|c| class.characters().contains(c));
                assert_eq!(has_it, classes.contains(&class), "{line}: {class:?}");
            }
            if query.contains("lookalikes") {
                assert!(!line.contains(|c| LOOKALIKES.contains(c)), "{line}");
            }
        }
    }
}

#[test]
fn an_invalid_option_is_a_400_that_names_it() {
    for (query, words) in [
        ("kind=pin", "\"kind\" cannot be \"pin\". It is one of these: words, random."),
        ("words=2", "\"words\" has to be a number from 3 to 20."),
        ("words=21", "from 3 to 20"),
        ("words=six", "from 3 to 20"),
        ("words=-6", "from 3 to 20"),
        ("length=7", "\"length\" has to be a number from 8 to 128."),
        ("length=99999999999999999999", "from 8 to 128"),
        ("count=0", "\"count\" has to be a number from 1 to 50."),
        ("count=51", "from 1 to 50"),
        ("separator=none", "hyphen, space, dot, underscore"),
        ("chars=emoji", "lower, upper, digits, symbols"),
        ("chars=", "lower, upper, digits, symbols"),
        ("digit=maybe", "\"digit\" is either \"on\" or \"off\"."),
    ] {
        let response = ask(&format!("?{query}"), "text/plain");
        assert_eq!(response.status, 400, "{query}");
        assert!(response.text().contains(words), "{query}: {}", response.text());
        assert_eq!(ask(&format!("?{query}"), "text/html").status, 400, "{query}");
    }
}

#[test]
fn an_empty_field_has_its_default() {
    let usual = Options::read("").unwrap();
    assert_eq!((usual.kind, usual.count), (Kind::Words, COUNT.2));
    assert_eq!((usual.words.words, usual.characters.length), (WORDS.2, LENGTH.2));
    assert_eq!(Options::read("kind=&words=&length=&count=&separator=&capitals=").unwrap(), usual);
}

// Requests.

#[test]
fn passwords_are_never_cached() {
    for (query, accept) in [
        ("", "text/html"),
        ("?kind=random", "text/html"),
        ("?kind=words", "application/json"),
        ("?kind=words", "*/*"),
        ("?kind=nonsense", "*/*"),
    ] {
        let response = ask(query, accept);
        assert_eq!(response.header("cache-control"), Some("no-store"), "{query} {accept}");
    }
}

#[test]
fn every_request_gets_different_passwords() {
    let first = ask("?kind=words", "*/*");
    assert_ne!(first.text(), ask("?kind=words", "*/*").text());
}

#[test]
fn json_has_the_entropy() {
    let response = ask("?kind=random&length=8&chars=digits&count=2", "application/json");
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(json["kind"], "random");
    assert_eq!(json["entropy_bits"], 26.5);
    assert_eq!(json["passwords"].as_array().unwrap().len(), 2);
}

#[test]
fn the_page_keeps_the_chosen_options() {
    let html = get(&site(), ADDRESS);
    let html = html.text();
    assert_eq!(html.matches("data-copy=").count(), 5, "{html}");
    for part in ["68 bits of entropy: strong", "value=\"6\"", "value=\"hyphen\" selected"] {
        assert!(html.contains(part), "{part} is missing in {html}");
    }
    let response = ask("?kind=words&words=9&separator=dot&digit=on&count=2", "text/html");
    for part in ["value=\"9\"", "value=\"dot\" selected", "name=\"digit\" checked", "value=\"2\""] {
        assert!(response.text().contains(part), "{part} is missing in {}", response.text());
    }
    assert!(!response.text().contains("name=\"capitals\" checked"));
    let response = ask("?kind=random&chars=digits&chars=symbols&no-lookalikes=on", "text/html");
    for part in ["value=\"symbols\" checked", "value=\"lower\">", "name=\"no-lookalikes\" checked"]
    {
        assert!(response.text().contains(part), "{part} is missing in {}", response.text());
    }
}

#[test]
fn symbols_are_escaped_in_the_page() {
    let response = ask("?kind=random&chars=symbols&length=128&count=5", "text/html");
    let html = response.text();
    assert!(html.contains("&amp;"), "{html}");
}

#[test]
fn the_last_value_of_a_repeated_parameter_counts() {
    assert_eq!(ask("?separator=bogus&separator=space", "text/plain").status, 200);
    assert_eq!(ask("?separator=space&separator=bogus", "text/plain").status, 400);
}

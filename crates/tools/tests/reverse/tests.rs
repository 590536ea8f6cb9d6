//! Tests of *reverse*.

use site::testing::{get, post};

use super::TOOL;
use super::logic::reverse;

#[test]
fn a_text_is_turned_round() {
    assert_eq!(reverse("añb"), "bña");
}

#[test]
fn the_page_shows_the_answer() {
    let site = site::router(const { &[TOOL] });
    assert_eq!(get(&site, "/tools/reverse").status, 200);
    let form = "application/x-www-form-urlencoded";
    let answer = post(&site, "/tools/reverse", form, "text=%3Cabc");
    assert!(answer.text().contains("cba&lt;"), "{}", answer.text());
}

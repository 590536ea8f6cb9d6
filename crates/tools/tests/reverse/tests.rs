//! Tests of *reverse*.

use site::testing::{get, post};

use super::TOOL;
use super::logic::reverse;

#[test]
fn a_text_is_reversed() {
    assert_eq!(reverse("añb"), "bña");
}

#[test]
fn the_page_shows_the_result() {
    let site = site::router(const { &[TOOL] });
    assert_eq!(get(&site, "/tools/reverse").status, 200);
    let form = "application/x-www-form-urlencoded";
    let response = post(&site, "/tools/reverse", form, "text=%3Cabc");
    assert!(response.text().contains("cba&lt;"), "{}", response.text());
}

//! The set-up page.

use super::*;

#[test]
fn the_first_visit_sets_a_password_once() {
    const TOKEN: &str = "a text that only the owner uploads";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("toolshed.setup");
    let site = Site::with(|login| login.set_up_file = Some(file.clone()));
    let mut browser = Browser::new(&site.router);
    assert!(browser.get("/login").text().contains("href=\"/set-up\""));
    let page = browser.get("/set-up");
    assert!(
        page.text().contains("toolshed.setup")
            && !page.text().contains(&*folder.path().to_string_lossy())
    );
    let csrf = token(&page).to_owned();
    let mut set = |token: &str, password: &str, again: &str| {
        let fields =
            [("csrf", csrf.as_str()), ("token", token), ("password", password), ("again", again)];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        site.let_pass(4000);
        browser.post("/set-up", &form)
    };
    let refused = |response: TestResponse, words: &str| {
        assert_eq!(response.status, 422, "{words}");
        assert!(response.text().contains(words), "{}", response.text());
    };
    refused(set("", PASSWORD, PASSWORD), "has not arrived");
    std::fs::write(&file, "short").unwrap();
    refused(set("short", PASSWORD, PASSWORD), "shorter than 16");
    std::fs::write(&file, format!("\n{TOKEN}\r\n")).unwrap();
    refused(set("a guess of the right kind", PASSWORD, PASSWORD), "not the text");
    refused(set(TOKEN, "elevenchars", "elevenchars"), &format!("value=\"{TOKEN}\""));
    refused(set(TOKEN, "elevenchars", "elevenchars"), "12 characters");
    refused(set(TOKEN, "Password2024!", "Password2024!"), "too common");
    refused(set(TOKEN, PASSWORD, "another password"), "match.");
    let done = set(TOKEN, PASSWORD, PASSWORD);
    assert_eq!((done.status.as_u16(), location(&done)), (303, "/"));
    assert!(!file.exists());
    assert!(browser.is_owner());

    std::fs::write(&file, TOKEN).unwrap();
    let mut attacker = Browser::new(&site.router);
    assert_eq!(attacker.get("/set-up").status, 404);
    assert_eq!(attacker.post("/set-up", &format!("csrf=x&token={TOKEN}")).status, 404);
    let mut later = Browser::new(&site.router);
    assert_eq!(later.log_in(PASSWORD).status, 303);
}

#[test]
fn too_many_attempts_are_reported_on_the_set_up_page() {
    const GUESS: &str = "a guess of the right kind";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("toolshed.setup");
    std::fs::write(&file, "a text that only the owner uploads").unwrap();
    let site = Site::with(|login| login.set_up_file = Some(file));
    let mut browser = Browser::new(&site.router);
    let csrf = token(&browser.get("/set-up")).to_owned();
    let form = format!("csrf={csrf}&token={}&password={TYPED}", GUESS.replace(' ', "+"));
    let mut tries = std::iter::repeat_with(|| browser.post("/set-up", &form)).take(10);
    let waits = tries.find(|response| response.status != 422).expect("guesses are limited");
    assert_eq!(waits.status, 429);
    assert!(waits.header("retry-after").is_some());
    for words in ["Too many attempts. Try again in", "action=\"/set-up\"", GUESS] {
        assert!(waits.text().contains(words), "{words}: {}", waits.text());
    }
}

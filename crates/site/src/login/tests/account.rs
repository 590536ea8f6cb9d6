//! The account page: sessions, the password, the second factor.

use super::statements::statements_of;
use super::*;

#[test]
fn the_second_factor_is_required_once_it_is_on() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let mut other = Browser::new(&site.router);
    assert_eq!(other.log_in(PASSWORD).status, 303);
    let page = browser.get("/account/second-factor");
    let key =
        page.text().split("<code>").nth(1).unwrap().split('<').next().unwrap().replace(' ', "");
    assert!(page.text().contains("<svg class=\"qr-code\""));
    let again = browser.get("/account/second-factor");
    assert!(again.text().contains(&key[..4]), "the key stays while the page is open");
    let csrf = token(&page).to_owned();
    let wrong = browser.post(
        "/account/second-factor",
        &format!("csrf={csrf}&action=on&password={TYPED}&code=000000"),
    );
    assert_eq!(wrong.status, 422);
    let code = code_at(&key, now());
    let on = browser.post(
        "/account/second-factor",
        &format!("csrf={csrf}&action=on&password={TYPED}&code={code}"),
    );
    assert_eq!(on.status, 200);
    let codes: Vec<_> = on
        .text()
        .split("<li><code>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect();
    assert_eq!(codes.len(), 10);
    assert!(
        browser.is_owner() && !other.is_owner(),
        "sessions that were started without it have ended"
    );

    let mut fresh = Browser::new(&site.router);
    assert!(fresh.get("/login").text().contains("name=\"code\""));
    assert_eq!(fresh.log_in(PASSWORD).status, 401);
    assert_eq!(fresh.log_in_and_go(PASSWORD, &format!("&code={code}")).status, 401, "used already");
    assert_eq!(fresh.log_in_and_go("wrong", &format!("&code={}", codes[0])).status, 401);
    assert_eq!(
        fresh.log_in_and_go(PASSWORD, &format!("&code={}", codes[0])).status,
        303,
        "a wrong password used up a code"
    );
    let mut next = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(
        next.log_in_and_go(PASSWORD, &format!("&code={}", codes[0])).status,
        401,
        "a recovery code works once"
    );
    let code = code_at(&key, now() + 30);
    for (password, status) in [("wrong", 401), (PASSWORD, 303), (PASSWORD, 401)] {
        let mut browser = Browser { address: "198.51.100.8", ..Browser::new(&site.router) };
        let response = browser.log_in_and_go(password, &format!("&code={code}"));
        assert_eq!(
            response.status, status,
            "{password}: a code is not a password, and counts once"
        );
    }
    let account = fresh.get("/account");
    assert!(account.text().contains("9 recovery codes"));
    let off = fresh.post(
        "/account/second-factor",
        &format!("csrf={}&action=off&password={TYPED}&code={}", token(&account), codes[1]),
    );
    assert_eq!(location(&off), "/account?done#second-factor");
    assert_eq!(next.log_in(PASSWORD).status, 303);
}

/// A browser left open cannot change anything in the account.
#[test]
fn every_change_of_the_account_asks_for_the_password() {
    const NEW: &str = "new=another+long+one&again=another+long+one";
    let site = set_up_site();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let mut other = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(other.log_in(PASSWORD).status, 303);
    let page = browser.get("/account/second-factor");
    let key =
        page.text().split("<code>").nth(1).unwrap().split('<').next().unwrap().replace(' ', "");
    let account = browser.get("/account");
    let csrf = token(&account).to_owned();
    let id = account.text().split("<option value=\"").nth(2).unwrap().split('"').next().unwrap();
    let code = || {
        // Each code is accepted once.
        let step = "UPDATE facts SET value = '0' WHERE name = 'totp_step'";
        site.execute(step, &[]);
        code_at(&key, now())
    };
    let state = || {
        let sessions: i64 = site.find("SELECT count(*) FROM sessions");
        let code: Option<Vec<u8>> =
            site.find("SELECT (SELECT hash FROM recovery_codes ORDER BY hash LIMIT 1)");
        (sessions, code, fact_of(&site, facts::PASSWORD), fact_of(&site, "totp_key"))
    };
    // Without the password or with a wrong one nothing changes; with the right one everything does.
    let mut change = |path: &str, fields: &dyn Fn() -> String, expected: u16| {
        for password in ["", "password=&", "password=wrong&"] {
            site.let_pass(400);
            let before = state();
            let form = format!("csrf={csrf}&{password}{}", fields());
            let refused = browser.post(path, &form);
            assert_eq!(refused.status, 422, "{path} {form}: {}", refused.text());
            assert_eq!(state(), before, "{path}");
        }
        site.let_pass(400);
        let form = format!("csrf={csrf}&password={TYPED}&{}", fields());
        let done = browser.post(path, &form);
        assert_eq!(done.status, expected, "{path} {form}: {}", done.text());
    };
    let second_factor = "/account/second-factor";
    change("/account/sessions", &|| format!("end={id}"), 303);
    change(second_factor, &|| format!("action=on&code={}", code()), 200);
    change(second_factor, &|| format!("action=codes&code={}", code()), 200);
    change(second_factor, &|| format!("action=off&code={}", code()), 303);
    change("/account/password", &|| NEW.to_owned(), 303);
    assert!(!other.is_owner() && browser.is_owner());
    let account = browser.get("/account");
    for what in [
        "Login from a new browser",
        "Session ended from another browser",
        "Second factor turned on",
        "Recovery codes replaced",
        "Second factor turned off",
        "Password changed",
    ] {
        assert!(account.text().contains(what), "{what}: {}", account.text());
    }
    let everywhere = |password: &str, account: &TestResponse| {
        format!("csrf={}&end=everywhere&password={password}", token(account))
    };
    assert_eq!(browser.post("/account/sessions", &everywhere(TYPED, &account)).status, 422);
    assert!(browser.is_owner());
    let ended = browser.post("/account/sessions", &everywhere("another+long+one", &account));
    assert_eq!((ended.status.as_u16(), browser.is_owner()), (303, false));
}

#[test]
fn a_password_from_the_set_up_page_can_be_changed() {
    let site = set_up_site();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let mut change = |new: &str, again: &str| {
        let account = browser.get("/account");
        let fields =
            [("csrf", token(&account)), ("password", PASSWORD), ("new", new), ("again", again)];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        site.let_pass(400);
        browser.post("/account/password", &form)
    };
    for (new, again, words) in [
        ("elevenchars", "elevenchars", "12 characters"),
        ("Password2024!", "Password2024!", "too common"),
        ("a new long one", "another new one", "match."),
    ] {
        let refused = change(new, again);
        assert_eq!(refused.status, 422, "{new}");
        assert!(refused.text().contains(words), "{}", refused.text());
    }
    let changed = change("ein neues, langes", "ein neues, langes");
    assert_eq!(location(&changed), "/account?done#password");
    assert!(browser.is_owner(), "under a new session");
    // It is shown only after a change.
    let says_so =
        |browser: &mut Browser| browser.get("/account?done").text().contains("Password changed.");
    assert!(says_so(&mut browser) && !browser.get("/account").text().contains("Password changed."));
    site.let_pass(60);
    assert!(!says_so(&mut browser));
    let mut fresh = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(fresh.log_in(PASSWORD).status, 401);
    assert_eq!(fresh.log_in("ein neues, langes").status, 303);

    // A password that is set elsewhere is not changed here.
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let account = browser.get("/account");
    assert!(!account.text().contains("/account/password"));
    let form = format!(
        "csrf={}&password={TYPED}&new=a+new+long+one&again=a+new+long+one",
        token(&account)
    );
    assert_eq!(browser.post("/account/password", &form).status, 409);
    assert_eq!(fact_of(&site, facts::PASSWORD), None);
}

#[test]
fn sessions_are_listed_and_ended_one_by_one() {
    const FIREFOX: (&str, &str) =
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
    let site = Site::new();
    let mut here = Browser::new(&site.router);
    assert_eq!(here.log_in(PASSWORD).status, 303);
    let mut there = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    let csrf = token(&there.get("/login")).to_owned();
    let form = format!("csrf={csrf}&password={TYPED}");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(there.send("POST", "/login", &[kind, FIREFOX], &form).status, 303);
    let account = here.get("/account");
    let text = account.text();
    assert_eq!(text.matches("this one").count(), 1, "{text}");
    assert!(text.contains("Firefox on Linux") && text.contains("198.51.100.7, logged in just now"));
    // The cookie's number is not in the page, and no other one can be guessed from it.
    let id = text.split("<option value=\"").nth(2).unwrap().split('"').next().unwrap().to_owned();
    let mut thief = Browser::new(&site.router);
    thief.cookies.insert("toolshed".to_owned(), id.clone());
    assert!(!thief.is_owner());
    let end = |id: &str| format!("csrf={}&end={id}&password={TYPED}", token(&account));
    assert_eq!(here.post("/account/sessions", &end("nonsense")).status, 422);
    assert!(there.is_owner());
    assert_eq!(here.post("/account/sessions", &end("")).status, 422, "nothing is preselected");
    assert!(here.is_owner() && there.is_owner());
    let ended = here.post("/account/sessions", &end(&id));
    assert_eq!(location(&ended), "/account?done#end-sessions");
    assert!(here.is_owner() && !there.is_owner());
    assert!(here.get("/account?done").text().contains("That browser has been logged out."));
    assert_eq!(here.post("/account/sessions", &end(&id)).status, 422, "it has ended already");
}

/// Otherwise the response time tells an attacker that the password was right.
#[test]
fn with_a_second_factor_a_right_password_takes_as_much_work_as_a_wrong_one() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let secrets =
        Secrets::load(&site.folder.path().join("data/secret.key"), Trust::default()).unwrap();
    let key = second_factor::seal("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", &secrets);
    site.execute("INSERT INTO facts (name, value) VALUES ('totp_key', $1)", params![key]);
    site.execute("INSERT INTO recovery_codes (hash) VALUES ($1)", params![[0]]);
    let asked = |password: &str, code: &str| {
        let mut guesser = Browser { address: "203.0.113.9", ..Browser::new(&site.router) };
        site.let_pass(4000);
        let form = guesser.get("/login");
        let body = format!("csrf={}&password={password}&code={code}", token(&form));
        let (response, statements) = statements_of(|| guesser.post("/login", &body));
        assert_eq!(response.status, 401);
        (response.text().len(), statements)
    };
    let wrong = asked("wrong", "000000");
    assert!(wrong.1.len() > 5, "{wrong:?}");
    for code in ["000000", "", "aaaa-bbbb-cccc-dddd"] {
        assert_eq!(asked("correct+horse+battery", code), wrong, "{code:?}");
    }
}

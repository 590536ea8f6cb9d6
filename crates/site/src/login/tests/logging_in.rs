//! Logging in and out: with which password, and where that leads.

use super::*;

#[test]
fn the_password_opens_what_is_private_and_logging_out_closes_it() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let refused = browser.get("/tools/private?a=b");
    assert_eq!(
        (refused.status.as_u16(), location(&refused)),
        (303, "/login?next=%2Ftools%2Fprivate%3Fa%3Db")
    );
    assert_eq!(browser.get("/tools/public").status, 200);
    assert!(!site.folder.path().join("data").exists(), "nothing is opened for the public");

    let front = browser.get("/");
    assert!(front.text().contains("/tools/public") && !front.text().contains("/tools/private"));
    assert!(front.text().contains("Log in") && !front.text().contains("Log out"));

    let entered = browser.log_in_and_go(PASSWORD, "&next=%2Ftools%2Fprivate");
    assert_eq!((entered.status.as_u16(), location(&entered)), (303, "/tools/private"));
    assert!(browser.is_owner());
    let front = browser.get("/");
    assert!(front.text().contains("/tools/private") && front.text().contains("Log out"));
    assert_eq!(location(&browser.get("/login?next=/tools/public")), "/tools/public");

    let out = browser.post("/logout", &format!("csrf={}", token(&front)));
    assert_eq!((out.status.as_u16(), location(&out)), (303, "/"));
    assert!(!browser.cookies.contains_key("toolshed") && !browser.is_owner());
}

#[test]
fn a_second_open_login_form_redirects() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let stale = token(&browser.get("/login")).to_owned();
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let again =
        browser.post("/login", &format!("csrf={stale}&next=%2Ftools%2Fprivate&password=wrong"));
    assert_eq!((again.status.as_u16(), location(&again)), (303, "/tools/private"));
    assert!(browser.is_owner());
}

#[test]
fn a_wrong_password_opens_nothing_and_says_so() {
    let site = Site::new();
    for wrong in
        ["", "wrong", "Correct horse battery", "correct horse batter", &"x".repeat(2000), "\0"]
    {
        // Each from a different address, so that none has to wait.
        let mut browser = Browser::new(&site.router);
        let response = browser.log_in(wrong);
        assert_eq!(response.status, 401, "{wrong}");
        assert!(response.text().contains("Wrong password."), "{wrong}");
        assert!(!browser.is_owner());
        site.let_pass(4000);
    }
}

#[test]
fn programs_get_plain_text_instead_of_forms() {
    let site = Site::new();
    for (accept, kind) in
        [("*/*", "text/plain; charset=utf-8"), ("application/json", "application/json")]
    {
        let response = send(
            &site.router,
            request("GET", "/tools/private").header("accept", accept).body(Body::empty()).unwrap(),
        );
        assert_eq!(response.status, 401, "{accept}");
        assert_eq!(response.header("content-type"), Some(kind));
        assert!(response.header("www-authenticate").unwrap().contains("form-action=\"/login\""));
        assert!(response.text().contains("/login"), "{}", response.text());
    }
    let posted = Browser::new(&site.router).post("/tools/private", "a=b");
    assert_eq!(posted.status, 401);
}

#[test]
fn a_password_hash_works_too() {
    let site = Site::with(|login| {
        let hash = Password::make_hash(PASSWORD).unwrap();
        login.password = Some(Password::from_hash(&hash).unwrap());
    });
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in("wrong").status, 401);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    assert!(browser.is_owner());
}

#[test]
fn a_password_that_comes_with_each_request_counts_unless_one_is_set() {
    let site = Site::with(|_| {});
    let ask = |router: &Router, sent, cookies: &str, path: &str| {
        let request = request("GET", path).header(COOKIE, cookies).header("accept", "text/html");
        send(
            router,
            request.extension(Server(&FACTS)).extension(Sent(sent)).body(Body::empty()).unwrap(),
        )
    };
    let log_in = |router: &Router, sent: &'static str, typed: &str| {
        let form = ask(router, sent, "", "/login");
        let cookie = form.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let request = request("POST", "/login")
            .header(COOKIE, cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .extension(Server(&FACTS))
            .extension(Sent(sent));
        let body = format!("csrf={}&password={typed}", token(&form));
        send(router, request.body(Body::from(body)).unwrap())
    };
    let entered = log_in(&site.router, "first", "first");
    assert_eq!(entered.status, 303);
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap();
    assert_eq!(ask(&site.router, "first", cookie, "/tools/private").status, 200);
    assert_eq!(
        ask(&site.router, "second", cookie, "/tools/private").status,
        303,
        "the password changed"
    );
    // A client that reaches the socket cannot replace a password that is set in the configuration.
    let fixed = Site::new();
    assert_eq!(log_in(&fixed.router, "mine", "mine").status, 401);
    assert_eq!(log_in(&fixed.router, "mine", "correct+horse+battery").status, 303);
}

#[test]
fn without_a_password_the_page_says_how_to_set_one_and_nothing_opens() {
    let site = Site::with(|_| {});
    let mut browser = Browser::new(&site.router);
    let page = browser.get("/login");
    assert_eq!(page.status, 200);
    for words in ["toolshed set-password", "SetEnv APP_PASSWORD"] {
        assert!(page.text().contains(words), "{words}");
    }
    assert!(!page.text().contains("/set-up"));
    assert!(!page.text().contains(&*site.folder.path().to_string_lossy()));
    for password in ["", "x"] {
        let response = browser.post("/login", &format!("csrf=&password={password}"));
        assert_eq!(response.status, 403);
    }
    assert_eq!(browser.get("/set-up").status, 404);
}

#[test]
fn the_login_redirects_nowhere_else() {
    let site = Site::new();
    for (next, expected) in [
        ("%2Ftools%2Fpublic%3Fa%3Db", "/tools/public?a=b"),
        ("%2F%2Fevil.test", "/"),
        ("https%3A%2F%2Fevil.test", "/"),
        ("%2F%5Cevil.test", "/"),
        ("%2Fa%0D%0ASet-Cookie%3A+x%3Dy", "/"),
        ("%2Flogout", "/"),
    ] {
        let mut browser = Browser::new(&site.router);
        let response = browser.log_in_and_go(PASSWORD, &format!("&next={next}"));
        assert_eq!((response.status.as_u16(), location(&response)), (303, expected), "{next}");
        assert_eq!(location(&browser.get(&format!("/login?next={next}"))), expected, "{next}");
    }
    // The host that a client claims is in no link and in no redirect.
    let response =
        Browser::new(&site.router).send("GET", "/tools/private", &[("host", "evil.test")], "");
    assert!(location(&response).starts_with("/login?"));
}

#[test]
fn oversize_forms_and_odd_paths_open_nothing() {
    let site = Site::new();
    let mut browser = Browser::new(&site.router);
    let token = token(&browser.get("/login")).to_owned();
    let large = format!("csrf={token}&password={}", "x".repeat(64 * 1024));
    assert_eq!(browser.post("/login", &large).status, 413);
    for path in [
        "/tools/private/",
        "/tools//private",
        "/tools/./private",
        "/tools/public/../private",
        "/tools/public/%2e%2e/private",
        "/tools/%70rivate",
        "/tools/private%2F",
        "/tools/PRIVATE",
        "//tools/private",
        "/account",
        "/account/second-factor",
    ] {
        let response = browser.get(path);
        assert!(!response.text().contains("the tool"), "{path}");
        assert!(
            response.status.is_redirection() || response.status == 404,
            "{path}: {}",
            response.status
        );
    }
}

#[test]
fn the_pages_have_no_inline_code_and_link_below_the_base() {
    let site = Site::with(|login| {
        login.password = Password::clear(PASSWORD);
    });
    let unset = Site::with(|login| login.set_up_file = Some("toolshed.setup".into()));
    let mut owner = Browser { base: "/project", ..Browser::new(&site.router) };
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    let mut visitor = Browser { base: "/project", ..Browser::new(&site.router) };
    let mut first = Browser { base: "/project", ..Browser::new(&unset.router) };
    let pages = [
        visitor.get("/login"),
        first.get("/login"),
        first.get("/set-up"),
        owner.get("/account"),
        owner.get("/account/second-factor"),
        owner.get("/nowhere"),
    ];
    for response in pages {
        let html = response.text();
        for forbidden in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
            assert!(!html.contains(forbidden), "{forbidden} in {html}");
        }
        for attribute in ["href=\"/", "src=\"/", "action=\"/"] {
            for (at, _) in html.match_indices(attribute) {
                let link = &html[at + attribute.len() - 1..];
                assert!(link.starts_with("/project/"), "{}", &link[..link.len().min(60)]);
            }
        }
        let forms = html.matches("method=\"post\"").count();
        assert_eq!(html.matches("name=\"csrf\"").count(), forms, "every form has its token");
        for field in
            html.split("<input ").skip(1).filter(|field| !field.contains("type=\"hidden\""))
        {
            let id = field.split_once("id=\"").and_then(|(_, id)| id.split('"').next());
            let is_hidden = field.split('>').next().unwrap().contains(" hidden");
            let label = id.map(|id| format!("<label for=\"{id}\">"));
            assert!(is_hidden || label.is_some_and(|label| html.contains(&label)), "{field}");
        }
    }
}

#[test]
fn with_an_unusable_store_public_pages_work_and_the_log_says_why() {
    let site = Site::with(|login| {
        login.password = Password::clear(PASSWORD);
        login.data = "/proc/nowhere".into();
    });
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.get("/tools/public").status, 200);
    let response = browser.get("/login");
    assert_eq!(response.status, 503);
    assert!(!response.text().contains("/proc"), "{}", response.text());
}

#[test]
fn a_generated_password_stays_the_same_and_can_be_typed() {
    let site = Site::with(|_| {});
    let login = login_in(&site.folder.path().join("data"));
    let generated = block_on(login.generate_password()).unwrap();
    assert!(!login.data.exists(), "a start that fails leaves nothing behind");
    generated.keep().unwrap();
    let password = generated.password();
    assert_eq!(password, block_on(login.generate_password()).unwrap().password());
    assert_eq!(password.len(), 24);
    assert!(
        password
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    );
    let other = login_in(&site.folder.path().join("other"));
    assert_ne!(password, block_on(other.generate_password()).unwrap().password());
}

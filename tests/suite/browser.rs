//! The site in Chromium, driven through WebDriver.
//!
//! With `TOOLSHED_SCREENSHOTS=FOLDER`, it saves a screenshot of each page.

use std::net::SocketAddr;
use std::path::Path;

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, serve, start_on_free_port};
use end_to_end::http_client::{Request, Upload};
use end_to_end::program::{Program, Start};
use ring::hmac;
use serde_json::{Value, json};

const PASSWORD: &str = "a long password";

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const BACKSPACE: &str = "\u{e003}";

/// Chromium with its own profile.
struct Browser {
    driver: SocketAddr,
    session: String,
    site: String,
    // The browser exits with its driver.
    _program: Program,
    _folder: tempfile::TempDir,
}

impl Browser {
    fn start(running: &Running) -> Self {
        let driver = Path::new("/usr/bin/chromedriver");
        assert!(driver.is_file(), "chromedriver is missing; tests/run installs it.");
        let folder = tempfile::tempdir().expect("a folder");
        let started = start_on_free_port(|address| {
            Start::new(driver, folder.path().join("log"))
                .argument(format!("--port={}", address.port()))
                .variable("HOME", folder.path())
                .start()
        });
        let (address, program) = started.expect("chromedriver starts");
        let data = format!("--user-data-dir={}", folder.path().join("data").display());
        let options = json!({
            "binary": "/usr/bin/chromium",
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--window-size=900,1000", data,
            ],
        });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let mut browser = Browser {
            driver: address,
            session: String::new(),
            site: format!("http://{}", running.address),
            _program: program,
            _folder: folder,
        };
        let session =
            browser.ask("/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        browser.session = format!("/session/{}", session["sessionId"].as_str().expect("a session"));
        browser
    }

    /// Sends a WebDriver command and returns its value.
    fn ask(&self, path: &str, command: &Value) -> Value {
        let body = Upload::Text(command.to_string().into_bytes());
        // chromedriver accepts no other host name.
        let request =
            Request::post(format!("{}{path}", self.session), body).header("Host", "localhost");
        let response = request
            .header("Content-Type", "application/json")
            .send(self.driver)
            .expect("a response");
        let mut response: Value = serde_json::from_str(&response.text()).expect("JSON");
        let value = response["value"].take();
        assert!(value["error"].is_null(), "{path}: {value}");
        value
    }

    fn go(&self, path: &str) {
        self.ask("/url", &json!({ "url": format!("{}{path}", self.site) }));
    }

    /// Evaluates an expression on the page. Only for checks, never to act.
    fn look(&self, script: &str) -> String {
        let found =
            self.ask("/execute/sync", &json!({ "script": format!("return {script}"), "args": [] }));
        found.as_str().map_or_else(|| found.to_string(), str::to_owned)
    }

    fn path(&self) -> String {
        self.look("location.pathname")
    }

    fn text(&self) -> String {
        self.look("document.body.innerText")
    }

    /// Presses keys, one after another; returns when any page that they load is loaded.
    fn keys(&self, keys: &str) {
        let presses = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        });
        let actions =
            json!([{ "type": "key", "id": "keyboard", "actions": presses.collect::<Vec<_>>() }]);
        self.ask("/actions", &json!({ "actions": actions }));
    }

    /// Presses Tab until the focus is on the element with this text or label.
    fn tab_to(&self, name: &str) {
        const WHO: &str = "(e => e.labels?.length ? e.labels[0].innerText : e.innerText || e.tagName)(document.activeElement)";
        for _ in 0..40 {
            if self.look(WHO).trim() == name {
                let outline = self.look("getComputedStyle(document.activeElement).outlineStyle");
                assert_ne!(outline, "none", "{name} shows that it has the focus");
                return;
            }
            self.keys(TAB);
        }
        panic!("{name} cannot be reached: {}", self.text());
    }

    fn press(&self, name: &str) {
        self.tab_to(name);
        self.leave(|| self.keys(ENTER));
    }

    /// Does something that loads another page, and waits for it.
    fn leave(&self, action: impl FnOnce()) {
        self.look("(window.before = true)");
        action();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while self.look("window.before || document.readyState != 'complete'") != "false" {
            assert!(
                std::time::Instant::now() < deadline,
                "no other page was loaded: {}",
                self.text()
            );
        }
    }

    /// Types into the focused field, and presses Enter.
    fn enter(&self, text: &str) {
        self.leave(|| self.keys(&format!("{text}{ENTER}")));
    }

    fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("TOOLSHED_SCREENSHOTS") else { return };
        let response = Request::get(format!("{}/screenshot", self.session))
            .header("Host", "localhost")
            .send(self.driver)
            .expect("a response");
        let response: Value = serde_json::from_str(&response.text()).expect("JSON");
        let file = Path::new(&folder).join(format!("{name}.base64"));
        std::fs::write(file, response["value"].as_str().expect("a picture"))
            .expect("it is written");
    }

    /// The errors in the browser's console, such as violations of the policy and failed scripts; not those about a
    /// page's status (401).
    fn complaints(&self) -> Vec<String> {
        let lines = self.ask("/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().cloned().unwrap_or_default();
        let lines = lines.iter().filter_map(|line| line["message"].as_str().map(str::to_owned));
        lines.filter(|line| !line.contains("Failed to load resource")).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let end = Request::with_method("DELETE", self.session.clone()).header("Host", "localhost");
        // It may be gone already.
        let _ = end.send(self.driver);
    }
}

#[test]
fn the_login_works_in_chromium_by_keyboard_only() {
    let setup = Setup::new(App::Toolshed, "").with_variable("APP_PASSWORD", PASSWORD);
    let running = serve::start(&setup).expect("it starts");
    let browser = Browser::start(&running);

    browser.go("/");
    browser.keys(TAB);
    assert_eq!(browser.look("document.activeElement.innerText"), "Skip to the content");
    browser.press("Log in");
    assert_eq!(browser.path(), "/login");
    assert_eq!(browser.look("document.activeElement.id"), "password", "one can type at once");
    browser.picture("login");

    browser.enter("not the password");
    assert!(browser.text().contains("Wrong password."), "{}", browser.text());
    assert_eq!(browser.look("document.querySelector('[role=alert]').innerText"), "Wrong password.");
    assert_eq!(browser.look("document.activeElement.getAttribute('aria-describedby')"), "failure");
    browser.picture("wrong-password");

    browser.enter(PASSWORD);
    assert_eq!(browser.path(), "/");
    assert!(
        browser.text().contains("Inspect") && browser.text().contains("Log out"),
        "{}",
        browser.text()
    );
    assert_eq!(browser.look("document.cookie"), "", "no script reads the cookies");
    browser.picture("front");

    // A tool's form, with its token.
    browser.go("/tools/checksum");
    browser.tab_to("Text");
    browser.keys("abc");
    browser.press("Calculate checksums");
    assert!(browser.text().contains("ba7816bf"), "{}", browser.text());

    browser.press("Account");
    assert!(browser.text().contains("this one"), "{}", browser.text());
    browser.picture("account");
    browser.press("Turn on a second factor");
    let key = browser.look("document.querySelector('main form code').innerText").replace(' ', "");
    browser.tab_to("Your password");
    browser.keys(PASSWORD);
    browser.picture("second-factor");
    browser.tab_to("Six-digit code from the app");
    browser.enter(&code(&key, 0));
    let codes = browser
        .look("[...document.querySelectorAll('.secrets code')].map(e => e.innerText).join(' ')");
    let codes: Vec<_> = codes.split(' ').collect();
    assert_eq!(codes.len(), 10, "{}", browser.text());
    browser.picture("recovery-codes");

    browser.press("Log out");
    browser.press("Log in");
    browser.keys(PASSWORD);
    browser.tab_to("Code");
    browser.enter("000000");
    assert!(browser.text().contains("Wrong password or code."), "{}", browser.text());
    browser.picture("second-factor-login");
    browser.keys(PASSWORD);
    browser.tab_to("Code");
    // The code of the next half minute: the current one was used to turn it on.
    browser.enter(&code(&key, 1));
    assert_eq!(browser.path(), "/");

    browser.press("Log out");
    browser.press("Log in");
    browser.keys(PASSWORD);
    browser.tab_to("Code");
    browser.enter(codes[0]);
    assert_eq!(browser.path(), "/", "a recovery code opens, too");

    browser.press("Account");
    assert!(browser.text().contains("9 recovery codes left"), "{}", browser.text());
    browser.picture("account-with-events");
    browser.go("/account/second-factor");
    let space = browser.look(
        "(([one, next]) => Math.max(next.left - one.right, next.top - one.bottom))\
         ([...document.querySelectorAll('main form button[name]')].map(e => e.getBoundingClientRect()))",
    );
    assert!(space.parse::<f64>().expect("pixels") >= 8.0, "buttons below each other: {space}");
    browser.picture("second-factor-on");
    browser.go("/account");
    browser.tab_to("Your password");
    browser.tab_to("Show");
    browser.keys(ENTER);
    assert_eq!(browser.look("document.getElementById('end-password').type"), "text");
    // Not the button of the same name at the top.
    browser.tab_to("Log out");
    browser.keys(TAB);
    browser.tab_to("Log out");
    assert_eq!(browser.look("document.activeElement.value"), "", "nothing is preselected");
    browser.keys("Every");
    browser.tab_to("Your password");
    browser.enter(PASSWORD);
    assert!(
        browser.text().contains("Log in") && !browser.text().contains("Inspect"),
        "{}",
        browser.text()
    );

    browser.go("/login");
    // Five attempts are free, then the waits are 1, 2, 4, … seconds.
    for _ in 0..15 {
        browser.keys("a guess");
        browser.tab_to("Code");
        browser.enter("1");
        if browser.text().contains("Too many attempts") {
            break;
        }
    }
    assert!(browser.text().contains("Too many attempts. Try again in"), "{}", browser.text());
    browser.picture("throttle");
    assert_eq!(browser.complaints(), [""; 0]);
    drop(browser);
    assert_eq!(running.check_tasks(), Ok(()));
}

/// On both pages that accept new passwords: the set-up page and the account page.
#[test]
fn a_new_password_is_rated_as_it_is_typed() {
    const TOKEN: &str = "only I can upload this";
    const NEW: &str = "another long password";
    let running = apache_fcgid::start(&Setup::new(App::Toolshed, "")).expect("Apache starts");
    std::fs::write(running.folder().join("toolshed.setup"), TOKEN).expect("it is uploaded");
    let browser = Browser::start(&running);
    let hint = || browser.look("document.querySelector('.hint[role=status]').innerText");
    browser.go("/set-up");
    browser.keys(TOKEN);
    browser.tab_to("A password for the site");
    let clear = BACKSPACE.repeat(12);
    for (typed, rating) in [
        ("aaaaaaaaaaaa", "Weak."),
        (&*clear, ""),
        ("cor", "At least 9 more characters."),
        ("rect hor", "At least 1 more character."),
        ("s", "Fair."),
        ("e bat", "Good."),
        ("tery staple", "Strong."),
    ] {
        browser.keys(typed);
        assert_eq!(hint(), rating, "{typed:?}");
    }
    assert_ne!(browser.look("document.querySelector('meter').value"), "0");
    browser.picture("set-up");

    // All fields but the passwords keep their values.
    browser.tab_to("Repeat the password");
    browser.enter("correct horse batteries");
    assert!(browser.text().contains("The two passwords don't match."), "{}", browser.text());
    assert_eq!(browser.look("document.getElementById('token').value"), TOKEN);
    browser.tab_to("A password for the site");
    browser.keys(PASSWORD);
    browser.tab_to("Repeat the password");
    browser.enter(PASSWORD);
    assert_eq!(browser.path(), "/", "{}", browser.text());

    // The message is next to its form, far down the page, and is scrolled into view.
    let change = |present: &str| {
        browser.tab_to("Current password");
        browser.keys(present);
        browser.tab_to("New password");
        browser.keys(NEW);
        browser.tab_to("Repeat new password");
        browser.enter(NEW);
    };
    let is_in_sight = |notice: &str| {
        let rectangle = format!("document.querySelector('{notice}').getBoundingClientRect()");
        browser.look(&format!("(at => at.top >= 0 && at.bottom <= innerHeight)({rectangle})"))
    };
    browser.ask("/window/rect", &json!({ "width": 500, "height": 600 }));
    browser.go("/account");
    change("a wrong password");
    assert!(browser.text().contains("Wrong password."), "{}", browser.text());
    assert_eq!(is_in_sight(".notice.bad"), "true");
    browser.picture("account-wrong-password");
    change(PASSWORD);
    assert!(browser.text().contains("Password changed."), "{}", browser.text());
    assert_eq!(is_in_sight(".notice.good"), "true");
    browser.picture("account-password-changed");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_login_pages_fit_a_phone() {
    let setup = Setup::new(App::Toolshed, "").with_variable("APP_PASSWORD", PASSWORD);
    let running = serve::start(&setup).expect("it starts");
    let browser = Browser::start(&running);
    // Chromium's own window cannot be this narrow.
    let screen = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": screen });
    browser.ask("/goog/cdp/execute", &command);
    browser.go("/login");
    browser.enter(PASSWORD);
    for path in ["/", "/account", "/account/second-factor"] {
        browser.go(path);
        let over = browser.look("document.documentElement.scrollWidth > innerWidth");
        assert_eq!(over, "false", "{path} is wider than the screen");
        browser.picture(&format!("phone{}", path.replace('/', "-")));
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The Content-Security-Policy forbids everything it does not name; a browser shows whether a page lacks anything.
/// In both color schemes, because each has its own images.
#[test]
fn no_page_needs_what_its_policy_forbids() {
    let setup = Setup::new(App::Toolshed, "").with_variable("APP_PASSWORD", PASSWORD);
    let running = serve::start(&setup).expect("it starts");
    let browser = Browser::start(&running);
    browser.go("/login");
    browser.enter(PASSWORD);
    for scheme in ["light", "dark"] {
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let command =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": feature } });
        browser.ask("/goog/cdp/execute", &command);
        for path in [
            "/",
            "/nowhere",
            "/account",
            "/account/second-factor",
            "/tools/checksum",
            "/tools/diagnostics",
            "/tools/inspect",
            "/tools/passwords",
        ] {
            browser.go(path);
            let shown =
                browser.look(&format!("matchMedia('(prefers-color-scheme: {scheme})').matches"));
            assert_eq!(shown, "true", "{scheme}");
            // A blocked file has no entry with a status.
            let wanted = "new Set([...document.querySelectorAll('link[href], script[src], img[src], use[href]')]\
                 .map(e => new URL(e.getAttribute('href') || e.src, location).href.split('#')[0])).size";
            let loaded = "new Set(performance.getEntriesByType('resource')\
                 .filter(e => e.responseStatus == 200).map(e => e.name.split('#')[0])).size";
            let missing = format!("({wanted}) - ({loaded})");
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while browser.look(&missing) != "0" {
                let entries =
                    browser.look("JSON.stringify(performance.getEntriesByType('resource'))");
                assert!(std::time::Instant::now() < deadline, "{scheme} {path}: {entries}");
            }
            assert_eq!(browser.complaints(), [""; 0], "{scheme} {path}");
            browser.picture(&format!("{scheme}{}", path.replace('/', "-")));
        }
    }
}

/// The code that an authenticator app shows `later` half minutes from now (RFC 6238).
fn code(key: &str, later: u64) -> String {
    let bits: String = key
        .bytes()
        .map(|letter| match letter {
            b'A'..=b'Z' => letter - b'A',
            _ => letter - b'2' + 26,
        })
        .map(|five| format!("{five:05b}"))
        .collect();
    let key: Vec<u8> = (0..bits.len() / 8)
        .map(|at| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).expect("bits"))
        .collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let step = now.as_secs() / 30 + later;
    let tag =
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key), &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().expect("four"));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

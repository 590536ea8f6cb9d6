//! Guessing: how it is slowed down, and that it locks nobody out.

use super::statements::statements_of;
use super::*;

#[test]
fn brute_force_is_slowed_down_by_all_processes_together() {
    let site = Site::new();
    // Eight processes, each with its own connection; they share only the folder.
    let processes: Vec<_> = (0..8).map(|_| site.again(|_| {})).collect();
    let looked_at = Mutex::new(0);
    let mut last = None;
    for round in 0..5 {
        for router in &processes {
            let mut browser = Browser::new(router);
            let response = browser.log_in(&format!("guess {round}"));
            match response.status.as_u16() {
                401 => *looked_at.lock().unwrap() += 1,
                429 => last = Some(response),
                other => panic!("{other}"),
            }
        }
    }
    // Five are free, and one or two more if the test takes some seconds.
    let looked_at = looked_at.into_inner().unwrap();
    assert!((5..=13).contains(&looked_at), "{looked_at}");
    let refused = last.expect("guesses are refused");
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds));
    assert!(refused.text().contains("Try again in"), "{}", refused.text());
    // While the client has to wait, even the right password is not checked.
    let mut owner = Browser::new(&processes[0]);
    assert_eq!(owner.log_in(PASSWORD).status, 429);
    // Another address does not wait.
    let mut elsewhere = Browser { address: "198.51.100.7", ..Browser::new(&processes[0]) };
    assert_eq!(elsewhere.log_in(PASSWORD).status, 303);
    // Nor does a browser in which the owner logged in before, from the attacker's address.
    let front = elsewhere.get("/");
    elsewhere.post("/logout", &format!("csrf={}", token(&front)));
    elsewhere.address = "192.0.2.1";
    assert_eq!(elsewhere.log_in(PASSWORD).status, 303);
    site.let_pass(300);
    assert_eq!(owner.log_in(PASSWORD).status, 303);
}

/// As behind mod_fcgid: other processes fill the queue.
#[test]
fn a_full_queue_of_password_checks_costs_neither_an_attempt_nor_a_write() {
    let site = Site::with(|login| {
        let hash = Password::make_hash(PASSWORD).unwrap();
        login.password = Some(Password::from_hash(&hash).unwrap());
    });
    let mut browser = Browser::new(&site.router);
    let mut try_password = |password: &str| {
        let form = browser.get("/login");
        let body = format!("csrf={}&password={password}", token(&form));
        let (response, statements) = statements_of(|| browser.post("/login", &body));
        (response, statements.join("\n"))
    };
    assert_eq!(try_password("wrong").0.status, 401);
    let tries = || site.find::<i64>("SELECT CAST(sum(failures) AS BIGINT) FROM attempts");
    let before = tries();
    let queue = site.folder.path().join("data").join(QUEUE_FOLDER);
    let places = (1..=6).map(|place| {
        let file = std::fs::File::create(queue.join(place.to_string())).unwrap();
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    });
    let places: Vec<_> = places.collect();
    for _ in 0..20 {
        let (response, asked) = try_password(TYPED);
        assert_eq!((response.status.as_u16(), response.header("retry-after")), (503, Some("5")));
        assert!(
            !["EXCLUSIVE", "INSERT", "UPDATE"].iter().any(|word| asked.contains(word)),
            "{asked}"
        );
    }
    assert_eq!(tries(), before);
    // A client that has to wait anyway gets that response.
    site.execute("UPDATE attempts SET failures = 9 WHERE who = '192.0.2.1'", &[]);
    assert_eq!(try_password(TYPED).0.status, 429);
    site.let_pass(300);
    drop(places);
    assert_eq!(try_password(TYPED).0.status, 303);
}

/// Others have used up the attempts of all unknown browsers: the page takes part in the draw by itself, and wins.
#[test]
fn under_load_the_login_waits_for_the_draw() {
    let site = Site::new();
    let mut owner = Browser::new(&site.router);
    assert_eq!(owner.get("/login").status, 200);
    site.execute(
        "INSERT INTO attempts (who, failures, last) VALUES ('all', 60, $1)",
        params![now()],
    );
    let mut known = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    let waits = owner.get("/login?next=%2Ftools%2Fprivate&signed=%22");
    assert_eq!(waits.status, 429);
    let seconds: i64 = waits.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds));
    let again = "url=/login?next=%2Ftools%2Fprivate&amp;signed=%22\"";
    assert!(waits.text().contains(again), "{}", waits.text());
    let text = waits.text();
    assert!(text.contains("http-equiv=\"refresh\"") && !text.contains("type=\"password\""));
    // The owner has won this round's draw and the next one's, in case a round ends just now.
    let win = || {
        let round = now() / draw::ROUND_SECONDS;
        site.execute("DELETE FROM draws", &[]);
        for round in [round - 1, round] {
            let lot = "INSERT INTO draws (round, lot, who) VALUES ($1, $2, '192.0.2.1')";
            site.execute(lot, params![round, [0]]);
        }
    };
    win();
    let turn = owner.get("/login");
    assert_eq!(turn.status, 200);
    assert!(turn.text().contains("It is your turn"), "{}", turn.text());
    assert!(known.log_in_if_there_is_a_form(PASSWORD).is_none(), "another waits");
    assert!(owner.get("/login").text().contains("It is your turn"), "reloading it does no harm");
    assert_eq!(owner.log_in("wrong").status, 401);
    site.execute("DELETE FROM draws", &[]);
    assert_eq!(owner.get("/login").status, 429, "one try");
    win();
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    // From now on this browser is known and does not wait.
    let front = owner.get("/");
    owner.post("/logout", &format!("csrf={}", token(&front)));
    assert_eq!(owner.log_in(PASSWORD).status, 303);
    known.address = "192.0.2.1";
    assert!(known.log_in_if_there_is_a_form(PASSWORD).is_none(), "another browser does");
}

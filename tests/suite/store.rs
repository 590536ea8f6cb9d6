//! The page about the store, at real web servers: backups are made and restored by a child of the process that
//! serves.

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, serve};

use crate::login::{Browser, field};

const PASSWORD: &str = "correct horse battery";

#[test]
fn a_backup_is_made_and_restored_while_the_site_serves() {
    let setup = |base| Setup::new(App::Toolshed, base).with_variable("APP_PASSWORD", PASSWORD);
    let over_http = serve::start(&setup("").without_threads()).expect("it starts");
    back_up_and_restore(&over_http);
    assert_eq!(over_http.check_tasks(), Ok(()));
    assert_eq!(over_http.stop(), Ok(()));
    let fcgid = apache_fcgid::start(&setup("/project").without_threads()).expect("Apache starts");
    back_up_and_restore(&fcgid);
    assert_eq!(fcgid.stop(), Ok(()));
}

fn back_up_and_restore(running: &Running) {
    let path = |path: &str| format!("{}{path}", running.base);
    let (login, account) = (path("/login"), path("/account/store"));
    let mut browser = Browser::new(running);
    assert_eq!(browser.log_in(&login, PASSWORD).status, 303, "{}", running.program_logs());
    let send = |browser: &mut Browser<'_>, action: &str, backup: &str| {
        let page = browser.get(&account);
        let csrf = field(&page, "csrf");
        let fields =
            [("csrf", &*csrf), ("action", action), ("backup", backup), ("password", PASSWORD)];
        let response = browser.post(&account, &fields);
        assert_eq!(response.status, 303, "{}\n{}", response.text(), running.program_logs());
        browser.get(&path("/account/store?done"))
    };
    let page = send(&mut browser, "make", "");
    assert!(page.text().contains("The backup has been made."), "{}", page.text());
    let name = field(&page, "backup");
    let mut later = Browser::new(running);
    assert_eq!(later.log_in(&login, PASSWORD).status, 303);
    let page = send(&mut browser, "restore", &name);
    assert!(page.text().contains("The backup has been restored"), "{}", page.text());
    // A session of which the backup knows nothing, and whoever holds it, is out in all processes.
    for _ in 0..4 {
        assert_eq!(later.get(&account).status, 303, "{}", running.program_logs());
        assert_eq!(browser.get(&account).status, 200, "{}", running.program_logs());
    }
    let page = send(&mut browser, "restore", "toolshed.db-replaced");
    assert!(page.text().contains("The backup has been restored"), "{}", page.text());
}

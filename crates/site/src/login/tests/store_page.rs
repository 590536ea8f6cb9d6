//! The page about the store: what is in it, backups.

use std::fs;

use super::*;

fn form(page: &TestResponse, action: &str, backup: &str, password: &str) -> String {
    let fields =
        [("csrf", token(page)), ("action", action), ("backup", backup), ("password", password)];
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The values of the list.
fn listed(page: &TestResponse) -> Vec<String> {
    let values = page.text().split("name=\"backup\" value=\"").skip(1);
    values.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

fn is_in_a_file(site: &Site) -> bool {
    site.store().file().is_some()
}

#[test]
fn a_file_in_the_place_of_the_folder_is_pointed_out() {
    let site = set_up_site();
    if !is_in_a_file(&site) {
        return;
    }
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    fs::write(site.folder.path().join("data/backups"), "").unwrap();
    let page = browser.get("/account/store");
    let why = "it has to be a folder of the site&#39;s account";
    assert!(page.status == 200 && page.text().contains(why), "{}", page.text());
    let refused = browser.post("/account/store", &form(&page, "make", "", PASSWORD));
    assert!(refused.status == 422 && refused.text().contains(why), "{}", refused.text());
}

#[test]
fn a_backup_is_made_downloaded_restored_and_deleted() {
    let site = set_up_site();
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let page = browser.get("/account/store");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("<th scope=\"row\">sessions</th><td data-column=\"Rows\">1</td>"));
    let made = browser.post("/account/store", &form(&page, "make", "", PASSWORD));
    if !is_in_a_file(&site) {
        assert_eq!(made.status, 409);
        assert!(page.text().contains("pg_dump") && listed(&page).is_empty());
        return;
    }
    assert_eq!(location(&made), "/account/store?done#backups");
    let page = browser.get("/account/store?done");
    assert!(page.text().contains("The backup has been made."), "{}", page.text());
    let [name] = &listed(&page)[..] else { panic!("{}", page.text()) };
    let backup = site.folder.path().join("data/backups").join(name);

    let downloaded = browser.post("/account/store", &form(&page, "download", name, PASSWORD));
    assert_eq!(downloaded.status, 200);
    let disposition = downloaded.header("content-disposition").unwrap();
    assert!(disposition.starts_with(&format!("attachment; filename=\"{name}\"")), "{disposition}");
    assert_eq!(downloaded.header("cache-control"), Some("no-store"));
    assert_eq!(downloaded.body, fs::read(&backup).unwrap());

    // What is written after the backup is gone once it is restored; so are all sessions but the one that asked.
    let mut other = Browser { address: "198.51.100.7", ..Browser::new(&site.router) };
    assert_eq!(other.log_in(PASSWORD).status, 303);
    let new =
        "csrf=CSRF&password=correct+horse+battery&new=another+long+one&again=another+long+one";
    let account = browser.get("/account");
    let changed = browser.post("/account/password", &new.replace("CSRF", token(&account)));
    assert_eq!(changed.status, 303);
    let page = browser.get("/account/store");
    let restored =
        browser.post("/account/store", &form(&page, "restore", name, "another long one"));
    assert_eq!(location(&restored), "/account/store?done#backups", "{}", restored.text());
    let page = browser.get("/account/store?done");
    assert!(page.text().contains("The backup has been restored"), "{}", page.text());
    assert!(!other.is_owner());
    let sessions: i64 = site.find("SELECT count(*) FROM sessions");
    assert_eq!(sessions, 1, "the backup's own session did not come back");
    let mut fresh = Browser { address: "198.51.100.8", ..Browser::new(&site.router) };
    assert_eq!(fresh.log_in(PASSWORD).status, 401, "the password is still the new one");
    assert_eq!(fresh.log_in("another long one").status, 303);

    // Undone.
    let undo = "toolshed.db-replaced";
    assert!(page.text().contains("The store before the last restore"));
    assert_eq!(listed(&page).len(), 2);
    let undone = browser.post("/account/store", &form(&page, "restore", undo, "another long one"));
    assert_eq!(undone.status, 303, "{}", undone.text());
    let page = browser.get("/account/store");
    let deleted = browser.post("/account/store", &form(&page, "delete", name, "another long one"));
    assert_eq!(deleted.status, 303, "{}", deleted.text());
    assert!(!backup.exists());
    for event in ["Backup made", "Backup downloaded", "Backup restored", "Backup deleted"] {
        let account = browser.get("/account");
        assert!(account.text().contains(event), "{event}: {}", account.text());
    }
}

/// A password that somebody has found out is not enough to get around the second factor.
#[test]
fn a_backup_from_before_the_second_factor_does_not_turn_it_off() {
    let site = set_up_site();
    if !is_in_a_file(&site) {
        return;
    }
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let page = browser.get("/account/store");
    assert_eq!(browser.post("/account/store", &form(&page, "make", "", PASSWORD)).status, 303);
    let factor =
        "INSERT INTO facts (name, value) VALUES ('totp_key', 'sealed:x'), ('totp_step', '7')";
    site.execute(factor, &[]);
    site.execute("INSERT INTO recovery_codes (hash) VALUES ($1)", params![[7]]);
    let page = browser.get("/account/store");
    let name = listed(&page).remove(0);
    let restored = browser.post("/account/store", &form(&page, "restore", &name, PASSWORD));
    assert_eq!(restored.status, 303, "{}", restored.text());
    assert_eq!(fact_of(&site, "totp_key").as_deref(), Some("sealed:x"));
    assert_eq!(fact_of(&site, "totp_step").as_deref(), Some("7"));
    assert_eq!(site.find::<i64>("SELECT count(*) FROM recovery_codes"), 1);
    let mut fresh = Browser { address: "198.51.100.8", ..Browser::new(&site.router) };
    assert_eq!(fresh.log_in(PASSWORD).status, 401);
}

#[test]
fn without_the_password_nothing_leaves_and_nothing_changes() {
    let site = set_up_site();
    assert_eq!(
        location(&Browser::new(&site.router).get("/account/store")),
        "/login?next=%2Faccount%2Fstore"
    );
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    if !is_in_a_file(&site) {
        return;
    }
    let page = browser.get("/account/store");
    assert_eq!(browser.post("/account/store", &form(&page, "make", "", PASSWORD)).status, 303);
    let page = browser.get("/account/store");
    let name = listed(&page).remove(0);
    let folder = site.folder.path().join("data/backups");
    let files = || fs::read_dir(&folder).unwrap().count();
    let store = || fs::read(site.folder.path().join("data/backups").join(&name)).unwrap();
    let before = (files(), store());
    for action in ["make", "download", "restore", "delete"] {
        for password in ["", "wrong"] {
            site.let_pass(400);
            let refused = browser.post("/account/store", &form(&page, action, &name, password));
            assert_eq!(refused.status, 422, "{action}");
            assert!(refused.text().contains("Wrong password."), "{action}: {}", refused.text());
            assert_eq!(refused.header("content-disposition"), None);
        }
        let stranger = &mut Browser::new(&site.router);
        let refused = stranger.post("/account/store", &form(&page, action, &name, PASSWORD));
        assert!([401, 403].contains(&refused.status.as_u16()), "{action}: {}", refused.status);
    }
    assert_eq!((files(), store()), before);
    assert!(browser.is_owner());
}

#[test]
fn only_what_is_listed_can_be_chosen_and_a_broken_backup_is_refused() {
    let site = set_up_site();
    if !is_in_a_file(&site) {
        return;
    }
    let mut browser = Browser::new(&site.router);
    assert_eq!(browser.log_in(PASSWORD).status, 303);
    let data = site.folder.path().join("data");
    fs::create_dir(data.join("backups")).unwrap();
    fs::write(data.join("backups/notes.txt"), "mine").unwrap();
    fs::create_dir(data.join("backups/folder.db")).unwrap();
    std::os::unix::fs::symlink(data.join("secret.key"), data.join("backups/link.db")).unwrap();
    fs::write(data.join("backups/uploaded <b>.db"), "no store").unwrap();
    let page = browser.get("/account/store");
    assert_eq!(listed(&page), ["uploaded &lt;b&gt;.db"]);
    let mut chosen = |action: &str, name: &str| {
        browser.post("/account/store", &form(&page, action, name, PASSWORD))
    };
    for name in ["../secret.key", "../toolshed.db", "link.db", "notes.txt", "folder.db", "", "."] {
        for action in ["download", "restore", "delete"] {
            let refused = chosen(action, name);
            assert_eq!(refused.status, 422, "{action} {name}");
            assert!(refused.text().contains("Choose a backup that is there."), "{name}");
        }
    }
    assert_eq!(chosen("dance", "uploaded <b>.db").status, 400);
    let refused = chosen("restore", "uploaded <b>.db");
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("Nothing was restored: "), "{}", refused.text());
    let disposition = chosen("download", "uploaded <b>.db");
    let disposition = disposition.header("content-disposition").unwrap();
    assert!(disposition.starts_with("attachment; filename=\"uploaded <b>.db\";"), "{disposition}");
    assert!(browser.is_owner());
}

//! What an operator does on the page beside the switch, on real stores: a standby that is stopped is looked at, tried again and has a
//! transaction passed over; a session and a statement are killed; a group is paused and resumed; a cutover that somebody else has
//! begun, and that waits for a transaction, is aborted. Each is looked at in light, dark and on a phone, by eyes and for a screen reader.

use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;

use super::{admin, sign_in, unexpected};
use crate::standby::{self, DURABLE, Kept};
use crate::support::browser::{ENTER, TAB};
use crate::support::{Browser, PrivateServer, Proxy, clients, eventually, ports};

const CARD: &str = "[aria-label='Group analytics']";

/// A pair of stores in step, and a proxy with surfaces.
fn scene() -> (Kept, u16) {
    let start = |n| PrivateServer::start(n, DURABLE);
    let (authority, standby) = (start(11), start(12));
    for server in [&authority, &standby] {
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        server.sql_in("d", "CREATE TABLE hits (id INT PRIMARY KEY, v VARCHAR(40))");
    }
    let http = ports::free();
    let proxy = Proxy::start(|port| standby::config(port, &authority, &standby) + &admin(http));
    let kept = Kept { authority, standby, proxy };
    let init = kept.proxy.cli(&["init"]);
    assert!(init.ok, "{}{}", init.stdout, init.stderr);
    kept.retry();
    (kept, http)
}

/// The page as it is now, in three looks: pictures for people, and what is wrong with it for who does not see it well.
fn looked_at(browser: &Browser, name: &str, css: &str) {
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("dark", 360)] {
        browser.prefers(scheme);
        browser.resize(width, 900);
        browser.js(&format!("document.querySelector(\"{css}\").scrollIntoView({{ block: 'nearest' }})"));
        browser.picture(&format!("{name}-{scheme}-{width}"));
        assert_eq!(browser.audit(), Vec::<String>::new(), "{name}, {scheme}, {width} pixels");
    }
    browser.prefers("light");
    browser.resize(1280, 900);
}

/// Waits until an element of the card has a text.
fn card_says(browser: &Browser, css: &str, text: &str) {
    browser.wait(&format!(
        "(() => {{ const e = document.querySelector(\"{CARD} {css}\"); return e?.checkVisibility() && e.innerText.includes(\"{text}\"); }})()"
    ));
}

fn confirmed(browser: &Browser) {
    browser.click("dialog button[type=submit]");
    browser.wait("!document.querySelector('dialog')");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_mends_kills_pauses_and_aborts_from_the_page() {
    let (kept, http) = scene();
    let browser = Browser::start();
    sign_in(&browser, http, "ops");
    a_stopped_standby(&browser, &kept);
    killed(&browser, &kept).await;
    paused(&browser, &kept).await;
    aborted(&browser, &kept).await;
    assert_eq!(unexpected(&browser), Vec::<String>::new());
    kept.catch_up();
    assert_eq!(kept.standby.sql("SELECT id, v FROM d.hits WHERE v = 'stranger'"), [["5", "stranger"]]);
    assert_eq!(
        kept.authority.sql("SELECT v FROM d.hits WHERE id = 5"),
        [["five"]],
        "passed over is what was asked for"
    );
}

fn a_stopped_standby(browser: &Browser, kept: &Kept) {
    let write = |sql: &str| assert!(clients::mariadb(kept.proxy.port, &["-Dd", "-e", sql]).ok, "{sql}");
    kept.mend(&kept.standby, "INSERT INTO d.hits VALUES (5, 'stranger')");
    write("INSERT INTO hits VALUES (5, 'five')");
    card_says(browser, ".stopped", "Duplicate entry '5'");
    let id = kept.show()["transaction"].as_str().unwrap().to_owned();
    card_says(browser, ".stopped", &id);
    card_says(browser, ".segment[data-store=new]", "stopped");
    browser.wait("document.querySelector('.stopped [aria-label=\"Copy: switchover standby retry analytics\"]')");
    looked_at(browser, "standby-stopped", ".stopped");

    // tried again without mending: it stops where it was, and who tried is known
    browser.click(&format!("{CARD} .stopped button[data-changes]:first-of-type"));
    browser.wait("document.querySelector('dialog h2')?.innerText.includes('try again')");
    looked_at(browser, "standby-retry", "dialog");
    browser.type_into("#field-why", "perhaps it passes");
    confirmed(browser);
    browser.wait("document.querySelector('.events').innerText.includes('perhaps it passes')");
    eventually("it is stopped again", || kept.show()["transaction"] == id.as_str());
    card_says(browser, ".stopped", &id);

    // passing it over needs a reason, and is done by keyboard
    browser.js(&format!("document.querySelector(\"{CARD} .stopped button[data-changes]:last-of-type\").focus()"));
    browser.press(ENTER);
    browser.wait("document.querySelector('dialog h2')?.innerText.includes('over')");
    looked_at(browser, "standby-skip", "dialog");
    browser.press(ENTER);
    assert_eq!(browser.js("return document.activeElement.id"), "field-reason", "the focus is where the reason goes");
    assert_eq!(kept.show()["state"], "stopped", "without a reason nothing is passed over");
    browser.press("the stranger stays");
    browser.press(TAB);
    browser.press(TAB);
    browser.press(ENTER);
    browser.wait("!document.querySelector('dialog')");
    browser.wait(&format!("!document.querySelector(\"{CARD} .stopped\").checkVisibility()"));
    write("INSERT INTO hits VALUES (6, 'six')");
    kept.catch_up();
    card_says(browser, ".segment[data-store=new]", "applying");
    assert_eq!(kept.standby.sql("SELECT id, v FROM d.hits ORDER BY id"), [["5", "stranger"], ["6", "six"]]);
    let skipped = kept.standby.sql("SELECT transaction_id, reason FROM switchover.skipped").concat();
    assert_eq!(skipped, [id.as_str(), "the stranger stays"]);
    browser.wait("document.querySelector('.events').innerText.includes('the stranger stays')");
}

/// A statement, then the session of another, each while it sleeps at the store.
async fn killed(browser: &Browser, kept: &Kept) {
    browser.click("#tab-sessions");
    for what in ["query", "session"] {
        let mut conn = kept.proxy.connect("d").await;
        let id: u64 = conn.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        let sleeps = tokio::spawn(async move {
            let slept: mysql_async::Result<Option<u32>> = conn.query_first("SELECT SLEEP(300) FROM hits").await;
            (slept, conn)
        });
        let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(300)%'";
        eventually("it sleeps", || kept.authority.sql(sleeping)[0][0] == "1");
        let button = format!("#panel-sessions [aria-label='Kill session {id}']");
        browser.wait(&format!("document.querySelector(\"{button}\")"));
        browser.wait(&format!("document.querySelector(\"{button}\").closest('tr').innerText.includes('legacy')"));
        if what == "query" {
            looked_at(browser, "sessions", &button);
        }
        browser.click(&button);
        browser.click(&format!("#kill-{id}-{what}"));
        if what == "query" {
            looked_at(browser, "session-kill", "dialog");
        }
        browser.type_into("#field-why", &format!("{what} {id} sleeps"));
        confirmed(browser);
        browser.wait(&format!("document.querySelector('.events').textContent.includes('{what} {id} sleeps')"));
        let (slept, mut conn) = tokio::time::timeout(Duration::from_secs(20), sleeps).await.unwrap().unwrap();
        eventually("nothing of it runs at the store", || kept.authority.sql(sleeping)[0][0] == "0");
        let again: mysql_async::Result<Option<u32>> = conn.query_first("SELECT COUNT(*) FROM hits").await;
        match what {
            "query" => assert!(again.is_ok(), "the session goes on: {slept:?}, {again:?}"),
            _ => assert!(slept.is_err() && again.is_err(), "the session has ended: {slept:?}, {again:?}"),
        }
        if what == "session" {
            browser.wait(&format!("!document.querySelector(\"{button}\")"));
        }
    }
    browser.click("#tab-events");
}

async fn paused(browser: &Browser, kept: &Kept) {
    let pause = format!("{CARD} > .buttons [data-changes]");
    browser.click(&pause);
    browser.type_into("#field-why", "the disk is changed");
    looked_at(browser, "group-pause", "dialog");
    confirmed(browser);
    card_says(browser, ".notes", "Paused");
    let mut writer = kept.proxy.connect("d").await;
    let written = tokio::spawn(async move { writer.query_drop("INSERT INTO hits VALUES (7, 'seven')").await });
    let mut reader = kept.proxy.connect("d").await;
    let seen = |conn: Option<u32>| assert_eq!(conn, Some(1), "reads go on");
    for _ in 0..5 {
        seen(reader.query_first("SELECT COUNT(*) FROM hits WHERE id = 6").await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!written.is_finished(), "a write waits");
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.hits WHERE id = 7")[0][0], "0");
    card_says(browser, ".facts", "held; 1 waits now");
    looked_at(browser, "group-paused", CARD);
    assert_eq!(browser.text(&pause), "Resume …");
    browser.click(&pause);
    browser.type_into("#field-why", "the disk is there");
    confirmed(browser);
    tokio::time::timeout(Duration::from_secs(20), written).await.unwrap().unwrap().unwrap();
    browser.wait(&format!("!document.querySelector(\"{CARD} .notes\").innerText.includes('Paused')"));
    card_says(browser, ".facts", "go through");
    browser.wait("document.querySelector('.events').innerText.includes('the disk is there')");
}

/// Begun at the command line, waiting for an open transaction; seen among the jobs, and given up there.
async fn aborted(browser: &Browser, kept: &Kept) {
    let mut open = kept.proxy.connect("d").await;
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO hits VALUES (8, 'eight')").await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchover"));
    command.args(["flag", "analytics", "new", "--why", "the night shift"]).arg("--config").arg(&kept.proxy.config_path);
    let flag = std::thread::spawn(move || clients::output(command));
    browser.wait("document.querySelector('#jobs .job .abort')?.checkVisibility()");
    card_says(browser, ".notes", "cutover is under way");
    browser.wait("document.querySelector('#jobs .figures').innerText.includes('Done: look, intent')");
    looked_at(browser, "cutover-job", "#jobs");
    browser.click("#jobs .job .abort");
    browser.wait("document.querySelector('dialog h2')?.innerText.includes('Abort the cutover')");
    looked_at(browser, "cutover-abort", "dialog");
    browser.type_into("#field-why", "not tonight");
    confirmed(browser);
    let done = flag.join().unwrap();
    assert!(!done.ok, "{}{}", done.stdout, done.stderr);
    browser.wait("!document.querySelector('#jobs .job')");
    browser.wait("document.querySelector('.events').innerText.includes('not tonight')");
    assert_eq!(kept.proxy.status()["groups"][0]["connection"], "legacy");
    open.query_drop("COMMIT").await.unwrap();
    let mut later = kept.proxy.connect("d").await;
    let served: Option<(u32, u32)> =
        later.query_first("SELECT @@server_id, COUNT(*) FROM hits WHERE id = 8").await.unwrap();
    assert_eq!(served, Some((11, 1)), "the old authority serves on, with what was written meanwhile");
    later.query_drop("INSERT INTO hits VALUES (9, 'nine')").await.unwrap();
}

//! The dashboard in Chromium, against a real proxy and real stores: the switch is clicked under live traffic, and what it did is
//! asked of the proxy as a client asks.

mod steering;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::standby::{self, DURABLE};
use crate::support::browser::{ENTER, ESCAPE, TAB};
use crate::support::proxy::pair_config;
use crate::support::{Browser, Database, PrivateServer, Proxy, clients, eventually, ports, stores};

/// Users of the surfaces: there is no default one.
fn admin(http: u16) -> String {
    format!(
        "admin:\n  http: 127.0.0.1:{http}\n  users:\n    ops: {{ password: secret }}\n    view: {{ password: secret, role: reader }}\n"
    )
}

fn sign_in(browser: &Browser, http: u16, user: &str) {
    browser.go(&format!("http://127.0.0.1:{http}/"));
    browser.wait("document.getElementById('login').checkVisibility()");
    browser.type_into("#login-user", user);
    browser.type_into("#login-password", "secret");
    browser.press(ENTER);
    browser.wait("document.querySelector('.segment[aria-pressed=true]')");
    browser.wait("document.getElementById('link').innerText === 'live'");
}

/// The segment of the switch of `analytics` that stands for a store.
fn segment(store: &str) -> String {
    format!("[aria-label='Group analytics'] .segment[data-store={store}]")
}

fn serves(browser: &Browser, store: &str) {
    browser.wait(&format!("document.querySelector(\"{}\").getAttribute('aria-pressed') === 'true'", segment(store)));
}

/// Writers that never stop, and what became of what they wrote.
struct Traffic {
    over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn through(proxy: &Proxy) -> Traffic {
        let (over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers = (1..=3).map(|writer| {
            let (over, acknowledged) = (Arc::clone(&over), Arc::clone(&acknowledged));
            let opts = proxy.opts().db_name(Some("d"));
            tokio::spawn(async move {
                let mut conn = Conn::new(opts).await.unwrap();
                let (mut errors, mut n) = (Vec::new(), 0);
                while errors.is_empty() && !over.load(Ordering::Relaxed) {
                    n += 1;
                    let text = format!("INSERT INTO hits (writer, n) VALUES ({writer}, {n})");
                    match conn.query_drop(text).await {
                        Ok(()) => _ = acknowledged.fetch_add(1, Ordering::Relaxed),
                        Err(error) => errors.push(error.to_string()),
                    }
                    if let Err(error) = conn.query_drop("SELECT COUNT(*) FROM hits WHERE writer = 1").await {
                        errors.push(error.to_string());
                    }
                }
                errors
            })
        });
        let writers = writers.collect();
        Traffic { over, acknowledged, writers }
    }

    fn written(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// They go on: each of them at least once more.
    fn goes_on(&self) {
        let before = self.written();
        eventually("the traffic goes on", || self.written() > before + 20);
    }

    /// Ends it: how many were acknowledged, and the errors that clients saw.
    async fn end(self) -> (u64, Vec<String>) {
        self.over.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for writer in self.writers {
            errors.extend(writer.await.unwrap());
        }
        (self.acknowledged.load(Ordering::Relaxed), errors)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switch_moves_a_group_under_live_traffic_by_mouse_and_by_keyboard() {
    let start = |n| PrivateServer::start(n, DURABLE);
    let (legacy, new) = (start(11), start(12));
    for server in [&legacy, &new] {
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        server.sql_in(
            "d",
            "CREATE TABLE hits (id BIGINT PRIMARY KEY AUTO_INCREMENT, writer INT NOT NULL, n INT NOT NULL)",
        );
    }
    let http = ports::free();
    let proxy = Proxy::start(|port| standby::config(port, &legacy, &new) + &admin(http));
    let init = proxy.cli(&["init"]);
    assert!(init.ok, "{}{}", init.stdout, init.stderr);
    eventually("the standby applies", || {
        _ = proxy.cli(&["standby", "retry", "analytics"]);
        proxy.status()["groups"][0]["standby"]["state"] == "applying"
    });
    let traffic = Traffic::through(&proxy);
    traffic.goes_on();
    let mut asks = proxy.connect("d").await;
    let mut server =
        async || asks.query_first::<u32, _>("SELECT @@server_id FROM hits LIMIT 1").await.unwrap().unwrap();
    assert_eq!(server().await, 11);

    let browser = Browser::start();
    sign_in(&browser, http, "ops");
    serves(&browser, "legacy");
    let mut open = proxy.connect("d").await;
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO hits (writer, n) VALUES (99, 1)").await.unwrap();
    aborted(&browser);
    assert_eq!(server().await, 11);
    open.query_drop("ROLLBACK").await.unwrap();
    traffic.goes_on();

    browser.click(&segment("new"));
    browser.wait("document.querySelector('dialog .checks')?.innerText.includes('Nothing is in the way')");
    assert_eq!(server().await, 11, "a question moves nothing");
    browser.picture("flip-asks");
    browser.type_into("#field-why", "the new store has caught up");
    browser.click("dialog button[type=submit]");
    browser.wait("document.querySelector('dialog .outcome')?.innerText.includes('new serves analytics')");
    for step in ["hold", "seal", "catch up", "open", "release"] {
        browser.wait(&format!("document.querySelector('dialog .steps').innerText.includes('{step}: ')"));
    }
    assert_eq!(server().await, 12);
    traffic.goes_on();
    browser.picture("flip-done");
    browser.press(ENTER);
    browser.wait("!document.querySelector('dialog')");
    serves(&browser, "new");
    browser.wait("document.querySelector('.events').innerText.includes('the new store has caught up')");
    browser.wait("document.querySelectorAll('.plot .flips line').length > 0");
    browser.picture("overview");
    assert_eq!(browser.audit(), Vec::<String>::new());

    back_by_keyboard(&browser);
    assert_eq!(server().await, 11);
    traffic.goes_on();
    let (acknowledged, errors) = traffic.end().await;
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(legacy.sql("SELECT COUNT(*) FROM d.hits")[0][0], acknowledged.to_string());
    assert_eq!(unexpected(&browser), Vec::<String>::new());
}

/// A cutover that waits for somebody's transaction is given up by the button.
fn aborted(browser: &Browser) {
    browser.click(&segment("new"));
    browser.click("dialog button[type=submit]");
    browser.wait("document.querySelector('dialog .steps').innerText.includes('intent')");
    browser.click("dialog button.danger");
    browser.wait("document.querySelector('dialog .trouble').checkVisibility()");
    browser.picture("flip-aborted");
    assert!(browser.text("dialog h2").contains("was not moved"), "{}", browser.text("dialog"));
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog')");
}

/// The same by Tab, Enter and Escape alone.
fn back_by_keyboard(browser: &Browser) {
    let focused = |css: &str| browser.js(&format!("return document.activeElement.matches(\"{css}\")")) == true;
    let tab_to = |css: &str| {
        for _ in 0..60 {
            if focused(css) {
                return;
            }
            browser.press(TAB);
        }
        panic!("Tab does not lead to {css}");
    };
    let legacy = segment("legacy");
    browser.js("document.activeElement.blur(); scrollTo(0, 0)");
    tab_to(&legacy);
    let ring = browser.js("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(ring, "solid", "the focus is seen");
    browser.press(ENTER);
    browser.wait("document.querySelector('dialog[open] .checks')?.innerText.includes('Nothing is in the way')");
    for _ in 0..12 {
        browser.press(TAB);
        assert!(focused("dialog *, dialog, body"), "the focus has left the dialog");
    }
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog')");
    assert!(focused(&legacy), "the focus is back where it was");
    browser.press(ENTER);
    tab_to("#field-why");
    browser.press("back");
    browser.press(ENTER);
    browser.wait("document.querySelector('dialog .outcome')?.innerText.includes('legacy serves analytics')");
    browser.press(ENTER);
    serves(browser, "legacy");
}

/// What the console holds that should not be there. (The page asks who it is before anybody has signed in; a refusal is a 4xx, what was given up a 504.)
fn unexpected(browser: &Browser) -> Vec<String> {
    let fine = |line: &String| {
        ["/api/v1/me ", "status of 400", "status of 403", "status of 409", "status of 504"]
            .iter()
            .any(|part| line.contains(part))
    };
    browser.log().into_iter().filter(|line| !fine(line)).collect()
}

/// A table on both stores, and a proxy with a group of it.
fn plain() -> (Database, Proxy, u16) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, server INT)");
    database.on_both("INSERT INTO hits (server) VALUES (@@server_id)");
    let http = ports::free();
    let table = format!("{}.hits", database.name);
    let config = |port| {
        // (the text ends with the group)
        let shadowed = pair_config(port, &stores().legacy, &stores().new, &[&table]) + "    shadow: { sample: 1 }\n";
        shadowed + &admin(http)
    };
    (database, Proxy::start(config), http)
}

#[tokio::test]
async fn a_refused_flip_says_what_is_in_the_way_and_moves_nothing() {
    let (database, proxy, http) = plain();
    let view = format!("CREATE VIEW {0}.tied AS SELECT server FROM {0}.hits", database.name);
    stores().legacy.sql(&view);
    let browser = Browser::start();
    sign_in(&browser, http, "ops");
    browser.click(&segment("new"));
    browser.click("dialog button[type=submit]");
    browser.wait("document.querySelector('dialog .trouble li')?.innerText.includes('tied')");
    browser.picture("flip-refused");
    assert!(browser.text("dialog h2").contains("was not moved"), "{}", browser.text("dialog"));
    assert_eq!(browser.audit(), Vec::<String>::new());
    let mut conn = proxy.connect(&database.name).await;
    assert_eq!(conn.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(1));
    // by force it moves, and the events say so
    browser.click("#flip-force");
    assert!(browser.text("#flip-force-warning").contains("left behind"));
    browser.click("dialog button[type=submit]");
    browser.wait("document.querySelector('dialog .outcome')?.innerText.includes('new serves analytics')");
    assert_eq!(conn.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(2));
    browser.press(ENTER);
    browser.wait("document.querySelector('.events').innerText.includes('by force')");
    assert_eq!(unexpected(&browser), Vec::<String>::new());
}

#[test]
fn a_file_that_is_refused_and_a_proxy_that_is_away_are_told_and_mended() {
    let (_database, mut proxy, http) = plain();
    let browser = Browser::start();
    sign_in(&browser, http, "ops");
    proxy.edit_config(|text| text.replace("connection: legacy", "connection: nwe"));
    browser.wait("document.querySelector('.banner.bad')?.innerText.includes('nwe')");
    assert_eq!(browser.audit(), Vec::<String>::new());
    browser.picture("refused-file");
    proxy.edit_config(|text| text.replace("connection: nwe", "connection: legacy"));
    browser.wait("!document.querySelector('.banner')");
    assert_eq!(unexpected(&browser), Vec::<String>::new());
    proxy.kill();
    browser.wait("document.querySelector('.banner.bad')?.innerText.includes('Connection to the proxy lost')");
    browser.picture("connection-lost");
    // its logins are gone with it
    proxy.restart();
    browser.wait("document.getElementById('login').checkVisibility()");
    sign_in(&browser, http, "ops");
}

#[test]
fn a_reader_only_reads_what_is_sent_stays_text_and_everybody_can_use_the_page() {
    let (database, proxy, http) = plain();
    let why = "<img src=x onerror=hacked=1>";
    assert!(proxy.cli(&["reload", "--why", why]).ok);
    for hostile in [
        format!("SELECT server AS `{why}` FROM hits"),
        "SELECT server FROM hits AS `</code><script>hacked=1</script>`".to_owned(),
    ] {
        assert!(clients::mariadb(proxy.port, &["-D", &database.name, "-e", &hostile]).ok, "{hostile}");
    }
    let browser = Browser::start();
    browser.prefers("light");
    browser.go(&format!("http://127.0.0.1:{http}/"));
    browser.wait("document.getElementById('login').checkVisibility()");
    assert_eq!(browser.audit(), Vec::<String>::new());
    browser.type_into("#login-user", "view");
    browser.type_into("#login-password", "wrong");
    browser.press(ENTER);
    browser.wait("document.getElementById('login-error').checkVisibility()");
    assert!(browser.log().iter().any(|line| line.contains("/api/v1/login")), "the failed login is in the log");
    sign_in(&browser, http, "view");
    browser.wait(&format!("document.querySelector('.events').innerText.includes('{why}')"));
    browser.click("#tab-statements");
    browser.wait("document.querySelector('.statements tbody tr')");
    browser.type_into("#panel-statements input[type=search]", "hacked");
    browser.wait("document.querySelectorAll('.statements tbody tr').length === 2");
    browser.click(".statements tbody button.open");
    let text = browser.text(".statements tbody");
    assert!(text.contains(why) && text.contains("<script>hacked=1</script>") && text.contains("On legacy"), "{text}");
    assert_eq!(browser.js("return document.querySelectorAll('#panels img, #panels script').length"), 0);
    assert_eq!(browser.js("return typeof hacked"), "undefined");

    reader_changes_nothing(&browser, &proxy);
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("dark", 360)] {
        browser.prefers(scheme);
        browser.resize(width, 800);
        for panel in ["events", "statements", "sessions", "pins", "readiness", "shadow", "explain", "configuration"] {
            browser.js(&format!("document.getElementById('tab-{panel}').click()"));
            browser.wait(&format!("document.getElementById('panel-{panel}').checkVisibility()"));
            browser.picture(&format!("{panel}-{scheme}-{width}"));
            assert_eq!(browser.audit(), Vec::<String>::new(), "{panel}, {scheme}, {width} pixels");
        }
    }
    // the rows say which server they are of: they differ
    browser.js("document.getElementById('tab-shadow').click()");
    browser.wait("document.querySelector('#panel-shadow .verdict')?.innerText.includes('real')");
    assert!(browser.text("#panel-shadow").contains("<script>hacked=1</script>"));
    assert_eq!(browser.js("return document.querySelectorAll('#panels img, #panels script').length"), 0);
    assert_eq!(browser.js("return typeof hacked"), "undefined");
    let asked = browser.js("return performance.getEntriesByType('resource').map((one) => one.name)");
    let own = format!("http://127.0.0.1:{http}/");
    for url in asked.as_array().unwrap() {
        assert!(url.as_str().unwrap().starts_with(&own), "a request to {url}");
    }
    assert_eq!(unexpected(&browser), Vec::<String>::new());
}

/// Buttons are switched off and say why, and the proxy does not rely on that.
fn reader_changes_nothing(browser: &Browser, proxy: &Proxy) {
    let new = segment("new");
    let off = browser.js(&format!("const b = document.querySelector(\"{new}\"); return [b.disabled, b.title]"));
    assert!(off[0] == true && off[1].as_str().unwrap().contains("reader"), "{off}");
    let script = "return (async () => { const me = await (await fetch('/api/v1/me')).json(); \
         const headers = { 'Content-Type': 'application/json', 'X-Switchover-CSRF': me.csrf }; \
         const body = JSON.stringify({ store: 'new', why: null, force: true }); \
         return (await fetch('/api/v1/groups/analytics/flag', { method: 'POST', headers, body })).status; })()";
    assert_eq!(browser.js(script), 403);
    assert_eq!(proxy.status()["groups"][0]["connection"], "legacy");
}

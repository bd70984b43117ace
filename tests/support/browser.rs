//! Chromium without a window, steered through chromedriver (W3C WebDriver over HTTP): what a person sees, clicks and types.
//!
//! Both are children that end with the test process: chromedriver is told to use a Chromium that runs already, for one that it
//! starts itself would outlive a test that is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::place::Folder;
use super::{ports, spawn};

/// Keys as WebDriver writes them.
pub const TAB: &str = "\u{E004}";
/// See [`TAB`].
pub const ENTER: &str = "\u{E007}";
/// See [`TAB`].
pub const ESCAPE: &str = "\u{E00C}";

/// What is looked at by [`Browser::audit`].
const AUDIT: &str = include_str!("audit.js");

/// What Chromium needs where there is no screen, no sandbox and no internet.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--window-size=1280,900",
];

/// A browser with one page.
pub struct Browser {
    port: u16,
    session: String,
    driver: Child,
    chromium: Child,
    _folder: Folder,
}

impl Browser {
    /// A fresh one, without a past.
    pub fn start() -> Browser {
        for program in ["chromium", "chromedriver"] {
            let found =
                std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(program).is_file()));
            assert!(found, "{program} is missing: tools/install.sh test (apt-get install chromium chromium-driver)");
        }
        let folder = Folder::new("b");
        let profile = folder.path().join("profile");
        let mut command = spawn::tied("chromium");
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command.env("HOME", folder.path());
        let chromium = spawn::start(command, &folder.path().join("chromium.log"));
        let port = ports::free();
        let mut command = spawn::tied("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = spawn::start(command, &folder.path().join("chromedriver.log"));
        let mut browser = Browser { port, session: String::new(), driver, chromium, _folder: folder };
        browser.attach(&profile);
        browser
    }

    fn attach(&mut self, profile: &Path) {
        let debugging = || std::fs::read_to_string(profile.join("DevToolsActivePort")).ok();
        let begun = Instant::now();
        let port = loop {
            match debugging().and_then(|text| text.lines().next().map(str::to_owned)) {
                Some(port) if TcpStream::connect(("127.0.0.1", self.port)).is_ok() => break port,
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "chromium and chromedriver do not start");
        };
        let options = json!({ "debuggerAddress": format!("127.0.0.1:{port}") });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let made = self.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        self.session = made["sessionId"].as_str().unwrap().to_owned();
    }

    /// One request of WebDriver; panics with what it answers where it is no success.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, value) = self.ask(method, path, body);
        assert!(status == 200, "{method} {path} {body}: {value}");
        value
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        socket.write_all((head + &body).as_bytes()).unwrap();
        let (head, body) = answer(&socket);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{method} {path}: {e}: {body}"));
        (status, value["value"].clone())
    }

    fn of_session(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Opens a page.
    pub fn go(&self, url: &str) {
        self.of_session("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a script's text in the page, and gives what it returns.
    pub fn js(&self, script: &str) -> Value {
        self.of_session("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    pub fn wait(&self, what: &str) {
        let begun = Instant::now();
        while self.js(&format!("return Boolean({what})")) != true {
            if begun.elapsed() > Duration::from_secs(30) {
                let page = self.js("return document.body.innerText");
                panic!("still not, after 30 s: {what}\n{}\n{:?}", page.as_str().unwrap_or_default(), self.log());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// The text of an element.
    pub fn text(&self, css: &str) -> String {
        let found = self.js(&format!("return document.querySelector({}).innerText", json!(css)));
        found.as_str().unwrap_or_default().to_owned()
    }

    fn element(&self, css: &str) -> String {
        let found = self.of_session("POST", "/element", &json!({ "using": "css selector", "value": css }));
        found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).unwrap().to_owned()
    }

    /// Clicks where the element is: something in front of it is an error.
    pub fn click(&self, css: &str) {
        self.of_session("POST", &format!("/element/{}/click", self.element(css)), &json!({}));
    }

    /// Types into an element.
    pub fn type_into(&self, css: &str, text: &str) {
        self.of_session("POST", &format!("/element/{}/value", self.element(css)), &json!({ "text": text }));
    }

    /// Presses keys, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let each = keys.chars().flat_map(|key| {
            [
                json!({ "type": "keyDown", "value": key.to_string() }),
                json!({ "type": "keyUp", "value": key.to_string() }),
            ]
        });
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": each.collect::<Vec<_>>() });
        self.of_session("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// `light` or `dark`, as the system would say it.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// The size of the window, in CSS pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.of_session("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// What the page wrote to the console since the last look: errors, refusals of the page's policy, failed requests.
    pub fn log(&self) -> Vec<String> {
        let entries = self.of_session("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|e| format!("{} {}", e["level"].as_str().unwrap(), e["message"].as_str().unwrap())).collect()
    }

    /// A picture for people, where `SWITCHOVER_SCREENSHOTS` names a folder for them.
    pub fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("SWITCHOVER_SCREENSHOTS") else { return };
        let taken = self.of_session("GET", "/screenshot", &json!(null));
        let bytes = STANDARD.decode(taken.as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }

    /// What is wrong with the page as it is now for who cannot see it, or not well.
    pub fn audit(&self) -> Vec<String> {
        let found = self.js(AUDIT);
        found.as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect()
    }
}

/// Head and body of an answer: chromedriver says its length, and keeps the connection.
fn answer(socket: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "chromedriver has gone: {head}");
    }
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

impl Drop for Browser {
    fn drop(&mut self) {
        for child in [&mut self.driver, &mut self.chromium] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

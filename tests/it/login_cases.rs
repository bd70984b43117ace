//! Logins of every kind, packet by packet: what a client gets through the proxy is, to the byte, what the store itself says.
//!
//! What differs by its nature is left out of the comparison: the scramble and the connection's id.

use std::io::Write;

use switchover::auth;
use switchover::wire::packet;
use switchover::wire::{Capabilities, ErrPacket};

use crate::support::raw::{ORDINARY, Raw, read_packet};
use crate::support::{PrivateServer, Proxy, proxy::pair_config, stores};

/// A login as a client would write it, every field open to be wrong.
#[derive(Clone)]
struct Try {
    name: String,
    user: Vec<u8>,
    password: Vec<u8>,
    database: Option<Vec<u8>>,
    plugin: Vec<u8>,
    capabilities: Capabilities,
    /// In place of the right answer.
    answer: Option<Vec<u8>>,
    collation: u8,
    attributes: Vec<u8>,
    sequence: u8,
    /// Bytes of the packet that are sent, from its front.
    cut: Option<usize>,
    /// Sent in place of a login.
    bytes: Option<Vec<u8>>,
    /// Another login by COM_CHANGE_USER: user, password, database.
    then: Option<(Vec<u8>, Vec<u8>, Vec<u8>)>,
}

fn login(name: &str) -> Try {
    Try {
        name: name.to_owned(),
        user: b"app".to_vec(),
        password: b"app".to_vec(),
        database: None,
        plugin: auth::NATIVE.to_vec(),
        capabilities: ORDINARY,
        answer: None,
        collation: 45,
        attributes: Vec::new(),
        sequence: 1,
        cut: None,
        bytes: None,
        then: None,
    }
}

fn account(user: &str, password: &str) -> Try {
    Try { user: user.into(), password: password.into(), ..login(&format!("{user}/{password}")) }
}

fn change(user: &str, password: &str, database: &str) -> Try {
    let then = Some((user.into(), password.into(), database.into()));
    Try { then, ..login(&format!("change user to {user}/{password} in {database:?}")) }
}

fn native(password: &[u8], scramble: &[u8]) -> Vec<u8> {
    if password.is_empty() { Vec::new() } else { auth::native_answer(scramble, auth::stage1(password)).to_vec() }
}

fn lenenc(n: usize) -> Vec<u8> {
    match n {
        0..251 => vec![n as u8],
        251..0x1_0000 => [&[0xFC], &(n as u16).to_le_bytes()[..]].concat(),
        _ => [&[0xFD], &(n as u32).to_le_bytes()[..3]].concat(),
    }
}

fn attributes(key: &[u8], value: &[u8]) -> Vec<u8> {
    let pair = [lenenc(key.len()), key.to_vec(), lenenc(value.len()), value.to_vec()].concat();
    [lenenc(pair.len()), pair].concat()
}

impl Try {
    fn packet(&self, scramble: &[u8]) -> Vec<u8> {
        if let Some(bytes) = &self.bytes {
            return bytes.clone();
        }
        let mut capabilities = self.capabilities;
        capabilities.set(Capabilities::CONNECT_WITH_DB, self.database.is_some());
        capabilities.set(Capabilities::CONNECT_ATTRS, !self.attributes.is_empty());
        let answer = self.answer.clone().unwrap_or_else(|| native(&self.password, scramble));
        let mut p = capabilities.low().to_le_bytes().to_vec();
        p.extend([0, 0, 0, 1]);
        p.push(self.collation);
        p.extend([0; 23]);
        p.extend([&self.user[..], &[0]].concat());
        if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
            p.extend(lenenc(answer.len()));
            p.extend(&answer);
        } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            p.push(answer.len() as u8);
            p.extend(&answer);
        } else {
            p.extend([&answer[..], &[0]].concat());
        }
        if let Some(database) = &self.database {
            p.extend([&database[..], &[0]].concat());
        }
        if capabilities.contains(Capabilities::PLUGIN_AUTH) {
            p.extend([&self.plugin[..], &[0]].concat());
        }
        p.extend(&self.attributes);
        p.truncate(self.cut.unwrap_or(p.len()));
        p
    }

    /// What a server says, from its answer to the login on.
    fn transcript(&self, port: u16) -> Vec<String> {
        let mut raw = Raw::connect(port);
        let packet = self.packet(&raw.greeting.scramble);
        let mut framed = Vec::new();
        packet::put(&mut framed, self.sequence, &packet);
        let mut said = Vec::new();
        let _ = raw.socket.write_all(&framed);
        if !self.conversation(&mut raw, &self.password, &mut said) {
            return said;
        }
        if let Some((user, password, database)) = &self.then {
            let answer = native(password, &raw.greeting.scramble);
            let mut p = [&[0x11], &user[..], &[0, answer.len() as u8], &answer, database, &[0, 45, 0]].concat();
            p.extend([auth::NATIVE, &[0]].concat());
            raw.write(0, &p);
            self.conversation(&mut raw, password, &mut said);
        }
        raw.capabilities = self.capabilities;
        let sql = "SELECT CURRENT_USER(), USER(), DATABASE(), CURRENT_ROLE(), @@character_set_client, @@collation_connection, @x";
        for (sequence, payload) in raw.query(sql) {
            said.push(format!("{sequence} {}", payload.escape_ascii()));
        }
        said
    }

    /// Answers until the server has decided; whether the connection can be used.
    fn conversation(&self, raw: &mut Raw, password: &[u8], said: &mut Vec<String>) -> bool {
        while let Some((sequence, payload)) = read_packet(&mut raw.socket) {
            let mut answer = [password, &[0]].concat();
            match payload.first() {
                Some(0xFE) => {
                    let end = payload.iter().skip(1).position(|b| *b == 0).map_or(payload.len(), |n| n + 1);
                    let (plugin, data) = payload.split_at(end);
                    said.push(format!("{sequence} switch to {} of {}", plugin.escape_ascii(), data.len()));
                    if &plugin[1..] == auth::NATIVE {
                        answer = native(password, data.get(1..).unwrap_or_default());
                    } else if &plugin[1..] == auth::ED25519 {
                        answer = auth::ed25519_answer(&data[1..33], password);
                    }
                }
                first => {
                    said.push(format!("{sequence} {}", payload.escape_ascii()));
                    match first {
                        Some(0) => return true,
                        Some(0xFF) if self.then.is_some() && ErrPacket::read(&payload).is_ok() => return true,
                        Some(0xFF) => {
                            said.push(format!("then {}", raw.until_closed().len()));
                            return false;
                        }
                        _ => {}
                    }
                }
            }
            raw.write(sequence + 1, &answer);
        }
        said.push("closed".to_owned());
        false
    }
}

const ACCOUNTS: &str = "CREATE USER weak@'%' IDENTIFIED BY 'w', emp@'%';
CREATE USER lockd@'%' IDENTIFIED BY 'l' ACCOUNT LOCK;
CREATE USER expd@'%' IDENTIFIED BY 'e' PASSWORD EXPIRE;
CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('e');
CREATE USER invalid@'%' IDENTIFIED VIA mysql_native_password USING 'invalid';
CREATE USER orr@'%' IDENTIFIED VIA ed25519 USING PASSWORD('two') OR mysql_native_password USING PASSWORD('one');
CREATE USER nssl@'%' IDENTIFIED BY 's' REQUIRE SSL;
CREATE USER nx509@'%' IDENTIFIED BY 's' REQUIRE X509;
CREATE ROLE r1; CREATE USER rol@'%' IDENTIFIED BY 'r'; GRANT r1 TO rol@'%'; SET DEFAULT ROLE r1 FOR rol@'%';
CREATE USER pamu@'%' IDENTIFIED VIA pam USING 'no_such_service';
CREATE USER twoq@'%' IDENTIFIED VIA two_questions;
CREATE USER socku@'%' IDENTIFIED VIA unix_socket;
CREATE USER hosto@'10.0.0.1' IDENTIFIED BY 'h';
CREATE DATABASE dbe; SET GLOBAL init_connect = 'SET @x = 42'";

fn packets() -> Vec<Try> {
    let mut all = vec![login("as ordinary clients do")];
    let with = |name: &str, change: &dyn Fn(&mut Try)| {
        let mut t = login(name);
        change(&mut t);
        t
    };
    for database in ["mysql", "no_such", ""] {
        all.push(with(&format!("database {database:?}"), &|t| t.database = Some(database.into())));
    }
    for n in [64, 65, 300, 70_000] {
        all.push(with(&format!("a database's name of {n}"), &|t| t.database = Some(vec![b'd'; n])));
        all.push(with(&format!("a user's name of {n}"), &|t| t.user = vec![b'u'; n]));
    }
    all.push(with("names that are no UTF-8", &|t| {
        (t.user, t.database) = (b"\xfc\xff".to_vec(), Some(b"\xff\xfe".to_vec()))
    }));
    for n in [1, 8, 19, 21, 32, 100, 255] {
        all.push(with(&format!("an answer of {n}"), &|t| t.answer = Some(vec![b'a'; n])));
    }
    for n in [300, 70_000] {
        all.push(with(&format!("a length-encoded answer of {n}"), &|t| {
            t.capabilities |= Capabilities::PLUGIN_AUTH_LENENC_DATA;
            t.answer = Some(vec![b'a'; n]);
        }));
    }
    for (name, without) in [
        ("no plugin", Capabilities::PLUGIN_AUTH),
        ("no secure connection", Capabilities::SECURE_CONNECTION),
        ("before 4.1", Capabilities::PROTOCOL_41),
    ] {
        all.push(with(name, &|t| t.capabilities -= without));
    }
    for plugin in ["no_such_plugin", "", "mysql_old_password", "caching_sha2_password", "mysql_clear_password"] {
        all.push(with(&format!("plugin {plugin:?}"), &|t| t.plugin = plugin.into()));
    }
    for n in [1, 60_000, 66_000, 200_000] {
        all.push(with(&format!("an attribute of {n}"), &|t| t.attributes = attributes(b"a", &vec![b'x'; n])));
    }
    all.push(with("attributes that lie", &|t| t.attributes = b"\xfc\xf4\x01abc".to_vec()));
    all.push(with("attributes cut off", &|t| t.attributes = b"\xfc\x01".to_vec()));
    for collation in [0, 1, 8, 28, 33, 35, 63, 90, 192, 224, 255] {
        all.push(with(&format!("collation {collation}"), &|t| t.collation = collation));
    }
    for sequence in [0, 2, 255] {
        all.push(with(&format!("sequence number {sequence}"), &|t| t.sequence = sequence));
    }
    for more in [Capabilities::SESSION_TRACK, Capabilities::INTERACTIVE, Capabilities::FOUND_ROWS] {
        all.push(with(&format!("{more:?}"), &|t| t.capabilities |= more));
    }
    for n in [0, 1, 2, 4, 5, 31, 32, 33, 35, 36, 40, 50] {
        all.push(with(&format!("cut after {n}"), &|t| t.cut = Some(n)));
    }
    all.push(with("as 3.23 did", &|t| t.bytes = Some(b"\x01\0\0\0\x01app\0abcdefgh\0".to_vec())));
    all
}

fn accounts() -> Vec<Try> {
    let pairs = [
        ("app", "wrong"),
        ("app", ""),
        ("nobody", "x"),
        ("nobody", ""),
        ("", ""),
        ("", "x"),
        ("weak", "w"),
        ("emp", ""),
        ("emp", "x"),
        ("lockd", "l"),
        ("lockd", "x"),
        ("expd", "e"),
        ("ed", "e"),
        ("ed", "x"),
        ("invalid", "x"),
        ("orr", "one"),
        ("orr", "two"),
        ("orr", "x"),
        ("nssl", "s"),
        ("nx509", "s"),
        ("rol", "r"),
        ("pamu", "p"),
        ("twoq", "p"),
        ("socku", "p"),
        ("hosto", "h"),
        ("APP", "app"),
    ];
    let mut all: Vec<Try> = pairs.iter().map(|(user, password)| account(user, password)).collect();
    let mut able = account("expd", "e");
    able.capabilities |= Capabilities::CAN_HANDLE_EXPIRED_PASSWORDS;
    all.push(able);
    let mut far = account("weak", "w");
    far.database = Some(b"mysql".to_vec());
    all.push(far);
    // a store takes a second to refuse a change of user
    for (user, password) in [
        ("app", "app"),
        ("app", "wrong"),
        ("weak", "w"),
        ("emp", ""),
        ("lockd", "l"),
        ("expd", "e"),
        ("ed", "e"),
        ("orr", "one"),
        ("rol", "r"),
        ("twoq", "p"),
    ] {
        all.push(change(user, password, ""));
    }
    all.push(change("app", "app", "dbe"));
    all.push(change("app", "app", "no_such"));
    all.push(change("weak", "w", "mysql"));
    all
}

#[test]
fn every_login_is_answered_as_the_store_answers_it() {
    let plugins =
        ["auth_ed25519", "auth_pam", "auth_socket", "dialog_examples"].map(|p| format!("--plugin-load-add={p}"));
    let mut arguments = vec!["--plugin-maturity=unknown"];
    arguments.extend(plugins.iter().map(String::as_str));
    let store = PrivateServer::start(24, &arguments);
    for sql in ACCOUNTS.split(';') {
        store.sql(sql);
    }
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    let all = [packets(), accounts()].concat();
    assert!(all.len() > 100);
    let mut different = Vec::new();
    for t in all {
        let (direct, proxied) = (t.transcript(store.port), t.transcript(proxy.port));
        assert!(!direct.is_empty(), "{}", t.name);
        if direct != proxied {
            different.push(format!("{}:\n  direct  {direct:?}\n  proxied {proxied:?}", t.name));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_command_sent_right_behind_the_login_is_answered_after_it() {
    let proxy = Proxy::pair(&["hits"]);
    for port in [stores().legacy.port, proxy.port] {
        let mut raw = Raw::connect(port);
        let mut framed = Vec::new();
        packet::put(&mut framed, 1, &login("").packet(&raw.greeting.scramble));
        packet::put(&mut framed, 0, b"\x03SELECT 7");
        raw.socket.write_all(&framed).unwrap();
        let (sequence, ok) = read_packet(&mut raw.socket).unwrap();
        assert_eq!((sequence, ok[0]), (2, 0), "{port}");
        raw.capabilities = ORDINARY;
        let rows = raw.response(switchover::wire::reply::Expect::Results);
        assert_eq!(rows[3].1, b"\x017", "{port}");
    }
}

#[test]
fn who_speaks_another_protocol_is_told_so_at_once() {
    let proxy = Proxy::pair(&["hits"]);
    for port in [stores().legacy.port, proxy.port] {
        let mut raw = Raw::connect(port);
        raw.socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (sequence, payload) = read_packet(&mut raw.socket).unwrap();
        let error = ErrPacket::read(&payload).unwrap();
        assert_eq!((sequence, error.code, error.sqlstate), (1, 1156, Some(*b"08S01")), "{port}");
    }
}

//! TLS on both legs: versions and ciphers, verification on either side, client certificates, keys of both kinds, renewed files, unix
//! sockets, and the proof for MariaDB clients that trust a certificate because the server knows their password.

use std::path::Path;

use crate::support::place::Folder;
use crate::support::proxy::pair_config;
use crate::support::{PrivateServer, Proxy, Server, clients, eventually, stores};

/// The `mariadb` command over TLS, with further arguments, asking for version and cipher of the store's leg.
fn leg(port: u16, arguments: &[&str]) -> clients::Output {
    let sql = "SHOW STATUS WHERE Variable_name IN ('Ssl_cipher', 'Ssl_version')";
    clients::mariadb(port, &[&["--ssl"], arguments, &["-e", sql]].concat())
}

fn config(port: u16) -> String {
    pair_config(port, &stores().legacy, &stores().new, &["hits"])
}

/// A configuration whose default store has this `tls:`.
fn towards(store: &Server, tls: &str) -> Proxy {
    Proxy::start(|port| {
        pair_config(port, store, &stores().new, &["hits"]).replacen(", control", &format!(", tls: {tls}, control"), 1)
    })
}

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("openssl");
    command.args(arguments).current_dir(folder);
    clients::output(command).text()
}

/// Makes a key and a certificate for `subject` that it signs itself, as these files of a folder.
fn self_signed(folder: &Path, key: &str, cert: &str, subject: &str, more: &[&str]) {
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"];
    openssl(folder, &[&make[..], &["-keyout", key, "-out", cert, "-subj", subject], more].concat());
}

/// The certificate that a port shows, in PEM.
fn shown(port: u16) -> String {
    let text = openssl(Path::new("/"), &["s_client", "-starttls", "mysql", "-connect", &format!("127.0.0.1:{port}")]);
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----").expect("a certificate");
    rest.split_once("-----END").unwrap().0.to_owned()
}

#[test]
fn a_client_that_asks_the_store_hears_its_own_version_and_cipher() {
    let proxy = Proxy::pair(&["hits"]);
    for arguments in [
        &["--tls-version=TLSv1.2"][..],
        &["--tls-version=TLSv1.3"],
        &["--tls-version=TLSv1.2", "--ssl-cipher=ECDHE-ECDSA-CHACHA20-POLY1305"],
        &["--tls-version=TLSv1.2", "--ssl-cipher=ECDHE-ECDSA-AES128-GCM-SHA256"],
    ] {
        let direct = leg(stores().legacy.port, arguments).text();
        assert!(direct.contains("TLSv1."), "{direct}");
        assert_eq!(leg(proxy.port, arguments).text(), direct, "{arguments:?}");
    }
    // a client without TLS has a store's leg without
    let text = clients::mariadb(proxy.port, &["--skip-ssl", "-e", "SHOW STATUS LIKE 'Ssl_cipher'"]).text();
    assert_eq!(text.trim(), "Ssl_cipher");
}

#[test]
fn a_store_of_an_older_version_than_the_client_is_reached() {
    let store = PrivateServer::start(61, &["--tls-version=TLSv1.2"]);
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    for _ in 0..2 {
        assert!(leg(proxy.port, &["--tls-version=TLSv1.3"]).text().contains("TLSv1.2"));
    }
}

#[test]
fn a_store_of_a_newer_version_than_the_client_is_reached_from_the_second_login_on() {
    let store = PrivateServer::start(66, &["--tls-version=TLSv1.3"]);
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    let first = leg(proxy.port, &["--tls-version=TLSv1.2"]);
    assert!(first.ok || first.stderr.contains("cannot encrypt the connection to store"), "{first:?}");
    assert!(leg(proxy.port, &["--tls-version=TLSv1.2"]).text().contains("TLSv1.3"));
}

#[test]
fn a_store_s_certificate_is_verified_where_a_ca_is_given() {
    let store = &stores().legacy;
    let ca = store.folder.join("ca.pem").display().to_string();
    let good = towards(store, &format!("{{ ca: {ca} }}"));
    assert!(clients::mariadb(good.port, &["-e", "SHOW STATUS LIKE 'Ssl_cipher'"]).text().contains("TLS_"));
    // a certificate that another authority signed
    let folder = Folder::new("ca");
    self_signed(folder.path(), "k.pem", "c.pem", "/CN=other", &[]);
    let bad = towards(store, &format!("{{ ca: {} }}", folder.path().join("c.pem").display()));
    let output = clients::mariadb(bad.port, &["-e", "SELECT 1"]);
    assert!(
        !output.ok && output.stderr.contains("switchover:") && output.stderr.contains("UnknownIssuer"),
        "{output:?}"
    );
    let check = bad.cli(&["check"]);
    assert!(!check.ok && (check.stdout + &check.stderr).contains("legacy"));
    // a certificate for another name
    let named = ["--ssl-cert", "--ssl-key"].map(|o| {
        let file = if o == "--ssl-cert" { "client.pem" } else { "client-key.pem" };
        format!("{o}={}", stores().legacy.folder.join(file).display())
    });
    let other = PrivateServer::start(62, &[&named[0], &named[1]]);
    let proxy = towards(&other, &format!("{{ ca: {ca} }}"));
    let output = clients::mariadb(proxy.port, &["-e", "SELECT 1"]);
    assert!(!output.ok && output.stderr.contains("not valid for name"), "{output:?}");
    // without a CA it is encrypted only
    assert_eq!(clients::mariadb(towards(&other, "required").port, &["-e", "SELECT 1"]).text(), "1");
}

#[test]
fn a_client_certificate_opens_accounts_that_require_one() {
    let store = PrivateServer::start(63, &[]);
    store.sql("CREATE USER x509@'%' IDENTIFIED BY 'x' REQUIRE X509");
    store.sql("CREATE USER subject@'%' IDENTIFIED BY 'x' REQUIRE SUBJECT '/CN=client'");
    let at = |name: &str| store.folder.join(name).display().to_string();
    let with = towards(
        &store,
        &format!("{{ ca: {}, cert: {}, key: {} }}", at("ca.pem"), at("client.pem"), at("client-key.pem")),
    );
    let without = towards(&store, "required");
    for user in ["x509", "subject"] {
        let login = [&format!("-u{user}"), "-px", "-e", "SELECT CURRENT_USER()"];
        assert_eq!(clients::mariadb(with.port, &login).text(), format!("{user}@%"));
        let output = clients::mariadb(without.port, &login);
        assert!(!output.ok && output.stderr.contains("1045"), "{output:?}");
    }
}

#[test]
fn clients_that_verify_are_shown_the_configured_certificate_of_either_kind_of_key() {
    let folder = Folder::new("tls");
    let (path, store) = (folder.path(), &stores().legacy);
    self_signed(
        path,
        "rsa.pem",
        "rsa-cert.pem",
        "/CN=localhost",
        &["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
    );
    openssl(path, &["rsa", "-in", "rsa.pem", "-traditional", "-out", "pkcs1.pem"]);
    let ec = |name: &str| store.folder.join(name).display().to_string();
    let rsa = |name: &str| path.join(name).display().to_string();
    for (cert, key, ca) in [
        (ec("cert.pem"), ec("key.pem"), ec("ca.pem")),
        (rsa("rsa-cert.pem"), rsa("rsa.pem"), rsa("rsa-cert.pem")),
        (rsa("rsa-cert.pem"), rsa("pkcs1.pem"), rsa("rsa-cert.pem")),
    ] {
        let proxy = Proxy::start(|port| config(port) + &format!("tls: {{ cert: {cert}, key: {key} }}\n"));
        let verify = [&format!("--ssl-ca={ca}"), "--ssl-verify-server-cert", "--tls-version=TLSv1.2"];
        assert!(leg(proxy.port, &verify).text().contains("TLSv1.2"), "{key}");
        let stranger = format!("--ssl-ca={}", if ca == ec("ca.pem") { rsa("rsa-cert.pem") } else { ec("ca.pem") });
        assert!(!leg(proxy.port, &[&stranger, "--ssl-verify-server-cert"]).ok);
    }
}

#[test]
fn certificates_of_clients_are_verified_where_a_ca_is_given() {
    let at = |name: &str| stores().legacy.folder.join(name).display().to_string();
    let folder = Folder::new("tls");
    self_signed(folder.path(), "k.pem", "c.pem", "/CN=stranger", &[]);
    let proxy = Proxy::start(|port| config(port) + &format!("tls: {{ ca: {} }}\n", at("ca.pem")));
    let known = [format!("--ssl-cert={}", at("client.pem")), format!("--ssl-key={}", at("client-key.pem"))];
    assert!(leg(proxy.port, &[&known[0], &known[1]]).ok);
    assert!(leg(proxy.port, &[]).ok, "a client without a certificate is welcome");
    let stranger =
        ["cert", "key"].map(|n| format!("--ssl-{n}={}", folder.path().join(&n[..1]).with_extension("pem").display()));
    assert!(!leg(proxy.port, &[&stranger[0], &stranger[1]]).ok);
}

#[test]
fn renewed_files_are_shown_after_a_reload_and_the_self_signed_pair_stays() {
    let folder = Folder::new("tls");
    let path = folder.path();
    let make = || {
        self_signed(path, "k.pem", "c.pem", "/CN=localhost", &[]);
    };
    make();
    let line = format!("tls: {{ cert: {}, key: {} }}\n", path.join("c.pem").display(), path.join("k.pem").display());
    let proxy = Proxy::start(|port| config(port) + &line);
    let first = shown(proxy.port);
    make();
    assert_eq!(shown(proxy.port), first, "files count when the configuration is read");
    assert!(proxy.cli(&["reload"]).ok);
    assert_ne!(shown(proxy.port), first);
    // half of a renewal is refused, and what was shown stays
    let second = shown(proxy.port);
    std::fs::write(path.join("k.pem"), "no key").unwrap();
    assert!(!proxy.cli(&["reload"]).ok);
    assert_eq!(shown(proxy.port), second);
    // the self-signed pair is one for as long as the process lives: clients may pin it
    let own = Proxy::pair(&["hits"]);
    let before = shown(own.port);
    own.flag("analytics", "new");
    own.edit_config(|text| text + "limits: { max_connections: 77 }\n");
    eventually("the limit is in force", || own.cli(&["reload"]).ok && own.status()["epoch"].as_u64() >= Some(3));
    assert_eq!(shown(own.port), before);
}

#[test]
fn an_account_that_requires_tls_is_reached_over_a_unix_socket_leg() {
    let store = PrivateServer::start(64, &[]);
    store.sql("CREATE USER nssl@localhost IDENTIFIED BY 's' REQUIRE SSL");
    let socket = store.socket.display().to_string();
    let proxy = Proxy::start(|port| {
        pair_config(port, &store, &stores().new, &["hits"]).replacen(
            &format!("address: 127.0.0.1:{}", store.port),
            &format!("address: {socket}"),
            1,
        )
    });
    let login = ["-unssl", "-ps", "-e", "SELECT CURRENT_USER()"];
    assert_eq!(clients::mariadb(proxy.port, &[&["--ssl"], &login[..]].concat()).text(), "nssl@localhost");
    let output = clients::mariadb(proxy.port, &[&["--skip-ssl"], &login[..]].concat());
    assert!(!output.ok && output.stderr.contains("1045"), "{output:?}");
}

#[test]
fn a_client_that_trusts_by_password_gets_the_proof_for_our_certificate() {
    // MariaDB 11.4 and later do this; 10.11 under their name behaves as before, so that the proof can only be the proxy's
    let store = PrivateServer::start(65, &["--version=11.4.9-MariaDB", "--plugin-load-add=auth_ed25519"]);
    store.sql("CREATE USER nat@'%' IDENTIFIED BY 'secret'");
    store.sql("CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('secret')");
    store.sql("CREATE USER orr@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x') OR mysql_native_password USING PASSWORD('secret')");
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    let script = |user: &str, password: &str| {
        format!(
            "require('mariadb').createConnection({{ host: '127.0.0.1', port: +process.env.PORT, user: '{user}', password: '{password}', ssl: true }})
.then(async c => {{ console.log((await c.query('SELECT CURRENT_USER() u'))[0].u); await c.end(); }})
.catch(e => {{ console.error(e.message); process.exit(1); }})"
        )
    };
    for user in ["nat", "ed", "orr"] {
        assert_eq!(clients::node(&script(user, "secret"), proxy.port, "").text(), format!("{user}@%"));
        assert!(!clients::node(&script(user, "wrong"), proxy.port, "").ok);
    }
    // without the control account the hash is not known, and such a client does not trust us
    let blind = Proxy::start(|port| {
        pair_config(port, &store, &stores().new, &["hits"])
            .replace(", control: { user: switchover, password: switchover }", "")
    });
    let output = clients::node(&script("nat", "secret"), blind.port, "");
    assert!(!output.ok && output.stderr.to_lowercase().contains("self"), "{output:?}");
}

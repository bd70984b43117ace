//! The data folder and the certificates that every test server starts from: made once per MariaDB version, then copied,
//! which takes a tenth of the time.
//!
//! Accounts in it: `root` (no password, socket only), `app`/`app` with every right (tests' clients), and
//! `switchover`/`switchover` with every right (the proxy's control account). Time zones are loaded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::place;

/// Changes whenever what is made here changes.
const EDITION: u32 = 1;

const ACCOUNTS: &str = "FLUSH PRIVILEGES;
CREATE USER app@'%' IDENTIFIED BY 'app';
GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION;
CREATE USER switchover@'%' IDENTIFIED BY 'switchover';
GRANT ALL ON *.* TO switchover@'%' WITH GRANT OPTION;
";

/// The template's folder (`data/`, `ca.pem`, `cert.pem`, `key.pem`, `client.pem`, `client-key.pem`); made if need be.
pub fn folder() -> PathBuf {
    let version = Command::new(mariadbd()).arg("--version").output().expect("no mariadbd: run tools/install.sh test");
    let version = String::from_utf8_lossy(&version.stdout).split_whitespace().nth(2).unwrap_or("unknown").to_owned();
    let folder = place::kept().join(format!("template-{version}-{EDITION}"));
    let lock = place::lock_file("template.lock");
    lock.lock().unwrap();
    if !folder.join("made").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        certificates(&folder);
        data(&folder);
        std::fs::write(folder.join("made"), "").unwrap();
    }
    folder
}

fn data(folder: &Path) {
    std::fs::create_dir_all(folder.join("tmp")).unwrap();
    let made = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(["--innodb-log-file-size=16M", user_argument()])
        .args(own_folders(folder))
        .output()
        .expect("no mariadb-install-db: run tools/install.sh test");
    assert!(made.status.success(), "mariadb-install-db: {}", String::from_utf8_lossy(&made.stderr));

    let mut server = Command::new(mariadbd())
        .args(["--no-defaults", "--bootstrap", "--innodb-log-file-size=16M", user_argument()])
        .args(own_folders(folder))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("bootstrap.log")).unwrap())
        .spawn()
        .unwrap();
    let mut input = server.stdin.take().unwrap();
    let zones = Command::new("mariadb-tzinfo-to-sql").arg("/usr/share/zoneinfo").output();
    if let Ok(zones) = zones
        && zones.status.success()
    {
        input.write_all(b"USE mysql;\n").unwrap();
        input.write_all(&zones.stdout).unwrap();
    }
    input.write_all(ACCOUNTS.as_bytes()).unwrap();
    drop(input);
    assert!(server.wait().unwrap().success(), "see {}", folder.join("bootstrap.log").display());
}

fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let named = |name: &str, hosts: &[&str]| {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = named("test ca", &[]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
    let issuer = Issuer::new(ca, ca_key);

    for (stem, key_name, hosts) in
        [("cert", "key", &["localhost", "127.0.0.1"] as &[&str]), ("client", "client-key", &["client"])]
    {
        let key = KeyPair::generate().unwrap();
        let certificate = named(stem, hosts).signed_by(&key, &issuer).unwrap();
        write(&format!("{stem}.pem"), certificate.pem());
        write(&format!("{key_name}.pem"), key.serialize_pem());
    }
}

/// The server's program: on the PATH, or where Debian puts it, which is not on everybody's PATH.
pub fn mariadbd() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("mariadbd")).find(|program| program.is_file());
    found.expect("no mariadbd: run tools/install.sh test")
}

/// The folders of one server's data and temporary tables: a mariadbd that starts removes the temporary tables that it
/// finds, whosever they are, so sharing the system's folder breaks whoever is at work there.
pub fn own_folders(folder: &Path) -> [String; 2] {
    ["data", "tmp"].map(|name| format!("--{name}dir={}", folder.join(name).display()))
}

/// mariadbd refuses to run as root unless told to.
pub fn user_argument() -> &'static str {
    if rustix::process::getuid().is_root() { "--user=root" } else { "--skip-symbolic-links" }
}

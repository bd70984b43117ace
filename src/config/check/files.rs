//! Files that the configuration names: they must be readable now, not at the first connection.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::PathBuf;

use super::super::raw::Node;
use super::super::reader::{Fields, Reader};

/// Bytes of a certificate or password file that are looked at.
const MAX_BYTES: u64 = 1 << 20;

/// A PEM file: its path, and the hash of what it holds now.
struct Pem {
    path: PathBuf,
    content: u64,
}

/// The files of a TLS section.
pub(super) struct TlsFiles {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    /// The hash of what they hold; 0 where there is none.
    pub(super) content: u64,
}

/// `cert`, `key` and `ca` of a TLS section.
pub(super) fn tls(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> TlsFiles {
    let cert = pem(reader, fields, "cert", "CERTIFICATE");
    let key = pem(reader, fields, "key", "PRIVATE KEY");
    let ca = pem(reader, fields, "ca", "CERTIFICATE");
    pair(reader, fields, cert.as_ref(), key.as_ref());
    let content = content([&cert, &key, &ca]);
    let path = |file: Option<Pem>| file.map(|pem| pem.path);
    TlsFiles { cert: path(cert), key: path(key), ca: path(ca), content }
}

/// The hash of all files of one TLS section; 0 where there is none.
fn content(files: [&Option<Pem>; 3]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let held: Vec<u64> = files.iter().map(|file| file.as_ref().map_or(0, |pem| pem.content)).collect();
    held.hash(&mut hasher);
    if held.iter().all(|content| *content == 0) { 0 } else { hasher.finish() }
}

/// A PEM file that holds a `label` (`CERTIFICATE`, `PRIVATE KEY`).
fn pem(reader: &mut Reader<'_>, fields: &mut Fields<'_>, key: &'static str, label: &str) -> Option<Pem> {
    let node = fields.take(key)?;
    let what = fields.name(key);
    let (path, bytes) = read(reader, node, &what)?;
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label));
    if !found {
        let message = format!("{} holds no PEM {}", path.display(), label.to_ascii_lowercase());
        reader.invalid(&node.span, message, format!("`{what}` takes a file with -----BEGIN {label}-----"));
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Some(Pem { path, content: hasher.finish() })
}

/// A certificate without its key, or the reverse, serves nobody.
fn pair(reader: &mut Reader<'_>, fields: &Fields<'_>, cert: Option<&Pem>, key: Option<&Pem>) {
    let (there, missing) = match (cert, key) {
        (Some(_), None) => ("cert", "key"),
        (None, Some(_)) => ("key", "cert"),
        _ => return,
    };
    let message = format!("`{}` has `{there}:` without `{missing}:`", fields.path);
    reader.invalid(&fields.span, message, "give both, or neither");
}

/// The content of a password file without its line break at the end.
pub(super) fn password(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<String> {
    let (path, content) = read(reader, node, what)?;
    match String::from_utf8(content) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(_) => {
            reader.invalid(&node.span, format!("{} is not UTF-8 text", path.display()), "write the password as text");
            None
        }
    }
}

fn read(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<(PathBuf, Vec<u8>)> {
    let text = reader.text(node, what)?;
    let path = reader.base().join(&text.value);
    let mut content = Vec::new();
    let outcome = File::open(&path).and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("not a regular file"));
        }
        file.take(MAX_BYTES).read_to_end(&mut content)
    });
    match outcome {
        Ok(_) => Some((path, content)),
        Err(error) => {
            let message = format!("`{what}`: {} cannot be read: {error}", path.display());
            reader.invalid(&text.span, message, "a relative path starts at the folder of the configuration file");
            None
        }
    }
}

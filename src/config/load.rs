//! `routing.yaml` → [`Config`], or all that is wrong with it at once. The way in for the server, the CLI and the editor.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::check;
use super::interpolate;
use super::model::Config;
use super::problem::{Problem, ProblemKind};
use super::raw::{self, MAX_BYTES};
use super::reader::Reader;
use super::source::Source;

/// Checks `text` as the content of `path`.
///
/// `env` answers `${NAME}`. Relative paths in the text start at the folder of `path`; certificate, key and password files
/// are opened, nothing else is touched.
///
/// # Errors
/// Every problem of the text, in the order of the lines. Each is the operator's to mend; none shows a secret.
pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(Source::new(text, path), path, env);
    let root = reader.tree();
    let config = root.and_then(|root| check::check(&mut reader, &root, path));
    let problems = reader.finish();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

/// Reads and checks the file, with the variables of this process.
///
/// # Errors
/// As [`parse`], and where the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    let text = read(path).map_err(|problem| vec![*problem])?;
    parse(&text, path, &process_env)
}

/// The variables of this process, for [`parse`].
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The text of the file.
///
/// # Errors
/// Where it cannot be read, is larger than any configuration, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, Box<Problem>> {
    let unreadable = |message: String, help: &str| {
        let mut problem = Problem::of_file(ProblemKind::Unreadable, path, message);
        problem.help = Some(help.to_owned());
        Box::new(problem)
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .and_then(|file| {
            if file.metadata()?.is_dir() {
                Err(std::io::Error::other("it is a folder"))
            } else {
                file.take(limit).read_to_end(&mut bytes)
            }
        })
        .map_err(|error| {
            unreadable(format!("cannot be read: {error}"), "name the configuration file with --config FILE")
        })?;
    if bytes.len() > MAX_BYTES {
        return Err(unreadable(format!("is larger than {MAX_BYTES} bytes"), "is this the configuration file?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        unreadable(format!("is not UTF-8 text (line {line})"), "save it as UTF-8")
    })
}

/// Where the control socket of the proxy that serves `path` is, as far as a file with problems still says it.
#[must_use]
pub fn control_socket(path: &Path) -> PathBuf {
    let named = read(path).ok().and_then(|text| {
        let mut source = Source::new(&text, path);
        let root = raw::read(&mut source, &mut |_| ())?;
        let named = root.get("control_socket").filter(|node| !node.is_null())?.scalar()?;
        let named = interpolate::interpolate(&named.text, &process_env).ok()?;
        Some(path.parent().unwrap_or(Path::new("")).join(named))
    });
    named.unwrap_or_else(|| check::default_control_socket(path))
}

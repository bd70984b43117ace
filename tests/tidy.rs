//! The house's rules that no compiler checks: layers, headers, sizes, names, reasons, and nothing of one machine.
//!
//! It reads the files that git knows or would add. Rust files are read with comments and the contents of literals
//! blanked out, so that only code counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The layers of `src/lib.rs`: a module imports from its own layer and from those below it.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["wire", "auth", "sql"]),
    (1, &["config", "entry"]),
    (2, &["routing", "backend", "changes", "net"]),
    (3, &["session", "standby", "transfer"]),
    (4, &["admin", "server", "demo", "cli"]),
    (5, &["main"]),
];

/// Pairs that never import each other although their layers would let them.
const STRANGERS: &[(&str, &[&str])] =
    &[("session", &["standby", "transfer"]), ("standby", &["session"]), ("transfer", &["session"])];

/// May be imported by all, imports nothing.
const TELEMETRY: &str = "telemetry";

/// What layer 0 does without.
const NOT_IN_LAYER_0: &[&str] = &["tokio", "Instant", "SystemTime"];

/// Lines of a file in src/, without its tests.
const FILE_LINES: usize = 600;
/// Lines of a function in src/.
const FUNCTION_LINES: usize = 80;

/// What may be larger: (file, or file and function; its own limit; why).
const LARGER: &[(&str, usize, &str)] = &[];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// What belongs to one machine or one registry. In pieces, so that this file does not name them either.
const OF_ONE_MACHINE: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/home", "/"),
    concat!("/Us", "ers/"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("deb.debian", ".org"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
];

struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    /// The line of a byte offset.
    fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// The code before its `#[cfg(test)] mod`, where it has one.
    fn without_tests(&self) -> &str {
        let mut from = 0;
        while let Some(found) = self.code[from..].find("#[cfg(test)]") {
            let at = from + found;
            let rest = self.code[at + "#[cfg(test)]".len()..].trim_start();
            if rest.starts_with("mod ") && rest.find('{') < rest.find(';').or(Some(usize::MAX)) {
                return &self.code[..at];
            }
            from = at + 1;
        }
        &self.code
    }

    /// `wire` for `src/wire/…` and `src/wire.rs`.
    fn module(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }
}

fn listed() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git lists the files to read");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn text_of(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

fn rust_files() -> Vec<Source> {
    let paths = listed().into_iter().filter(|path| path.ends_with(".rs"));
    paths.filter_map(|path| text_of(&path).map(|text| Source { code: blank(&text), path, text })).collect()
}

fn product_files() -> Vec<Source> {
    rust_files().into_iter().filter(|file| file.path.starts_with("src/")).collect()
}

/// The text with comments and the contents of literals as spaces: as long, with the same lines.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with(b"//") {
            rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if rest[0] == b'"' {
            quoted(rest)
        } else if rest[0] == b'\'' {
            character(rest)
        } else if !word_before && matches!(rest[0], b'r' | b'b' | b'c') {
            raw(rest)
        } else {
            0
        };
        if length > 1 {
            for byte in &mut out[at + 1..at + length - 1] {
                *byte = if *byte == b'\n' { b'\n' } else { b' ' };
            }
            if rest[0] == b'/' {
                out[at] = b' ';
                if out[at + length - 1] != b'\n' {
                    out[at + length - 1] = b' ';
                }
            }
        }
        at += length.max(1);
    }
    String::from_utf8(out).expect("only whole literals and comments are blanked")
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A character literal's length; 0 for a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|&byte| byte == b'\'').map_or(0, |end| end + 4);
    }
    let end = rest.iter().skip(1).take(5).position(|&byte| byte == b'\'');
    let text = end.and_then(|end| std::str::from_utf8(&rest[1..=end]).ok());
    text.filter(|text| text.chars().count() == 1).map_or(0, |text| text.len() + 2)
}

/// The length of a raw string literal (`r"…"`, `br#"…"#`); 0 if it is none.
fn raw(rest: &[u8]) -> usize {
    let prefix = usize::from(matches!(rest[0], b'b' | b'c'));
    if rest.get(prefix) != Some(&b'r') {
        return 0;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = prefix + 1 + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let close = [b"\"".to_vec(), vec![b'#'; hashes]].concat();
    let inside = &rest[open + 1..];
    let end = inside.windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| open + 1 + end + close.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The crate's top modules that a file names, with the byte offset: `crate::a`, `crate::{a, b}`, `super::super::a`.
fn imports(file: &Source) -> Vec<(String, usize)> {
    let code = file.without_tests();
    let mut found = Vec::new();
    for (root, _) in code.match_indices("crate::") {
        if !code[..root].ends_with(|last: char| is_word(last as u8) || last == '$') {
            heads(code, root + "crate::".len(), &mut found);
        }
    }
    // `super` leads out of a top module from `src/a/mod.rs` and `src/a.rs` by one step, from `src/a/b.rs` by two …
    let inner = file.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inner.split('/').count();
    for (start, _) in code.match_indices("super::") {
        if code[..start].ends_with("::") {
            continue;
        }
        let mut steps = 0;
        let mut at = start;
        while code[at..].starts_with("super::") {
            steps += 1;
            at += "super::".len();
        }
        if steps == depth {
            heads(code, at, &mut found);
        }
    }
    found
}

/// The first words of the path, or of each path of the braces, that starts at `at`.
fn heads(code: &str, at: usize, found: &mut Vec<(String, usize)>) {
    let word = |at: usize| code[at..].chars().take_while(|&c| c.is_ascii() && is_word(c as u8)).collect::<String>();
    if !code[at..].starts_with('{') {
        found.push((word(at), at));
        return;
    }
    let mut depth = 0;
    let mut expects_word = false;
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'{' => (depth, expects_word) = (depth + 1, depth == 0),
            b'}' => depth -= 1,
            b',' => expects_word = depth == 1,
            byte if expects_word && is_word(byte) => {
                found.push((word(at + offset), at + offset));
                expects_word = false;
            }
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

fn check(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_point_down() {
    let layers: BTreeMap<&str, u8> =
        LAYERS.iter().flat_map(|(layer, modules)| modules.iter().map(|&module| (module, *layer))).collect();
    let mut complaints = Vec::new();
    for file in product_files() {
        let module = file.module();
        if module == "lib" {
            continue;
        }
        let Some(&own) = layers.get(module).or((module == TELEMETRY).then_some(&0)) else {
            complaints.push(format!("{}: `{module}` has no layer; give it one here and in src/lib.rs", file.path));
            continue;
        };
        for (other, offset) in imports(&file) {
            let strangers =
                STRANGERS.iter().find(|(name, _)| *name == module).map_or(&[] as &[&str], |(_, names)| names);
            let up = layers.get(other.as_str()).is_some_and(|&layer| layer > own);
            let wrong = if module == TELEMETRY { layers.contains_key(other.as_str()) } else { up };
            if wrong || strangers.contains(&other.as_str()) {
                complaints.push(format!("{}:{}: `{module}` imports `{other}`", file.path, file.line(offset)));
            }
        }
        if own == 0 && module != TELEMETRY {
            let code = file.without_tests();
            for &name in NOT_IN_LAYER_0 {
                for (offset, _) in code.match_indices(name) {
                    let before = code.as_bytes()[..offset].last().is_some_and(|&byte| is_word(byte));
                    let after = code.as_bytes().get(offset + name.len()).is_some_and(|&byte| is_word(byte));
                    if !before && !after {
                        let line = file.line(offset);
                        complaints.push(format!("{}:{line}: `{name}` in layer 0 (no tokio, no clock)", file.path));
                    }
                }
            }
        }
    }
    check(complaints);
}

#[test]
fn files_open_with_their_header() {
    let headless = rust_files().into_iter().filter(|file| !file.text.starts_with("//! "));
    check(headless.map(|file| format!("{}: no `//!` header at its top", file.path)).collect());
}

#[test]
fn files_and_functions_are_small() {
    let limit_of = |name: &str, usual: usize| {
        LARGER.iter().find(|(larger, ..)| *larger == name).map_or(usual, |(_, limit, _)| *limit)
    };
    let mut complaints = Vec::new();
    for file in product_files() {
        let code = file.without_tests();
        let lines = code.lines().count();
        if lines > limit_of(&file.path, FILE_LINES) {
            complaints.push(format!("{}: {lines} lines without tests: look for the second thing it does", file.path));
        }
        for (name, offset, lines) in functions(code) {
            if lines > limit_of(&format!("{} {name}", file.path), FUNCTION_LINES) {
                complaints.push(format!("{}:{}: fn {name} has {lines} lines", file.path, file.line(offset)));
            }
        }
    }
    check(complaints);
}

/// Each function with a body: name, offset, lines.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("fn ") {
        let rest = &code[offset + 3..];
        let name: String = rest.chars().take_while(|&c| c.is_ascii() && is_word(c as u8)).collect();
        let body = rest.find('{').filter(|&open| open < rest.find(';').unwrap_or(usize::MAX));
        let within_word = code[..offset].ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let (Some(open), false, false) = (body, name.is_empty(), within_word) else { continue };
        let mut depth = 0;
        let end = rest[open..].bytes().position(|byte| {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            depth == 0
        });
        let end = end.map_or(rest.len(), |end| open + end);
        found.push((name, offset, rest[..end].matches('\n').count() + 1));
    }
    found
}

#[test]
fn exceptions_carry_their_reason() {
    let mut complaints = Vec::new();
    for file in rust_files() {
        for opening in ["[allow(", "[expect("] {
            for (offset, _) in file.code.match_indices(opening) {
                let end = file.code[offset..].find(']').map_or(file.code.len(), |end| offset + end);
                if !file.code[offset..end].contains("reason") {
                    complaints.push(format!("{}:{}: {opening}…] without a reason", file.path, file.line(offset)));
                }
            }
        }
    }
    for (name, _, reason) in LARGER {
        if reason.len() < 20 {
            complaints.push(format!("{name} may be larger, but not why"));
        }
    }
    check(complaints);
}

#[test]
fn names_say_something() {
    let stems = |path: &str| path.split('/').map(|part| part.trim_end_matches(".rs").to_owned()).collect::<Vec<_>>();
    let empty = rust_files()
        .into_iter()
        .filter(|file| stems(&file.path).iter().any(|stem| EMPTY_NAMES.contains(&stem.as_str())));
    check(empty.map(|file| format!("{}: a name that says nothing", file.path)).collect());
}

#[test]
fn nothing_belongs_to_one_machine() {
    let mut complaints = Vec::new();
    for path in listed().into_iter().filter(|path| path != "Cargo.lock") {
        let Some(text) = text_of(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for name in OF_ONE_MACHINE.iter().filter(|name| line.contains(**name)) {
                complaints.push(format!("{path}:{}: {name}", number + 1));
            }
        }
    }
    check(complaints);
}

#[test]
fn every_integration_test_is_reached() {
    let files = rust_files();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("tests/") && file.path.matches('/').count() >= 2) {
        let (folder, name) = file.path.rsplit_once('/').unwrap();
        let stem = name.trim_end_matches(".rs");
        if stem == "main" {
            continue;
        }
        // A mod.rs is declared above its folder, by name or by `#[path]`.
        let (folder, stem) = if stem == "mod" { folder.rsplit_once('/').unwrap() } else { (folder, stem) };
        let declaration = format!("mod {stem};");
        let declared = files.iter().any(|other| {
            let beside = other.path == format!("{folder}/mod.rs") || other.path == format!("{folder}/main.rs");
            let above = other.path == format!("{folder}.rs") || other.path == "tests/it/main.rs";
            (beside || above) && other.code.contains(&declaration)
        });
        if !declared {
            complaints.push(format!("{}: no `{declaration}` reaches it, so its tests never run", file.path));
        }
    }
    check(complaints);
}

#[test]
fn the_reader_sees_code_only() {
    let text = "let a = \"crate::x\"; // crate::y\nlet b = 'c'; /* crate::z */ fn f<'a>() { r#\"}\"# }\nlet d = '\\'';";
    let blanked = blank(text);
    assert!(!blanked.contains("crate"), "{blanked}");
    assert_eq!(blanked.len(), text.len());
    assert_eq!(functions(&blanked), [("f".to_owned(), blanked.find("fn f").unwrap(), 1)]);
    let file = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned(), code: blank(text) };
    let names =
        |path: &str, text: &str| imports(&file(path, text)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(
        names("src/a/b.rs", "use crate::{wire::{x, y}, sql}; fn f() { crate::net::g() }"),
        ["wire", "sql", "net"]
    );
    assert_eq!(names("src/a/b.rs", "use super::x; use super::super::net::y;"), ["net"]);
    assert_eq!(names("src/a/mod.rs", "use super::net; #[cfg(test)]\nmod tests { use crate::z; }"), ["net"]);
}

/// Whether a file has a test of that name; a file is called by its own name, or `mod.rs` and `tests.rs` of a folder by theirs.
fn has_test(file: &Source, called: &str, name: &str) -> bool {
    let stem = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let Some(at) = file.code.find(&format!("fn {name}(")).filter(|_| stem == called) else { return false };
    let head = &file.code[..at];
    let attributes = head.rsplit(['}', ';', '{']).next().unwrap_or_default();
    attributes.contains("test")
}

#[test]
fn every_rule_has_its_tests() {
    let text = text_of("docs/rules.md").expect("docs/rules.md");
    let files = rust_files();
    let mut wrong = Vec::new();
    let mut expected = 1..=47;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[1].parse::<u32>().ok() != expected.next() {
            wrong.push(format!("rule {} is out of place", cells[1]));
        }
        let named: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        if named.is_empty() && !cells[3].starts_with("does not apply: ") {
            wrong.push(format!("rule {} has no test", cells[1]));
        }
        for test in named {
            let found = test.split_once("::").is_some_and(|(at, name)| files.iter().any(|f| has_test(f, at, name)));
            if !found {
                wrong.push(format!("rule {}: there is no test {test}", cells[1]));
            }
        }
    }
    if let Some(next) = expected.next() {
        wrong.push(format!("rules from {next} on are not in the table"));
    }
    check(wrong);
}

#[test]
fn make_chaos_runs_every_long_form() {
    let makefile = text_of("Makefile").expect("Makefile");
    let chosen =
        makefile.split("test(/^(").nth(1).and_then(|rest| rest.split(")::/)").next()).expect("the filter of `chaos`");
    let chosen: Vec<&str> = chosen.split('|').collect();
    let mut wrong = Vec::new();
    for file in rust_files().iter().filter(|file| file.path.starts_with("tests/it/") && file.code.contains("long()")) {
        let module = file
            .path
            .trim_start_matches("tests/it/")
            .trim_end_matches(".rs")
            .trim_end_matches("/mod")
            .replace('/', "::");
        if !chosen.iter().any(|c| module == *c || module.starts_with(&format!("{c}::"))) {
            wrong.push(format!("{} has a long form, and `make chaos` does not run it", file.path));
        }
    }
    check(wrong);
}

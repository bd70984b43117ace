//! Typed access to the raw tree: every wrong type, unknown key and failed `${…}` becomes a finding, and reading goes on.
//!
//! A method that returns `None` has either reported why, or met a key that is not there; callers never report twice.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::interpolate::{self, Cause};
use super::problem::{Problem, ProblemKind};
use super::raw::{self, Content, Entry, Node};
use super::secrecy;
use super::source::{Finding, Source};

/// Findings of one file that are kept: nobody reads more, and a hostile file has millions.
const MAX_FINDINGS: usize = 100;

/// Reads one file.
pub(super) struct Reader<'r> {
    pub(super) source: Source<'r>,
    findings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS`].
    dropped: usize,
    env: &'r dyn Fn(&str) -> Option<String>,
    base: PathBuf,
}

/// A completed scalar.
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Range<usize>,
    /// The text as written, where it has a `${…}`.
    pub(super) expression: Option<String>,
}

impl<'r> Reader<'r> {
    /// `path` names the file; relative paths in it start at its folder.
    pub(super) fn new(source: Source<'r>, path: &Path, env: &'r dyn Fn(&str) -> Option<String>) -> Reader<'r> {
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        Reader { source, findings: Vec::new(), dropped: 0, env, base }
    }

    /// The tree of the text, where it is YAML at all.
    pub(super) fn tree(&mut self) -> Option<Node> {
        let mut found = Vec::new();
        let root = raw::read(&mut self.source, &mut |finding| found.push(finding));
        found.into_iter().for_each(|finding| self.report(finding));
        root
    }

    /// The folder that relative paths start at.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn report(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    /// Everything that was reported, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.findings.sort_by_key(|finding| finding.span.start);
        if let (Some(last), true) = (self.findings.last_mut(), self.dropped > 0) {
            let more = format!("{} more problems are not listed", self.dropped);
            last.help = Some(last.help.take().map_or(more.clone(), |help| format!("{help}; {more}")));
        }
        self.findings.into_iter().map(|finding| self.source.problem(finding)).collect()
    }

    pub(super) fn invalid(&mut self, span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.report(Finding::new(ProblemKind::Invalid, span.clone(), message).help(help));
    }

    /// A single value, `${…}` completed. `what` names the key in messages.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<Text> {
        let Some(scalar) = node.scalar().filter(|_| !node.is_null()) else {
            let message = format!("`{what}` takes a single value, here is {}", node.describe());
            self.report(Finding::new(ProblemKind::Invalid, node.span.clone(), message));
            return None;
        };
        match interpolate::interpolate(&scalar.text, self.env) {
            Ok(value) => {
                let expression = interpolate::is_expression(&scalar.text).then(|| scalar.text.clone());
                Some(Text { value, span: node.span.clone(), expression })
            }
            Err(failure) => {
                let blamed = scalar.text.get(failure.at).unwrap_or_default().to_owned();
                self.failed_expression(node, &blamed, failure.cause);
                None
            }
        }
    }

    fn failed_expression(&mut self, node: &Node, blamed: &str, cause: Cause) {
        let written = self.source.slice(&node.written);
        let span = match written.find(blamed) {
            Some(at) if node.written == node.span => node.span.start + at..node.span.start + at + blamed.len(),
            _ => node.span.clone(),
        };
        let finding = match cause {
            Cause::Unset(name) => {
                let message = format!("the environment variable {name} is not set");
                let help = format!("set it where the proxy starts, or give a default: ${{{name}:-…}}");
                Finding::new(ProblemKind::UnsetVariable, span, message).help(help)
            }
            Cause::Unclosed => Finding::new(ProblemKind::Invalid, span, "`${` without `}`").help("write $$ for one $"),
            Cause::Malformed => {
                Finding::new(ProblemKind::Invalid, span, "not a variable: letters, digits and _ form its name")
                    .help("write ${NAME} or ${NAME:-default}; $$ stands for one $")
            }
        };
        self.report(finding);
    }

    /// A single value that `parse` must understand; `expected` says in messages what it understands.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node,
        what: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        let parsed = parse(&text.value);
        if parsed.is_none() {
            let shown = shown(&text.value);
            self.invalid(&text.span, format!("`{what}` cannot be {shown}"), format!("write {expected}"));
        }
        parsed
    }

    /// One value of `choices`.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let found = choices.iter().find(|(name, _)| *name == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let help =
                did_you_mean(&text.value, &names).unwrap_or_else(|| format!("write one of {}", names.join(", ")));
            self.invalid(&text.span, format!("`{what}` cannot be {}", shown(&text.value)), help);
        }
        found
    }

    /// The items of a list, `most` of them; a single value counts as a list of one.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str, most: usize) -> Vec<&'n Node> {
        match &*node.content {
            Content::Sequence(items) => {
                if let Some(item) = items.get(most) {
                    self.invalid(&item.span, format!("`{what}` has more than {most} values"), "remove some");
                }
                items.iter().take(most).collect()
            }
            Content::Scalar(_) if !node.is_null() => vec![node],
            _ => {
                let message = format!("`{what}` takes a value or a list of values, here is {}", node.describe());
                self.report(Finding::new(ProblemKind::Invalid, node.span.clone(), message));
                Vec::new()
            }
        }
    }

    /// The keys of a mapping. `path` names it in messages (`groups.analytics`), `span` is where a missing key is reported.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, path: &str, span: &Range<usize>) -> Option<Fields<'n>> {
        match &*node.content {
            Content::Mapping(entries) => {
                Some(Fields { path: path.to_owned(), span: span.clone(), entries, known: Vec::new() })
            }
            Content::Scalar(_) if node.is_null() => {
                Some(Fields { path: path.to_owned(), span: span.clone(), entries: &[], known: Vec::new() })
            }
            _ => {
                let message = format!("`{path}` takes keys with values, here is {}", node.describe());
                self.report(Finding::new(ProblemKind::Invalid, node.span.clone(), message));
                None
            }
        }
    }

    /// The entries of a mapping whose keys are names that the operator chose.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Entry] {
        self.fields(node, path, &node.span).map_or(&[], |fields| fields.entries)
    }

    /// No excerpt shows any value below `node`, but those of keys that never hold a secret.
    pub(super) fn mask_secrets(&mut self, node: &Node) {
        match &*node.content {
            Content::Scalar(_) => self.source.mask(node.written.clone()),
            Content::Sequence(items) => items.iter().for_each(|item| self.mask_secrets(item)),
            Content::Mapping(entries) => {
                for entry in entries.iter().filter(|entry| !secrecy::is_harmless_in_account(&entry.key)) {
                    self.mask_secrets(&entry.value);
                }
            }
        }
    }
}

/// The keys of one mapping; [`Fields::close`] reports those that nobody asked for.
pub(super) struct Fields<'n> {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    entries: &'n [Entry],
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value of `key`; `None` where it is absent or has no value.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.take_entry(key).map(|entry| &entry.value)
    }

    /// The same with the key's own place.
    pub(super) fn take_entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key && !entry.value.is_null())
    }

    /// [`Fields::take`] for a key that must be there.
    pub(super) fn require(&mut self, reader: &mut Reader<'_>, key: &'static str, example: &str) -> Option<&'n Node> {
        let found = self.take(key);
        if found.is_none() {
            let of = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
            let span = self.entries.iter().find(|entry| entry.key == key).map_or(&self.span, |entry| &entry.key_span);
            let message = format!("`{key}` is missing{of}");
            reader.report(Finding::new(ProblemKind::Missing, span.clone(), message).help(format!("write {example}")));
        }
        found
    }

    /// The full name of a key.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Keys that a later version obeys: obeying half of a file would be worse than refusing it.
    pub(super) fn refuse_later(&mut self, reader: &mut Reader<'_>, keys: &[&'static str]) {
        for key in keys {
            let found = self.entries.iter().find(|entry| entry.key == *key);
            self.known.push(key);
            if let Some(entry) = found {
                let message = format!("`{}` is not available yet in this version", self.name(key));
                let finding = Finding::new(ProblemKind::NotAvailable, entry.key_span.clone(), message);
                reader.report(finding.help("remove it or comment it out; what it promises would not be kept"));
            }
        }
        self.known.retain(|known| !keys.contains(known) || self.entries.iter().any(|entry| entry.key == *known));
    }

    /// Reports every key that was not taken.
    pub(super) fn close(self, reader: &mut Reader<'_>) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let place =
                if self.path.is_empty() { "at the top level".to_owned() } else { format!("in `{}`", self.path) };
            let message = format!("unknown key {} {place}", shown(&entry.key));
            if reader.findings.len() >= MAX_FINDINGS {
                reader.dropped += 1;
                continue;
            }
            let help = did_you_mean(&entry.key, &self.known)
                .or_else(|| belongs_elsewhere(&entry.key, &self.path))
                .unwrap_or_else(|| format!("the keys here are {}", self.known.join(", ")));
            reader.report(Finding::new(ProblemKind::UnknownKey, entry.key_span.clone(), message).help(help));
        }
    }
}

/// A value in a message: quoted, short, and without control characters.
pub(super) fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(60).map(|c| if c.is_control() { '·' } else { c }).collect();
    if value.chars().nth(60).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}

/// The nearest of `known`, where it is near enough to be meant: few letters off, or the beginning of it.
pub(super) fn did_you_mean<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    let word = word.to_lowercase();
    if word.len() > 200 {
        return None;
    }
    let near = known.iter().map(AsRef::as_ref).filter_map(|name| {
        let lower = name.to_lowercase();
        let begins = lower.len().min(word.len()) >= 3 && (lower.starts_with(&word) || word.starts_with(&lower));
        let distance = strsim::damerau_levenshtein(&word, &lower);
        (begins || distance <= lower.chars().count() / 3).then_some((distance, name))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| format!("did you mean `{name}`?"))
}

/// Keys at the wrong depth: nearly always the indentation.
fn belongs_elsewhere(key: &str, path: &str) -> Option<String> {
    let place = match key {
        "tables" | "connection" | "references" | "databases" => "groups.NAME",
        "address" | "control" | "account" => "stores.NAME",
        "max_connections" | "max_allowed_packet" | "connect_timeout" | "idle_timeout" | "drain_timeout" => "limits",
        "level" | "format" | "slow_query" => "log",
        "stores" | "groups" | "listen" | "default" | "users" | "limits" | "pool" | "log" => "the top level",
        "<<" => return Some("YAML's merge key is not supported: write the keys out".to_owned()),
        _ => return None,
    };
    let here = path.split('.').next().unwrap_or_default();
    (!place.starts_with(here) || here.is_empty()).then(|| format!("`{key}` belongs in {place}: check the indentation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_absent() {
        let keys = ["connection", "tables", "references"];
        assert_eq!(did_you_mean("conection", &keys).as_deref(), Some("did you mean `connection`?"));
        assert_eq!(did_you_mean("Tables", &keys).as_deref(), Some("did you mean `tables`?"));
        assert_eq!(did_you_mean("colour", &keys), None);
        assert_eq!(did_you_mean("ref", &keys).as_deref(), Some("did you mean `references`?"));
        assert_eq!(did_you_mean("b", &["a"]), None);
        assert_eq!(did_you_mean::<&str>("x", &[]), None);
    }
}

//! Where the flag of a group stands in the text, and whether replacing that one scalar sets this flag and nothing else.

use std::ops::Range;
use std::path::Path;

use saphyr_parser::ScalarStyle;

use super::super::interpolate;
use super::super::problem::ProblemKind;
use super::super::raw::{self, Content, Node, Origin};
use super::super::reader::{did_you_mean, shown};
use super::super::source::{Finding, Source};
use super::EditError;

/// The scalar of a flag.
pub(super) struct FlagScalar {
    /// Its bytes, quotes included.
    pub(super) span: Range<usize>,
    pub(super) line: usize,
    pub(super) quote: Option<char>,
    /// Without quotes, `${…}` not completed.
    pub(super) written: String,
    /// Whether it has a `${…}` or `$$`.
    pub(super) expression: bool,
    /// The store that it names; `None` where a variable is not set here.
    pub(super) value: Option<String>,
}

/// Finds the flag of `group`, and makes sure that `store` is one that it may name.
pub(super) fn find(
    text: &str,
    path: &Path,
    group: &str,
    store: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<FlagScalar, EditError> {
    find_key(text, path, (group, "connection"), store, env)
}

/// The same of another key of the group that names a store.
pub(super) fn find_key(
    text: &str,
    path: &Path,
    (group, key): (&str, &str),
    store: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<FlagScalar, EditError> {
    let mut source = Source::new(text, path);
    let mut found = Vec::new();
    let root = raw::read(&mut source, &mut |finding| found.push(finding));
    let Some(root) = root.filter(|_| found.is_empty()) else {
        return Err(EditError::Config(found.into_iter().map(|finding| source.problem(finding)).collect()));
    };
    known(root.get("stores"), store, "store")?;
    known(root.get("groups"), group, "group")?;
    let refuse = |span: &Range<usize>, message: String, help: &str| {
        let finding = Finding::new(ProblemKind::Invalid, span.clone(), message).help(help);
        EditError::NotEditable(Box::new(source.problem(finding)))
    };
    let flag = own(&root, group, key)
        .map_err(|(span, message)| refuse(&span, message, "write the group out, then try again"))?;
    let help = format!("write the name of the store in its place: `{key}: {store}`");
    let Some(scalar) = flag.scalar().filter(|_| !flag.is_null()) else {
        return Err(refuse(&flag.span, format!("`groups.{group}.{key}` names no store"), &help));
    };
    match flag.origin {
        Origin::Alias => {
            let (line, _) = source.position(flag.written.start);
            let message = format!(
                "`groups.{group}.{key}` is an alias of line {line}: setting it would set every use of that value"
            );
            return Err(refuse(&flag.span, message, &help));
        }
        Origin::Anchored => {
            let message = format!("`groups.{group}.{key}` has an anchor: aliases elsewhere would follow it");
            return Err(refuse(&flag.span, message, &help));
        }
        Origin::Here => {}
    }
    let quote = match scalar.style {
        ScalarStyle::Plain => None,
        ScalarStyle::SingleQuoted => Some('\''),
        ScalarStyle::DoubleQuoted => Some('"'),
        ScalarStyle::Literal | ScalarStyle::Folded => {
            return Err(refuse(&flag.span, format!("`groups.{group}.{key}` is a block of text"), &help));
        }
    };
    Ok(FlagScalar {
        span: flag.span.clone(),
        line: source.position(flag.span.start).0,
        quote,
        written: scalar.text.clone(),
        expression: interpolate::is_expression(&scalar.text),
        value: interpolate::interpolate(&scalar.text, env).ok(),
    })
}

/// The flag's node, where nothing on the way to it is shared with another place of the file.
fn own<'n>(root: &'n Node, group: &str, flag: &str) -> Result<&'n Node, (Range<usize>, String)> {
    let mut node = root;
    let mut path = String::new();
    for key in ["groups", group] {
        node = node.get(key).ok_or_else(|| (node.span.clone(), format!("`{key}` is missing")))?;
        path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if node.origin != Origin::Here {
            return Err((
                node.span.clone(),
                format!("`{path}` is shared by an anchor or alias: other places would change with it"),
            ));
        }
    }
    node.get(flag).ok_or_else(|| (node.span.clone(), format!("`{path}.{flag}` is missing")))
}

fn known(names: Option<&Node>, name: &str, kind: &str) -> Result<(), EditError> {
    let entries = match names.map(|node| &*node.content) {
        Some(Content::Mapping(entries)) => entries.as_slice(),
        _ => &[],
    };
    if entries.iter().any(|entry| entry.key == name) {
        return Ok(());
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let guess = did_you_mean(name, &names).map(|guess| format!("{guess} ")).unwrap_or_default();
    let list =
        if names.is_empty() { "there is none".to_owned() } else { format!("the {kind}s are {}", names.join(", ")) };
    Err(EditError::UnknownName(format!("no {kind} is called {}: {guess}{list}", shown(name))))
}

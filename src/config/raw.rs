//! YAML text → a tree of nodes that know their byte ranges: with `build`, the only code that sees the YAML parser.
//!
//! Nothing in the file can make this blow up: size, depth and the number of values after aliases are bounded, aliases
//! share what they name instead of copying it, and no step recurses deeper than [`MAX_DEPTH`].

mod build;

use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::ScalarStyle;

use super::problem::ProblemKind;
use super::source::{Finding, Source};

/// Bytes of a configuration file.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// Mappings and sequences inside each other, aliases counted where they are used.
const MAX_DEPTH: usize = 32;
/// Values in the whole file, aliases counted where they are used.
const MAX_VALUES: usize = 500_000;

/// A value of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its bytes; for a block mapping or sequence they are those of its first key or dash.
    pub(super) span: Range<usize>,
    /// Where its content is written: not `span` for an alias.
    pub(super) written: Range<usize>,
    /// What it is; shared with every alias of it.
    pub(super) content: Rc<Content>,
    /// Where it came from, when it is not written out and plain here.
    pub(super) origin: Origin,
    depth: usize,
    values: usize,
}

/// Whether a node is written where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written here.
    Here,
    /// Written here with an anchor: aliases elsewhere share it.
    Anchored,
    /// An alias of an anchored node.
    Alias,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Scalar {
    /// Escapes and folding resolved, `${…}` not.
    pub(super) text: String,
    pub(super) style: ScalarStyle,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    /// What a person would call it.
    pub(super) fn describe(&self) -> &'static str {
        match &*self.content {
            Content::Scalar(_) if self.is_null() => "nothing",
            Content::Scalar(_) => "a single value",
            Content::Sequence(_) => "a list",
            Content::Mapping(_) => "a mapping",
        }
    }

    /// `key:` with nothing after it, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&*self.content, Content::Scalar(scalar)
            if scalar.style == ScalarStyle::Plain && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of `key`, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Content::Mapping(entries) = &*self.content else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match &*self.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }
}

/// Parses the text of `source` as one YAML document.
///
/// `source` is told which bytes are secret, whatever the outcome. Problems that leave a usable tree (a key that is there
/// twice) go to `report`; `None` means there is no tree, and `report` was told why.
pub(super) fn read(source: &mut Source<'_>, report: &mut dyn FnMut(Finding)) -> Option<Node> {
    let text = source.text();
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
        report(Finding::new(ProblemKind::Syntax, 0..0, message));
        return None;
    }
    match build::Builder::new(source, &mut *report).run() {
        Ok(Some(root)) => Some(root),
        Ok(None) => {
            let help = "docs/config.md describes every key; routing.yaml is an example";
            report(Finding::new(ProblemKind::Syntax, 0..0, "the file is empty").help(help));
            None
        }
        Err(problem) => {
            report(*problem);
            None
        }
    }
}

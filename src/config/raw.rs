//! YAML text → a tree of nodes that know their byte ranges: the only code that sees the YAML parser.
//!
//! Nothing in the file can make this blow up: size, depth and the number of values after aliases are bounded, aliases
//! share what they name instead of copying it, and no step recurses deeper than [`MAX_DEPTH`].

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::ProblemKind;
use super::secrecy;
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
    let mut builder = Builder {
        source,
        report: &mut *report,
        offsets: Offsets::new(text),
        stack: Vec::new(),
        anchors: HashMap::new(),
        root: None,
    };
    let outcome = builder.run(text);
    match (outcome, builder.root) {
        (Ok(()), Some(root)) => Some(root),
        (Ok(()), None) => {
            let help = "docs/config.md describes every key; routing.yaml is an example";
            report(Finding::new(ProblemKind::Syntax, 0..0, "the file is empty").help(help));
            None
        }
        (Err(problem), _) => {
            report(*problem);
            None
        }
    }
}

/// A collection that is not closed yet.
struct Frame {
    span: Range<usize>,
    anchor: usize,
    kind: FrameKind,
}

enum FrameKind {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, seen: HashMap<String, usize>, key: Option<(String, Range<usize>)> },
}

struct Builder<'b, 't> {
    source: &'b mut Source<'t>,
    report: &'b mut dyn FnMut(Finding),
    offsets: Offsets<'t>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

type Step = Result<(), Box<Finding>>;

impl<'t> Builder<'_, 't> {
    fn run(&mut self, text: &'t str) -> Step {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            match event {
                Ok((event, span)) => {
                    let span = self.range(span);
                    self.event(event, span)?;
                }
                Err(error) => return Err(Box::new(self.syntax(&error))),
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'t>, span: Range<usize>) -> Step {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                Self::check_tag(tag.as_deref(), &span)?;
                let span = self.exact(span, style, anchor != 0 || tag.is_some());
                let content = Content::Scalar(Scalar { text: text.into_owned(), style });
                self.finish(content, span, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                Self::check_tag(tag.as_deref(), &span)?;
                self.open(span, anchor, FrameKind::Sequence(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                Self::check_tag(tag.as_deref(), &span)?;
                self.open(span, anchor, FrameKind::Mapping { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(_) if self.root.is_some() => {
                let message = "a second YAML document (`---`) in one file".to_owned();
                Err(fail(&span, message, "one file holds one configuration: remove the rest"))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, span: Range<usize>, anchor: usize, kind: FrameKind) -> Step {
        if self.stack.len() >= MAX_DEPTH {
            return Err(fail(&span, format!("nested deeper than {MAX_DEPTH} levels"), "no configuration needs that"));
        }
        self.no_collection_as_key(&span)?;
        self.stack.push(Frame { span, anchor, kind });
        Ok(())
    }

    fn no_collection_as_key(&self, span: &Range<usize>) -> Step {
        match self.stack.last().map(|frame| &frame.kind) {
            Some(FrameKind::Mapping { key: None, .. }) => {
                let help = "a `${…}` inside { } or [ ] needs quotes: \"${NAME}\"";
                Err(fail(span, "a list or mapping stands where a key belongs".to_owned(), help))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Step {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let content = match frame.kind {
            FrameKind::Sequence(items) => Content::Sequence(items),
            FrameKind::Mapping { entries, .. } => Content::Mapping(entries),
        };
        self.finish(content, frame.span, frame.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Range<usize>) -> Step {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(fail(&span, "this alias is inside the value that it names".to_owned(), "write the value out"));
        };
        let node = Node { span, origin: Origin::Alias, ..target.clone() };
        self.place(node)
    }

    /// A node is whole: bounds are checked, its anchor learns it, and it goes where it belongs.
    fn finish(&mut self, content: Content, span: Range<usize>, anchor: usize) -> Step {
        let (depth, values) = match &content {
            Content::Scalar(_) => (0, 1),
            Content::Sequence(items) => measure(items.iter()),
            Content::Mapping(entries) => measure(entries.iter().map(|entry| &entry.value)),
        };
        if depth > MAX_DEPTH || values > MAX_VALUES {
            let message =
                format!("more than {MAX_DEPTH} levels or {MAX_VALUES} values, aliases counted where they are used");
            return Err(fail(&span, message, "no configuration needs that"));
        }
        let origin = if anchor == 0 { Origin::Here } else { Origin::Anchored };
        let node = Node { written: span.clone(), span, content: Rc::new(content), origin, depth, values };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    /// Hands a whole node to the collection around it.
    fn place(&mut self, node: Node) -> Step {
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.kind {
            FrameKind::Sequence(items) => items.push(node),
            FrameKind::Mapping { key: slot @ None, .. } => {
                let Some(scalar) = node.scalar() else {
                    return Err(fail(&node.span, "a key must be a plain word".to_owned(), "write the key out"));
                };
                *slot = Some((scalar.text.clone(), node.span));
            }
            FrameKind::Mapping { entries, seen, key } => {
                let Some((key, key_span)) = key.take() else { return Ok(()) };
                if secrecy::is_secret_key(&key) && node.scalar().is_some() {
                    self.source.mask(node.written.clone());
                }
                match seen.get(&key) {
                    Some(first) => {
                        let (line, _) = self.source.position(*first);
                        let message = format!("the key `{key}` is here twice; the first is on line {line}");
                        (self.report)(Finding::new(ProblemKind::Duplicate, key_span, message).help("keep one of them"));
                    }
                    None => {
                        seen.insert(key.clone(), key_span.start);
                        entries.push(Entry { key, key_span, value: node });
                    }
                }
            }
        }
        Ok(())
    }

    fn check_tag(tag: Option<&Tag>, span: &Range<usize>) -> Step {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                Err(fail(span, format!("the YAML tag `{tag}` means nothing here"), "remove the tag"))
            }
            _ => Ok(()),
        }
    }

    /// The parser's own error, with the help that people most often need.
    fn syntax(&mut self, error: &ScanError) -> Finding {
        let at = self.offsets.byte(error.marker().index());
        let (line, _) = self.source.position(at);
        let range = self.source.line_range(line);
        let text = self.source.slice(&range);
        self.mask_broken(text, range.start);
        let before = text.get(..at.saturating_sub(range.start)).unwrap_or(text);
        let finding = Finding::new(ProblemKind::Syntax, at..at + 1, format!("not valid YAML: {}", error.info()));
        if before.trim_end().ends_with('$') {
            finding.help("inside { } or [ ] a `${…}` needs quotes: \"${NAME}\"")
        } else if text.trim_start_matches(' ').starts_with('\t') {
            finding.help("YAML indents with spaces, never with tabs")
        } else {
            finding
        }
    }

    /// Where the file is no YAML nobody knows what is a value: whatever may be a secret is hidden.
    fn mask_broken(&mut self, line: &str, start: usize) {
        for secret in secrecy::lexical(line) {
            self.source.mask(start + secret.start..start + secret.end);
        }
        let open_keys = self.stack.iter().filter_map(|frame| match &frame.kind {
            FrameKind::Mapping { key: Some((key, span)), .. } => Some((key, span)),
            _ => None,
        });
        let secret = open_keys
            .filter(|(key, _)| secrecy::is_secret_key(key) || secrecy::holds_secrets(key))
            .map(|(_, span)| span.end)
            .next();
        if let Some(end) = secret {
            self.source.mask(end.max(start + line.find(':').map_or(0, |colon| colon + 1))..usize::MAX);
        }
    }

    fn range(&mut self, span: Span) -> Range<usize> {
        let start = self.offsets.byte(span.start.index());
        start..self.offsets.byte(span.end.index()).max(start)
    }

    /// The parser's range of a quoted scalar runs on over blanks and comments: it ends at its closing quote.
    fn exact(&self, span: Range<usize>, style: ScalarStyle, decorated: bool) -> Range<usize> {
        let quote = match style {
            ScalarStyle::SingleQuoted => b'\'',
            ScalarStyle::DoubleQuoted => b'"',
            _ => return span,
        };
        let text = self.source.slice(&span).as_bytes();
        let open = if decorated { text.iter().position(|byte| *byte == quote).unwrap_or(0) } else { 0 };
        let mut at = open + 1;
        while let Some(byte) = text.get(at) {
            match byte {
                b'\\' if quote == b'"' => at += 2,
                b'\'' if quote == b'\'' && text.get(at + 1) == Some(&b'\'') => at += 2,
                byte if *byte == quote => return span.start..span.start + at + 1,
                _ => at += 1,
            }
        }
        span
    }
}

fn fail(span: &Range<usize>, message: String, help: &str) -> Box<Finding> {
    Box::new(Finding::new(ProblemKind::Syntax, span.clone(), message).help(help))
}

fn measure<'n>(children: impl Iterator<Item = &'n Node>) -> (usize, usize) {
    children.fold((1, 1), |(depth, values), child| {
        (depth.max(child.depth.saturating_add(1)), values.saturating_add(child.values))
    })
}

/// Character indexes, which the parser speaks, → byte offsets. Forward steps are cheap, as events come in order.
struct Offsets<'t> {
    text: &'t str,
    ascii: bool,
    character: usize,
    byte: usize,
}

impl<'t> Offsets<'t> {
    fn new(text: &'t str) -> Offsets<'t> {
        Offsets { text, ascii: text.is_ascii(), character: 0, byte: 0 }
    }

    fn byte(&mut self, character: usize) -> usize {
        if self.ascii {
            return character.min(self.text.len());
        }
        while self.character > character {
            let before = self.text.get(..self.byte).and_then(|text| text.chars().next_back());
            self.byte -= before.map_or(self.byte, char::len_utf8);
            self.character -= 1;
        }
        let rest = self.text.get(self.byte..).unwrap_or_default();
        for next in rest.chars().take(character - self.character) {
            self.byte += next.len_utf8();
            self.character += 1;
        }
        self.byte
    }
}

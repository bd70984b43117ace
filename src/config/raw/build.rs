//! The parser's events → nodes, one stack frame per open collection: bounds, duplicate keys, aliases, and which bytes are secret.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::super::problem::ProblemKind;
use super::super::secrecy;
use super::super::source::{Finding, Source};
use super::{Content, Entry, MAX_DEPTH, MAX_VALUES, Node, Origin, Scalar};

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

pub(super) struct Builder<'b, 't> {
    source: &'b mut Source<'t>,
    report: &'b mut dyn FnMut(Finding),
    offsets: Offsets<'t>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
}

type Step = Result<(), Box<Finding>>;

impl<'b, 't> Builder<'b, 't> {
    pub(super) fn new(source: &'b mut Source<'t>, report: &'b mut dyn FnMut(Finding)) -> Builder<'b, 't> {
        let offsets = Offsets::new(source.text());
        Builder { source, report, offsets, stack: Vec::new(), anchors: HashMap::new(), root: None }
    }

    /// The root of the document; none where the text has nothing but comments.
    pub(super) fn run(mut self) -> Result<Option<Node>, Box<Finding>> {
        let mut parser = Parser::new_from_str(self.source.text());
        while let Some(event) = parser.next_event() {
            match event {
                Ok((event, span)) => {
                    let span = self.range(span);
                    self.event(event, span)?;
                }
                Err(error) => return Err(Box::new(self.syntax(&error))),
            }
        }
        Ok(self.root)
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
        } else if error.info().contains("flow") {
            finding.help("is a [ or { above never closed, or a comma missing?")
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

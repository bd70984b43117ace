//! The text of a configuration file: byte offsets ⇄ line and column, and excerpts in which secrets are masked.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Excerpt, Problem, ProblemKind};

/// Characters of a line that an excerpt shows.
const EXCERPT_WIDTH: usize = 120;
/// What stands for a secret.
const MASK: &str = "•••";

/// A problem while the file is still being read: its excerpt waits until every secret is known.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) kind: ProblemKind,
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Finding {
    pub(super) fn new(kind: ProblemKind, span: Range<usize>, message: impl Into<String>) -> Finding {
        Finding { kind, span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }
}

/// A file's text with what must not be shown of it.
pub(super) struct Source<'t> {
    text: &'t str,
    path: PathBuf,
    /// Byte offset of the start of every line.
    lines: Vec<usize>,
    /// Byte ranges that hold secrets.
    secrets: Vec<Range<usize>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str, path: &Path) -> Source<'t> {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Source { text, path: path.to_owned(), lines, secrets: Vec::new() }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The bytes of `range`, empty where it is not one of this text.
    pub(super) fn slice(&self, range: &Range<usize>) -> &'t str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// From now on no excerpt shows these bytes.
    pub(super) fn mask(&mut self, secret: Range<usize>) {
        self.secrets.push(secret);
    }

    /// Line from 1, and column in characters from 1.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.line_start(line);
        let column = self.text.get(start..offset.max(start)).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }

    /// The bytes of line `line` (from 1) without its line break.
    pub(super) fn line_range(&self, line: usize) -> Range<usize> {
        let end = self.lines.get(line).map_or(self.text.len(), |next| next.saturating_sub(1));
        self.line_start(line).min(end)..end
    }

    /// The finding as operators see it.
    pub(super) fn problem(&self, finding: Finding) -> Problem {
        let (line, column) = self.position(finding.span.start);
        let excerpt = Some(self.excerpt(line, &finding.span)).filter(|excerpt| !excerpt.text.is_empty());
        Problem {
            kind: finding.kind,
            file: self.path.clone(),
            line: Some(line),
            column: Some(column),
            message: finding.message,
            help: finding.help,
            excerpt,
        }
    }

    fn line_start(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// The line with carets under `range`; what a secret covers is one mask.
    fn excerpt(&self, line: usize, range: &Range<usize>) -> Excerpt {
        let window = self.window(line, range.start);
        let near = |secret: &&Range<usize>| secret.start < window.end && secret.end > window.start;
        let secrets: Vec<&Range<usize>> = self.secrets.iter().filter(near).collect();
        let mut shown = String::new();
        let (mut before, mut under, mut masked) = (0, 0, false);
        for (at, character) in self.slice(&window).trim_end().char_indices() {
            let offset = window.start + at;
            let secret = secrets.iter().any(|secret| secret.contains(&offset));
            let piece = match (secret, masked) {
                (true, true) => String::new(),
                (true, false) => MASK.to_owned(),
                (false, _) => printable(character).to_string(),
            };
            masked = secret;
            let width = piece.chars().count();
            if offset < range.start {
                before += width;
            } else if offset < range.end {
                under += width;
            }
            shown.push_str(&piece);
        }
        cut(&shown, before, under)
    }

    /// The part of a line that may be shown with the caret at `at`: whole characters, at most a few hundred.
    fn window(&self, line: usize, at: usize) -> Range<usize> {
        let Range { start, end } = self.line_range(line);
        let back =
            self.slice(&(start..at.min(end))).char_indices().rev().nth(2 * EXCERPT_WIDTH).map_or(0, |(at, _)| at);
        let start = start + back;
        let length = self.slice(&(start..end)).char_indices().nth(4 * EXCERPT_WIDTH).map(|(at, _)| at);
        start..length.map_or(end, |length| start + length)
    }
}

/// Control characters would move the caret, or the terminal.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        character if character.is_control() || ('\u{2028}'..='\u{202e}').contains(&character) => '·',
        character => character,
    }
}

/// Keeps [`EXCERPT_WIDTH`] characters around the caret.
fn cut(line: &str, before: usize, under: usize) -> Excerpt {
    let skip = if before > EXCERPT_WIDTH * 3 / 4 { before - EXCERPT_WIDTH / 2 } else { 0 };
    let text: String = line.chars().skip(skip).take(EXCERPT_WIDTH).collect();
    let start = before - skip;
    let room = text.chars().count().saturating_sub(start).max(1);
    Excerpt { text, start, length: under.clamp(1, room) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("é: 1\nb: ü x\n", Path::new("r"));
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(2), (1, 2));
        assert_eq!(source.position(6), (2, 1));
        assert_eq!(source.position(12), (2, 6));
        assert_eq!(source.position(99).0, 3);
    }

    #[test]
    fn excerpts_mask_secrets_and_keep_the_caret() {
        let mut source = Source::new("a: { password: hunter2, usr: x }", Path::new("r"));
        source.mask(15..22);
        let problem = source.problem(Finding::new(ProblemKind::UnknownKey, 24..27, "m"));
        assert_eq!(problem.to_string(), "r:1:25: m\n  1 | a: { password: •••, usr: x }\n    |                     ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let text = format!("{}HERE{}", "x".repeat(500), "y".repeat(500));
        let source = Source::new(&text, Path::new("r"));
        let excerpt = source.problem(Finding::new(ProblemKind::Invalid, 500..504, "m")).excerpt.unwrap();
        assert_eq!(excerpt.text.chars().count(), 120);
        assert_eq!(&excerpt.text[excerpt.start..excerpt.start + excerpt.length], "HERE");
    }

    #[test]
    fn terminal_controls_do_not_get_through() {
        let source = Source::new("a\u{1b}[31m: \u{202e}x", Path::new("r"));
        let excerpt = source.problem(Finding::new(ProblemKind::Invalid, 0..1, "m")).excerpt.unwrap();
        assert_eq!(excerpt.text, "a·[31m: ·x");
    }
}

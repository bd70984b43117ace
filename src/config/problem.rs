//! What is wrong with a configuration file, where, and what mends it.
//!
//! Every step of loading collects [`Problem`]s instead of stopping at the first one. A problem never shows a secret: the
//! excerpt is masked where it stands (see `source`), and messages quote values of non-secret keys only.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The sort of a [`Problem`], for code that treats some of them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The file cannot be read at all.
    Unreadable,
    /// It is not YAML, or more of it than any configuration needs.
    Syntax,
    /// A `${VARIABLE}` that is not set here (it may be set where the proxy runs).
    UnsetVariable,
    /// A key that does not exist.
    UnknownKey,
    /// A key of a later version.
    NotAvailable,
    /// A key that must be there.
    Missing,
    /// Something that is there twice.
    Duplicate,
    /// A value of the wrong type or form.
    Invalid,
    /// A name that nothing carries.
    UnknownName,
}

/// A piece of the source with the place that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The line, secrets masked, control characters replaced, long lines cut.
    pub text: String,
    /// Characters of `text` before the caret.
    pub start: usize,
    /// Carets to draw, at least 1.
    pub length: usize,
}

/// One thing that is wrong, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its sort.
    pub kind: ProblemKind,
    /// The file as it was named to the loader.
    pub file: PathBuf,
    /// Line, from 1; `None` where the problem is the file itself.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What mends it.
    pub help: Option<String>,
    /// The line of the source.
    pub excerpt: Option<Excerpt>,
}

impl Problem {
    /// A problem of the file as a whole.
    #[must_use]
    pub fn of_file(kind: ProblemKind, file: impl Into<PathBuf>, message: impl Into<String>) -> Problem {
        Problem {
            kind,
            file: file.into(),
            line: None,
            column: None,
            message: message.into(),
            help: None,
            excerpt: None,
        }
    }

    /// `file:line:column`.
    #[must_use]
    pub fn place(&self) -> String {
        let mut place = self.file.display().to_string();
        for part in [self.line, self.column].into_iter().flatten() {
            place.push(':');
            place.push_str(&part.to_string());
        }
        place
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.unwrap_or_default().to_string();
            let margin = " ".repeat(number.len());
            write!(f, "\n  {number} | {}", excerpt.text)?;
            write!(f, "\n  {margin} | {}{}", " ".repeat(excerpt.start), "^".repeat(excerpt.length.max(1)))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// All problems as one text, each as its own paragraph.
#[must_use]
pub fn render(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n\n")
}

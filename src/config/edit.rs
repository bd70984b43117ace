//! The flag, changed in the file itself: only the scalar's bytes differ, comments, order and quoting stay.
//!
//! The file is the one truth, so every surface flips by coming here. A flip is: lock against a second editor → find the
//! scalar → splice → check the whole result → write beside, fsync, rename, fsync the folder. Whoever reads the file sees the old
//! content or the new one, whole; a change that does not check, or that meets another editor's save, changes nothing.

mod place;
mod replace;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::load;
use super::problem::{self, Problem, ProblemKind};
use place::FlagScalar;

/// How often a save of somebody else between our reading and our renaming makes us start over.
const ATTEMPTS: usize = 5;

/// A flag that was set in the file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Edit {
    /// The file that was written: where symlinks ended.
    pub file: PathBuf,
    /// Line of the flag, from 1.
    pub line: usize,
    /// The group.
    pub group: String,
    /// The store that it named before; the expression as written where a variable of it is not set here.
    pub from: String,
    /// The store that it names now.
    pub to: String,
    /// False where the file said so already, and was left alone.
    pub changed: bool,
    /// `${ANALYTICS_CONNECTION:-legacy}` where a variable decided before: from now on the file does.
    pub replaced_expression: Option<String>,
    /// What the operator should know beside.
    pub notes: Vec<String>,
}

/// Why the file was left as it was. Every case is the operator's to settle, and its text says how.
#[derive(Debug)]
pub enum EditError {
    /// The file has problems, or would have with this change.
    Config(Vec<Problem>),
    /// The flag cannot be set here by replacing one word.
    NotEditable(Box<Problem>),
    /// No such group or store.
    UnknownName(String),
    /// Somebody else edits, or keeps saving.
    Busy(String),
    /// The file system refused.
    Io {
        /// What was tried, with the path.
        action: String,
        /// What it said.
        error: std::io::Error,
    },
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Config(problems) => {
                write!(f, "the file was left as it was: it would not check\n{}", problem::render(problems))
            }
            EditError::NotEditable(problem) => problem.fmt(f),
            EditError::UnknownName(message) | EditError::Busy(message) => f.write_str(message),
            EditError::Io { action, error } => write!(f, "{action}: {error}{}", remedy(error)),
        }
    }
}

impl std::error::Error for EditError {}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "\n  help: the file is mounted read-only (a ConfigMap?): change it where it comes from; the proxy follows"
        }
        std::io::ErrorKind::ResourceBusy => {
            "\n  help: the file itself is a mount point and cannot be replaced: mount its folder instead"
        }
        std::io::ErrorKind::PermissionDenied => "\n  help: run as the owner of the file and of its folder",
        _ => "",
    }
}

/// Makes `store` the connection of `group` in the file at `path`.
///
/// Blocks: for the lock (10 s at most), and for the disk. Variables that are not set in this process are left to the process
/// that serves the file.
///
/// # Errors
/// See [`EditError`]; the file is then as it was.
pub fn set_connection(path: &Path, group: &str, store: &str) -> Result<Edit, EditError> {
    set_connection_with(path, group, store, &load::process_env)
}

/// [`set_connection`] with another environment.
///
/// # Errors
/// As [`set_connection`].
pub fn set_connection_with(
    path: &Path,
    group: &str,
    store: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Edit, EditError> {
    edit_file(path, &|text| plan(text, path, group, store, env))
}

fn edit_file(path: &Path, planned: &dyn Fn(&str) -> Result<Plan, EditError>) -> Result<Edit, EditError> {
    let real = fs::canonicalize(path)
        .map_err(|error| EditError::Io { action: format!("{} cannot be opened", path.display()), error })?;
    let lock = replace::lock(&real)?;
    for _ in 0..ATTEMPTS {
        let text = load::read(&real).map_err(|problem| EditError::Config(vec![*problem]))?;
        let plan = planned(&text)?;
        let mut edit = plan.edit;
        edit.file.clone_from(&real);
        let Some(new) = plan.text else { return Ok(edit) };
        if let Some(notes) = replace::replace(&lock, &real, &text, &new)? {
            edit.notes.extend(notes);
            return Ok(edit);
        }
    }
    Err(EditError::Busy(format!(
        "{} changes faster than it can be edited: somebody else is writing it",
        real.display()
    )))
}

/// Makes `store` the connection of `group`, and the store that it leaves its standby: what a cutover has done is written down.
///
/// # Errors
/// As [`set_connection`].
pub fn set_authority(path: &Path, group: &str, store: &str) -> Result<Edit, EditError> {
    edit_file(path, &|text| plan_both(text, path, group, store, &load::process_env))
}

/// What would be done; `text` is the new content, `None` where the file says so already.
struct Plan {
    edit: Edit,
    text: Option<String>,
}

/// Pure: the text with the flag set, checked as a whole.
fn plan(
    text: &str,
    path: &Path,
    group: &str,
    store: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, EditError> {
    let flag = place::find(text, path, group, store, env)?;
    let edit = |changed| Edit {
        file: path.to_owned(),
        line: flag.line,
        group: group.to_owned(),
        from: flag.value.clone().unwrap_or_else(|| flag.written.clone()),
        to: store.to_owned(),
        changed,
        replaced_expression: flag.expression.then(|| flag.written.clone()).filter(|_| changed),
        notes: Vec::new(),
    };
    if !flag.expression && flag.value.as_deref() == Some(store) {
        return Ok(Plan { edit: edit(false), text: None });
    }
    let new = splice(text, &flag, store);
    confirm(&new, path, group, store, env)?;
    let mut edit = edit(true);
    edit.notes.extend(edit.replaced_expression.as_ref().map(|expression| {
        format!("{expression} was replaced by {store}: the environment no longer decides this flag")
    }));
    Ok(Plan { edit, text: Some(new) })
}

/// Pure: the text with the flag and the standby set, checked as a whole. The standby goes first: a store is no standby of itself,
/// and the text between the two edits is never checked.
fn plan_both(
    text: &str,
    path: &Path,
    group: &str,
    store: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Plan, EditError> {
    let flag = place::find(text, path, group, store, env)?;
    let left = flag.value.clone().filter(|left| left != store);
    let between = match left {
        Some(left) => {
            let standby = place::find_key(text, path, (group, "standby"), &left, env)?;
            splice(text, &standby, &left)
        }
        None => text.to_owned(),
    };
    let mut plan = plan(&between, path, group, store, env)?;
    if plan.text.is_none() && between != text {
        plan.text = Some(between);
    }
    Ok(plan)
}

fn splice(text: &str, flag: &FlagScalar, store: &str) -> String {
    let before = text.get(..flag.span.start).unwrap_or_default();
    let after = text.get(flag.span.end..).unwrap_or_default();
    let quote = flag.quote.map(String::from).unwrap_or_default();
    format!("{before}{quote}{store}{quote}{after}")
}

/// The result must check, and must say what was asked for. A variable that is unset only here is no reason to refuse.
fn confirm(
    new: &str,
    path: &Path,
    group: &str,
    store: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), EditError> {
    let says_so = match load::parse(new, path, env) {
        Ok(config) => config.group_by_name(group).is_some_and(|g| config.store_name(g.connection) == store),
        Err(problems) => {
            let real: Vec<Problem> = problems.into_iter().filter(|p| p.kind != ProblemKind::UnsetVariable).collect();
            if !real.is_empty() {
                return Err(EditError::Config(real));
            }
            let flag = place::find(new, path, group, store, env)?;
            flag.value.as_deref() == Some(store) && !flag.expression
        }
    };
    if says_so {
        Ok(())
    } else {
        let message = "the flag is written in a way that cannot be edited: set it by hand";
        Err(EditError::NotEditable(Box::new(Problem::of_file(ProblemKind::Invalid, path, message))))
    }
}

#[cfg(test)]
mod tests;

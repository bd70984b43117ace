//! `${NAME}` and `${NAME:-default}` inside a scalar, and `$$` for one `$`. What a variable holds is text: it is never read as YAML.

use std::ops::Range;

/// Why a scalar could not be completed, and which of its bytes are to blame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) at: Range<usize>,
    pub(super) cause: Cause,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The variable is not set, and there is no default.
    Unset(String),
    /// `${` without `}`.
    Unclosed,
    /// Not a name, or something other than `:-` after it.
    Malformed,
}

/// Whether [`interpolate`] would change anything.
pub(super) fn is_expression(text: &str) -> bool {
    text.contains("${") || text.contains("$$")
}

/// Completes `text`. A variable that is set but empty takes the default, as in a shell.
pub(super) fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from) = rest.split_at(dollar);
        out.push_str(before);
        let at = text.len() - from.len();
        if let Some(after) = from.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(body) = from.strip_prefix("${") {
            let Some(close) = body.find('}') else {
                return Err(Failure { at: at..text.len(), cause: Cause::Unclosed });
            };
            let (body, after) = body.split_at(close);
            out.push_str(&variable(body, env).map_err(|cause| Failure { at: at..at + close + 3, cause })?);
            rest = after.get(1..).unwrap_or_default();
        } else {
            out.push('$');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn variable(body: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Cause> {
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        || default.is_some_and(|d| d.contains("${"))
    {
        return Err(Cause::Malformed);
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Cause::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, Failure> {
        interpolate(text, &|name| match name {
            "A" => Some("alpha".to_owned()),
            "E" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_defaults_and_dollars() {
        let cases = [
            ("${A}", "alpha"),
            ("x${A}y${B:-b}", "xalphayb"),
            ("${E}", ""),
            ("${E:-e}", "e"),
            ("${B:-}", ""),
            ("${B:-a:-b}", "a:-b"),
            ("pa$word$", "pa$word$"),
            ("$${A}", "${A}"),
            ("a$$b", "a$b"),
            ("ü${A}ü", "üalphaü"),
        ];
        for (text, expected) in cases {
            assert_eq!(run(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn failures_point_at_the_expression() {
        assert_eq!(run("x ${NO} y"), Err(Failure { at: 2..7, cause: Cause::Unset("NO".into()) }));
        assert_eq!(run("${A").unwrap_err().cause, Cause::Unclosed);
        for text in ["${}", "${1A}", "${A-b}", "${A:?x}", "${B:-${A}}"] {
            assert_eq!(run(text).unwrap_err().cause, Cause::Malformed, "{text}");
        }
    }
}

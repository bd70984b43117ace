//! Which tables of a store a pattern means, and which names a view's or routine's text mentions.

use crate::config::model::{Group, TablePattern};

/// Whether `pattern` means `database`.`name`; `databases` narrows a pattern without a database.
pub(super) fn matches(pattern: &TablePattern, databases: &[String], database: &str, name: &str, fold: bool) -> bool {
    let in_database = match &pattern.database {
        Some(wanted) => glob(wanted, database, fold),
        None => databases.is_empty() || databases.iter().any(|wanted| same(wanted, database, fold)),
    };
    in_database && glob(&pattern.name, name, fold)
}

/// Whether the group has the table.
pub(super) fn in_group(group: &Group, database: &str, name: &str, fold: bool) -> bool {
    group.tables.iter().any(|pattern| matches(pattern, &group.databases, database, name, fold))
}

/// Whether the group's stores have a copy of the table.
pub(super) fn is_reference(group: &Group, database: &str, name: &str, fold: bool) -> bool {
    group.references.iter().any(|pattern| matches(pattern, &group.databases, database, name, fold))
}

fn same(a: &str, b: &str, fold: bool) -> bool {
    if fold { a.to_lowercase() == b.to_lowercase() } else { a == b }
}

/// `*` stands for any characters. Linear in the text for each star.
fn glob(pattern: &str, text: &str, fold: bool) -> bool {
    if fold {
        return glob(&pattern.to_lowercase(), &text.to_lowercase(), false);
    }
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return text.ends_with(rest) };
    for part in middle.split('*') {
        match text.find(part) {
            Some(at) => text = text.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    text.ends_with(last)
}

/// The names in SQL text as they may mean tables: each word alone in `schema`, and each `a.b`. Strings and comments are skipped;
/// columns and aliases are among them, so callers keep only names of tables that exist.
pub(super) fn mentioned(text: &str, schema: &str) -> Vec<(String, String)> {
    let chains = chains(text);
    let mut found = Vec::new();
    for chain in chains {
        if let [first, second, ..] = chain.as_slice() {
            found.push((first.clone(), second.clone()));
        }
        if let [first, ..] = chain.as_slice() {
            found.push((schema.to_owned(), first.clone()));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Words joined by dots.
fn chains(text: &str) -> Vec<Vec<String>> {
    let mut chains: Vec<Vec<String>> = Vec::new();
    let mut rest = text;
    let mut joined = false;
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '`' => quoted(rest, '`'),
            '\'' | '"' => (None, quoted(rest, first).1),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '-' if rest.starts_with("-- ") => (None, rest.find('\n').unwrap_or(rest.len())),
            '/' if rest.starts_with("/*") && !rest.starts_with("/*!") => {
                (None, rest.find("*/").map_or(rest.len(), |end| end + 2))
            }
            first if is_word(first) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (rest.get(..length).map(str::to_owned), length)
            }
            first => (None, first.len_utf8()),
        };
        match (word, chains.last_mut()) {
            (Some(word), Some(chain)) if joined => chain.push(word),
            (Some(word), _) => chains.push(vec![word]),
            (None, _) => {}
        }
        rest = rest.get(length..).unwrap_or_default();
        joined = (first == '.' && !chains.is_empty()) || (joined && first.is_whitespace());
    }
    chains
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// The content of a quoted piece at the start of `text`, and its length with quotes; a doubled quote is one.
fn quoted(text: &str, quote: char) -> (Option<String>, usize) {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && quote != '`' {
            characters.next();
        } else if c != quote {
            content.push(c);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return (Some(content), at + 1);
        }
    }
    (None, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("a", "a"),
            ("a*", "abc"),
            ("*", ""),
            ("*c", "abc"),
            ("a*c", "ac"),
            ("a*b*c", "axbyc"),
            ("s_*_x", "s_a_b_x"),
            ("**", "a"),
        ] {
            assert!(glob(pattern, text, false), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("a*", "ba"), ("a*c", "ab"), ("ab*ba", "aba"), ("A", "a"), ("a*b*c", "acb")]
        {
            assert!(!glob(pattern, text, false), "{pattern} {text}");
        }
        assert!(glob("Page*", "pAGEviews", true));
    }

    #[test]
    fn names_in_text() {
        let text = "select `app`.`t`.`id`, x . y from v -- no\n where a = 'hidden' /* gone */ and \"s\" = `we``ird` # end\n ; z";
        let found = mentioned(text, "s");
        for (database, name) in [("app", "t"), ("s", "app"), ("x", "y"), ("s", "v"), ("s", "we`ird"), ("s", "z")] {
            assert!(found.contains(&(database.to_owned(), name.to_owned())), "{database}.{name} in {found:?}");
        }
        for name in ["hidden", "gone", "no", "end"] {
            assert!(!found.iter().any(|(_, found)| found == name), "{name}");
        }
        assert!(
            mentioned("`open", "s").is_empty()
                && mentioned("'open", "s").is_empty()
                && mentioned("/* open", "s").is_empty()
        );
    }
}

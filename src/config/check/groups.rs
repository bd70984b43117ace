//! `groups`: which tables move together, and the flag that says where they are. No table may be in two groups.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use super::super::model::{Ack, Fallback, Group, Keeping, Shadow, StoreId, TablePattern};
use super::super::problem::ProblemKind;
use super::super::raw::{Content, Entry, Node};
use super::super::reader::{Fields, Reader, shown};
use super::super::source::Finding;
use super::super::units;
use super::{StoreNames, check_name};

/// Keys of a group that later versions obey.
const LATER: [&str; 2] = ["tenant", "tenants"];

/// Databases of one group.
const MAX_DATABASES: usize = 1_000;

/// A pattern with its place.
type Placed = (TablePattern, Range<usize>);

/// Every group in the order of the file.
pub(super) fn groups(reader: &mut Reader<'_>, top: &mut Fields<'_>, names: &StoreNames) -> Vec<Group> {
    let Some(node) = top.take("groups") else { return Vec::new() };
    let mut groups = Vec::new();
    let mut claims = Claims::default();
    for entry in reader.entries(node, "groups") {
        check_name(reader, &entry.key_span, &entry.key, "group");
        if groups.len() >= usize::from(u16::MAX) {
            reader.invalid(&entry.key_span, "more than 65535 groups", "remove some");
            break;
        }
        groups.extend(group(reader, entry, names, &mut claims));
    }
    groups
}

fn group(reader: &mut Reader<'_>, entry: &Entry, names: &StoreNames, claims: &mut Claims) -> Option<Group> {
    let path = format!("groups.{}", entry.key);
    let mut fields = reader.fields(&entry.value, &path, &entry.key_span)?;
    let tables = fields.require(reader, "tables", "`tables: [pageviews, other_db.visits, stats_*]`");
    let tables = tables.map(|node| patterns(reader, node, &fields.name("tables"))).unwrap_or_default();
    let flag = fields.require(reader, "connection", "`connection: NAME`, the store that serves the group");
    let connection = flag.and_then(|node| names.resolve(reader, node, &fields.name("connection")));
    let databases =
        fields.take("databases").map(|node| databases(reader, node, &fields.name("databases"))).unwrap_or_default();
    let references =
        fields.take("references").map(|node| patterns(reader, node, &fields.name("references"))).unwrap_or_default();
    let cross = fields.take("cross_store_transactions");
    let choices = [("allow", true), ("refuse", false)];
    let cross =
        cross.map(|node| reader.choice(node, &fields.name("cross_store_transactions"), &choices).unwrap_or_default());
    let standby =
        fields.take("standby").and_then(|node| standby(reader, node, &fields.name("standby"), names, connection));
    if standby.is_none() {
        without_standby(reader, &mut fields);
    }
    let keeping = keeping(reader, &mut fields);
    let shadow = fields.take("shadow").and_then(|node| shadow(reader, node, &fields.name("shadow"), names));
    fields.refuse_later(reader, &LATER);
    let narrowed: Rc<[String]> = databases.clone().into();
    for (pattern, span) in &tables {
        claims.claim(reader, &entry.key, &narrowed, pattern, span);
    }
    let own: HashSet<&TablePattern> = tables.iter().map(|(pattern, _)| pattern).collect();
    for (pattern, span) in references.iter().filter(|(pattern, _)| own.contains(pattern)) {
        let message = format!("`{path}` has {} among its tables and among its references", shown(&pattern.to_string()));
        let help = "a reference is a table of another store that this group's stores have copies of";
        reader.report(Finding::new(ProblemKind::Duplicate, span.clone(), message).help(help));
    }
    fields.close(reader);
    let unplaced = |placed: Vec<Placed>| placed.into_iter().map(|(pattern, _)| pattern).collect();
    Some(Group {
        name: entry.key.clone(),
        tables: unplaced(tables),
        connection: connection.unwrap_or(StoreId(0)),
        databases,
        references: unplaced(references),
        cross_store_transactions: cross.unwrap_or(true),
        standby,
        keeping,
        shadow,
    })
}

/// `shadow: { sample: 0.05, store: new }`.
fn shadow(reader: &mut Reader<'_>, node: &Node, path: &str, names: &StoreNames) -> Option<Shadow> {
    let mut fields = reader.fields(node, path, &node.span)?;
    let share = |text: &str| units::share(text).filter(|n| *n > 0);
    let sample = fields.require(reader, "sample", "`sample: 0.05`, the share of reads that are compared");
    let expected = "a share above 0, up to 1, as 0.05";
    let sample = sample.and_then(|node| reader.parsed(node, &fields.name("sample"), expected, share));
    let store = fields.take("store").and_then(|node| names.resolve(reader, node, &fields.name("store")));
    fields.close(reader);
    Some(Shadow { sample: sample?, store })
}

/// Keys that say how a standby is kept, of a group that has none: what they promise would not be kept.
fn without_standby(reader: &mut Reader<'_>, fields: &mut Fields<'_>) {
    for key in ["ack", "ack_timeout", "fallback", "fallback_after", "hold_max", "drain_timeout"] {
        let Some(node) = fields.take(key) else { continue };
        let message = format!("`{}` is of a group with a standby, and this one has none", fields.name(key));
        let finding = Finding::new(ProblemKind::Invalid, node.span.clone(), message);
        reader.report(finding.help("write `standby: STORE`, or remove the line"));
    }
}

/// How the standby is kept.
fn keeping(reader: &mut Reader<'_>, fields: &mut Fields<'_>) -> Keeping {
    const DURATION: &str = "a number with a unit, as 10s or 500ms";
    let mut keeping = Keeping::default();
    for (key, place) in [
        ("hold_max", &mut keeping.hold_max),
        ("drain_timeout", &mut keeping.drain_timeout),
        ("ack_timeout", &mut keeping.ack_timeout),
        ("fallback_after", &mut keeping.fallback_after),
    ] {
        let Some(node) = fields.take(key) else { continue };
        if let Some(value) = reader.parsed(node, &fields.name(key), DURATION, units::duration) {
            *place = value;
        }
    }
    let acks = [("authority", Ack::Authority), ("standby", Ack::Standby)];
    let ack = fields.take("ack").and_then(|node| reader.choice(node, &fields.name("ack"), &acks));
    keeping.ack = ack.unwrap_or_default();
    let ways = [("manual", Fallback::Manual), ("auto", Fallback::Auto)];
    let fallback = fields.take("fallback").and_then(|node| reader.choice(node, &fields.name("fallback"), &ways));
    keeping.fallback = fallback.unwrap_or_default();
    keeping
}

/// The other store of the group.
fn standby(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    names: &StoreNames,
    connection: Option<StoreId>,
) -> Option<StoreId> {
    let found = names.resolve(reader, node, what)?;
    if Some(found) == connection {
        let message = format!("`{what}` is the store that serves the group");
        let help = "name the other store, or remove the line: a store is no standby of itself";
        reader.report(Finding::new(ProblemKind::Invalid, node.span.clone(), message).help(help));
    }
    Some(found)
}

fn patterns(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<Placed> {
    let items = reader.list(node, what, usize::MAX);
    if items.is_empty() && matches!(&*node.content, Content::Sequence(_)) {
        reader.report(
            Finding::new(ProblemKind::Missing, node.span.clone(), format!("`{what}` is empty"))
                .help("name at least one table"),
        );
    }
    let mut found: Vec<Placed> = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = reader.text(item, what) else { continue };
        match pattern(&text.value) {
            Ok(pattern) => found.push((pattern, text.span)),
            Err(help) => reader.invalid(&text.span, format!("`{what}` cannot have {}", shown(&text.value)), help),
        }
    }
    found
}

/// `table`, `db.table`, with `*` as a wildcard in either.
fn pattern(text: &str) -> Result<TablePattern, &'static str> {
    let (database, name) = match text.split_once('.') {
        Some((database, name)) => (Some(database), name),
        None => (None, text),
    };
    if text.contains(['`', '"', '\'']) {
        return Err("write the name without quotes, as table or db.table");
    }
    if name.contains('.') {
        return Err("write table or db.table");
    }
    for part in [database, Some(name)].into_iter().flatten() {
        check_identifier(part)?;
    }
    if database.is_none() && name.chars().all(|c| c == '*') {
        return Err("a group of every table leaves nothing to `default`: change `default:` instead, or write db.*");
    }
    Ok(TablePattern { database: database.map(str::to_owned), name: name.to_owned() })
}

fn check_identifier(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("write table or db.table: a name is empty");
    }
    if part.chars().count() > 64 {
        return Err("MySQL's names have 64 characters at most");
    }
    if part.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | '?' | '%' | '[' | ']')) || part.trim() != part {
        return Err("write table or db.table; * is the only wildcard");
    }
    Ok(())
}

fn databases(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for item in reader.list(node, what, MAX_DATABASES) {
        let Some(text) = reader.text(item, what) else { continue };
        if let Err(help) = check_identifier(&text.value) {
            reader.invalid(&text.span, format!("`{what}` cannot have {}", shown(&text.value)), help);
        } else if text.value.contains(['.', '*', '`']) {
            reader.invalid(
                &text.span,
                format!("`{what}` cannot have {}", shown(&text.value)),
                "name databases in full",
            );
        } else if found.contains(&text.value) {
            let message = format!("`{what}` has {} twice", shown(&text.value));
            reader.report(Finding::new(ProblemKind::Duplicate, text.span, message).help("remove one of them"));
        } else {
            found.push(text.value);
        }
    }
    found
}

/// Who has which pattern. Two groups may share an unqualified name only in databases that differ.
#[derive(Default)]
struct Claims {
    by_pattern: HashMap<(Option<String>, String), Vec<Claim>>,
}

struct Claim {
    group: String,
    databases: Rc<[String]>,
    at: usize,
}

impl Claims {
    fn claim(
        &mut self,
        reader: &mut Reader<'_>,
        group: &str,
        databases: &Rc<[String]>,
        pattern: &TablePattern,
        span: &Range<usize>,
    ) {
        let claims = self.by_pattern.entry((pattern.database.clone(), pattern.name.clone())).or_default();
        let overlap = |claim: &&Claim| {
            pattern.database.is_some()
                || claim.databases.is_empty()
                || databases.is_empty()
                || claim.databases.iter().any(|database| databases.contains(database))
        };
        let taken = claims.iter().find(|claim| claim.group == group).or_else(|| claims.iter().find(overlap));
        if let Some(taken) = taken {
            let (line, _) = reader.source.position(taken.at);
            let table = shown(&pattern.to_string());
            let (message, help) = if taken.group == group {
                (
                    format!("`groups.{group}` has {table} twice; the first is on line {line}"),
                    "remove one of them".to_owned(),
                )
            } else {
                let message = format!("{table} is in two groups: `{}` (line {line}) and `{group}`", taken.group);
                (
                    message,
                    "a table moves with one group: remove it from the other, or narrow the groups with `databases:`"
                        .to_owned(),
                )
            };
            reader.report(Finding::new(ProblemKind::Duplicate, span.clone(), message).help(help));
        } else {
            claims.push(Claim { group: group.to_owned(), databases: Rc::clone(databases), at: span.start });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn patterns_are_names_with_stars() {
        for text in ["pageviews", "stats_*", "db.t", "*.t", "db.*", "größe", "with space"] {
            assert_eq!(pattern(text).map(|found| found.to_string()), Ok(text.to_owned()), "{text}");
        }
        for text in ["", ".", "a.", ".b", "a.b.c", "`t`", "*", "**", "a/b", "t%", " t", "t?", &"x".repeat(65)] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}

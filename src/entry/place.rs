//! Where a table is: at its own place, or, while its store is sealed by `rename`, under its own name in a schema beside its own.
//!
//! One such schema per database, so that names collide neither between databases nor between groups: a table is in one group at
//! the most. Either name says the other, without asking anybody.
//!
//! While a table is away, a view stands at its own place that keeps its name. It takes that place in the statement in which the
//! table moves, from a name beside it that is told from the table's too, and goes back there.

use super::TableName;

/// How the names of the schemas begin. Letters and underscores: every engine takes them without quotes.
pub const SEALED_SCHEMAS: &str = "switchover_sealed_";
/// How the names begin of what somebody had made at the own place of a table that was away, and a fallback has put aside. They are
/// no group's, whatever its patterns say.
pub const ASIDE: &str = "switchover_stray_";
/// Characters that a name of a schema may have.
const LONGEST: usize = 64;

/// A number for a name: names of other things are made of it that are too short for the name itself (FNV-1a).
#[must_use]
pub fn number(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3))
}

/// The schema in which a database's tables are while they are sealed; none where its name would be too long.
#[must_use]
pub fn sealed_schema(database: &str) -> Option<String> {
    let name = format!("{SEALED_SCHEMAS}{database}");
    (name.chars().count() <= LONGEST).then_some(name)
}

/// The database whose tables are in a schema while they are sealed; none where it is not such a schema.
#[must_use]
pub fn unsealed_schema(schema: &str) -> Option<&str> {
    schema.strip_prefix(SEALED_SCHEMAS).filter(|database| !database.is_empty())
}

impl TableName {
    /// Where it is while its store is sealed by `rename`; none where that schema's name would be too long.
    #[must_use]
    pub fn sealed(&self) -> Option<TableName> {
        Some(TableName { database: sealed_schema(&self.database)?, name: self.name.clone() })
    }

    /// The table that is here while its store is sealed by `rename`; none where this is no such place.
    #[must_use]
    pub fn unsealed(&self) -> Option<TableName> {
        Some(TableName { database: unsealed_schema(&self.database)?.to_owned(), name: self.name.clone() })
    }

    /// Where the view that keeps its name waits, before the table moves away and after it is back.
    #[must_use]
    pub fn spare(&self) -> TableName {
        let name = format!("{SEALED_SCHEMAS}{:016x}", number(&self.name));
        TableName { database: self.database.clone(), name }
    }

    /// Where what has this name is put by the fallback of this epoch: beside the tables that are away, or in its own database, where
    /// it cannot leave that (`beside`).
    #[must_use]
    pub fn aside(&self, epoch: u64, beside: bool) -> Option<TableName> {
        let database = if beside { self.database.clone() } else { sealed_schema(&self.database)? };
        let name = format!("{ASIDE}{epoch}_{}", self.name);
        let fits = name.chars().count() <= LONGEST;
        let name = if fits { name } else { format!("{ASIDE}{epoch}_{:016x}", number(&self.name)) };
        Some(TableName { database, name })
    }

    /// Of something that was put aside: the name that it had, as far as its own says it; none for anything else.
    #[must_use]
    pub fn put_aside(&self) -> Option<TableName> {
        let (epoch, name) = self.name.strip_prefix(ASIDE)?.split_once('_')?;
        epoch.parse::<u64>().ok()?;
        let database = unsealed_schema(&self.database).unwrap_or(&self.database);
        Some(TableName { database: database.to_owned(), name: name.to_owned() })
    }

    /// Whether a RENAME TABLE of these names does nothing but seal tables, or take their seal off: each is a table, where it is while
    /// it is sealed, or the view that keeps its name, and with it comes another of the three; or something is put aside.
    #[must_use]
    pub fn are_moved(names: &[TableName]) -> bool {
        let has = |name: Option<TableName>| name.is_some_and(|name| names.contains(&name));
        let waits = |name: &TableName| names.iter().any(|table| table.spare() == *name);
        let is_own =
            |name: &TableName| has(name.unsealed()) || has(name.sealed()) || has(Some(name.spare())) || waits(name);
        let mut tables = names.iter().filter(|name| name.put_aside().is_none()).peekable();
        tables.peek().is_some() && tables.all(is_own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_says_the_other() {
        let table = TableName { database: "shop".into(), name: "hits".into() };
        let sealed = table.sealed().unwrap();
        assert_eq!(sealed.quoted(), "`switchover_sealed_shop`.`hits`");
        assert_eq!(sealed.unsealed().as_ref(), Some(&table));
        let moved = |names: &[&TableName]| TableName::are_moved(&names.iter().copied().cloned().collect::<Vec<_>>());
        let other = TableName { database: "switchover_sealed_shop".into(), name: "other".into() };
        let spare = table.spare();
        assert!(moved(&[&table, &sealed]) && moved(&[&sealed, &table]) && moved(&[&spare, &table]));
        assert!(
            moved(&[&table, &sealed, &spare]) && moved(&[&table, &sealed, &spare, &other, &other.unsealed().unwrap()])
        );
        assert!(!moved(&[&table, &other]) && !moved(&[&table, &sealed, &other]) && !moved(&[&sealed, &spare]));
        assert!(!moved(&[&table]));
        assert!(TableName { database: "d".into(), name: "x".repeat(64) }.spare().name.len() <= LONGEST);
        assert_eq!((table.unsealed(), unsealed_schema(SEALED_SCHEMAS)), (None, None));
    }

    #[test]
    fn what_is_put_aside_says_what_it_was() {
        let table = TableName { database: "shop".into(), name: "hits".into() };
        let (away, beside) = (table.aside(7, false).unwrap(), table.aside(7, true).unwrap());
        assert_eq!(away.quoted(), "`switchover_sealed_shop`.`switchover_stray_7_hits`");
        assert_eq!(beside.quoted(), "`shop`.`switchover_stray_7_hits`");
        assert_eq!((away.put_aside().as_ref(), beside.put_aside().as_ref()), (Some(&table), Some(&table)));
        assert_eq!((table.put_aside(), table.spare().put_aside()), (None, None));
        let sealed = table.sealed().unwrap();
        assert!(TableName::are_moved(&[table.clone(), away.clone(), sealed, table.clone()]));
        assert!(TableName::are_moved(&[table.clone(), beside, table.spare(), table.clone()]));
        assert!(!TableName::are_moved(&[table, away.clone()]) && !TableName::are_moved(&[away]));
        let long = TableName { database: "d".into(), name: "ü".repeat(64) };
        assert!(long.aside(u64::MAX, true).unwrap().name.chars().count() <= LONGEST);
    }

    #[test]
    fn a_name_that_would_be_too_long_has_none() {
        assert!(sealed_schema(&"ü".repeat(46)).is_some());
        assert_eq!(sealed_schema(&"x".repeat(47)), None);
    }
}

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

    /// Whether a RENAME TABLE of these names does nothing but seal tables, or take their seal off: each is a table, where it is while
    /// it is sealed, or the view that keeps its name, and with it comes another of the three.
    #[must_use]
    pub fn are_moved(names: &[TableName]) -> bool {
        let has = |name: Option<TableName>| name.is_some_and(|name| names.contains(&name));
        let waits = |name: &TableName| names.iter().any(|table| table.spare() == *name);
        let is_own =
            |name: &TableName| has(name.unsealed()) || has(name.sealed()) || has(Some(name.spare())) || waits(name);
        names.iter().all(is_own)
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
    fn a_name_that_would_be_too_long_has_none() {
        assert!(sealed_schema(&"ü".repeat(46)).is_some());
        assert_eq!(sealed_schema(&"x".repeat(47)), None);
    }
}

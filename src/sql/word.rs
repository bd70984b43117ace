//! Keywords as numbers: a word folded to lower case and packed into 128 bits, so that comparing it is one comparison.
//!
//! Fifteen bytes and the length are kept: no two keywords of MySQL or MariaDB share both (checked by a test).

/// A word of the text in lower case, packed; [`Word::NONE`] for everything that is no unquoted word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Word(u128);

impl Word {
    /// No word.
    pub(crate) const NONE: Word = Word(0);

    /// Packs a word of a text, folding ASCII case.
    #[must_use]
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "i is below bytes.len(); const fn has no get()")]
    pub(crate) const fn pack(bytes: &[u8]) -> Word {
        let mut value: u128 = 0;
        let mut i = 0;
        while i < bytes.len() && i < 15 {
            value = (value << 8) | bytes[i].to_ascii_lowercase() as u128;
            i += 1;
        }
        let len = if bytes.len() > 255 { 255 } else { bytes.len() };
        Word((value << 8) | len as u128)
    }

    /// True for anything but [`Word::NONE`].
    #[must_use]
    pub(crate) const fn is_some(self) -> bool {
        self.0 != 0
    }
}

macro_rules! words {
    ($($name:ident)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`")]
            pub(crate) const $name: Word = Word::pack(stringify!($name).as_bytes());
        )*
        #[cfg(test)]
        const KEYWORDS: &[(&str, Word)] = &[$((stringify!($name), $name)),*];
    };
}

words! {
    ALL ALTER ANALYZE AS ATOMIC BACKUP BEGIN BINLOG BODY BY CACHE CALL CASE CHAIN CHANGE CHAR CHARACTER
    CHARSET CHECK CHECKSUM CLONE CLOSE COLUMN COLUMNS COMMIT CONCURRENT CONNECTION CONSISTENT CONVERT COUNT
    CREATE CROSS DATA DATABASE DEALLOCATE DECLARE DEFAULT DELAYED DELETE DESC DESCRIBE DISTINCT DO DROP DUAL
    DUMPFILE DUPLICATE ELSE ELSEIF END ERRORS ERROR_COUNT EVENT EVENTS EVENT_OBJECT_SCHEMA EVENT_OBJECT_TABLE EXCEPT
    EXCHANGE EXECUTE EXISTS EXPLAIN EXTENDED FETCH FIELDS FLUSH FOLLOWS FOR FORCE FORMAT FOUND_ROWS FROM FULL
    FUNCTION GET GET_LOCK GLOBAL GRANT GROUP HANDLER HARD HAVING HELP HIGH_PRIORITY HISTORY ID IDENTITY IF
    IGNORE IMMEDIATE IMPORT IN INDEX INDEXES INNER INSERT INSTALL INSTANCE INTERSECT INTO IS IS_FREE_LOCK
    IS_USED_LOCK ITERATE JOIN KEY KEYS KILL LASTVAL LAST_INSERT_ID LATERAL LEAVE LEFT LIKE LIMIT LOAD LOCAL
    LOCK LOOP LOW_PRIORITY MINUS NAMES NATURAL NEXT NEXTVAL NO NOT NOWAIT NO_WRITE_TO_BINLOG OF OFFSET OJ ON
    ONLY OPEN OPTIMIZE ORDER OUTER OUTFILE PACKAGE PARTITION PARTITIONS PASSWORD PERSIST PERSIST_ONLY PORTION
    PRECEDES PREPARE PREVIOUS PROCEDURE PROXY PURGE QUERY QUICK RECURSIVE REFERENCED_TABLE_NAME REFERENCES
    RELEASE RELEASE_ALL_LOCKS RELEASE_LOCK RENAME REPAIR REPEAT REPLACE RESET RESIGNAL RESOURCE RESTART RETURN
    RETURNING RETURNS REVOKE RIGHT ROLE ROLLBACK ROW ROW_COUNT SAVEPOINT SCHEMA SELECT SEQUENCE SERVER SESSION
    SET SETVAL SHARE SHOW SHUTDOWN SIGNAL SOFT SONAME SQL_CALC_FOUND_ROWS START STATEMENT STATUS STOP
    STRAIGHT_JOIN SYSTEM_TIME TABLE TABLES TABLESPACE TABLE_NAME TABLE_SCHEMA TEMPORARY THEN TO TRANSACTION
    TRIGGER TRIGGERS TRUNCATE UNINSTALL UNION UNIQUE UNLOCK UNTIL UPDATE USE USER USING VALUE VALUES VIEW WAIT
    WARNINGS WARNING_COUNT WHEN WHERE WHILE WINDOW WITH WORK WRITE XA XML
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct() {
        for (i, (a, x)) in KEYWORDS.iter().enumerate() {
            for (b, y) in KEYWORDS.iter().skip(i + 1) {
                assert_ne!(x, y, "{a} and {b}");
            }
        }
        assert_eq!(Word::pack(b"SeLeCt"), SELECT);
        assert_eq!(Word::pack(b"select"), SELECT);
        assert_ne!(Word::pack(b"selec"), SELECT);
        assert!(!Word::pack(b"").is_some());
    }
}

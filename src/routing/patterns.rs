//! Table names and patterns: case folding as the stores do it, and `*`.

use std::borrow::Cow;

use crate::config::model::TablePattern;

/// How names compare, by the stores' `lower_case_table_names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameCase {
    sensitive: bool,
}

impl NameCase {
    /// 0 compares byte for byte; 1 and 2 ignore case.
    #[must_use]
    pub fn new(lower_case_table_names: u8) -> Self {
        NameCase { sensitive: lower_case_table_names == 0 }
    }

    /// Whether two names are one.
    #[must_use]
    pub fn same(self, a: &str, b: &str) -> bool {
        if self.sensitive || a == b {
            return a == b;
        }
        a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && lower(a).eq(lower(b)))
    }

    /// The name as it compares: in lower case where case does not count.
    #[must_use]
    pub fn folded(self, name: &str) -> Cow<'_, str> {
        let folds = !self.sensitive && name.bytes().any(|b| b.is_ascii_uppercase() || b >= 0x80);
        if folds { Cow::Owned(lower(name).collect()) } else { Cow::Borrowed(name) }
    }

    /// Feeds the folded name to a hasher, without building it.
    pub(crate) fn hash<H: std::hash::Hasher>(self, name: &str, into: &mut H) {
        if self.sensitive {
            into.write(name.as_bytes());
        } else {
            for c in lower(name) {
                into.write_u32(u32::from(c));
            }
        }
        into.write_u8(0xFF);
    }

    /// Whether `name` fits `pattern`, where `*` stands for any run of characters.
    #[must_use]
    pub fn fits(self, pattern: &str, name: &str) -> bool {
        glob(self.folded(pattern).as_bytes(), self.folded(name).as_bytes())
    }
}

fn lower(name: &str) -> impl Iterator<Item = char> {
    name.chars().flat_map(char::to_lowercase)
}

/// Whether a folded name fits a folded pattern. Linear in practice: on a mismatch it goes back to the last `*` only.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, n));
        } else if pattern.get(p).is_some() && pattern.get(p) == name.get(n) {
            p += 1;
            n += 1;
        } else if let Some((star, from)) = retry {
            p = star;
            n = from + 1;
            retry = Some((star, from + 1));
        } else {
            return false;
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

/// True where the pattern needs more than a look-up.
pub(crate) fn is_wildcard(pattern: &TablePattern) -> bool {
    pattern.name.contains('*') || pattern.database.as_ref().is_some_and(|d| d.contains('*'))
}

/// Schemas of the server itself; patterns without a database never mean their tables.
#[must_use]
pub fn is_system_schema(database: &str) -> bool {
    ["mysql", "information_schema", "performance_schema", "sys"].iter().any(|s| s.eq_ignore_ascii_case(database))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_wildcards() {
        let (exact, loose) = (NameCase::new(0), NameCase::new(1));
        assert!(!exact.same("Sites", "sites") && loose.same("Sites", "sites"));
        assert!(loose.same("ÉTÉ", "été") && !exact.same("ÉTÉ", "été"));
        assert!(exact.fits("page_*", "page_stats") && exact.fits("*", "") && exact.fits("*_stats", "a_stats_stats"));
        assert!(!exact.fits("page_*", "Page_stats") && loose.fits("page_*", "Page_stats"));
        assert!(exact.fits("a*b*c", "axxbyyc") && !exact.fits("a*b*c", "axxbyy"));
        assert!(!exact.fits("a", "ab"));
    }
}

//! A seeded grammar of statements that MariaDB accepts, made to mislead whoever looks for table names: CTEs and aliases
//! with the names of tables, FROM in strings, comments and functions, joins in parentheses, derived tables, LATERAL's like.

/// xorshift64*: the same statements for the same seed, everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Tables of the session's database; each has id, x, y (INT) and s (VARCHAR).
pub const TABLES: [&str; 7] = ["t1", "t2", "t3", "t4", "t5", "été", "we`ird"];
/// Tables of database `other`.
pub const OTHER: [&str; 3] = ["t1", "o2", "o3"];

pub struct Grammar {
    pub random: Random,
    aliases: usize,
    /// CTEs in scope, innermost last.
    ctes: Vec<String>,
    /// CTEs around a WITH, which the bodies of that WITH leave alone.
    ///
    /// MariaDB 10.11.19 takes such names for tables: `WITH a AS (…) SELECT * FROM (WITH b AS (SELECT * FROM a) SELECT * FROM b) d`
    /// fails with 1146. That is not what SQL or MySQL say, and is not followed.
    hidden: Vec<String>,
}

impl Grammar {
    pub fn new(seed: u64) -> Self {
        Grammar { random: Random::new(seed), aliases: 0, ctes: Vec::new(), hidden: Vec::new() }
    }

    /// One statement.
    pub fn statement(&mut self) -> String {
        self.aliases = 0;
        self.ctes.clear();
        match self.random.below(16) {
            0..=6 => self.query(3, true),
            7 => self.insert_values(),
            8 => self.insert_select(),
            9..=10 => self.update_one(),
            11 => self.update_many(),
            12 => self.delete_one(),
            13 => self.delete_many(),
            14 => format!("DO {}, {}", self.expression(2, "1"), self.scalar(2)),
            _ => format!("SET @v = {}, @w := {}", self.scalar(2), self.expression(2, "2")),
        }
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        // An alias may have a table's name, as long as no other alias of the statement has it.
        match self.random.below(6) {
            0 if self.aliases < 6 => format!("`al {}`", self.aliases),
            // words that open a clause elsewhere
            1 if self.aliases < 10 => {
                format!("{}{}", self.random.pick(&["value", "end", "share", "full"]), self.aliases)
            }
            2 if self.aliases == 1 => {
                self.random.pick(&["value", "end", "begin", "share", "offset_", "data"]).to_owned()
            }
            _ => format!("a{}", self.aliases),
        }
    }

    fn table(&mut self) -> String {
        let space = self.random.pick(&["", "", "", " ", "/* FROM t9 */"]).to_owned();
        if self.random.one_in(4) {
            let table = OTHER[self.random.below(OTHER.len())];
            return match self.random.below(3) {
                0 => format!("other.{table}"),
                1 => format!("`other`.`{table}`"),
                _ => format!("other{space}.{space}{table}"),
            };
        }
        let table = TABLES[self.random.below(TABLES.len())];
        if self.hidden.iter().any(|h| h == table) {
            return format!("locked.{table}");
        }
        match table {
            "we`ird" => "`we``ird`".to_owned(),
            _ if self.random.one_in(3) => format!("`{table}`"),
            _ => table.to_owned(),
        }
    }

    /// A table, a CTE, a derived table or a join in parentheses; the alias that its columns go by.
    fn factor(&mut self, depth: usize) -> (String, String) {
        if depth > 0 && self.random.one_in(5) {
            let alias = self.alias();
            let query = self.query(depth - 1, false);
            let close = self.random.pick(&["", " "]);
            return (format!("({query}{close}) {}{alias}", self.random.pick(&["", "AS "])), alias);
        }
        if depth > 0 && self.random.one_in(8) {
            let (left, alias) = self.factor(depth - 1);
            let (right, _) = self.factor(depth - 1);
            return (format!("({left} {} {right})", self.random.pick(&["JOIN", "CROSS JOIN", "INNER JOIN"])), alias);
        }
        if depth > 0 && self.random.one_in(16) {
            let (alias, value) = (self.alias(), self.scalar(depth - 1));
            return (
                format!("(SELECT 1 AS id, 2 AS x, 3 AS y, 'a' AS s UNION VALUES (1, {value}, 3, 'FROM t9')) {alias}"),
                alias,
            );
        }
        let alias = self.alias();
        if !self.ctes.is_empty() && self.random.one_in(3) {
            let name = self.ctes[self.random.below(self.ctes.len())].clone();
            return (format!("{name} {alias}"), alias);
        }
        let extra = match self.random.below(14) {
            0 => " USE INDEX (PRIMARY)",
            1 => " IGNORE INDEX FOR JOIN (PRIMARY)",
            2 => " FORCE INDEX FOR ORDER BY (PRIMARY)",
            _ => "",
        };
        (format!("{} {}{alias}{extra}", self.table(), self.random.pick(&["", "AS ", "as\n"])), alias)
    }

    /// A FROM clause without FROM, and the aliases that may be used after it.
    fn tables(&mut self, depth: usize) -> (String, Vec<String>) {
        let (mut text, first) = self.factor(depth);
        let mut aliases = vec![first];
        for _ in 0..self.random.below(3) {
            let (factor, alias) = self.factor(depth);
            let last = &aliases[aliases.len() - 1];
            text = match self.random.below(6) {
                0 => format!("{text}, {factor}"),
                1 => format!("{text} LEFT JOIN {factor} ON {alias}.id = {last}.id"),
                2 => format!("{text} RIGHT OUTER JOIN {factor} ON ({last}.x = {alias}.x AND 'JOIN t9' <> 'FROM t9')"),
                3 => format!("{text} STRAIGHT_JOIN {factor}"),
                4 => format!("{text} CROSS JOIN {factor}"),
                _ => format!("{text} INNER JOIN {factor} ON {}", self.predicate(depth.saturating_sub(1), &alias)),
            };
            aliases.push(alias);
        }
        (text, aliases)
    }

    fn query(&mut self, depth: usize, top: bool) -> String {
        let scope = self.ctes.len();
        let with = if depth > 0 && self.random.one_in(5) { self.with(depth - 1) } else { String::new() };
        let mut text = format!("{with}{}", self.select(depth, top && with.is_empty()));
        let plain = !text.contains("FOR UPDATE") && !text.contains("LOCK IN") && !text.ends_with("LIMIT 3");
        if plain && self.random.one_in(5) {
            let right = self.select(depth.saturating_sub(1), false);
            let union = self.random.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
            text = if self.random.one_in(2) {
                format!("{text} {union} ({right})")
            } else {
                format!("{text} {union} {right}")
            };
        }
        self.ctes.truncate(scope);
        text
    }

    fn with(&mut self, depth: usize) -> String {
        let outer = std::mem::take(&mut self.ctes);
        let before = self.hidden.len();
        self.hidden.extend(outer.iter().cloned());
        let text = self.with_list(depth);
        self.hidden.truncate(before);
        self.ctes.splice(0..0, outer);
        text
    }

    fn with_list(&mut self, depth: usize) -> String {
        let recursive = self.random.one_in(3);
        let mut parts = Vec::new();
        for _ in 0..=self.random.below(2) {
            let name = self.random.pick(&["t1", "t2", "c1", "`c2`", "o2"]).to_owned();
            if self.ctes.contains(&name) || parts.iter().any(|p: &String| p.starts_with(&format!("{name} "))) {
                continue;
            }
            let columns = self.random.pick(&["(id, x, y, s) ", " (id,x,y,s)"]);
            let (from, _) = self.tables(depth);
            let body = format!("SELECT 1, {}, 3, 'FROM t9' FROM {from}", self.expression(depth, "2"));
            let body = match recursive {
                true => format!("{body} UNION SELECT id + 1, x, y, s FROM {name} WHERE id < 2"),
                false => body,
            };
            parts.push(format!("{name} {columns}AS ({body})"));
            self.ctes.push(name);
        }
        if parts.is_empty() {
            return String::new();
        }
        format!("WITH {}{} ", if recursive { "RECURSIVE " } else { "" }, parts.join(", "))
    }

    fn select(&mut self, depth: usize, may_lock: bool) -> String {
        let (from, aliases) = self.tables(depth);
        let alias = aliases[self.random.below(aliases.len())].clone();
        let options = self.random.pick(&[
            "",
            "",
            "DISTINCT ",
            "SQL_BIG_RESULT ",
            "/*!40001 SQL_SMALL_RESULT */ ",
            "/* FROM t9 */ ",
        ]);
        let items = format!(
            "1 AS id, {} AS x, {} AS y, 'a' AS s",
            self.expression(depth.saturating_sub(1), &format!("{alias}.x")),
            self.expression(0, "3")
        );
        let mut text =
            format!("SELECT {options}{items} {} {from}", self.random.pick(&["FROM", "from", "FROM--\tt9\n"]));
        if self.random.one_in(2) {
            text = format!("{text} WHERE {}", self.predicate(depth, &alias));
        }
        if self.random.one_in(6) {
            text = format!(
                "{text} GROUP BY {alias}.id{}",
                self.random.pick(&["", " HAVING COUNT(*) > 0", " WITH ROLLUP"])
            );
        }
        match self.random.below(8) {
            0 if may_lock => format!("{text} FOR UPDATE"),
            1 if may_lock => format!("{text} LOCK IN SHARE MODE"),
            2 => format!("{text} LIMIT 3"),
            _ => text,
        }
    }

    /// A scalar, perhaps with a subquery.
    fn scalar(&mut self, depth: usize) -> String {
        let (from, aliases) = self.tables(depth.saturating_sub(1));
        format!("(SELECT MAX({}.x) FROM {from})", aliases[0])
    }

    /// An expression around `value`.
    fn expression(&mut self, depth: usize, value: &str) -> String {
        match self.random.below(12) {
            0 => format!("EXTRACT(YEAR FROM NOW()) + {value}"),
            1 => format!("LENGTH(TRIM(LEADING 'x' FROM 'xx')) + {value}"),
            2 => format!("LENGTH(SUBSTRING('FROM t9' FROM 2 FOR 3)) + {value}"),
            3 => format!("CASE WHEN {value} > 1 THEN {value} ELSE 0 END"),
            4 => format!("IF({value} > 1, {value}, 'FROM t9')"),
            5 if depth > 0 => self.scalar(depth - 1),
            7 => format!("IF(@@version > '1', {value}, @`FROM t9`)"),
            8 => format!("{value} + (SELECT SUM(1) OVER (PARTITION BY 1 ORDER BY 1) LIMIT 1)"),
            9 if depth > 0 => format!("{value} + (NOW() + INTERVAL {} DAY > '2020-01-01')", self.scalar(depth - 1)),
            6 if depth > 0 => format!("COALESCE({}, {value})", self.scalar(depth - 1)),
            _ => value.to_owned(),
        }
    }

    fn predicate(&mut self, depth: usize, alias: &str) -> String {
        if depth == 0 {
            return format!("{alias}.id {} 1", self.random.pick(&["=", "<", "<=>", ">="]));
        }
        match self.random.below(8) {
            0 => format!("{alias}.x IN (SELECT id FROM ({}) {})", self.query(depth - 1, false), self.alias()),
            1 => format!("EXISTS ({})", self.query(depth - 1, false)),
            2 => format!("NOT EXISTS({}) AND {}", self.query(depth - 1, false), self.predicate(0, alias)),
            3 => format!(
                "{alias}.x > ALL (SELECT x FROM {})",
                self.tables(depth - 1).0.split(',').next().map_or("t1", |_| "t3")
            ),
            4 => format!("({alias}.s = \"FROM t9\" OR {alias}.s LIKE '%\\'FROM t9%')"),
            5 => format!("1 = 0 AND {}", self.predicate(depth - 1, alias)),
            6 => format!("{} = {alias}.y", self.expression(depth, &format!("{alias}.x"))),
            _ => self.predicate(0, alias),
        }
    }

    fn insert_values(&mut self) -> String {
        let (table, id) = (self.table(), self.random.below(1_000_000));
        let verb = self.random.pick(&["INSERT INTO", "INSERT IGNORE", "REPLACE INTO", "insert"]);
        let tail = match verb {
            "REPLACE INTO" => String::new(),
            _ if self.random.one_in(2) => format!(" ON DUPLICATE KEY UPDATE x = VALUES(x) + {}", self.random.below(9)),
            _ => String::new(),
        };
        format!(
            "{verb} {table} (id, x, s) VALUES ({id}, {}, 'FROM t9'), ({}, 1, 'b'){tail}",
            self.expression(1, "1"),
            id + 1
        )
    }

    fn insert_select(&mut self) -> String {
        let table = self.table();
        let verb = self.random.pick(&["INSERT IGNORE INTO", "REPLACE INTO"]);
        let query = self.query(2, false);
        // Behind a select list with FROM, the assignments are told from a join's condition by two words.
        let tail = match verb {
            "INSERT IGNORE INTO" if self.random.one_in(2) => {
                format!(" ON DUPLICATE KEY UPDATE x = VALUES(x), y = 2, s = {}", self.expression(1, "'FROM t9, t8'"))
            }
            _ => String::new(),
        };
        format!("{verb} {table} (id, x, y, s) {query}{tail}")
    }

    fn update_one(&mut self) -> String {
        let (table, alias) = (self.table(), self.alias());
        format!(
            "UPDATE {table} AS {alias} SET {alias}.x = {}, y = 2 WHERE {}",
            self.expression(2, "5"),
            self.predicate(2, &alias)
        )
    }

    fn update_many(&mut self) -> String {
        let (table, alias) = (self.table(), self.alias());
        let (others, names) = self.tables(1);
        format!(
            "UPDATE {table} {alias} JOIN ({others}) ON {alias}.id = {}.id SET {alias}.x = {}, {alias}.y = {}.y WHERE {}",
            names[0],
            self.expression(1, "5"),
            names[0],
            self.predicate(1, &alias)
        )
    }

    fn delete_one(&mut self) -> String {
        let table = self.table();
        let predicate = match self.random.below(3) {
            0 => "id < 0".to_owned(),
            1 => format!("x IN (SELECT id FROM ({}) d)", self.query(1, false)),
            _ => format!("id = {}", self.scalar(1)),
        };
        format!("DELETE FROM {table} WHERE {predicate} ORDER BY id LIMIT 2")
    }

    fn delete_many(&mut self) -> String {
        let (table, alias) = (self.table(), self.alias());
        let (others, names) = self.tables(1);
        let refs = format!("{table} {alias} JOIN {others} ON {}.id = {alias}.id", names[names.len() - 1]);
        let refs =
            if others.contains(',') || others.ends_with(')') { format!("{table} {alias}, {others}") } else { refs };
        match self.random.below(2) {
            0 => format!("DELETE {alias} FROM {refs} WHERE {}", self.predicate(1, &alias)),
            _ => format!("DELETE FROM {alias} USING {refs} WHERE {}", self.predicate(1, &alias)),
        }
    }
}

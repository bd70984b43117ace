//! One entry of the journal: its grammar, its HMAC, and the SQL that writes it. Pure.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::entry::Uuid;
use crate::wire::codec::{Malformed, put_lenenc, put_lenenc_bytes};

/// What an entry is.
///
/// ```text
/// journal     := { transaction | tombstone | signal }    in the order of the ids of the last entry of each
/// transaction := { rows } commit                  inserted by the store transaction whose rows they hold
/// ```
///
/// 1. The entries of a transaction share its UUID and its group; `part` counts them from 0; the last, and only it, is a `commit`.
/// 2. `commit.parts` is the number of entries before it: with one missing, the transaction is not applied but stops the group.
/// 3. Every entry but a tombstone carries changes of rows; those of a transaction are the changes of its parts, in order.
/// 4. An id is given away by the store while it inserts the entry, behind the last write of the transaction: whoever waited for a
///    lock of that transaction has a greater one. So the order of ids is an order in which conflicting transactions committed.
/// 5. A tombstone says that its id is nobody's, and never will be: whoever was given it and has not inserted yet fails with 1062.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes; more of the same transaction follow.
    Rows,
    /// Changes, and the end of the transaction.
    Commit,
    /// Nothing: the id is dead.
    Tombstone,
    /// Nothing: whoever wrote it waits for the standby to come that far.
    Signal,
}

impl Kind {
    /// Its number in the table.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Kind::Rows => 0,
            Kind::Commit => 1,
            Kind::Tombstone => 2,
            Kind::Signal => 9,
        }
    }

    /// The other way.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_number(number: u8) -> Result<Kind, Malformed> {
        match number {
            0 => Ok(Kind::Rows),
            1 => Ok(Kind::Commit),
            2 => Ok(Kind::Tombstone),
            9 => Ok(Kind::Signal),
            _ => Err(Malformed("an entry of an unknown kind")),
        }
    }
}

/// What the control account alone can read, and entries are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An entry, but for its id, which the store gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its own.
    pub uuid: Uuid,
    /// The group whose tables it is about.
    pub group: String,
    /// Its transaction's.
    pub transaction: Uuid,
    /// Its number in the transaction.
    pub part: u32,
    /// Of a commit: how many are before it; else 0.
    pub parts: u32,
    /// What it is.
    pub kind: Kind,
    /// When it was made, seconds since 1970, by the clock of the proxy.
    pub at: u32,
    /// [`super::codec`].
    pub payload: Vec<u8>,
}

/// Columns of `switchover.journal`, in the order in which entries are written and read; the id stands before them.
pub const COLUMNS: &str = "uuid, group_name, transaction_uuid, part, parts, kind, made_at, payload, mac";

impl Entry {
    /// Its HMAC-SHA256: everything but the id, which is the store's to give.
    fn mac(&self, secret: &Secret) -> Hmac<Sha256> {
        // HMAC fills a key up to the hash's block with zeros: done here, for so it cannot fail
        let mut key = [0u8; 64];
        key.iter_mut().zip(secret.0).for_each(|(to, from)| *to = from);
        let mut mac = <Hmac<Sha256> as Mac>::new((&key).into());
        let mut head = b"switchover.journal.1".to_vec();
        head.extend(self.uuid.0);
        head.extend(self.transaction.0);
        put_lenenc_bytes(&mut head, self.group.as_bytes());
        head.push(self.kind.number());
        for number in [self.part, self.parts, self.at] {
            head.extend(number.to_le_bytes());
        }
        put_lenenc(&mut head, self.payload.len() as u64);
        mac.update(&head);
        mac.update(&self.payload);
        mac
    }

    /// Its HMAC.
    #[must_use]
    pub fn tag(&self, secret: &Secret) -> Vec<u8> {
        self.mac(secret).finalize().into_bytes().to_vec()
    }

    /// Whether `tag` is its HMAC; takes as long for any.
    #[must_use]
    pub fn is_signed_by(&self, secret: &Secret, tag: &[u8]) -> bool {
        self.mac(secret).verify_slice(tag).is_ok()
    }

    /// `(id, …)` for VALUES: hexadecimal literals only, which mean the same under every sql_mode and character set.
    pub fn put(&self, out: &mut String, id: &str, secret: &Secret) {
        let tag = self.tag(secret);
        out.push('(');
        out.push_str(id);
        for bytes in [&self.uuid.0, self.group.as_bytes(), &self.transaction.0] {
            out.push(',');
            put_hex(out, bytes);
        }
        out.push_str(&format!(",{},{},{},{},", self.part, self.parts, self.kind.number(), self.at));
        put_hex(out, &self.payload);
        out.push(',');
        put_hex(out, &tag);
        out.push(')');
    }
}

/// `X'…'`.
pub fn put_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.reserve(bytes.len() * 2 + 3);
    out.push_str("X'");
    for byte in bytes {
        let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or('0');
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
    out.push('\'');
}

/// How a store gives ids away; see [`super::schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// From the sequence: some are never used.
    Sequence,
    /// From the row, which is locked from here to the COMMIT behind it: all are used.
    Row,
}

/// The statements, joined with `;`, that insert these entries, each with an id of the store's. COMMIT is to follow in the same
/// packet.
#[must_use]
pub fn insert(entries: &[Entry], secret: &Secret, ids: Ids) -> String {
    let mut sql = String::new();
    if ids == Ids::Row {
        sql = format!("UPDATE switchover.journal_next SET id = id + {} WHERE one = 1;", entries.len());
    }
    sql.push_str(&format!("INSERT INTO switchover.journal (id, {COLUMNS}) VALUES "));
    for (n, entry) in entries.iter().enumerate() {
        if n > 0 {
            sql.push(',');
        }
        match ids {
            Ids::Sequence => entry.put(&mut sql, "NEXT VALUE FOR switchover.journal_ids", secret),
            Ids::Row => {
                let before = entries.len() - 1 - n;
                entry.put(
                    &mut sql,
                    &format!("(SELECT id - {before} FROM switchover.journal_next WHERE one = 1)"),
                    secret,
                );
            }
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            uuid: Uuid([1; 16]),
            group: "g".into(),
            transaction: Uuid([2; 16]),
            part: 0,
            parts: 0,
            kind: Kind::Commit,
            at: 7,
            payload: b"x".to_vec(),
        }
    }

    /// RULES.md 43: whoever may insert into the journal cannot make an entry that counts, nor one out of another.
    #[test]
    fn every_field_is_signed() {
        let secret = Secret([9; 32]);
        let tag = entry().mac(&secret).finalize().into_bytes();
        assert!(entry().is_signed_by(&secret, &tag));
        assert!(!entry().is_signed_by(&Secret([8; 32]), &tag));
        assert!(!entry().is_signed_by(&secret, &tag[..31]) && !entry().is_signed_by(&secret, &[]));
        let others = [
            Entry { uuid: Uuid([3; 16]), ..entry() },
            Entry { group: "h".into(), ..entry() },
            Entry { transaction: Uuid([1; 16]), ..entry() },
            Entry { part: 1, ..entry() },
            Entry { parts: 1, ..entry() },
            Entry { kind: Kind::Rows, ..entry() },
            Entry { at: 8, ..entry() },
            Entry { payload: b"y".to_vec(), ..entry() },
            Entry { payload: b"xx".to_vec(), ..entry() },
        ];
        for other in others {
            assert!(!other.is_signed_by(&secret, &tag), "{other:?}");
        }
    }

    #[test]
    fn an_insert_is_plain_ascii() {
        let entries = [entry(), Entry { group: "it's".into(), ..entry() }];
        let sql = insert(&entries, &Secret([9; 32]), Ids::Sequence);
        assert!(sql.is_ascii() && !sql.contains(['\\', ';', '"']), "{sql}");
        assert!(sql.contains("(NEXT VALUE FOR switchover.journal_ids,X'0101"), "{sql}");
        assert!(sql.contains(",X'69742773',") && sql.contains(",0,0,1,7,X'78',X'"), "{sql}");
    }

    #[test]
    fn a_row_gives_as_many_ids_as_there_are_entries() {
        let sql = insert(&[entry(), entry()], &Secret([9; 32]), Ids::Row);
        assert!(sql.starts_with("UPDATE switchover.journal_next SET id = id + 2 WHERE one = 1;INSERT INTO"), "{sql}");
        let (first, second) = (sql.find("SELECT id - 1 FROM").unwrap(), sql.find("SELECT id - 0 FROM").unwrap());
        assert!(first < second, "{sql}");
    }

    #[test]
    fn kinds_have_numbers() {
        for kind in [Kind::Rows, Kind::Commit, Kind::Tombstone, Kind::Signal] {
            assert_eq!(Kind::from_number(kind.number()), Ok(kind));
        }
        assert!(Kind::from_number(3).is_err());
    }
}

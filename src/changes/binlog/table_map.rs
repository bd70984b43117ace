//! TABLE_MAP events: which table the following rows are of, and the types of its columns.

use crate::entry::LoggedType;
use crate::wire::codec::{Malformed, Reader};

/// A table map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMap {
    /// The number that row events use for it.
    pub id: u64,
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub types: Vec<LoggedType>,
}

/// Types of the log that hide behind others.
const STRING: u8 = 254;

fn id(r: &mut Reader<'_>) -> Result<u64, Malformed> {
    Ok(u64::from(r.u32()?) | u64::from(r.u16()?) << 32)
}

/// The number of the table that a row event or table map is about.
///
/// # Errors
/// [`Malformed`] where the body ends early; so below.
pub fn table_id(body: &[u8]) -> Result<u64, Malformed> {
    id(&mut Reader::new(body))
}

/// Reads the names and the number of columns only: most maps are of tables of others.
///
/// # Errors
/// [`Malformed`].
pub fn names(body: &[u8]) -> Result<(u64, &str, &str), Malformed> {
    let mut r = Reader::new(body);
    let id = id(&mut r)?;
    r.u16()?;
    let database = text(&mut r)?;
    Ok((id, database, text(&mut r)?))
}

fn text<'a>(r: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let length = r.u8()?;
    let bytes = r.bytes(usize::from(length))?;
    r.u8()?;
    std::str::from_utf8(bytes).map_err(|_| Malformed("a name that is not UTF-8"))
}

/// Reads a table map.
///
/// # Errors
/// [`Malformed`].
pub fn read(body: &[u8]) -> Result<TableMap, Malformed> {
    let mut r = Reader::new(body);
    let id = id(&mut r)?;
    r.u16()?;
    let database = text(&mut r)?.to_owned();
    let name = text(&mut r)?.to_owned();
    let count = usize::try_from(r.lenenc()?).map_err(|_| Malformed("too many columns"))?;
    let codes = r.bytes(count)?;
    let meta = r.lenenc_bytes()?;
    let mut m = Reader::new(meta);
    let types = codes.iter().map(|code| logged(*code, &mut m)).collect::<Result<_, _>>()?;
    Ok(TableMap { id, database, name, types })
}

fn logged(code: u8, m: &mut Reader<'_>) -> Result<LoggedType, Malformed> {
    let meta = match code {
        // FLOAT, DOUBLE, the BLOBs, GEOMETRY, JSON, times with fractions, compressed BLOBs
        4 | 5 | 252 | 255 | 245 | 17 | 18 | 19 | 140 | 242 => u16::from(m.u8()?),
        // VARCHAR, compressed VARCHAR, BIT
        15 | 141 | 16 => m.u16()?,
        // NEWDECIMAL: precision, scale; STRING, ENUM, SET: real type, length
        246 | STRING | 247 | 248 | 253 => {
            let (high, low) = (m.u8()?, m.u8()?);
            if code == STRING {
                return Ok(string(high, low));
            }
            u16::from(high) << 8 | u16::from(low)
        }
        _ => 0,
    };
    Ok(LoggedType { code, meta })
}

/// CHAR of more than 255 bytes keeps two bits of its length in the type's byte.
fn string(high: u8, low: u8) -> LoggedType {
    if high & 0x30 == 0x30 {
        LoggedType { code: high, meta: u16::from(low) }
    } else {
        LoggedType { code: high | 0x30, meta: u16::from(low) | (u16::from(high & 0x30) ^ 0x30) << 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MariaDB 10.11: `CREATE TABLE d.t (a INT, b VARCHAR(10), c ENUM('x','y'), e CHAR(200) CHARACTER SET utf8mb4, f DATETIME(3))`.
    fn body() -> Vec<u8> {
        let mut b = vec![18, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 5];
        b.extend([3, 15, 254, 254, 18]);
        b.extend([7, 40, 0, 247, 1, 0xCE, 0x20, 3]);
        b.push(0x1F);
        b
    }

    #[test]
    fn maps_are_read() {
        let map = read(&body()).unwrap();
        let logged = |code, meta| LoggedType { code, meta };
        assert_eq!((map.id, map.database.as_str(), map.name.as_str()), (18, "d", "t"));
        assert_eq!(map.types, [logged(3, 0), logged(15, 40), logged(247, 1), logged(254, 800), logged(18, 3)]);
        for cut in 0..body().len() - 1 {
            assert!(read(&body()[..cut]).is_err(), "{cut}");
        }
    }
}

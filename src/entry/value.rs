//! One column's value, exactly as the authority stored it, before anyone knows the column's name, sign or character set.

/// A value of a row image.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer as its bits, sign-extended: whether it is unsigned, the column says.
    Int(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// BIT, ENUM's index, SET's bits, YEAR: never negative.
    Number(u64),
    /// DECIMAL, as the server prints it.
    Decimal(Box<str>),
    /// A date or time, as the server prints it; TIMESTAMP in UTC.
    Temporal(Box<str>),
    /// A string's bytes in its column's character set; BINARY without its trailing zero bytes, CHAR without its spaces.
    Bytes(Box<[u8]>),
}

impl Value {
    /// Appends a form in which equal values, and only those, are equal: for keys. Not for reading back.
    pub fn put_key(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(0),
            Value::Int(v) => put(out, 1, &v.to_le_bytes()),
            Value::Float(v) => put(out, 2, &v.to_bits().to_le_bytes()),
            Value::Double(v) => put(out, 3, &v.to_bits().to_le_bytes()),
            Value::Number(v) => put(out, 4, &v.to_le_bytes()),
            Value::Decimal(v) => put(out, 5, v.as_bytes()),
            Value::Temporal(v) => put(out, 6, v.as_bytes()),
            Value::Bytes(v) => put(out, 7, v),
        }
    }

    /// Whether it is the very same: 0.0 and -0.0 are equal, and two values.
    #[must_use]
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }

    /// Whether it is NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Bytes that it takes in memory, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Value>()
            + match self {
                Value::Decimal(v) | Value::Temporal(v) => v.len(),
                Value::Bytes(v) => v.len(),
                _ => 0,
            }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    // the length keeps ('a', 'bc') and ('ab', 'c') apart
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Number),
            any::<f32>().prop_filter("stored", |v| v.is_finite()).prop_map(Value::Float),
            any::<f64>().prop_filter("stored", |v| v.is_finite()).prop_map(Value::Double),
            "[0-9.-]{0,8}".prop_map(|v| Value::Decimal(v.into())),
            "[0-9:-]{0,8}".prop_map(|v| Value::Temporal(v.into())),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|v| Value::Bytes(v.into())),
        ]
    }

    proptest! {
        /// Invariant 3: rows that differ are never taken for one row.
        #[test]
        fn keys_are_equal_where_rows_are(a in proptest::collection::vec(any_value(), 1..4), b in proptest::collection::vec(any_value(), 1..4)) {
            let key = |row: &[Value]| {
                let mut out = Vec::new();
                row.iter().for_each(|v| v.put_key(&mut out));
                out
            };
            // -0.0 and 0.0 are two keys here and one on a server: only bits that differ, which is the safe side of no merge
            let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| format!("{a:?}") == format!("{b:?}"));
            prop_assert_eq!(key(&a) == key(&b), same);
        }
    }
}

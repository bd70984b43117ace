//! Reading and writing the protocol's basic types; every read is checked, nothing panics on short input.
//!
//! Source: MySQL "Basic data types".

/// A message that does not follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet: {0}")]
pub struct Malformed(pub &'static str);

/// A checked cursor over a payload.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `payload`.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Reader { rest: payload }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`Malformed`] if fewer are left.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Malformed("it ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("it ends early"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// `int<1>`
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    /// `int<2>`
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// `int<3>`
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u24(&mut self) -> Result<u32, Malformed> {
        self.array::<3>().map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    /// `int<4>`
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// `int<8>`
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// `int<lenenc>`
    ///
    /// # Errors
    /// [`Malformed`] at the end, and for 0xFB and 0xFF, which are no integers.
    pub fn lenenc(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            0xFC => self.u16().map(u64::from),
            0xFD => self.u24().map(u64::from),
            0xFE => self.u64(),
            0xFB | 0xFF => Err(Malformed("no length-encoded integer")),
            n => Ok(u64::from(n)),
        }
    }

    /// `string<lenenc>`
    ///
    /// # Errors
    /// [`Malformed`] if the length is none or exceeds what is left.
    pub fn lenenc_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.lenenc()?;
        self.bytes(usize::try_from(n).map_err(|_| Malformed("a length beyond memory"))?)
    }

    /// `string<lenenc>` of a text row, or NULL.
    ///
    /// # Errors
    /// [`Malformed`] as [`Reader::lenenc_bytes`].
    pub fn lenenc_bytes_or_null(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.first() == Some(&0xFB) {
            self.u8()?;
            return Ok(None);
        }
        self.lenenc_bytes().map(Some)
    }

    /// `string<NUL>`, without the NUL.
    ///
    /// # Errors
    /// [`Malformed`] if there is no NUL.
    pub fn until_nul(&mut self) -> Result<&'a [u8], Malformed> {
        let at = memchr::memchr(0, self.rest).ok_or(Malformed("a string without its NUL"))?;
        let s = self.bytes(at)?;
        self.u8()?;
        Ok(s)
    }
}

/// Appends `int<lenenc>`.
pub fn put_lenenc(out: &mut Vec<u8>, n: u64) {
    let b = n.to_le_bytes();
    let [b0, b1, b2, ..] = b;
    match n {
        0..=0xFA => out.push(b0),
        0xFB..=0xFFFF => out.extend([0xFC, b0, b1]),
        0x1_0000..=0xFF_FFFF => out.extend([0xFD, b0, b1, b2]),
        _ => {
            out.push(0xFE);
            out.extend(b);
        }
    }
}

/// Appends `string<lenenc>`.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, s: &[u8]) {
    put_lenenc(out, s.len() as u64);
    out.extend(s);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenenc_round_trips_at_every_boundary() {
        for n in [0, 1, 0xFA, 0xFB, 0xFC, 0xFFFF, 0x1_0000, 0xFF_FFFF, 0x100_0000, u64::MAX] {
            let mut out = Vec::new();
            put_lenenc(&mut out, n);
            let mut r = Reader::new(&out);
            assert_eq!(r.lenenc(), Ok(n));
            assert!(r.is_empty());
            for cut in 0..out.len() {
                assert!(Reader::new(&out[..cut]).lenenc().is_err());
            }
        }
    }

    #[test]
    fn a_length_beyond_the_payload_is_refused() {
        assert!(Reader::new(&[0xFE, 255, 255, 255, 255, 255, 255, 255, 255]).lenenc_bytes().is_err());
        assert!(Reader::new(&[5, 1, 2]).lenenc_bytes().is_err());
        assert_eq!(Reader::new(&[0xFB, 1]).lenenc_bytes_or_null(), Ok(None));
    }
}

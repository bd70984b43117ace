//! Packets: a 3-byte length, a sequence number, a payload. A payload of 2^24−1 bytes or more spans several packets,
//! the last of which is shorter (empty, for exact multiples).
//!
//! Source: MySQL "Packets".

/// Bytes of a packet header.
pub const HEADER: usize = 4;
/// The longest payload of one packet, bytes.
pub const MAX_PAYLOAD: usize = 0xFF_FFFF;

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload length, bytes.
    pub length: u32,
    /// Sequence number.
    pub sequence: u8,
}

impl Header {
    /// Reads a header off the start of `bytes`; `None` if fewer than four are there.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let [a, b, c, sequence] = *bytes.first_chunk::<HEADER>()?;
        Some(Header { length: u32::from_le_bytes([a, b, c, 0]), sequence })
    }

    /// Payload length, bytes.
    #[must_use]
    pub fn len(self) -> usize {
        self.length as usize
    }

    /// Whether the payload is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Whether the payload goes on in the next packet.
    #[must_use]
    pub fn continues(self) -> bool {
        self.len() == MAX_PAYLOAD
    }
}

/// Appends `payload` as one or more packets, the first with sequence number `sequence`; returns the next number.
pub fn put(out: &mut Vec<u8>, sequence: u8, payload: &[u8]) -> u8 {
    let mut sequence = sequence;
    let mut rest = payload;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(MAX_PAYLOAD));
        put_header(out, chunk.len(), sequence);
        out.extend_from_slice(chunk);
        sequence = sequence.wrapping_add(1);
        rest = after;
        if chunk.len() < MAX_PAYLOAD {
            return sequence;
        }
    }
}

/// Appends one header; `length` must not exceed [`MAX_PAYLOAD`].
pub fn put_header(out: &mut Vec<u8>, length: usize, sequence: u8) {
    let [a, b, c, ..] = length.min(MAX_PAYLOAD).to_le_bytes();
    out.extend_from_slice(&[a, b, c, sequence]);
}

/// The payload of a framed command or message, without its headers; borrowed where it is one packet.
#[must_use]
pub fn payload(framed: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match Header::read(framed) {
        Some(h) if !h.continues() => framed.get(HEADER..HEADER + h.len()).unwrap_or_default().into(),
        Some(_) => {
            let mut out = Vec::with_capacity(framed.len());
            let mut rest = framed;
            while let Some(h) = Header::read(rest) {
                let end = (HEADER + h.len()).min(rest.len());
                out.extend_from_slice(rest.get(HEADER..end).unwrap_or_default());
                rest = rest.get(end..).unwrap_or_default();
            }
            out.into()
        }
        None => (&[][..]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_multiples_end_with_an_empty_packet() {
        let mut out = Vec::new();
        let next = put(&mut out, 255, &vec![7; MAX_PAYLOAD]);
        assert_eq!(next, 1);
        assert_eq!(out.len(), MAX_PAYLOAD + 2 * HEADER);
        assert_eq!(Header::read(&out[MAX_PAYLOAD + HEADER..]), Some(Header { length: 0, sequence: 0 }));
        assert_eq!(payload(&out).len(), MAX_PAYLOAD);
    }

    #[test]
    fn an_empty_payload_is_one_packet() {
        let mut out = Vec::new();
        assert_eq!(put(&mut out, 3, &[]), 4);
        assert_eq!(out, [0, 0, 0, 3]);
        assert_eq!(Header::read(&out[..3]), None);
    }
}

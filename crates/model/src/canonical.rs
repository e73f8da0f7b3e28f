//! The canonical binary form of everything that is hashed or signed: big-endian integers and length-prefixed
//! bytes, one way to write each value. Protocol Buffers promise no canonical form, so nothing signed uses them.

use bytes::Bytes;

/// The bytes are not a canonical value of the type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// Which field could not be read.
    pub what: &'static str,
}

/// Appends canonical fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        // A record's header fits, mostly, and is written some times at every hop.
        Self { buffer: Vec::with_capacity(256) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.buffer.push(value);
        self
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Bytes of a length that both sides know.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(value);
        self
    }

    /// A length (u32) and as many bytes.
    ///
    /// # Panics
    /// If `value` is longer than 4 GiB; every caller bounds what it writes far below.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).expect("canonical fields are far below 4 GiB");
        self.u32(length).raw(value)
    }

    /// UTF-8 text as [`Writer::bytes`].
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// The finished bytes.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.buffer))
    }
}

/// Takes canonical fields off the front of a slice. Never reads past its end, never allocates by a claimed length.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(*head)
    }

    /// A length (u32) and as many bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.u32(what)? as usize;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// UTF-8 text as [`Reader::bytes`].
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| Malformed { what })
    }

    /// Text that parses as `T`.
    pub fn parse<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T, Malformed> {
        self.text(what)?.parse().map_err(|_| Malformed { what })
    }

    /// True if nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left: trailing bytes would make a second form of the same value.
    pub fn end(self, what: &'static str) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed { what }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written_and_nothing_more() {
        let bytes = Writer::new().u8(7).u32(70_000).text("rumbai").u64(1 << 40).finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8("a").unwrap(), 7);
        assert_eq!(reader.u32("b").unwrap(), 70_000);
        assert_eq!(reader.text("c").unwrap(), "rumbai");
        assert_eq!(reader.u64("d").unwrap(), 1 << 40);
        reader.end("all").unwrap();
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_and_allocates_nothing() {
        let bytes = Writer::new().u32(u32::MAX).raw(b"abc").finish();
        assert_eq!(Reader::new(&bytes).bytes("blob"), Err(Malformed { what: "blob" }));
    }
}

//! Fixed-size fields of our two fixed-size headers: the frame's and the record batch's.
//!
//! Invariants
//! - Reading never panics; behind the input's end there are zeros, which a caller that starts
//!   with a whole header never sees.
//!
//! Absent on purpose: byte order. `from_le_bytes` and `to_be_bytes` stand at the field.

/// Takes fields off the front of a header.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) const fn new(header: &'a [u8]) -> Self {
        Self { rest: header }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.rest.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.rest = rest;
        *field
    }
}

/// Puts fields into a header, front to back.
pub(crate) struct FieldWriter<'a> {
    rest: &'a mut [u8],
}

impl<'a> FieldWriter<'a> {
    pub(crate) const fn new(header: &'a mut [u8]) -> Self {
        Self { rest: header }
    }

    /// Panics where the fields are longer than the header, which any test of an encoder shows.
    pub(crate) fn put(&mut self, field: &[u8]) {
        let (place, behind) = std::mem::take(&mut self.rest).split_at_mut(field.len());
        place.copy_from_slice(field);
        self.rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_and_zeros_behind_them() {
        let mut header = [0; 6];
        let mut writer = FieldWriter::new(&mut header);
        writer.put(&[1, 2]);
        writer.put(&[3, 4, 5, 6]);
        let mut reader = FieldReader::new(&header);
        assert_eq!(reader.take(), [1, 2]);
        assert_eq!(reader.take(), [3, 4, 5, 6]);
        assert_eq!(reader.take(), [0; 2]);
    }
}

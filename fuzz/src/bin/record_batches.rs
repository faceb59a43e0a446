//! Record batches as a producer sends them. The checksum is put right, so that what lies behind it
//! is reached: no panic, and a batch that is valid can be walked to its end.

#![no_main]

use bateau_protocol::record::{BATCH_HEADER_BYTES, Batch, BatchHeader, seal};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(header) = BatchHeader::parse(input) else { return };
    let Some(payload) = input.get(BATCH_HEADER_BYTES..) else { return };
    let Ok(bytes) = seal(&header, payload) else { return };
    let Ok((batch, rest)) = Batch::split_first(&bytes) else { return };
    assert_eq!(rest, Bytes::new());
    assert_eq!(batch.verify_crc(), Ok(()));
    if let Some(records) = batch.records() {
        // Whether they are right is the walk's to find out; that it ends is what counts.
        let count = records.take(payload.len() + 1).take_while(Result::is_ok).count();
        assert!(count <= payload.len());
    }
});

//! Streams of real clients, streams that grow too large, streams that are broken.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::{Batch, Records};

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn compress(compression: Compression, plain: &[u8]) -> Vec<u8> {
    super::compress(compression, plain).unwrap()
}

/// One block without Xerial's framing, as librdkafka sends it.
fn raw_snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

fn xerial(blocks: &[&[u8]]) -> Vec<u8> {
    let mut stream = XERIAL_MAGIC.to_vec();
    stream.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    for block in blocks {
        let block = raw_snappy(block);
        stream.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        stream.extend_from_slice(&block);
    }
    stream
}

macro_rules! golden {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!(
            "../golden/", $name, ".hex"
        )))),*]
    };
}

fn batch_of(hex: &str) -> Batch {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap())
        .collect();
    let bytes: Bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    Batch::split_first(&bytes).unwrap().0
}

#[test]
fn what_real_clients_compressed_becomes_their_records() {
    for (name, hex) in golden!(
        "java-snappy",
        "java-lz4",
        "java-zstd",
        "kafka-python-gzip",
        "kafkajs-gzip",
        "kafkajs-snappy",
        "librdkafka-gzip",
        "librdkafka-snappy",
        "librdkafka-lz4",
        "librdkafka-zstd"
    ) {
        let batch = batch_of(hex);
        let compression = batch.header().attributes.compression().unwrap();
        let plain = decompress(compression, batch.payload()).unwrap();
        let values: Vec<_> = Records::new(batch.header(), &plain)
            .map(|record| record.unwrap_or_else(|error| panic!("{name}: {error}")).value)
            .collect();
        assert_eq!(i32::try_from(values.len()), Ok(batch.header().record_count), "{name}");
        if name.starts_with("java") {
            let first: &[u8] = b"order order order order order 1";
            assert_eq!(values, [Some(first), Some(b"second record second record"), Some(b"third")]);
        }
    }
}

#[test]
fn what_grows_beyond_a_hundredfold_is_refused() {
    let zeros = vec![0; 4 * 1024 * 1024];
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let bomb = compress(compression, &zeros);
        assert!(bomb.len() < zeros.len() / OUTPUT_RATIO_MAX, "{compression:?} is no bomb");
        let refused = decompress(compression, &bomb);
        assert!(matches!(refused, Err(DecompressError::TooLarge { .. })), "{compression:?}");
    }
    // Snappy cannot grow that much: only its length can claim it, and no room is made for a claim.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    let refused = decompress(Compression::Snappy, &claim);
    assert!(matches!(refused, Err(DecompressError::TooLarge { .. })));
}

#[test]
fn the_absolute_limit_holds_where_the_ratio_would_allow_more() {
    assert_eq!(output_bytes_max(0), 0);
    assert_eq!(output_bytes_max(1_000), 100_000);
    assert_eq!(output_bytes_max(16 * 1024 * 1024), OUTPUT_BYTES_MAX);
    assert_eq!(output_bytes_max(usize::MAX), OUTPUT_BYTES_MAX);
    // Two MiB of noise, then zeros: less than a hundredfold, more than 64 MiB.
    let mut plain = vec![0; OUTPUT_BYTES_MAX + 1];
    let mut state = 1_u32;
    for byte in &mut plain[..2 * 1024 * 1024] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    let stream = compress(Compression::Zstd, &plain);
    assert!(stream.len() * OUTPUT_RATIO_MAX > plain.len());
    let refused = decompress(Compression::Zstd, &stream);
    assert!(matches!(refused, Err(DecompressError::TooLarge { bytes_max: OUTPUT_BYTES_MAX, .. })));
    plain.truncate(OUTPUT_BYTES_MAX);
    let stream = compress(Compression::Zstd, &plain);
    assert_eq!(decompress(Compression::Zstd, &stream).unwrap().len(), OUTPUT_BYTES_MAX);
}

#[test]
fn xerials_framing_is_blocks_with_lengths() {
    let stream = xerial(&[b"one, ", b"", b"two"]);
    assert_eq!(decompress(Compression::Snappy, &stream).unwrap(), b"one, two");
    for end in 0..stream.len() {
        // Only between two blocks may it end, and there it is a shorter stream.
        let whole = end == 16 || end == 16 + 4 + 7 || end == 16 + 4 + 7 + 4 + 1;
        let result = decompress(Compression::Snappy, &stream[..end]);
        assert_eq!(result.is_ok(), whole, "at {end}");
    }
}

#[test]
fn snappy_is_written_in_the_blocks_that_java_reads() {
    let plain: Vec<u8> = (0..70_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let stream = compress(Compression::Snappy, &plain);
    let blocks: Vec<&[u8]> = plain.chunks(32 * 1024).collect();
    assert_eq!(blocks.len(), 3);
    assert_eq!(stream, xerial(&blocks));
    assert_eq!(decompress(Compression::Snappy, &stream).unwrap(), plain);
}

#[test]
fn lz4_frames_have_the_flags_that_java_insists_on() {
    let stream = compress(Compression::Lz4, &b"order ".repeat(20_000));
    // Magic, then version 1 with independent blocks and nothing else, then blocks of 64 KiB.
    assert_eq!(stream[..6], [0x04, 0x22, 0x4d, 0x18, 0b0110_0000, 0b0100_0000]);
    assert_eq!(stream[stream.len() - 4..], [0; 4]);
}

#[test]
fn no_records_at_all_are_compressed_too() {
    for compression in CODECS {
        let stream = compress(compression, b"");
        assert_eq!(decompress(compression, &stream).unwrap(), b"", "{compression:?}");
    }
}

#[test]
fn streams_in_several_pieces_are_read_to_the_end() {
    for compression in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        let mut stream = compress(compression, b"first ");
        stream.extend(compress(compression, b"second"));
        assert_eq!(decompress(compression, &stream).unwrap(), b"first second", "{compression:?}");
    }
}

#[test]
fn nothing_and_noise_are_corrupt() {
    for compression in CODECS {
        for input in [&b""[..], b"no stream of any codec, and long enough for a head"] {
            let result = decompress(compression, input);
            assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{compression:?}");
        }
    }
    assert_eq!(decompress(Compression::None, b"as it is").unwrap(), b"as it is");
}

#[test]
fn no_truncation_passes_for_the_whole() {
    let plain = b"order-created order-created order-created 1234567890".repeat(20);
    for (compression, stream) in [
        (Compression::Gzip, compress(Compression::Gzip, &plain)),
        (Compression::Snappy, raw_snappy(&plain)),
        (Compression::Zstd, compress(Compression::Zstd, &plain)),
    ] {
        for end in 0..stream.len() {
            assert!(decompress(compression, &stream[..end]).is_err(), "{compression:?} at {end}");
        }
    }
    // An LZ4 frame may end between two blocks: then output is missing, which the walk of the
    // records notices, or nothing but the end mark is.
    let stream = compress(Compression::Lz4, &plain);
    for end in 0..stream.len() - 4 {
        let shorter = decompress(Compression::Lz4, &stream[..end])
            .map_or(true, |out| out.len() < plain.len());
        assert!(shorter, "LZ4 at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_was_compressed_comes_back(
        plain in prop::collection::vec(prop_oneof![Just(7_u8), any::<u8>()], 1..2_000),
        cut in any::<prop::sample::Index>(),
    ) {
        for compression in CODECS {
            prop_assert_eq!(
                &decompress(compression, &compress(compression, &plain)).unwrap(), &plain
            );
        }
        let (head, tail) = plain.split_at(cut.index(plain.len()));
        prop_assert_eq!(
            &decompress(Compression::Snappy, &xerial(&[head, tail])).unwrap(), &plain
        );
    }

    #[test]
    fn changed_streams_stay_within_the_limit(
        plain in prop::collection::vec(prop_oneof![Just(7_u8), any::<u8>()], 1..500),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut streams: Vec<_> =
            CODECS.iter().map(|codec| (*codec, compress(*codec, &plain))).collect();
        streams.push((Compression::Snappy, raw_snappy(&plain)));
        streams.push((Compression::Snappy, xerial(&[&plain, &plain])));
        for (compression, mut stream) in streams {
            for (place, byte) in &changes {
                let at = place.index(stream.len());
                stream[at] = *byte;
            }
            if let Ok(out) = decompress(compression, &stream) {
                prop_assert!(out.len() <= output_bytes_max(stream.len()));
            }
        }
    }
}

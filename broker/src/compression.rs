//! Decompression of record batches, bounded: a producer may send anything.
//!
//! Stored bytes are wire bytes, so this is not on the path of a produce or a fetch. It serves the
//! full validation level, look-ups by time, compaction and tools.
//!
//! Invariants
//! - Output never exceeds [`output_bytes_max`] of the input, whatever the input's own headers
//!   claim; room is made as output appears, not as it is promised.
//! - No input makes it panic.
//!
//! Absent on purpose: compression (no broker needs it), and the rule that at most one call runs per
//! core and none on a network thread: whoever calls sees to that (S7).

use std::io::{self, Read};

use bateau_protocol::record::Compression;

/// Most bytes that one batch may decompress to.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most output bytes per input byte.
pub const OUTPUT_RATIO_MAX: usize = 100;

/// Largest zstd window in powers of two: what Kafka's highest level uses. The window is reserved,
/// but only as much of it touched as there is output.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How Xerial's snappy stream begins; two version numbers of four bytes follow.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";

/// Why a payload could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The output would be larger than this input may become.
    #[error("{input_bytes} bytes of {compression:?} decompress to more than {bytes_max}")]
    TooLarge {
        /// The codec.
        compression: Compression,
        /// Bytes that were to be decompressed.
        input_bytes: usize,
        /// The limit that they were given.
        bytes_max: usize,
    },
    /// The input is not what the codec makes, or ends too early.
    #[error("not valid {compression:?}: {reason}")]
    Corrupt {
        /// The codec.
        compression: Compression,
        /// What the decoder had to say.
        reason: String,
    },
}

/// Most bytes that `input_bytes` may become: a hundred times as many, at most 64 MiB.
#[must_use]
pub const fn output_bytes_max(input_bytes: usize) -> usize {
    let by_ratio = input_bytes.saturating_mul(OUTPUT_RATIO_MAX);
    if by_ratio < OUTPUT_BYTES_MAX { by_ratio } else { OUTPUT_BYTES_MAX }
}

/// Decompresses the payload of a batch.
///
/// - Gzip may have several members. Snappy is read in Xerial's framing (the Java client) and raw
///   (librdkafka, kafkajs). LZ4 is the frame format. Zstandard may have several frames.
/// - [`Compression::None`] gives a copy.
///
/// Errors: [`DecompressError::TooLarge`] beyond [`output_bytes_max`],
/// [`DecompressError::Corrupt`].
/// Cost: proportional to the output; up to 64 MiB and the codec's window.
pub fn decompress(compression: Compression, input: &[u8]) -> Result<Vec<u8>, DecompressError> {
    let bytes_max = output_bytes_max(input.len());
    let result = match compression {
        Compression::None => Ok(input.to_vec()),
        // Each codec makes some bytes of nothing; only some decoders insist on them.
        _ if input.is_empty() => Err(Failure::Corrupt("no bytes".to_owned())),
        Compression::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(input), bytes_max),
        Compression::Snappy => snappy(input, bytes_max),
        Compression::Lz4 => lz4(input, bytes_max),
        Compression::Zstd => zstd(input, bytes_max),
    };
    result.map_err(|failure| match failure {
        Failure::TooLarge => {
            DecompressError::TooLarge { compression, input_bytes: input.len(), bytes_max }
        }
        Failure::Corrupt(reason) => DecompressError::Corrupt { compression, reason },
    })
}

enum Failure {
    TooLarge,
    Corrupt(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<snap::Error> for Failure {
    fn from(error: snap::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// Reads to the end, or to one byte too many.
fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    reader.take(bytes_max as u64 + 1).read_to_end(&mut out)?;
    if out.len() > bytes_max { Err(Failure::TooLarge) } else { Ok(out) }
}

/// One frame after the other. The decoder takes input that ends between two blocks for the end of
/// the stream; the records that are then missing tell.
fn lz4(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
    let mut out = Vec::new();
    // Every turn consumes a frame's head at least, or fails.
    while !decoder.get_ref().is_empty() {
        (&mut decoder).take((bytes_max - out.len()) as u64 + 1).read_to_end(&mut out)?;
        if out.len() > bytes_max {
            return Err(Failure::TooLarge);
        }
    }
    Ok(out)
}

fn zstd(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    read_bounded(decoder, bytes_max)
}

fn snappy(input: &[u8], bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let Some(framed) = input.strip_prefix(XERIAL_MAGIC) else {
        snappy_block(input, bytes_max, &mut out)?;
        return Ok(out);
    };
    let (_versions, mut rest) = framed
        .split_first_chunk::<8>()
        .ok_or_else(|| Failure::Corrupt("ends inside the stream header".to_owned()))?;
    while !rest.is_empty() {
        let (length, behind) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| Failure::Corrupt("ends inside a block length".to_owned()))?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, behind) = behind.split_at_checked(length).ok_or_else(|| {
            let found = behind.len();
            Failure::Corrupt(format!("a block of {length} bytes has only {found}"))
        })?;
        snappy_block(block, bytes_max, &mut out)?;
        rest = behind;
    }
    Ok(out)
}

/// Appends one raw block. Its length stands in front of it and is checked before room is made.
fn snappy_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    let start = out.len();
    let claimed = snap::raw::decompress_len(block)?;
    let end = start.saturating_add(claimed);
    if end > bytes_max {
        return Err(Failure::TooLarge);
    }
    out.resize(end, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, room)?;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

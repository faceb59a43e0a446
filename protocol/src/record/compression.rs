//! The four codecs of record batches. Feature `compression`.
//!
//! Decompression is bounded, because a producer may send anything. To a broker stored bytes are
//! wire bytes, so there it is not on the path of a produce or a fetch: it serves look-ups by time,
//! compaction and tools. A client's consumers and producers use both directions.
//!
//! Invariants
//! - Output never exceeds the caller's limit, whatever the input's own headers claim; room is made
//!   as output appears, not as it is promised.
//! - No input makes it panic.
//! - What [`compress`] makes, the Java client reads: snappy in Xerial's framing, LZ4 frames of
//!   independent blocks.
//!
//! Absent on purpose: the rule that at most one call runs per core and none on a network thread:
//! whoever calls sees to that (S7). Levels other than those that Java's producer uses by default.

use std::io::{self, Read, Write};

use super::header::Compression;

/// Most bytes that one batch may decompress to.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most output bytes per input byte.
pub const OUTPUT_RATIO_MAX: usize = 100;

/// Largest zstd window in powers of two: what Kafka's highest level uses. The window is reserved,
/// but only as much of it touched as there is output.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// How Xerial's snappy stream begins; two version numbers of four bytes follow.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";

/// The version of Xerial's framing, and the oldest that can read it.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];

/// Plain bytes in one of Xerial's blocks: the Java producer's size.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// Java's default (`compression.gzip.level` -1 means zlib's own default).
const GZIP_LEVEL: u32 = 6;

/// Java's default of `compression.zstd.level`.
const ZSTD_LEVEL: i32 = 3;

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

/// Why records could not be compressed.
#[derive(Debug, thiserror::Error)]
#[error("could not compress {input_bytes} bytes as {compression:?}: {reason}")]
pub struct CompressError {
    /// The codec.
    pub compression: Compression,
    /// Bytes that were to be compressed.
    pub input_bytes: usize,
    /// What the codec had to say: it had no memory.
    pub reason: String,
}

/// Most bytes that `input_bytes` may become: a hundred times as many, at most 64 MiB.
#[must_use]
pub const fn output_bytes_max(input_bytes: usize) -> usize {
    let by_ratio = input_bytes.saturating_mul(OUTPUT_RATIO_MAX);
    if by_ratio < OUTPUT_BYTES_MAX { by_ratio } else { OUTPUT_BYTES_MAX }
}

/// Decompresses the payload of a batch, up to [`output_bytes_max`] of it: for a broker, which must
/// not spend memory and time by the thousandfold of what a producer spent.
///
/// Errors and cost: those of [`decompress_within`].
pub fn decompress(compression: Compression, input: &[u8]) -> Result<Vec<u8>, DecompressError> {
    decompress_within(compression, input, output_bytes_max(input.len()))
}

/// Decompresses the payload of a batch, up to `bytes_max`.
///
/// - Gzip may have several members. Snappy is read in Xerial's framing (the Java client) and raw
///   (librdkafka, kafkajs). LZ4 is the frame format. Zstandard may have several frames.
/// - [`Compression::None`] gives a copy.
///
/// Errors: [`DecompressError::TooLarge`] beyond `bytes_max`, [`DecompressError::Corrupt`].
/// Cost: proportional to the output; up to `bytes_max` and the codec's window.
pub fn decompress_within(
    compression: Compression,
    input: &[u8],
    bytes_max: usize,
) -> Result<Vec<u8>, DecompressError> {
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

/// Compresses the records of a batch, as the Java producer does by default.
///
/// - Snappy comes in Xerial's framing, with blocks of 32 KiB, because Java, librdkafka, kafkajs and
///   the Go clients all read it. LZ4 frames have independent blocks of 64 KiB and no checksums: the
///   Java client refuses dependent blocks. Gzip is level 6, zstd level 3.
/// - [`Compression::None`] gives a copy.
///
/// Errors: [`CompressError`], when a codec gets no memory.
/// Cost: proportional to the input; LZ4 and snappy are the cheap ones, gzip by far the dearest.
pub fn compress(compression: Compression, plain: &[u8]) -> Result<Vec<u8>, CompressError> {
    let result = match compression {
        Compression::None => Ok(plain.to_vec()),
        Compression::Gzip => compress_gzip(plain),
        Compression::Snappy => compress_snappy(plain),
        Compression::Lz4 => compress_lz4(plain),
        Compression::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL),
    };
    result.map_err(|error| CompressError {
        compression,
        input_bytes: plain.len(),
        reason: error.to_string(),
    })
}

fn compress_gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::new(GZIP_LEVEL);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(plain)?;
    encoder.finish()
}

/// An empty input gives a stream without blocks.
fn compress_snappy(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = XERIAL_MAGIC.to_vec();
    stream.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        // A block of 32 KiB stays far below 2^32 bytes, however badly it compresses.
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        stream.extend_from_slice(&length.to_be_bytes());
        stream.extend_from_slice(&compressed);
    }
    Ok(stream)
}

fn compress_lz4(plain: &[u8]) -> io::Result<Vec<u8>> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(plain)?;
    encoder.finish().map_err(io::Error::other)
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

/// Appends one raw block. Its length stands in front of it and is checked before room is made: the
/// format cannot grow a hundredfold, so a claim of that is a lie whatever the limit.
fn snappy_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    let start = out.len();
    let claimed = snap::raw::decompress_len(block)?;
    let end = start.saturating_add(claimed);
    if end > bytes_max || claimed > output_bytes_max(block.len()) {
        return Err(Failure::TooLarge);
    }
    out.resize(end, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, room)?;
    Ok(())
}

#[cfg(test)]
mod tests;

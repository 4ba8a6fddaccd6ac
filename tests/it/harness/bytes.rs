//! Bytes whose order can be checked: a pseudo-random block of prime length, repeated. Comparing with it finds a lost, doubled,
//! swapped or changed byte exactly and costs a memcmp.

use std::io::{self, Read, Write};
use std::sync::OnceLock;
use std::time::Duration;

/// Length of the block; a prime, so that no buffer size of anyone divides it.
const BLOCK: usize = 262_139;

/// The block, twice, so that a window of up to one block can start anywhere in the first half.
fn block() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut one = Vec::with_capacity(BLOCK + 8);
        while one.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            one.extend_from_slice(&state.to_le_bytes());
        }
        one.truncate(BLOCK);
        let mut twice = one.clone();
        twice.extend_from_slice(&one);
        twice
    })
}

/// `len` bytes of the sequence at `at`; at most one block.
pub(crate) fn window(at: u64, len: usize) -> &'static [u8] {
    assert!(len <= BLOCK);
    let start = usize::try_from(at % BLOCK as u64).expect("below BLOCK");
    &block()[start..start + len]
}

/// Whether bytes are those of the sequence at `at`.
pub(crate) fn is_window(at: u64, got: &[u8]) -> bool {
    let mut pieces = got.chunks(BLOCK).enumerate();
    pieces.all(|(n, piece)| piece == window(at + (n * BLOCK) as u64, piece.len()))
}

/// Writes the first `total` bytes of the sequence.
pub(crate) fn send(to: &mut impl Write, total: u64) -> io::Result<()> {
    let mut at = 0;
    while at < total {
        let n = usize::try_from((total - at).min(100_003)).expect("bounded");
        to.write_all(window(at, n))?;
        at += n as u64;
    }
    Ok(())
}

/// How fast a reader reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// As fast as it can.
    Fast,
    /// In odd small pieces with pauses, so that every buffer on the way fills.
    Slow,
}

/// Reads exactly `total` bytes and checks each.
pub(crate) fn receive(from: &mut impl Read, total: u64, pace: Pace) -> io::Result<()> {
    let mut buf = vec![0; if pace == Pace::Fast { 128 * 1024 } else { 7_919 }];
    let (mut at, mut rounds) = (0, 0_u32);
    while at < total {
        let want = usize::try_from((total - at).min(buf.len() as u64)).expect("bounded");
        let n = from.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("end after {at} of {total} bytes"),
            ));
        }
        if buf[..n] != *window(at, n) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("wrong bytes after {at} of {total}"),
            ));
        }
        at += n as u64;
        rounds += 1;
        if pace == Pace::Slow && rounds % 16 == 0 {
            // This is the reader's slowness itself, not a wait for something.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Reads to the end and says how many bytes came, checking each.
pub(crate) fn receive_to_end(from: &mut impl Read) -> io::Result<u64> {
    let mut buf = vec![0; 128 * 1024];
    let mut at = 0;
    loop {
        let n = from.read(&mut buf)?;
        if n == 0 {
            return Ok(at);
        }
        if buf[..n] != *window(at, n) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("wrong bytes after {at}")));
        }
        at += n as u64;
    }
}

//! What the bench origin and the bench load generator share: the bytes of bulk transfers, the bulk command, and the
//! generator's small helpers around mio sockets. No measuring here.

use std::io::{self, ErrorKind, Read, Write};

/// Length of the repeated block of bulk transfers. A prime, so that a lost, doubled or swapped buffer of any usual size
/// shifts the pattern and changes the checksum; below 256 KiB, so that sending it stays in the sender's cache.
pub(crate) const PATTERN_BYTES: usize = 262_139;

/// Bytes of a bulk command: `D` (send me) or `U` (I send you), seven zero bytes, the length as little-endian u64.
pub(crate) const COMMAND_BYTES: usize = 16;

/// Bytes of the origin's answer to an upload: the CRC32C of what it got, as little-endian u64.
pub(crate) const DIGEST_BYTES: usize = 8;

/// Direction of a bulk transfer, seen from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// The origin sends.
    Down,
    /// The client sends.
    Up,
    /// As `Up`, and the origin answers with the checksum of the bytes; used to verify, not to measure.
    UpChecked,
}

/// The block that bulk transfers repeat: a seeded xorshift, so that both ends make the same one.
pub(crate) fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(PATTERN_BYTES + 8);
    while out.len() < PATTERN_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(PATTERN_BYTES);
    out
}

/// Encodes a bulk command.
pub(crate) fn encode_command(direction: Direction, length: u64) -> [u8; COMMAND_BYTES] {
    let mut out = [0; COMMAND_BYTES];
    out[0] = match direction {
        Direction::Down => b'D',
        Direction::Up => b'U',
        Direction::UpChecked => b'C',
    };
    out[8..].copy_from_slice(&length.to_le_bytes());
    out
}

/// Decodes a bulk command; `None` when the bytes are not one.
pub(crate) fn decode_command(bytes: &[u8; COMMAND_BYTES]) -> Option<(Direction, u64)> {
    let direction = match bytes[0] {
        b'D' => Direction::Down,
        b'U' => Direction::Up,
        b'C' => Direction::UpChecked,
        _ => return None,
    };
    let mut length = [0; 8];
    length.copy_from_slice(&bytes[8..]);
    Some((direction, u64::from_le_bytes(length)))
}

/// What one non-blocking call did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Io {
    /// This many bytes, never 0.
    Did(usize),
    /// The peer closed its side (reads only).
    Eof,
    /// Nothing can be done until the next event.
    Blocked,
}

/// Reads once.
pub(crate) fn read_once(stream: &mut impl Read, buf: &mut [u8]) -> io::Result<Io> {
    loop {
        return match stream.read(buf) {
            Ok(0) => Ok(Io::Eof),
            Ok(n) => Ok(Io::Did(n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Io::Blocked),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
    }
}

/// Writes once.
pub(crate) fn write_once(stream: &mut impl Write, buf: &[u8]) -> io::Result<Io> {
    loop {
        return match stream.write(buf) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Ok(n) => Ok(Io::Did(n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(Io::Blocked),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
    }
}

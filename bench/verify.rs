//! Checks, before anything is measured, that the proxy under test returns the same bytes. Blocking sockets, checksums.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::{COMMAND_BYTES, DIGEST_BYTES, Direction, PATTERN_BYTES, encode_command, pattern};

/// Bytes of each verified transfer; a few times every buffer and pipe on the way.
const VERIFY_BYTES: u64 = 32 * 1024 * 1024 + 12_345;

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target)?;
    // Nothing here takes long; a proxy that loses a byte must not hang the run.
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Messages of many sizes come back unchanged on one connection, and the end follows the end.
pub(crate) fn echo(target: SocketAddr) -> io::Result<()> {
    let pattern = pattern();
    let mut stream = connect(target)?;
    for size in [1, 64, 100, 1460, 4096, 16_384, 16_385, 65_536, 100_000] {
        stream.write_all(&pattern[..size])?;
        let mut back = vec![0; size];
        stream.read_exact(&mut back)?;
        if back != pattern[..size] {
            return Err(wrong("echoed bytes differ"));
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    if stream.read(&mut [0; 1])? != 0 {
        return Err(wrong("bytes after the end"));
    }
    Ok(())
}

/// The origin answers once and closes first.
pub(crate) fn conn(target: SocketAddr) -> io::Result<()> {
    for _ in 0..20 {
        let mut stream = connect(target)?;
        stream.write_all(b"ping")?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        if back != b"ping" {
            return Err(wrong("answer differs"));
        }
    }
    Ok(())
}

/// Bulk transfers in both directions keep their checksum.
pub(crate) fn bulk(target: SocketAddr) -> io::Result<()> {
    let pattern = pattern();
    let mut expected = 0;
    let mut left = VERIFY_BYTES;
    while left > 0 {
        let n = left.min(PATTERN_BYTES as u64) as usize;
        expected = crc32c::crc32c_append(expected, &pattern[..n]);
        left -= n as u64;
    }
    let mut stream = connect(target)?;
    let command: [u8; COMMAND_BYTES] = encode_command(Direction::Down, VERIFY_BYTES);
    stream.write_all(&command)?;
    let (mut crc, mut left, mut buf) = (0, VERIFY_BYTES, vec![0; 65_536]);
    while left > 0 {
        let want = left.min(buf.len() as u64) as usize;
        let n = stream.read(&mut buf[..want])?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        crc = crc32c::crc32c_append(crc, &buf[..n]);
        left -= n as u64;
    }
    if crc != expected {
        return Err(wrong("downloaded bytes differ"));
    }
    stream.write_all(&encode_command(Direction::UpChecked, VERIFY_BYTES))?;
    let mut left = VERIFY_BYTES;
    while left > 0 {
        let n = left.min(PATTERN_BYTES as u64) as usize;
        stream.write_all(&pattern[..n])?;
        left -= n as u64;
    }
    let mut digest = [0; DIGEST_BYTES];
    stream.read_exact(&mut digest)?;
    if u64::from_le_bytes(digest) != u64::from(expected) {
        return Err(wrong("uploaded bytes differ"));
    }
    Ok(())
}

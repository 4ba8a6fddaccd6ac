//! The hash functions of `hash-type`, bit for bit as HAProxy computes them, so that a key lands on the same server after
//! a migration. All of them give 32 bits; keys travel as `u64` because other sources of keys may have more.

use std::net::IpAddr;

use crate::policy::balance::{HashFunction, HashType};

/// The key of some bytes: a header, a path, a cookie, an address as text.
pub fn hash_key(bytes: &[u8], hash_type: HashType) -> u64 {
    let hash = match hash_type.function {
        HashFunction::Sdbm => sdbm(bytes),
        HashFunction::Djb2 => djb2(bytes),
        HashFunction::Wt6 => wt6(bytes),
        HashFunction::Crc32 => crc32(bytes),
        HashFunction::None => decimal(bytes),
    };
    u64::from(if hash_type.avalanche { mix(hash) } else { hash })
}

/// The key of `balance source`: the words of the address, combined by xor. HAProxy ignores the function of `hash-type`
/// here and honours `avalanche`. An IPv4 address mapped into IPv6 counts as IPv4.
pub fn source_key(address: IpAddr, hash_type: HashType) -> u64 {
    let hash = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => {
            v6.octets().chunks_exact(4).fold(0, |hash, w| hash ^ u32::from_be_bytes([w[0], w[1], w[2], w[3]]))
        }
    };
    u64::from(if hash_type.avalanche { mix(hash) } else { hash })
}

/// The 32 bits that table and ring use of a key.
pub fn key_from_hash(key: u64) -> u32 {
    (key & 0xffff_ffff) as u32
}

/// `avalanche`: Bob Jenkins' integer hash with full avalanche (burtleburtle.net/bob/hash/integer.html), then a multiplication
/// that spreads the values over the ring.
pub(crate) fn mix(a: u32) -> u32 {
    let a = a.wrapping_add(0x7ed5_5d16).wrapping_add(a << 12);
    let a = (a ^ 0xc761_c23c) ^ (a >> 19);
    let a = a.wrapping_add(0x1656_67b1).wrapping_add(a << 5);
    let a = a.wrapping_add(0xd3a2_646c) ^ (a << 9);
    let a = a.wrapping_add(0xfd70_46c5).wrapping_add(a << 3);
    let a = (a ^ 0xb55a_4f09) ^ (a >> 16);
    a.wrapping_mul(3_221_225_473)
}

fn sdbm(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |hash: u32, byte| hash.wrapping_mul(65_599).wrapping_add(u32::from(*byte)))
}

fn djb2(bytes: &[u8]) -> u32 {
    bytes.iter().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)))
}

fn wt6(bytes: &[u8]) -> u32 {
    let (mut h0, mut h1) = (0xa53c_965a_u32, 0x5ca6_953a_u32);
    let (mut step0, mut step1) = (6, 18);
    for byte in bytes {
        let byte = u32::from(*byte);
        h0 = !(h0 ^ byte);
        h1 = !h1.wrapping_add(byte);
        (h0, h1) = (h1.rotate_left(step0), h0.rotate_left(step1));
        let steps = ((h0 >> 16) ^ h1) & 0xffff;
        (step0, step1) = (steps & 0x1f, steps >> 11);
    }
    h0 ^ h1
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ CRC32[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

/// CRC-32 of each byte (IEEE 802.3, reflected polynomial).
const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

/// `none`: the leading decimal number, with its sign, modulo 2^32.
fn decimal(bytes: &[u8]) -> u32 {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let number = digits
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0u32, |n, b| n.wrapping_mul(10).wrapping_add(u32::from(b - b'0')));
    if negative { number.wrapping_neg() } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::balance::HashMethod;

    fn hash(function: HashFunction, avalanche: bool, bytes: &[u8]) -> u64 {
        hash_key(bytes, HashType { method: HashMethod::Consistent, function, avalanche })
    }

    /// Computed by HAProxy 2.6's converters: djb2, sdbm, wt6, crc32, then the same with avalanche.
    const VECTORS: &[(&str, [u64; 8])] = &[
        ("a", [177670, 97, 1900802597, 3904355907, 3548763807, 1830748055, 1986649387, 1288200982]),
        ("abc", [193485963, 807794786, 2483038440, 891568578, 2235766107, 659243622, 266135527, 930845320]),
        (
            "192.0.2.1",
            [1346529534, 3096601971, 331454548, 3680567351, 791092658, 1487155691, 1894380125, 595141466],
        ),
        (
            "/index.html",
            [3776231887, 858007926, 822151038, 3928116034, 1889807916, 4217574924, 2986733765, 571229468],
        ),
        (
            "the quick brown fox",
            [3004220696, 67705923, 4274124462, 2445345482, 3529713294, 1107558452, 530589713, 4160598912],
        ),
    ];

    #[test]
    fn the_functions_agree_with_haproxy() {
        use HashFunction::{Crc32, Djb2, Sdbm, Wt6};
        for (text, expected) in VECTORS {
            let functions = [Djb2, Sdbm, Wt6, Crc32];
            let plain = functions.map(|f| hash(f, false, text.as_bytes()));
            let mixed = functions.map(|f| hash(f, true, text.as_bytes()));
            assert_eq!([plain, mixed].concat(), expected, "{text}");
        }
    }

    #[test]
    fn none_reads_a_number_and_survives_anything_else() {
        for (text, expected) in [
            ("42", 42),
            ("42abc", 42),
            ("", 0),
            ("abc", 0),
            ("-1", 0xffff_ffff),
            ("+7", 7),
            ("4294967297", 1),
            ("99999999999999999999999999", 3_825_205_247),
        ] {
            assert_eq!(hash(HashFunction::None, false, text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_source_key_is_the_xor_of_the_words() {
        let plain = HashType { method: HashMethod::MapBased, function: HashFunction::Wt6, avalanche: false };
        for (address, expected) in [
            ("192.0.2.1", 0xc000_0201),
            ("::ffff:192.0.2.1", 0xc000_0201),
            ("2001:db8::1", 0x2001_0db9),
            ("1:2:3:4:5:6:7:8", 0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(source_key(address, plain), expected, "{address}");
            let mixed = HashType { avalanche: true, ..plain };
            assert_eq!(source_key(address, mixed), u64::from(mix(key_from_hash(expected))));
        }
    }
}

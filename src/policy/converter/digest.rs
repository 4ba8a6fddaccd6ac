//! Digests and hashes. Those that `hash-type` knows give the same numbers as there.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use xxhash_rust::xxh32::xxh32;
use xxhash_rust::xxh64::xxh64;

use crate::policy::balance::{self, HashFunction, HashMethod, HashType};
use crate::policy::converter::Step;
use crate::policy::sample::Kind;

/// Message digests; the result is binary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Digest {
    /// `md5`.
    Md5,
    /// `sha1`.
    Sha1,
    /// `sha2(224)`.
    Sha224,
    /// `sha2(256)`.
    Sha256,
    /// `sha2(384)`.
    Sha384,
    /// `sha2(512)`.
    Sha512,
}

impl Digest {
    pub(super) fn apply(self, bytes: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        match self {
            Digest::Md5 => out.extend_from_slice(&Md5::digest(bytes)),
            Digest::Sha1 => out.extend_from_slice(&Sha1::digest(bytes)),
            Digest::Sha224 => out.extend_from_slice(&Sha224::digest(bytes)),
            Digest::Sha256 => out.extend_from_slice(&Sha256::digest(bytes)),
            Digest::Sha384 => out.extend_from_slice(&Sha384::digest(bytes)),
            Digest::Sha512 => out.extend_from_slice(&Sha512::digest(bytes)),
        }
        Step::Written(Kind::Bin)
    }
}

impl Digest {
    /// The digest of a name as OpenSSL knows it: `sha256`, `SHA2-256`, `sha1`, `md5`.
    pub fn named(name: &str) -> Option<Digest> {
        Some(match name.to_ascii_lowercase().as_str() {
            "md5" => Digest::Md5,
            "sha1" | "sha-1" => Digest::Sha1,
            "sha224" | "sha2-224" | "sha-224" => Digest::Sha224,
            "sha256" | "sha2-256" | "sha-256" => Digest::Sha256,
            "sha384" | "sha2-384" | "sha-384" => Digest::Sha384,
            "sha512" | "sha2-512" | "sha-512" => Digest::Sha512,
            _ => return None,
        })
    }

    /// Appends the message authentication code of RFC 2104 with this digest.
    pub(super) fn authenticate(self, key: &[u8], bytes: &[u8], out: &mut Vec<u8>) -> Step<'static> {
        match self {
            Digest::Md5 => mac::<Hmac<Md5>>(key, bytes, out),
            Digest::Sha1 => mac::<Hmac<Sha1>>(key, bytes, out),
            Digest::Sha224 => mac::<Hmac<Sha224>>(key, bytes, out),
            Digest::Sha256 => mac::<Hmac<Sha256>>(key, bytes, out),
            Digest::Sha384 => mac::<Hmac<Sha384>>(key, bytes, out),
            Digest::Sha512 => mac::<Hmac<Sha512>>(key, bytes, out),
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], bytes: &[u8], out: &mut Vec<u8>) -> Step<'static> {
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Step::Missing };
    mac.update(bytes);
    out.extend_from_slice(&mac.finalize().into_bytes());
    Step::Written(Kind::Bin)
}

/// Hashes; the result is an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    /// `sdbm`, `djb2`, `wt6`, `crc32`, and whether the result is mixed once more.
    Balance(HashFunction, bool),
    /// `crc32c`, and whether the result is mixed once more.
    Crc32c(bool),
    /// `xxh32` with its seed.
    Xxh32(u32),
    /// `xxh64` with its seed.
    Xxh64(u64),
    /// `xxh3` with its seed.
    Xxh3(u64),
}

impl Hash {
    pub(super) fn apply(self, bytes: &[u8]) -> i64 {
        match self {
            Hash::Balance(function, avalanche) => {
                let hash_type = HashType { method: HashMethod::MapBased, function, avalanche };
                balance::hash_key(bytes, hash_type).cast_signed()
            }
            Hash::Crc32c(avalanche) => {
                let hash = crc32c::crc32c(bytes);
                i64::from(if avalanche { balance::mix(hash) } else { hash })
            }
            Hash::Xxh32(seed) => i64::from(xxh32(bytes, seed)),
            Hash::Xxh64(seed) => xxh64(bytes, seed).cast_signed(),
            Hash::Xxh3(seed) => xxh3_64_with_seed(bytes, seed).cast_signed(),
        }
    }
}

/// Takes the same time wherever texts of equal length differ, so that a secret cannot be guessed byte by byte.
pub(super) fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
}

//! Seals records of TLS 1.3 (RFC 8446 5.2): from the plain text, which stays as it is, into memory of records sent before, so that
//! sealing is the only copy. rustls takes memory for each record and copies into it first. Called by `records` and `session`.

use std::cell::RefCell;
use std::thread::LocalKey;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::error::Unspecified;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{ConnectionTrafficSecrets, ContentType};

use super::records::HEADER_BYTES;
use crate::base::limits::{
    TLS_LARGE_SPARES_MAX, TLS_SMALL_SPARES_MAX, TLS_SPARE_BYTES_MAX, TLS_SPARE_LARGE_BYTES,
};

/// Bytes behind the header that are no data: the type of the content, and the tag (16 bytes with each cipher of TLS 1.3).
const BEHIND_BYTES: usize = 1 + 16;
/// Bytes of a record that are no data.
pub(super) const AROUND_BYTES: usize = HEADER_BYTES + BEHIND_BYTES;

/// One direction's key.
pub(super) struct Sealer {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Sealer {
    /// `None`: a cipher that TLS 1.3 has not.
    pub(super) fn new(secrets: &ConnectionTrafficSecrets) -> Option<Sealer> {
        let (algorithm, key, iv): (_, &AeadKey, &Iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
        Some(Sealer { key, iv: iv.as_ref().try_into().ok()? })
    }

    /// Seals record number `seq`, each number once, into `record`, which has the length of the data and `AROUND_BYTES`.
    pub(super) fn seal(
        &self,
        typ: ContentType,
        plain: &[u8],
        seq: u64,
        record: &mut [u8],
    ) -> Result<(), Unspecified> {
        let (header, rest) = record.split_first_chunk_mut::<HEADER_BYTES>().ok_or(Unspecified)?;
        let len = u16::try_from(rest.len()).map_err(|_| Unspecified)?.to_be_bytes();
        // The version of TLS 1.2 and the type of data stand on everything that is protected.
        *header = [u8::from(ContentType::ApplicationData), 3, 3, len[0], len[1]];
        let (sealed, behind) = rest.split_at_mut_checked(plain.len()).ok_or(Unspecified)?;
        let nonce = Nonce::assume_unique_for_key(self.nonce(seq));
        self.key.seal_out_of_place_scatter(nonce, Aad::from(*header), plain, sealed, &[u8::from(typ)], behind)
    }

    /// RFC 8446 5.3.
    fn nonce(&self, seq: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, of_seq) in nonce[NONCE_LEN - 8..].iter_mut().zip(seq.to_be_bytes()) {
            *byte ^= of_seq;
        }
        nonce
    }
}

thread_local! {
    static SMALL: RefCell<Spares> = const { RefCell::new(Spares::new(TLS_SMALL_SPARES_MAX)) };
    static LARGE: RefCell<Spares> = const { RefCell::new(Spares::new(TLS_LARGE_SPARES_MAX)) };
}

/// Memory of records that were sent. What is in them, which is ciphertext, stays there until it is written over: clearing
/// a buffer would cost as much as filling it.
struct Spares {
    /// Those given last lie at the end, and are taken first: they may still be in the cache.
    buffers: Vec<Vec<u8>>,
    /// The fewest there were lately: so many were not needed.
    least: usize,
    max: usize,
}

/// Memory of this length for records. What is in it is to be written over.
pub(super) fn room(len: usize) -> Vec<u8> {
    // Connections may outlive them at the end of a thread.
    let spare = list_of(len).try_with(|spares| spares.borrow_mut().take()).ok().flatten();
    let Some(mut buffer) = spare else { return vec![0; len] };
    buffer.resize(len, 0);
    buffer
}

/// Keeps memory of records that are sent.
pub(super) fn keep(buffer: Vec<u8>) {
    if (1..=TLS_SPARE_BYTES_MAX).contains(&buffer.capacity()) {
        let _ = list_of(buffer.capacity()).try_with(|spares| spares.borrow_mut().keep(buffer));
    }
}

/// Small records would make large buffers small, and what they lose would have to be cleared for the next large one.
fn list_of(bytes: usize) -> &'static LocalKey<RefCell<Spares>> {
    if bytes < TLS_SPARE_LARGE_BYTES { &SMALL } else { &LARGE }
}

/// Frees memory of records that nobody needed since it was last called. For now and then. True: there is more that may go later.
pub fn give_back_memory() -> bool {
    let has_more = [&SMALL, &LARGE].map(|list| {
        list.with_borrow_mut(|spares| {
            spares.buffers.drain(..spares.least);
            spares.least = spares.buffers.len();
            spares.least > 0
        })
    });
    has_more.contains(&true)
}

impl Spares {
    const fn new(max: usize) -> Spares {
        Spares { buffers: Vec::new(), least: 0, max }
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.least = self.least.min(self.buffers.len());
        buffer
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < self.max {
            self.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::cipher_suite as suite;
    use rustls::crypto::cipher::InboundOpaqueMessage;
    use rustls::{ProtocolVersion, SupportedCipherSuite};

    const KEY: [u8; 32] = [7; 32];
    const IV: [u8; NONCE_LEN] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn rustls_opens_what_is_sealed() {
        let key = || AeadKey::from(KEY);
        let ciphers = [
            (
                suite::TLS13_AES_256_GCM_SHA384,
                ConnectionTrafficSecrets::Aes256Gcm { key: key(), iv: Iv::from(IV) },
            ),
            (
                suite::TLS13_CHACHA20_POLY1305_SHA256,
                ConnectionTrafficSecrets::Chacha20Poly1305 { key: key(), iv: Iv::from(IV) },
            ),
        ];
        for (suite, secrets) in ciphers {
            let SupportedCipherSuite::Tls13(suite) = suite else { panic!("of TLS 1.3") };
            let mut opener = suite.aead_alg.decrypter(key(), Iv::from(IV));
            let sealer = Sealer::new(&secrets).expect("a cipher of TLS 1.3");
            let types = [ContentType::ApplicationData, ContentType::Alert, ContentType::Handshake];
            for (seq, len) in [0, 1, 100, 16_384].into_iter().enumerate() {
                let (seq, typ) = (seq as u64, types[seq % types.len()]);
                let plain: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).expect("small")).collect();
                let mut record = vec![0xee; len + AROUND_BYTES];
                sealer.seal(typ, &plain, seq, &mut record).expect("the lengths agree");
                assert_eq!(record[..3], [23, 3, 3]);
                let version = ProtocolVersion::TLSv1_2;
                let message = InboundOpaqueMessage::new(
                    ContentType::ApplicationData,
                    version,
                    &mut record[HEADER_BYTES..],
                );
                let opened = opener.decrypt(message, seq).expect("the same keys");
                assert_eq!((opened.typ, opened.payload), (typ, plain.as_slice()));
            }
        }
    }

    #[test]
    fn a_record_of_another_length_is_not_sealed() {
        let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from(KEY), iv: Iv::from(IV) };
        let sealer = Sealer::new(&secrets).expect("a cipher of TLS 1.3");
        for len in [0, HEADER_BYTES, 10 + AROUND_BYTES - 1, 10 + AROUND_BYTES + 1] {
            assert!(
                sealer.seal(ContentType::ApplicationData, &[0; 10], 0, &mut vec![0; len]).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn memory_is_used_again_and_what_nobody_needs_goes() {
        for len in [100, TLS_SPARE_LARGE_BYTES] {
            let (first, second) = (room(len), room(2 * len));
            let place = second.as_ptr();
            keep(first);
            keep(second);
            give_back_memory();
            let again = room(2 * len);
            assert_eq!((again.as_ptr(), again.len()), (place, 2 * len), "the one given last");
            keep(again);
            // One of the two was not needed since then, and the other one is not from here on.
            for left in [1, 0] {
                give_back_memory();
                assert_eq!(list_of(len).with_borrow(|spares| spares.buffers.len()), left);
            }
        }
        keep(vec![0; TLS_SPARE_BYTES_MAX + 1]);
        assert_eq!(LARGE.with_borrow(|spares| spares.buffers.len()), 0, "very large ones are not kept");
    }
}

//! Session tickets: what a server lets clients keep so that they may come back without a full handshake, sealed with keys that
//! all cores, and machines that share a file of them, have (RFC 5077 4, RFC 8446 4.6.1). Who renews the keys, and when, is
//! the control core's business.
//!
//! A ticket is good only where it was made: a client that was not asked for its certificate at one bind must not come back
//! with that session at another bind that asks. What a bind demands is authenticated with each ticket, and so are the
//! authorities and revocation lists: with other ones clients are verified again.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::server::ProducesTickets;

use super::cert::CertError;
use super::store::read_file;
use crate::base::limits::TICKET_KEYS_MAX;

/// Bytes of a key's name in front of each ticket, as in RFC 5077 4.
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// How long a client may keep a ticket, in seconds: a key opens tickets for two turns after its own (`TICKET_KEY_TURN`).
const LIFETIME_S: u32 = 12 * 3600;

/// What seals tickets, and the names it is found by.
#[derive(Clone, PartialEq, Eq)]
struct Secret {
    name: [u8; NAME_BYTES],
    secret: [u8; SECRET_BYTES],
}

/// The keys of a bind's tickets: never changed, only replaced.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TicketKeys {
    keys: Vec<Secret>,
    /// The one that new tickets are sealed with.
    sealing: usize,
}

impl fmt::Debug for TicketKeys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys of tickets", self.keys.len())
    }
}

impl TicketKeys {
    /// One fresh key; `None`: there is no randomness.
    pub(super) fn fresh() -> Option<TicketKeys> {
        Some(TicketKeys { keys: vec![Secret::fresh()?], sealing: 0 })
    }

    /// The same with a fresh key for new tickets; the oldest is forgotten.
    pub(super) fn turned(&self) -> Option<TicketKeys> {
        let mut keys = vec![Secret::fresh()?];
        keys.extend(self.keys.iter().take(TICKET_KEYS_MAX - 1).cloned());
        Some(TicketKeys { keys, sealing: 0 })
    }

    /// Reads a file of keys: 48 or 80 random bytes in base64 a line, as HAProxy has it. The last but one line seals, so that a
    /// key can be put at the end of the file on each machine before any of them uses it.
    pub(super) fn read(path: &Path) -> Result<TicketKeys, CertError> {
        let bytes = read_file(path).map_err(|e| CertError::Io(e.to_string()))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let raw = STANDARD.decode(line.trim()).ok().filter(|raw| [48, 80].contains(&raw.len()));
            let Some(raw) = raw else {
                let why = "is no key of 48 or 80 bytes in base64 (openssl rand -base64 80 makes one)";
                return Err(CertError::Ticket(format!("line {} {why}", at + 1)));
            };
            let (name, secret) = raw.split_at(NAME_BYTES);
            // Both lengths become what AES-256 takes; whoever has the line has the key either way.
            let secret = digest::digest(&digest::SHA256, secret);
            let (Ok(name), Ok(secret)) = (name.try_into(), secret.as_ref().try_into()) else { continue };
            keys.push(Secret { name, secret });
        }
        if keys.is_empty() {
            return Err(CertError::Ticket("there is no key in it".to_owned()));
        }
        let skip = keys.len().saturating_sub(TICKET_KEYS_MAX);
        keys.drain(..skip);
        let sealing = keys.len().saturating_sub(2);
        Ok(TicketKeys { keys, sealing })
    }

    /// What one core seals and opens tickets with. `domain`: what they are good for.
    pub(super) fn producer(&self, domain: &[u8]) -> Option<Tickets> {
        let keys = self.keys.iter().map(|key| {
            let unbound = UnboundKey::new(&AES_256_GCM, &key.secret).ok()?;
            Some((key.name, LessSafeKey::new(unbound)))
        });
        let domain = digest::digest(&digest::SHA256, domain).as_ref().to_vec();
        Some(Tickets { keys: keys.collect::<Option<_>>()?, sealing: self.sealing, domain })
    }
}

impl Secret {
    fn fresh() -> Option<Secret> {
        let mut key = Secret { name: [0; NAME_BYTES], secret: [0; SECRET_BYTES] };
        rand::fill(&mut key.name).ok()?;
        rand::fill(&mut key.secret).ok()?;
        Some(key)
    }
}

/// Seals and opens the tickets of one bind on one core: nothing here is shared with another.
pub(super) struct Tickets {
    keys: Vec<([u8; NAME_BYTES], LessSafeKey)>,
    sealing: usize,
    domain: Vec<u8>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tickets of {} keys", self.keys.len())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.keys.get(self.sealing)?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NAME_BYTES + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let (_, sealed) = ticket.split_at_mut(NAME_BYTES + NONCE_LEN);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&self.domain), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let (_, key) = self.keys.iter().find(|(known, _)| known == name)?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let len = key.open_in_place(nonce, Aad::from(&self.domain), &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_open_where_they_were_made_for_two_turns() {
        let first = TicketKeys::fresh().expect("randomness");
        let ticket = first.producer(b"a").expect("keys").encrypt(b"session").expect("sealed");
        let mut keys = first.clone();
        for turn in 0..4 {
            let opened = keys.producer(b"a").expect("keys").decrypt(&ticket);
            assert_eq!(opened.as_deref(), (turn < 3).then_some(b"session".as_slice()), "turn {turn}");
            keys = keys.turned().expect("randomness");
        }
        assert_eq!(first.producer(b"b").expect("keys").decrypt(&ticket), None, "another bind");
        let mut broken = ticket.clone();
        for at in 0..broken.len() {
            broken[at] ^= 1;
            assert_eq!(first.producer(b"a").expect("keys").decrypt(&broken), None, "byte {at}");
            broken[at] ^= 1;
        }
        for len in 0..ticket.len() {
            assert_eq!(first.producer(b"a").expect("keys").decrypt(&ticket[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn files_of_keys_are_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("keys");
        let line = |byte: u8, len| STANDARD.encode(vec![byte; len]);
        std::fs::write(&path, format!("{}\n{}\n{}\n", line(1, 48), line(2, 80), line(3, 48)))
            .expect("writable");
        let keys = TicketKeys::read(&path).expect("three keys");
        assert_eq!((keys.keys.len(), keys.sealing), (3, 1));
        assert_eq!(keys.keys[1].name, [2; NAME_BYTES]);
        for bad in ["", "no base64\n", &line(1, 47)] {
            std::fs::write(&path, bad).expect("writable");
            assert!(TicketKeys::read(&path).is_err(), "{bad}");
        }
    }
}

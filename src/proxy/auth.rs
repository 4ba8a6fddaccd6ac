//! Credentials of requests against lists of users: what is known at once, what has to be checked, what is remembered. The
//! checking itself is `password`'s, off the data cores. One desk a core.
//!
//! Remembered credentials are keyed hashes of list, user, stored hash and password: memory holds no password, and a hash
//! that changed is asked for again.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::task::{Poll, Waker};

use ahash::AHashMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use smallvec::SmallVec;

use crate::base::limits::*;
use crate::base::time::Now;
use crate::model::Model;
use crate::model::http::{Password, User};
use crate::policy::sample::{Auth, UserlistId, credentials};
use crate::proto::headers::HeadView;
use crate::proxy::password::{Busy, Job, Passwords};
use crate::proxy::session::Session;
use crate::rt;

/// A keyed hash of credentials, cut to 128 bits.
pub type Digest = [u8; 16];

/// What became of the credentials of a request, for each list that was asked: the user's number, or none. Holds for the
/// whole request, whatever rules do to its headers.
pub(super) type Memo = RefCell<SmallVec<[(UserlistId, Option<u32>); 2]>>;

/// What one core knows of credentials.
pub(super) struct Desk {
    key: [u8; 32],
    /// The users of each list by name.
    users: Vec<AHashMap<Box<str>, u32>>,
    passwords: Passwords,
    cache: RefCell<AHashMap<Digest, (bool, Now)>>,
    running: RefCell<AHashMap<Digest, Running>>,
    by_client: RefCell<AHashMap<IpAddr, u32>>,
    /// The list that a condition asked for last without getting an answer.
    wanted: Cell<Option<UserlistId>>,
    /// Decoded credentials on their way through one look-up.
    text: RefCell<Vec<u8>>,
}

/// A check that is not done yet.
struct Running {
    client: Option<IpAddr>,
    wakers: Vec<Waker>,
}

/// What one look at a list said.
enum Look {
    Known(Option<u32>),
    Open { digest: Digest, user: Option<u32>, hash: String, password: Vec<u8> },
}

impl Desk {
    /// The desk of a generation; what the one before remembers is still true, and asked for again by whom it does not fit.
    pub(super) fn new(model: &Model, passwords: Passwords, before: Option<&Desk>) -> Desk {
        // The standard library's hashers are seeded by the operating system.
        let mut key = [0; 32];
        for part in key.chunks_exact_mut(8) {
            part.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes());
        }
        let key = before.map_or(key, |desk| desk.key);
        let by_name = |users: &[User]| {
            users.iter().zip(0_u32..).map(|(user, at)| (user.name.as_str().into(), at)).collect()
        };
        Desk {
            key,
            users: model.userlists.iter().map(|list| by_name(&list.users)).collect(),
            passwords,
            cache: before.map(|desk| desk.cache.clone()).unwrap_or_default(),
            running: RefCell::default(),
            by_client: RefCell::default(),
            wanted: Cell::new(None),
            text: RefCell::default(),
        }
    }

    /// A check is done.
    pub(super) fn finish(&self, digest: Digest, good: bool, now: Now) {
        self.remember(digest, good, now);
        let Some(Running { client, wakers }) = self.running.borrow_mut().remove(&digest) else { return };
        if let Some(ip) = client {
            let mut by_client = self.by_client.borrow_mut();
            if let Some(count) = by_client.get_mut(&ip) {
                *count -= 1;
                if *count == 0 {
                    by_client.remove(&ip);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn remember(&self, digest: Digest, good: bool, now: Now) {
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= AUTH_CACHE_MAX {
            cache.retain(|_, (_, until)| *until > now);
        }
        if cache.len() >= AUTH_CACHE_MAX {
            // Right ones are worth more than wrong ones, which cost the flood that sends them nothing.
            cache.retain(|_, (good, _)| *good);
        }
        if cache.len() >= AUTH_CACHE_MAX {
            cache.clear();
        }
        let until = now + if good { AUTH_GOOD_FOR } else { AUTH_BAD_FOR };
        cache.insert(digest, (good, until));
    }

    fn recall(&self, digest: &Digest, now: Now) -> Option<bool> {
        self.cache.borrow().get(digest).filter(|(_, until)| *until > now).map(|(good, _)| *good)
    }

    fn look(&self, model: &Model, list: UserlistId, head: HeadView<'_>, now: Now) -> Look {
        let at = usize::from(list.0);
        let (Some(users), Some(names)) = (model.userlists.get(at).map(|l| &l.users), self.users.get(at))
        else {
            return Look::Known(None);
        };
        let text = &mut *self.text.borrow_mut();
        let Some((name, password)) = credentials(&head, text) else { return Look::Known(None) };
        let user = std::str::from_utf8(name).ok().and_then(|name| names.get(name)).copied();
        // Who asks for a user that does not exist waits as long as for one that does.
        let stand_in = || users.iter().find(|user| matches!(user.password, Password::Hash(_)));
        let stored = user.and_then(|at| users.get(at as usize)).or_else(stand_in);
        match stored.map(|user| &user.password) {
            None => Look::Known(None),
            Some(Password::Plain(plain)) => {
                let is_right = self.keyed(&[plain.as_bytes()]) == self.keyed(&[password]);
                Look::Known(user.filter(|_| is_right))
            }
            Some(Password::Hash(hash)) => {
                let digest = self.keyed(&[&list.0.to_ne_bytes(), name, hash.as_bytes(), password]);
                match self.recall(&digest, now) {
                    Some(good) => Look::Known(user.filter(|_| good)),
                    None => Look::Open { digest, user, hash: hash.clone(), password: password.to_vec() },
                }
            }
        }
    }

    /// Equal only for equal parts. Comparing two of them says nothing about how far texts agree.
    fn keyed(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_ne_bytes());
            mac.update(part);
        }
        let whole = mac.finalize().into_bytes();
        let mut digest = Digest::default();
        digest.copy_from_slice(&whole[..16]);
        digest
    }
}

/// What is known of the credentials of a request, for `http_auth` and `http_auth_group`.
pub(super) fn auth<'a>(
    session: &'a Session,
    request: Option<HeadView<'_>>,
    memo: Option<&Memo>,
    list: UserlistId,
) -> Auth<'a> {
    let (Some(head), Some(memo)) = (request, memo) else { return Auth::Denied };
    let desk = &session.core.desk;
    let known = memo.borrow().iter().find(|(of, _)| *of == list).map(|(_, user)| *user);
    let user = match known {
        Some(user) => user,
        None => match desk.look(&session.core.model, list, head, rt::now()) {
            Look::Known(user) => {
                memo.borrow_mut().push((list, user));
                user
            }
            Look::Open { .. } => {
                desk.wanted.set(Some(list));
                return Auth::Pending;
            }
        },
    };
    let users = session.core.model.userlists.get(usize::from(list.0)).map(|list| &list.users);
    match user.and_then(|at| users?.get(at as usize)) {
        Some(user) => Auth::User { groups: &user.groups },
        None => Auth::Denied,
    }
}

/// Has the credentials checked that a condition could not know; the answer is in the memo then.
pub(super) async fn verify(session: &Session, head: HeadView<'_>, memo: &Memo) -> Result<(), Busy> {
    let core = &session.core;
    let desk = &core.desk;
    let list = desk.wanted.take().ok_or(Busy)?;
    let (digest, user) = match desk.look(&core.model, list, head, rt::now()) {
        Look::Known(user) => {
            memo.borrow_mut().push((list, user));
            return Ok(());
        }
        Look::Open { digest, user, hash, password } => {
            if !desk.running.borrow().contains_key(&digest) {
                let client = session.client_ip();
                let mut by_client = desk.by_client.borrow_mut();
                let count = client.map(|ip| by_client.entry(ip).or_default());
                if count.as_ref().is_some_and(|count| **count >= AUTH_PER_CLIENT_MAX) {
                    return Err(Busy);
                }
                let asker = core.peers[core.id.0 as usize].clone();
                desk.passwords.check(Job { digest, hash, password, is_known: user.is_some(), asker })?;
                if let Some(count) = count {
                    *count += 1;
                }
                desk.running.borrow_mut().insert(digest, Running { client, wakers: Vec::new() });
            }
            (digest, user)
        }
    };
    let deadline = Some(rt::now() + AUTH_WAIT);
    let answer = poll_fn(|cx| {
        if let Some(good) = desk.recall(&digest, rt::now()) {
            return Poll::Ready(Some(good));
        }
        match desk.running.borrow_mut().get_mut(&digest) {
            Some(running) => {
                if !running.wakers.iter().any(|w| w.will_wake(cx.waker())) {
                    running.wakers.push(cx.waker().clone());
                }
                Poll::Pending
            }
            // Forgotten already: there is no room.
            None => Poll::Ready(None),
        }
    });
    let good = rt::with_deadline(answer, deadline).await.ok().flatten().ok_or(Busy)?;
    memo.borrow_mut().push((list, user.filter(|_| good)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> Desk {
        Desk {
            key: [7; 32],
            users: Vec::new(),
            passwords: Passwords::default(),
            cache: RefCell::default(),
            running: RefCell::default(),
            by_client: RefCell::default(),
            wanted: Cell::new(None),
            text: RefCell::default(),
        }
    }

    #[test]
    fn answers_are_remembered_for_a_while() {
        let desk = desk();
        let (good, bad) = (desk.keyed(&[b"a"]), desk.keyed(&[b"b"]));
        desk.finish(good, true, Now(0));
        desk.finish(bad, false, Now(0));
        assert_eq!((desk.recall(&good, Now(1)), desk.recall(&bad, Now(1))), (Some(true), Some(false)));
        let later = Now(0) + AUTH_BAD_FOR;
        assert_eq!((desk.recall(&good, later), desk.recall(&bad, later)), (Some(true), None));
        assert_eq!(desk.recall(&good, Now(0) + AUTH_GOOD_FOR), None);
    }

    #[test]
    fn a_flood_of_wrong_passwords_keeps_the_right_ones() {
        let desk = desk();
        let good = desk.keyed(&[b"good"]);
        desk.finish(good, true, Now(0));
        for number in 0..2 * AUTH_CACHE_MAX {
            desk.finish(desk.keyed(&[&number.to_ne_bytes()]), false, Now(0));
            assert!(desk.cache.borrow().len() <= AUTH_CACHE_MAX);
        }
        assert_eq!(desk.recall(&good, Now(1)), Some(true));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let desk = desk();
        assert_ne!(desk.keyed(&[b"ab", b"c"]), desk.keyed(&[b"a", b"bc"]));
        assert_ne!(desk.keyed(&[b"a"]), Desk { key: [8; 32], ..self::desk() }.keyed(&[b"a"]));
    }
}

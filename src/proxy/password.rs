//! Checks passwords against their hashes on threads of their own: one check may take a tenth of a second, in which a data
//! core serves thousands of requests. Knows nothing of requests; `auth` asks and remembers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use argon2::Argon2;
use crossbeam::channel::{self, Sender};
use sha_crypt::{PasswordVerifier, ShaCrypt};
use yescrypt::Yescrypt;

use crate::base::limits::{AUTH_QUEUE_MAX, AUTH_THREADS};
use crate::model::Model;
use crate::model::http::Password;
use crate::proxy::auth::Digest;
use crate::proxy::message::ToCore;
use crate::rt;

/// One check to do.
#[derive(Debug)]
pub(super) struct Job {
    /// What the answer is about.
    pub(super) digest: Digest,
    /// The stored hash.
    pub(super) hash: String,
    /// What the client sent.
    pub(super) password: Vec<u8>,
    /// Whether a right password counts: it does not for a user that does not exist.
    pub(super) is_known: bool,
    /// Who wants to know.
    pub(super) asker: rt::Sender<ToCore>,
}

/// The way to the threads; none where no list has a hash.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    jobs: Option<Sender<Job>>,
}

/// The queue is full, or nobody works on it.
#[derive(Debug)]
pub(super) struct Busy;

impl Passwords {
    /// Starts the threads if the configuration has hashes to check. They run at the lowest priority, on the CPUs that no data core
    /// has if there are any, and end when the last handle is gone.
    pub fn start(model: &Model, cpus: &[usize]) -> std::io::Result<Passwords> {
        let users = model.userlists.iter().flat_map(|list| &list.users);
        if !users.into_iter().any(|user| matches!(user.password, Password::Hash(_))) {
            return Ok(Passwords::default());
        }
        let (jobs, inbox) = channel::bounded::<Job>(AUTH_QUEUE_MAX);
        let free: Vec<usize> = cpus.iter().copied().filter(|cpu| !model.global.cores.contains(cpu)).collect();
        let cpus = if free.is_empty() { cpus.to_vec() } else { free };
        for number in 0..AUTH_THREADS {
            let (inbox, cpus) = (inbox.clone(), cpus.clone());
            std::thread::Builder::new().name(format!("password-{number}")).spawn(move || {
                rt::machine::stand_back(&cpus);
                for job in inbox {
                    // A panic of a library must not take the thread, and with it all logins, away.
                    let checked = catch_unwind(AssertUnwindSafe(|| is_right(&job.hash, &job.password)));
                    let good = checked.unwrap_or(false) && job.is_known;
                    job.asker.send(ToCore::Verified { digest: job.digest, good });
                }
            })?;
        }
        Ok(Passwords { jobs: Some(jobs) })
    }

    /// Those for another configuration: they are started when the first one comes that has hashes.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn next(&self, model: &Model, cpus: &[usize]) -> std::io::Result<Passwords> {
        if self.jobs.is_some() { Ok(self.clone()) } else { Passwords::start(model, cpus) }
    }

    /// Asks for a check.
    pub(super) fn check(&self, job: Job) -> Result<(), Busy> {
        let Some(jobs) = &self.jobs else { return Err(Busy) };
        jobs.try_send(job).map_err(|_| Busy)
    }
}

/// Whether a password is the one of a hash; the libraries compare in constant time. A hash that cannot be read matches nothing.
fn is_right(hash: &str, password: &[u8]) -> bool {
    let id = hash.strip_prefix('$').and_then(|rest| rest.split('$').next()).unwrap_or_default();
    match id {
        "5" | "6" => ShaCrypt::default().verify_password(password, hash).is_ok(),
        "2a" | "2b" | "2y" => bcrypt::verify(password, hash).unwrap_or(false),
        "y" => Yescrypt::default().verify_password(password, hash).is_ok(),
        _ if id.starts_with("argon2") => match argon2::PasswordHash::new(hash) {
            Ok(parsed) => Argon2::default().verify_password(password, &parsed).is_ok(),
            Err(_) => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes of "secret", made by openssl passwd, crypt(3) and argon2(1).
    const HASHES: &[&str] = &[
        "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
        "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
        "$2b$06$abcdefghijklmnopqrstuuxLa0AkDDSrQ9VwNnETzOsObiucpMYgC",
        "$y$j75$saltsaltsaltsalt$DsMjm5uqUiFBUYLB9CLnX8E/M0k0mOVJBUWdpCrUik9",
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI",
    ];

    #[test]
    fn hashes_of_other_programs_are_understood() {
        for hash in HASHES {
            assert!(is_right(hash, b"secret"), "{hash}");
            assert!(!is_right(hash, b"Secret") && !is_right(hash, b""), "{hash}");
            let cut = &hash[..hash.len() - 2];
            assert!(!is_right(cut, b"secret"), "{cut}");
        }
        for odd in ["", "$", "$6$", "$y$j9T$", "$2b$", "$argon2id$", "$1$salt$x", "secret", "$6$rounds=1$a$b"]
        {
            assert!(!is_right(odd, b"secret"), "{odd}");
        }
    }
}

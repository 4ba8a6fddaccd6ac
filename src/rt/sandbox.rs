//! What the process gives up for good: capabilities that it does not need, files that it never writes, system calls that it
//! never makes (`calls`), among them those that start another program. All of it is inherited by every thread made later. Data
//! cores give up more (`narrow`).
//!
//! Entered once, before anything is opened and before the first thread: what works inside at the start works inside after a
//! reload. It holds for system calls of threads; what the ring does for them is checked by the kernel with the same
//! capabilities and the same rules on files.

mod calls;
mod narrow;

use std::io;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, AccessFs, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, path_beneath_rules,
};

pub(super) use narrow::narrow;

use crate::rt::sys::{self, Limit};

/// What is needed inside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Directories with files and sockets that are written, made or removed.
    pub writable: Vec<PathBuf>,
    /// Addresses of other hosts (CAP_NET_ADMIN).
    pub transparent: bool,
    /// Clients that are forgotten without a word (CAP_NET_ADMIN, too).
    pub silent_drop: bool,
}

/// What is in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InForce {
    /// System calls that are not made are refused.
    pub seccomp: bool,
    /// Files are written only where it is needed; false: the kernel has no Landlock.
    pub landlock: bool,
    /// Capabilities that nobody needs are gone.
    pub capabilities: bool,
}

impl std::fmt::Display for InForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts =
            [(self.seccomp, "seccomp"), (self.landlock, "landlock"), (self.capabilities, "capabilities")];
        let on: Vec<&str> = parts.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(if on.is_empty() { "off".to_owned() } else { on.join("+") }.as_str())
    }
}

/// Gives everything else up. What the kernel does not know (Landlock before 5.13) is left out and said.
///
/// # Errors
/// The kernel refuses what it knows.
pub fn enter(needs: &Needs) -> io::Result<InForce> {
    drop_capabilities(needs).map_err(io::Error::other)?;
    let landlock = restrict_files(&needs.writable).map_err(io::Error::other)?;
    calls::restrict()?;
    Ok(InForce { seccomp: true, landlock, capabilities: true })
}

fn drop_capabilities(needs: &Needs) -> Result<(), caps::errors::CapsError> {
    let mut keep = CapsHashSet::from([Capability::CAP_NET_BIND_SERVICE]);
    if needs.transparent || needs.silent_drop {
        keep.insert(Capability::CAP_NET_ADMIN);
    }
    let have = caps::read(None, CapSet::Permitted)?;
    // Without it a limit holds for the memory of rings, one for all processes of the user: others would use it up. In containers
    // whose root may not lift the limit the capability stays.
    if have.contains(&Capability::CAP_IPC_LOCK) && sys::lift_rlimit(Limit::LockedMemory).is_err() {
        keep.insert(Capability::CAP_IPC_LOCK);
    }
    let left: CapsHashSet = have.intersection(&keep).copied().collect();
    if have.contains(&Capability::CAP_SETPCAP) {
        for gone in caps::read(None, CapSet::Bounding)?.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *gone)?;
        }
    }
    // Ambient ones are those that a program we start gets: an upgrade needs them as we do.
    let ambient: CapsHashSet = caps::read(None, CapSet::Ambient)?.intersection(&left).copied().collect();
    caps::set(None, CapSet::Ambient, &ambient)?;
    caps::set(None, CapSet::Effective, &left)?;
    caps::set(None, CapSet::Permitted, &left)?;
    let inheritable: CapsHashSet =
        caps::read(None, CapSet::Inheritable)?.intersection(&left).copied().collect();
    caps::set(None, CapSet::Inheritable, &inheritable)
}

/// Devices that are written like files: /dev/null, a terminal.
const DEVICES: &str = "/dev";

fn restrict_files(writable: &[PathBuf]) -> Result<bool, landlock::RulesetError> {
    let writes = AccessFs::from_write(ABI::V3);
    // Directories that do not exist have nothing in them that could be written.
    let paths = writable.iter().map(PathBuf::as_path).chain([Path::new(DEVICES)]);
    let status = Ruleset::default()
        .handle_access(writes)?
        .create()?
        .add_rules(path_beneath_rules(paths, writes))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

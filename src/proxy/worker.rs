//! The main task of a data core.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::base::id::{CoreId, ListenerId};
use crate::live::Live;
use crate::model::Model;
use crate::proxy::message::{ToControl, ToCore};
use crate::rt::{Mailbox, Sender};
use crate::stats::counters::Shard;

/// What a data core starts with.
#[derive(Debug)]
pub struct Setup {
    /// This core, below `cores`.
    pub core: CoreId,
    /// How many data cores there are.
    pub cores: u32,
    /// What to run; each core gets an `Arc` of its own allocation, so that no reference count is shared.
    pub model: Arc<Model>,
    /// Facts shared by all cores.
    pub live: Live,
    /// The counters of all data cores, this one's at `core`. It writes its own and reads the others for levels.
    pub shards: Arc<[Shard]>,
    /// Mail for this core.
    pub inbox: Mailbox<ToCore>,
    /// To each data core, itself included.
    pub peers: Vec<Sender<ToCore>>,
    /// To the control core.
    pub control: Sender<ToControl>,
    /// Listening sockets of this core.
    pub listeners: Vec<(ListenerId, OwnedFd)>,
}

/// Runs a data core until [`ToCore::Exit`].
pub async fn run(setup: Setup) {
    drop(setup);
}

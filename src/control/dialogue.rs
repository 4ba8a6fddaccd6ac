//! The dialogue of a health check, whatever it speaks: received bytes in, what to do next out; `probe` does it.
//!
//! To add a protocol over bytes: a file like `script` or `http_script`, a variant here, and one of `model::CheckKind`.

use crate::control::{grpc_script, http_script, script};
use crate::model::{CheckConnect, CheckKind};
use crate::policy::health::CheckStatus;

/// A check that is ready to be held again and again.
pub(super) enum Script {
    /// Bytes (`tcp-check`); without steps a connection is enough.
    Bytes(script::Script),
    /// Requests and responses (`httpchk`).
    Http(http_script::Script),
    /// A call of gRPC (`grpc-check`).
    Grpc(grpc_script::Script),
}

/// One dialogue.
pub(super) enum Dialogue<'a> {
    Bytes(script::Dialogue<'a>),
    Http(Box<http_script::Dialogue<'a>>),
    Grpc(Box<grpc_script::Dialogue<'a>>),
}

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Want {
    /// Open a connection, in place of the one there is.
    Connect(CheckConnect),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Receive more.
    Receive,
    /// The dialogue is over.
    Done(Found),
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// The result.
    pub(super) status: CheckStatus,
    /// What it saw, for the operator; may be empty.
    pub(super) info: String,
    /// The status of the last response.
    pub(super) code: Option<u16>,
}

impl Found {
    /// A result without a response.
    pub(super) fn new(status: CheckStatus, info: impl Into<String>) -> Found {
        Found { status, info: info.into(), code: None }
    }
}

impl Script {
    /// The script of a check. `host`: what requests name that need a Host and have none.
    pub(super) fn new(kind: &CheckKind, host: &str) -> Script {
        match kind {
            CheckKind::Connect => Script::Bytes(script::Script::new(&[])),
            CheckKind::Script(steps) => Script::Bytes(script::Script::new(steps)),
            CheckKind::Http(check) => Script::Http(http_script::Script::new(check, host)),
            CheckKind::Grpc(service) => Script::Grpc(grpc_script::Script::new(service, host)),
        }
    }

    /// Starts a dialogue. `nonce`: random bytes for protocols that need some.
    pub(super) fn start(&self, nonce: [u8; 16]) -> Dialogue<'_> {
        match self {
            Script::Bytes(script) => Dialogue::Bytes(script.start()),
            Script::Http(script) => Dialogue::Http(Box::new(script.start(nonce))),
            Script::Grpc(script) => Dialogue::Grpc(Box::new(script.start())),
        }
    }
}

impl Dialogue<'_> {
    /// What to do next. After [`Want::Connect`] and [`Want::Send`] it is the next step's turn.
    pub(super) fn next(&mut self) -> Want {
        match self {
            Dialogue::Bytes(dialogue) => dialogue.next(),
            Dialogue::Http(dialogue) => dialogue.next(),
            Dialogue::Grpc(dialogue) => dialogue.next(),
        }
    }

    /// Bytes from the server.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        match self {
            Dialogue::Bytes(dialogue) => dialogue.handle_bytes(bytes),
            Dialogue::Http(dialogue) => dialogue.handle_bytes(bytes),
            Dialogue::Grpc(dialogue) => dialogue.handle_bytes(bytes),
        }
    }

    /// The server has closed.
    pub(super) fn handle_end(&mut self) {
        match self {
            Dialogue::Bytes(dialogue) => dialogue.handle_end(),
            Dialogue::Http(dialogue) => dialogue.handle_end(),
            Dialogue::Grpc(dialogue) => dialogue.handle_end(),
        }
    }

    /// The step that waits, for the words of a timeout.
    pub(super) fn place(&self) -> String {
        match self {
            Dialogue::Bytes(dialogue) => dialogue.place(),
            Dialogue::Http(dialogue) => dialogue.place(),
            Dialogue::Grpc(dialogue) => dialogue.place(),
        }
    }

    /// Whether the connection alone says nothing about what the check asks.
    pub(super) fn is_scripted(&self) -> bool {
        match self {
            Dialogue::Bytes(dialogue) => dialogue.is_scripted(),
            Dialogue::Http(_) | Dialogue::Grpc(_) => true,
        }
    }
}

//! The streams of one connection: what is known of each, by slot and by number, and the last of those that are gone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use ahash::AHashMap;

use crate::proto::h2::frame::{Code, MAX_31};
use crate::proto::h2::hpack::Fields;

/// Streams that are over and still told apart: a peer may have sent for them before it knew.
const GONE_KEPT: usize = 128;

/// Tables and buffers that are kept for connections that need one next.
const SPARE_TABLES: usize = 256;
const SPARE_BUFFERS: usize = 1024;

/// Buffers that are kept though nobody needed them lately. A stream to a server needs up to four: with what came of its
/// response, and with what it is made into.
const SPARE_BUFFERS_QUIET: usize = 64;

/// Larger buffers are freed.
const SPARE_BUFFER_BYTES: usize = 32 * 1024;

/// Marks the number of a stream that its peer reset.
const BY_PEER: u32 = 1 << 31;

/// Names a stream of a connection as long as its owner holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(u32);

/// How a stream was ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// By the peer, or with its connection.
    Remote(Code),
    /// By us.
    Local(Code),
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) id: u32,
    /// Data that was received and nobody took.
    pub(super) received: Vec<u8>,
    /// Bytes that were taken, and that the peer was not given room for again.
    pub(super) taken: u32,
    /// Bytes that were given back, and that the peer was not told of.
    pub(super) untold: u32,
    /// What the peer may send.
    pub(super) receive_window: i64,
    /// By how much its window is wider than that of the others, and bytes that were taken since it grew.
    pub(super) wider_by: u32,
    pub(super) moved: u32,
    /// What we may send.
    pub(super) send_window: i64,
    /// Bytes of body that its head promises, less those that came.
    pub(super) expected: Option<u64>,
    pub(super) trailers: Option<Box<Fields>>,
    /// Heads of a response that nobody took: the first, and those behind it.
    pub(super) head: Option<Fields>,
    pub(super) more_heads: VecDeque<Fields>,
    /// The final head of a response is missing.
    pub(super) awaits_head: bool,
    /// Its response has no body: it is to a HEAD.
    pub(super) is_bodiless: bool,
    /// A server has said everything and wants nothing more.
    pub(super) is_unwanted: bool,
    /// The peer has said everything.
    pub(super) is_received: bool,
    /// We have said everything.
    pub(super) is_sent: bool,
    pub(super) reset: Option<Reset>,
    /// Its owner waits in the line of those who want to send.
    pub(super) is_queued: bool,
    /// It is its turn to send.
    pub(super) has_turn: bool,
    /// Whoever waits for something of it.
    pub(super) waker: Option<Waker>,
}

impl Stream {
    /// Whether neither side says more.
    pub(super) fn is_closed(&self) -> bool {
        self.reset.is_some() || (self.is_received && self.is_sent)
    }

    /// Why nothing may be sent.
    pub(super) fn refusal(&self) -> Option<Reset> {
        self.reset.or(self.is_unwanted.then_some(Reset::Remote(Code::NO_ERROR)))
    }

    /// The server has said everything, and nothing more is sent to it.
    pub(super) fn refuse_rest(&mut self) {
        (self.is_sent, self.is_unwanted) = (true, true);
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Bytes that the window of the connection lacks because of it.
    pub(super) fn holds(&self) -> u32 {
        self.taken + u32::try_from(self.received.len()).unwrap_or(0)
    }
}

/// What a number stands for that names no stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gone {
    /// It was never used.
    Idle,
    /// Both sides had said everything.
    Closed,
    /// We reset it, or nobody knows any more: what comes for it is ignored.
    Reset,
    /// The peer reset it itself, and says nothing more on it.
    Left,
    /// A smaller number than one that was used, and never used itself.
    Skipped,
}

/// Memory that connections lend each other: one without streams has none, and streams come and go all the time.
#[derive(Clone, Debug, Default)]
pub struct Spare(Rc<RefCell<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    tables: Vec<Table>,
    /// Those used last lie at the end.
    buffers: Vec<Vec<u8>>,
    /// The fewest there were lately: so many were not needed.
    least: usize,
}

impl Spare {
    /// An empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut kept = self.0.borrow_mut();
        let buffer = kept.buffers.pop().unwrap_or_default();
        kept.least = kept.least.min(kept.buffers.len());
        buffer
    }

    /// Keeps a buffer.
    pub(super) fn keep(&self, mut buffer: Vec<u8>) {
        let buffers = &mut self.0.borrow_mut().buffers;
        if (1..=SPARE_BUFFER_BYTES).contains(&buffer.capacity()) && buffers.len() < SPARE_BUFFERS {
            buffer.clear();
            buffers.push(buffer);
        }
    }

    /// Frees what nobody needed since it was last called, but for a few. For now and then. True: there is more that may go later.
    pub fn shrink(&self) -> bool {
        let mut kept = self.0.borrow_mut();
        let unused = kept.least.saturating_sub(SPARE_BUFFERS_QUIET);
        kept.buffers.drain(..unused);
        kept.least = kept.buffers.len();
        kept.least > SPARE_BUFFERS_QUIET
    }

    fn table(&self) -> Table {
        self.0.borrow_mut().tables.pop().unwrap_or_default()
    }

    fn keep_table(&self, mut table: Table) {
        let tables = &mut self.0.borrow_mut().tables;
        if tables.len() < SPARE_TABLES {
            table.slots.clear();
            table.by_id.clear();
            table.free = None;
            tables.push(table);
        }
    }
}

/// The streams that there are.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Slot>,
    free: Option<u32>,
    by_id: AHashMap<u32, u32>,
}

/// All streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Without memory while there is no stream.
    table: Table,
    pub(super) spare: Spare,
    /// The numbers of those that are gone, the last one at the back. Numbers are odd and have 31 bits: the low bit is clear if
    /// one was reset, and the high bit is set if the peer did that.
    gone: VecDeque<u32>,
    /// The largest number that was dropped from `gone`.
    forgotten: u32,
    /// The largest number that was used.
    pub(super) last: u32,
    /// Streams that are not closed.
    pub(super) open: u32,
    /// Streams that have an owner.
    pub(super) held: u32,
}

#[derive(Debug)]
enum Slot {
    Used(Stream),
    Free(Option<u32>),
}

impl Streams {
    /// No streams yet.
    pub(super) fn within(spare: Spare) -> Streams {
        Streams { spare, ..Streams::default() }
    }

    /// Opens a stream.
    pub(super) fn open(&mut self, stream: Stream) -> Key {
        if self.held == 0 {
            self.table = self.spare.table();
        }
        let table = &mut self.table;
        let id = stream.id;
        let stream = Slot::Used(stream);
        let slot = match table.free {
            Some(slot) => {
                let place = &mut table.slots[slot as usize];
                let Slot::Free(next) = *place else {
                    unreachable!("a free slot is in the list of free ones")
                };
                table.free = next;
                *place = stream;
                slot
            }
            None => {
                table.slots.push(stream);
                u32::try_from(table.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        table.by_id.insert(id, slot);
        self.open += 1;
        self.held += 1;
        Key(slot)
    }

    /// The stream of a key.
    #[inline]
    pub(super) fn get(&mut self, key: Key) -> &mut Stream {
        match &mut self.table.slots[key.0 as usize] {
            Slot::Used(stream) => stream,
            Slot::Free(_) => unreachable!("an owner holds its slot"),
        }
    }

    /// The stream with a number.
    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<Key> {
        self.table.by_id.get(&id).map(|slot| Key(*slot))
    }

    /// What a number stands for that [`find`](Self::find) does not know.
    pub(super) fn gone(&self, id: u32) -> Gone {
        if id > self.last {
            return Gone::Idle;
        }
        match self.gone.iter().rev().find(|gone| (**gone & MAX_31) | 1 == id) {
            Some(gone) if gone & 1 == 0 && gone & BY_PEER != 0 => Gone::Left,
            Some(gone) if gone & 1 == 0 => Gone::Reset,
            Some(_) => Gone::Closed,
            None if id <= self.forgotten => Gone::Reset,
            None => Gone::Skipped,
        }
    }

    /// Forgets a stream, which its owner gives up.
    pub(super) fn remove(&mut self, key: Key) {
        let table = &mut self.table;
        let slot = &mut table.slots[key.0 as usize];
        let Slot::Used(stream) = slot else { unreachable!("an owner holds its slot") };
        let (id, reset) = (stream.id, stream.reset);
        *slot = Slot::Free(table.free);
        table.free = Some(key.0);
        table.by_id.remove(&id);
        self.held -= 1;
        self.note_gone(id, reset);
        if self.held == 0 {
            // A connection that is quiet costs little.
            self.spare.keep_table(std::mem::take(&mut self.table));
        }
    }

    /// Remembers a number whose stream is over.
    pub(super) fn note_gone(&mut self, id: u32, reset: Option<Reset>) {
        if self.gone.len() == GONE_KEPT
            && let Some(oldest) = self.gone.pop_front()
        {
            self.forgotten = self.forgotten.max((oldest & MAX_31) | 1);
        }
        self.gone.push_back(match reset {
            None => id,
            Some(Reset::Local(_)) => id & !1,
            Some(Reset::Remote(_)) => (id & !1) | BY_PEER,
        });
    }

    /// All streams.
    pub(super) fn iter(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.table.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Used(stream) => Some(stream),
            Slot::Free(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        Stream { id, ..Stream::default() }
    }

    #[test]
    fn memory_of_a_burst_is_kept_as_long_as_it_is_needed() {
        let (spare, burst) = (Spare::default(), 300);
        let work = |count| {
            let mut buffers: Vec<_> = (0..count).map(|_| spare.buffer()).collect();
            let fresh = buffers.iter().filter(|buffer| buffer.capacity() == 0).count();
            buffers.iter_mut().for_each(|buffer| buffer.extend_from_slice(b"a head"));
            buffers.into_iter().for_each(|buffer| spare.keep(buffer));
            fresh
        };
        assert_eq!(work(burst), burst);
        for _ in 0..3 {
            assert_eq!(work(burst), 0, "all have memory of those before");
            assert!(spare.shrink(), "most of them may go later");
        }
        work(10);
        spare.shrink();
        assert_eq!(spare.0.borrow().buffers.len(), 10 + SPARE_BUFFERS_QUIET);
        assert!(!spare.shrink());
        assert_eq!(spare.0.borrow().buffers.len(), SPARE_BUFFERS_QUIET);
    }

    #[test]
    fn streams_are_found_until_they_are_given_up() {
        let mut streams = Streams { last: 9, ..Streams::default() };
        let (a, b) = (streams.open(stream(1)), streams.open(stream(3)));
        assert_eq!(streams.find(3), Some(b));
        streams.get(b).reset = Some(Reset::Local(Code::CANCEL));
        streams.remove(b);
        assert_eq!((streams.find(3), streams.gone(3)), (None, Gone::Reset));
        let c = streams.open(stream(9));
        assert_eq!(c, b, "its slot is used again");
        streams.remove(a);
        streams.remove(c);
        assert_eq!((streams.gone(1), streams.gone(9)), (Gone::Closed, Gone::Closed));
        assert_eq!((streams.gone(5), streams.gone(11)), (Gone::Skipped, Gone::Idle));
        assert_eq!(streams.held, 0);
    }

    #[test]
    fn what_is_long_over_is_not_told_apart() {
        let mut streams = Streams { last: 1001, ..Streams::default() };
        (0..=500).for_each(|n| streams.note_gone(2 * n + 1, None));
        assert_eq!(streams.gone.len(), GONE_KEPT);
        streams.note_gone(1003, Some(Reset::Remote(Code::CANCEL)));
        streams.last = 1003;
        assert_eq!(streams.gone(1003), Gone::Left);
        assert_eq!((streams.gone(1), streams.gone(1001)), (Gone::Reset, Gone::Closed));
    }
}

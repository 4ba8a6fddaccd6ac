//! When a client of HTTP/2 sends so many frames that cost us work and move nothing that its connection is closed. Counts
//! and decides; `proxy::client_h2` shows it the frames, and closes.

use std::time::Duration;

use crate::base::limits::{
    H2_CONTINUATIONS_MAX, H2_EMPTY_DATA_MAX, H2_OTHER_FRAMES_MAX, H2_PINGS_MAX, H2_PRIORITIES_MAX,
    H2_SETTINGS_MAX,
};
use crate::base::time::Now;
use crate::proto::h2::frame::{Code, FLAG_FIRST, FrameHead, kind};

/// Counts start over after this time: a connection of days may send many of everything.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What there was too much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    /// The first frame is not SETTINGS (RFC 9113 3.4): no flood, but found in the same place.
    NoSettings,
    /// RST_STREAM: requests that are given up at once (CVE-2023-44487).
    Resets,
    /// PING.
    Pings,
    /// SETTINGS.
    Settings,
    /// PRIORITY.
    Priorities,
    /// DATA without data.
    EmptyData,
    /// CONTINUATION for one head.
    Continuations,
    /// Frames of types that we do not know.
    Unknown,
    /// WINDOW_UPDATE that let us send a few bytes at a time (CVE-2019-9511).
    Dribbles,
    /// Requests that are malformed, or that make us reset them (CVE-2025-8671).
    Glitches,
}

impl Flood {
    /// For logs.
    pub const fn text(self) -> &'static str {
        match self {
            Flood::NoSettings => "no SETTINGS behind the preface",
            Flood::Resets => "too many resets of streams",
            Flood::Pings => "too many PING frames",
            Flood::Settings => "too many SETTINGS frames",
            Flood::Priorities => "too many PRIORITY frames",
            Flood::EmptyData => "too many DATA frames without data",
            Flood::Continuations => "too many CONTINUATION frames",
            Flood::Unknown => "too many frames of unknown types",
            Flood::Dribbles => "too many windows of a few bytes",
            Flood::Glitches => "too many malformed requests",
        }
    }
}

/// The counts of one connection.
#[derive(Clone, Debug)]
pub struct FloodGuard {
    began: Now,
    resets_max: u32,
    resets: u32,
    pings: u32,
    settings: u32,
    priorities: u32,
    empty_data: u32,
    unknown: u32,
    /// In a row.
    continuations: u32,
    has_begun: bool,
}

impl FloodGuard {
    /// A guard that allows `resets_max` resets in a [`WINDOW`].
    pub fn new(resets_max: u32, now: Now) -> FloodGuard {
        FloodGuard {
            began: now,
            resets_max,
            resets: 0,
            pings: 0,
            settings: 0,
            priorities: 0,
            empty_data: 0,
            unknown: 0,
            continuations: 0,
            has_begun: false,
        }
    }

    /// Whether the client has sent a frame.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Takes note of a frame of the client.
    pub fn judge(&mut self, frame: FrameHead, now: Now) -> Option<Flood> {
        if now >= self.began + WINDOW {
            let FloodGuard { continuations, has_begun, resets_max, .. } = *self;
            *self = FloodGuard { continuations, has_begun, ..FloodGuard::new(resets_max, now) };
        }
        if !std::mem::replace(&mut self.has_begun, true) && frame.kind != kind::SETTINGS {
            return Some(Flood::NoSettings);
        }
        if frame.kind != kind::CONTINUATION {
            self.continuations = 0;
        }
        let (count, max, flood) = match frame.kind {
            kind::HEADERS | kind::WINDOW_UPDATE => return None,
            kind::DATA if frame.len > 0 || frame.flags & FLAG_FIRST != 0 => return None,
            kind::DATA => (&mut self.empty_data, H2_EMPTY_DATA_MAX, Flood::EmptyData),
            kind::PRIORITY => (&mut self.priorities, H2_PRIORITIES_MAX, Flood::Priorities),
            kind::RST_STREAM => (&mut self.resets, self.resets_max, Flood::Resets),
            // Answers to our own.
            kind::SETTINGS | kind::PING if frame.flags & FLAG_FIRST != 0 => return None,
            kind::SETTINGS => (&mut self.settings, H2_SETTINGS_MAX, Flood::Settings),
            kind::PING => (&mut self.pings, H2_PINGS_MAX, Flood::Pings),
            kind::CONTINUATION => (&mut self.continuations, H2_CONTINUATIONS_MAX, Flood::Continuations),
            _ => (&mut self.unknown, H2_OTHER_FRAMES_MAX, Flood::Unknown),
        };
        *count += 1;
        (*count > max).then_some(flood)
    }
}

/// What a server must not do. It is ours or our operator's: what it sends costs the work of reading it, and no more is counted
/// than what would fill memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerGuard {
    has_begun: bool,
    /// In a row.
    continuations: u32,
}

impl ServerGuard {
    /// Takes note of a frame of the server; a code ends the connection.
    pub fn judge(&mut self, frame: FrameHead) -> Option<Code> {
        if !std::mem::replace(&mut self.has_begun, true) && frame.kind != kind::SETTINGS {
            return Some(Code::PROTOCOL_ERROR);
        }
        self.continuations = if frame.kind == kind::CONTINUATION { self.continuations + 1 } else { 0 };
        (self.continuations > H2_CONTINUATIONS_MAX).then_some(Code::ENHANCE_YOUR_CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn frame(kind: u8, flags: u8, len: u32) -> FrameHead {
        FrameHead { len, kind, flags, stream: 1 }
    }

    fn begun(resets_max: u32) -> FloodGuard {
        FloodGuard { has_begun: true, ..FloodGuard::new(resets_max, Now(0)) }
    }

    #[test]
    fn each_kind_has_its_own_limit() {
        for (frame, max, flood) in [
            (frame(kind::RST_STREAM, 0, 4), 7, Flood::Resets),
            (frame(kind::PING, 0, 8), H2_PINGS_MAX, Flood::Pings),
            (frame(kind::SETTINGS, 0, 0), H2_SETTINGS_MAX, Flood::Settings),
            (frame(kind::PRIORITY, 0, 5), H2_PRIORITIES_MAX, Flood::Priorities),
            (frame(kind::DATA, 0, 0), H2_EMPTY_DATA_MAX, Flood::EmptyData),
            (frame(kind::CONTINUATION, 0, 9), H2_CONTINUATIONS_MAX, Flood::Continuations),
            (frame(0xbe, 0, 9), H2_OTHER_FRAMES_MAX, Flood::Unknown),
        ] {
            let mut guard = begun(7);
            for n in 0..max {
                assert_eq!(guard.judge(frame, Now(0)), None, "{n} of {frame:?}");
            }
            assert_eq!(guard.judge(frame, Now(0)), Some(flood));
            let later = Now(0) + WINDOW;
            let is_in_a_row = flood == Flood::Continuations;
            assert_eq!(guard.judge(frame, later).is_some(), is_in_a_row, "a new window forgives {frame:?}");
        }
    }

    #[test]
    fn what_moves_something_is_free() {
        let mut guard = begun(0);
        assert_eq!(
            FloodGuard::new(0, Now(0)).judge(frame(kind::PING, 0, 8), Now(0)),
            Some(Flood::NoSettings)
        );
        for frame in [
            frame(kind::HEADERS, 0, 10),
            frame(kind::DATA, 0, 1),
            frame(kind::DATA, FLAG_FIRST, 0),
            frame(kind::WINDOW_UPDATE, 0, 4),
            frame(kind::PING, FLAG_FIRST, 8),
            frame(kind::SETTINGS, FLAG_FIRST, 0),
        ] {
            for _ in 0..100_000 {
                assert_eq!(guard.judge(frame, Now(0)), None);
            }
        }
    }
}

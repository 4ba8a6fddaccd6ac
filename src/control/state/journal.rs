//! The state file as bytes: a line for each record, its checksum in front. A record is there as a whole or not at all: what a crash
//! tore, or somebody edited, fails its checksum, and only that line is lost. Later records of the same object replace earlier ones.
//! Pure; `file` writes and reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::control::state::overrides::{Key, Override};

/// The first line: what the file is, and in which form.
const HEADER: &str =
    "# shardgate state 1: each line has a checksum; delete the file to forget runtime changes";

/// What is remembered of the health of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::control) struct HealthRecord {
    /// The backend's name.
    pub(in crate::control) backend: String,
    /// The server's.
    pub(in crate::control) server: String,
    /// What was judged, as the configuration said it: a server that is configured elsewhere is another one.
    pub(in crate::control) address: String,
    /// HAProxy's number: successes and failures in a row, from down to up.
    pub(in crate::control) level: u32,
    /// Its check asks for no new load.
    pub(in crate::control) no_load: bool,
    /// Its agent said that it is down.
    #[serde(default)]
    pub(in crate::control) agent_down: bool,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::control) enum Record {
    /// A value was changed.
    Set(Override),
    /// It is as configured again.
    Gone(Key),
    /// How a server is.
    Health(HealthRecord),
}

/// What a file tells.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(in crate::control) struct State {
    /// Values that were changed.
    pub(in crate::control) overrides: BTreeMap<Key, Override>,
    /// Servers that were checked, by the names of backend and server.
    pub(in crate::control) health: BTreeMap<(String, String), HealthRecord>,
}

impl State {
    /// One more record.
    pub(in crate::control) fn take(&mut self, record: Record) {
        match record {
            Record::Set(one) => drop(self.overrides.insert(one.key.clone(), one)),
            Record::Gone(key) => drop(self.overrides.remove(&key)),
            Record::Health(health) => {
                self.health.insert((health.backend.clone(), health.server.clone()), health);
            }
        }
    }

    /// How many lines it needs.
    pub(in crate::control) fn len(&self) -> usize {
        self.overrides.len() + self.health.len()
    }

    /// The whole file.
    pub(in crate::control) fn encode(&self) -> String {
        let mut out = format!("{HEADER}\n");
        for one in self.overrides.values() {
            push(&Record::Set(one.clone()), &mut out);
        }
        for one in self.health.values() {
            push(&Record::Health(one.clone()), &mut out);
        }
        out
    }

    /// Reads a file. Returns what it tells and the numbers of the lines that are of no use.
    pub(in crate::control) fn decode(bytes: &[u8]) -> (State, Vec<usize>) {
        let (mut state, mut torn) = (State::default(), Vec::new());
        // A line without its end may be whole by chance, but the next one would be written behind it.
        let is_cut = !bytes.is_empty() && bytes.last() != Some(&b'\n');
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let lines: Vec<&[u8]> = body.split(|b| *b == b'\n').collect();
        for (at, line) in lines.iter().enumerate() {
            let is_last = at + 1 == lines.len();
            match parse(line) {
                Some(record) if !(is_cut && is_last) => state.take(record),
                _ if (line.is_empty() || line.starts_with(b"#")) && !(is_cut && is_last) => {}
                _ => torn.push(at + 1),
            }
        }
        (state, torn)
    }
}

/// Appends the line of a record.
pub(in crate::control) fn push(record: &Record, out: &mut String) {
    // Names and texts can always be written as JSON.
    let json = serde_json::to_string(record).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:08x} {json}", crc32c::crc32c(json.as_bytes()));
}

fn parse(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc32c::crc32c(json)).then_some(())?;
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::overrides::Field;

    fn state() -> State {
        let mut state = State::default();
        for (server, to) in [("s1", "50"), ("s2", "60"), ("s3", "70")] {
            let key = Key::Server("app".into(), server.into(), Field::Weight);
            let one = Override {
                key,
                from: Some("10".into()),
                to: Some(to.into()),
                who: "uid 0 pid 1".into(),
                at: 1_700_000_000,
                until: Some(1_800_000_000),
            };
            state.take(Record::Set(one));
        }
        let key = Key::Map("/etc/a.map".into(), "k\ney \"q\"".into());
        state.take(Record::Set(Override {
            key,
            from: None,
            to: Some("two\nvalues".into()),
            who: "ü".into(),
            at: 1,
            until: None,
        }));
        state.take(Record::Health(HealthRecord {
            backend: "app".into(),
            server: "s1".into(),
            address: "10.0.0.1:80".into(),
            level: 0,
            no_load: false,
            agent_down: false,
        }));
        state
    }

    #[test]
    fn what_is_written_is_read() {
        let state = state();
        assert_eq!(State::decode(state.encode().as_bytes()), (state, vec![]));
        assert_eq!(State::decode(b""), (State::default(), vec![]));
    }

    #[test]
    fn later_records_replace_earlier_ones() {
        let mut text = state().encode();
        let key = Key::Server("app".into(), "s2".into(), Field::Weight);
        push(&Record::Gone(key.clone()), &mut text);
        let (read, torn) = State::decode(text.as_bytes());
        assert!(torn.is_empty() && !read.overrides.contains_key(&key) && read.len() == state().len() - 1);
    }

    #[test]
    fn a_file_torn_at_any_byte_loses_the_torn_record_alone() {
        let text = state().encode();
        let bytes = text.as_bytes();
        for cut in 0..bytes.len() {
            let (read, torn) = State::decode(&bytes[..cut]);
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(read.len(), whole.saturating_sub(1), "cut at {cut}");
            let is_between = cut == 0 || bytes[cut - 1] == b'\n';
            assert_eq!(torn.is_empty(), is_between, "cut at {cut}: {torn:?}");
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_loses_one_line_alone_and_invents_nothing() {
        let (text, state) = (state().encode(), state());
        for at in HEADER.len() + 1..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 0x04;
            let (read, torn) = State::decode(&bytes);
            assert!(!torn.is_empty(), "byte {at}");
            // A damaged end of a line makes one of two.
            assert!(read.len() + 2 >= state.len() && read.len() < state.len(), "byte {at}");
            assert!(
                read.overrides.iter().all(|(key, one)| state.overrides.get(key) == Some(one)),
                "byte {at}"
            );
        }
    }
}

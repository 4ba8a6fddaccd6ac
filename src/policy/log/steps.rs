//! How a format is written as text: its parts compiled into steps, so that a line takes few of them. What is short and has
//! nothing to escape is a run: room for all of it is made once, and each item is put at its place. `format` calls it; what
//! a variable looks like anywhere else is `plain`.

use std::net::{IpAddr, Ipv4Addr};

use crate::base::net::Addr;
use crate::policy::format::Flags;
use crate::policy::log::escape::Map;
use crate::policy::log::plain::{address_to, is_marked, number, part, text};
use crate::policy::log::{Dates, Field, Line, Memory, Part};
use crate::policy::sample::Facts;

/// How a format is written as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    Run(Run),
    /// White space: one space, unless the line ends with one already.
    Space,
    /// Anything else: its place among the parts.
    Part(usize),
}

/// Items that are never empty, one after the other.
#[derive(Clone, Debug, Default)]
struct Run {
    items: Vec<Item>,
    /// Bytes that they take at most, but for names.
    room: usize,
    /// How many names there are.
    names: usize,
}

#[derive(Clone, Debug)]
struct Item {
    what: What,
    /// The byte behind it.
    behind: Option<u8>,
}

#[derive(Clone, Debug)]
enum What {
    Nothing,
    Text(Box<[u8]>),
    /// In decimal.
    Number(Field),
    Address(Field),
    Accepted,
    Began,
    Name(Field),
    Cookie(usize),
    End,
    EndCookie,
}

/// Bytes of a number in decimal at most, with its sign and a mark.
const NUMBER_BYTES_MAX: usize = 24;
const IPV4_BYTES_MAX: usize = 15;
const DATE_BYTES: usize = 24;
const NO_SERVER: &str = "<NOSRV>";

impl Steps {
    /// The steps of these parts.
    pub(super) fn new(parts: &[Part]) -> Steps {
        let mut steps = Steps::default();
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => steps.add_text(text),
                Part::Space => steps.add_space(parts),
                Part::Field(field, flags, _) => match What::of(*field, *flags) {
                    Some(what) => steps.run().add(what),
                    None => steps.0.push(Step::Part(index)),
                },
                _ => steps.0.push(Step::Part(index)),
            }
        }
        steps
    }

    /// The run that the next item belongs to.
    fn run(&mut self) -> &mut Run {
        if !matches!(self.0.last(), Some(Step::Run(_))) {
            self.0.push(Step::Run(Run::default()));
        }
        match self.0.last_mut() {
            Some(Step::Run(run)) => run,
            _ => unreachable!("pushed above"),
        }
    }

    fn add_text(&mut self, text: &[u8]) {
        match text {
            [] => {}
            [first] => self.run().add_byte(*first),
            [first, second] => {
                self.run().add_byte(*first);
                self.run().add_byte(*second);
            }
            _ => self.run().add(What::Text(text.into())),
        }
    }

    /// A space is there in any case behind what always writes something.
    fn add_space(&mut self, parts: &[Part]) {
        match self.0.last() {
            Some(Step::Run(run)) if run.ends_with_space() => {}
            Some(Step::Run(_)) => self.run().add_byte(b' '),
            Some(Step::Part(index)) if is_never_empty(&parts[*index]) => self.run().add_byte(b' '),
            _ => self.0.push(Step::Space),
        }
    }

    /// Appends a line.
    pub(super) fn write<F: Facts>(
        &self,
        parts: &[Part],
        line: &Line<'_>,
        facts: &F,
        memory: &mut Memory<'_>,
        out: &mut Vec<u8>,
    ) {
        // A space at the beginning is left out, too.
        let mut after_space = true;
        for step in &self.0 {
            match step {
                Step::Run(run) => {
                    run.write(line, memory.dates, out);
                    after_space = run.ends_with_space();
                }
                Step::Space => {
                    if !after_space {
                        out.push(b' ');
                    }
                    after_space = true;
                }
                Step::Part(index) => {
                    let before = out.len();
                    part(&parts[*index], line, facts, memory, out);
                    // What says nothing leaves the space before it.
                    after_space &= out.len() == before;
                }
            }
        }
    }
}

/// Whether a part that is no item of a run writes something in any case.
fn is_never_empty(part: &Part) -> bool {
    use Field::*;
    match part {
        Part::Field(field, ..) => matches!(
            field,
            ClientIp
                | LocalIp
                | SourceIp
                | ServerIp
                | AcceptDate
                | RequestDate
                | Frontend
                | FrontendTransport
                | Backend
                | Server
                | RequestCookie
                | ResponseCookie
                | End
                | EndCookie
        ),
        _ => false,
    }
}

impl What {
    /// What a variable is in a run, if it can be there.
    fn of(field: Field, flags: Flags) -> Option<What> {
        if flags.quote || flags.hex {
            return None;
        }
        Some(match field {
            field if field.is_decimal() => What::Number(field),
            _ if flags.escape => return None,
            Field::ClientIp | Field::LocalIp | Field::SourceIp | Field::ServerIp => What::Address(field),
            Field::AcceptDate => What::Accepted,
            Field::RequestDate => What::Began,
            Field::Frontend | Field::FrontendTransport | Field::Backend | Field::Server => What::Name(field),
            Field::RequestCookie => What::Cookie(0),
            Field::ResponseCookie => What::Cookie(1),
            Field::End => What::End,
            Field::EndCookie => What::EndCookie,
            _ => return None,
        })
    }

    /// Bytes that it takes at most. What may be longer makes its own room.
    fn room(&self) -> usize {
        match self {
            What::Nothing | What::Name(_) => 0,
            What::Text(text) => text.len(),
            What::Number(_) => NUMBER_BYTES_MAX,
            What::Address(_) => IPV4_BYTES_MAX,
            What::Accepted | What::Began => DATE_BYTES,
            What::Cookie(_) => 1,
            What::End | What::EndCookie => 4,
        }
    }
}

impl Run {
    fn add(&mut self, what: What) {
        self.room += what.room() + 1;
        self.names += usize::from(matches!(what, What::Name(_)));
        self.items.push(Item { what, behind: None });
    }

    fn add_byte(&mut self, byte: u8) {
        match self.items.last_mut() {
            Some(Item { behind: behind @ None, .. }) => *behind = Some(byte),
            _ => {
                self.add(What::Nothing);
                self.add_byte(byte);
            }
        }
    }

    /// Nothing but the operator's text ends with a space.
    fn ends_with_space(&self) -> bool {
        match self.items.last() {
            Some(Item { behind: Some(byte), .. }) => *byte == b' ',
            Some(Item { what: What::Text(text), .. }) => text.ends_with(b" "),
            _ => false,
        }
    }

    fn write(&self, line: &Line<'_>, dates: &mut Dates, out: &mut Vec<u8>) {
        let room = self.room + if self.names > 0 { self.names * longest_name(line) } else { 0 };
        let mut items = self.items.as_slice();
        loop {
            let start = out.len();
            out.resize(start + room, 0);
            let (done, end) = put_items(items, line, dates, out, start);
            out.truncate(end);
            let Some((long, rest)) = items[done..].split_first() else { return };
            long.append(line, out);
            items = rest;
        }
    }
}

/// Puts items up to the end, or to the first that may be longer than the room for it: how many, and where they end.
#[inline]
fn put_items(
    items: &[Item],
    line: &Line<'_>,
    dates: &mut Dates,
    out: &mut [u8],
    mut at: usize,
) -> (usize, usize) {
    for (index, Item { what, behind }) in items.iter().enumerate() {
        at = match what {
            What::Nothing => at,
            What::Text(text) => put(text, out, at),
            What::Number(field) => put_field(*field, line, out, at),
            What::Address(field) => match address(*field, line).ip() {
                Some(IpAddr::V4(ip)) => put_ipv4(ip, out, at),
                _ => return (index, at),
            },
            What::Accepted => put(&dates.stamp(line.accepted), out, at),
            What::Began => put(&dates.stamp(line.accepted + line.timers.before()), out, at),
            What::Name(field) => put_name(*field, line, out, at),
            What::Cookie(which) => match line.cookies[*which] {
                None | Some([]) => put(b"-", out, at),
                _ => return (index, at),
            },
            What::End => put(line.end.letters.as_bytes(), out, at),
            What::EndCookie => {
                let at = put(line.end.letters.as_bytes(), out, at);
                put(&line.cookie, out, at)
            }
        };
        if let Some(byte) = behind {
            out[at] = *byte;
            at += 1;
        }
    }
    (items.len(), at)
}

impl Item {
    /// Appends what may be long.
    #[cold]
    fn append(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        match self.what {
            What::Address(field) => address_to(address(field, line), out),
            What::Cookie(which) => text(line.cookies[which], Flags::default(), Map::Value, false, out),
            _ => debug_assert!(false, "others have their room"),
        }
        out.extend(self.behind);
    }
}

/// Puts bytes at a place with room for them; where they end.
#[inline]
fn put(bytes: &[u8], out: &mut [u8], at: usize) -> usize {
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

fn address<'l>(field: Field, line: &'l Line<'_>) -> &'l Addr {
    match field {
        Field::ClientIp => &line.client,
        Field::LocalIp => &line.local,
        Field::SourceIp => &line.source,
        _ => &line.remote,
    }
}

/// Names of proxies and servers have no byte to escape and are not empty.
fn put_name(field: Field, line: &Line<'_>, out: &mut [u8], at: usize) -> usize {
    match field {
        Field::Backend => put(line.backend.as_bytes(), out, at),
        Field::Server => put(line.server.unwrap_or(NO_SERVER).as_bytes(), out, at),
        Field::FrontendTransport if line.is_tls => {
            let at = put(line.frontend.as_bytes(), out, at);
            put(b"~", out, at)
        }
        _ => put(line.frontend.as_bytes(), out, at),
    }
}

/// With the tilde of a frontend.
fn longest_name(line: &Line<'_>) -> usize {
    let server = line.server.unwrap_or(NO_SERVER).len();
    (line.frontend.len() + 1).max(line.backend.len()).max(server)
}

fn put_field(field: Field, line: &Line<'_>, out: &mut [u8], at: usize) -> usize {
    let Some(value) = number(field, line).flatten() else { return put(b"-", out, at) };
    let is_plain = !line.is_early && !line.redispatched;
    let at = if is_plain || !is_marked(field, line) { at } else { put(b"+", out, at) };
    put_number(value, out, at)
}

/// Appends a number in decimal.
pub fn number_to(number: i64, out: &mut Vec<u8>) {
    let mut text = [0; NUMBER_BYTES_MAX];
    let end = put_number(number, &mut text, 0);
    out.extend_from_slice(&text[..end]);
}

/// The numbers below a hundred with two digits.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [*b"00"; 100];
    let mut tens = 0;
    while tens < 10 {
        let mut ones = 0;
        while ones < 10 {
            pairs[tens * 10 + ones] = [b"0123456789"[tens], b"0123456789"[ones]];
            ones += 1;
        }
        tens += 1;
    }
    pairs
};

/// Puts a number in decimal at a place with room for it; where it ends. The general way of `write!` would be the dearest part
/// of a line, whose numbers are ports, times and sizes: short ones have a way of their own.
#[inline]
fn put_number(number: i64, out: &mut [u8], at: usize) -> usize {
    match usize::try_from(number) {
        Ok(number @ 0..10) => put(&PAIRS[number][1..], out, at),
        Ok(number @ 10..100) => put(&PAIRS[number], out, at),
        Ok(number @ 100..1000) => {
            let at = put(&PAIRS[number / 100][1..], out, at);
            put(&PAIRS[number % 100], out, at)
        }
        Ok(number @ 1000..10_000) => {
            let at = put(&PAIRS[number / 100], out, at);
            put(&PAIRS[number % 100], out, at)
        }
        _ => put_any(number, out, at),
    }
}

fn put_any(number: i64, out: &mut [u8], at: usize) -> usize {
    let at = if number < 0 { put(b"-", out, at) } else { at };
    let mut rest = number.unsigned_abs();
    let end = at + 1 + rest.checked_ilog10().map_or(0, |log| log as usize);
    let mut place = end;
    let pair = |number: u64| PAIRS[usize::try_from(number % 100).unwrap_or(0)];
    while rest >= 100 {
        place -= 2;
        put(&pair(rest), out, place);
        rest /= 100;
    }
    match rest {
        0..10 => put(&pair(rest)[1..], out, at),
        _ => put(&pair(rest), out, at),
    };
    end
}

fn put_ipv4(ip: Ipv4Addr, out: &mut [u8], at: usize) -> usize {
    let [first, rest @ ..] = ip.octets();
    let mut at = put_number(first.into(), out, at);
    for octet in rest {
        at = put(b".", out, at);
        at = put_number(octet.into(), out, at);
    }
    at
}

pub(super) fn ipv4_to(ip: Ipv4Addr, out: &mut Vec<u8>) {
    let mut text = [0; IPV4_BYTES_MAX];
    let end = put_ipv4(ip, &mut text, 0);
    out.extend_from_slice(&text[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_library() {
        let powers = (0..19).map(|exponent| 10_i64.pow(exponent));
        let near = powers.flat_map(|power| [power - 1, power, power + 1, 7 * (power / 3), -power]);
        for number in near.chain(0..12_000).chain([i64::MAX, i64::MIN]) {
            let mut out = Vec::new();
            number_to(number, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), number.to_string());
        }
    }

    #[test]
    fn addresses_are_those_of_the_library() {
        for octet in 0..=u8::MAX {
            let (ip, mut out) = (Ipv4Addr::new(octet, 0, 255, octet / 2), Vec::new());
            ipv4_to(ip, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), ip.to_string());
        }
    }
}

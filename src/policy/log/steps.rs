//! How a format is written as text: its parts compiled into steps, so that a line takes few of them. What is short and has
//! nothing to escape is a run: room for all of it is made once, and each item is put at its place. `format` calls it; what
//! a variable looks like anywhere else is `plain`.

use std::net::{IpAddr, SocketAddr};

use crate::base::net::Addr;
use crate::policy::format::Flags;
use crate::policy::log::escape::Map;
use crate::policy::log::pen::{IPV4_BYTES_MAX, NO_SERVER, NUMBER_BYTES_MAX, Pen, number_to};
use crate::policy::log::plain::{address_to, ms, part, queue_ms, text};
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
    /// Captured headers, of which most frontends have none: the place among the parts.
    Captures(Field, usize),
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
    /// The request line is one of them.
    has_request: bool,
}

#[derive(Clone, Debug)]
struct Item {
    what: What,
    /// One or two bytes behind it, or none: two are written whatever it is, and what comes next overwrites the rest.
    behind: [u8; 2],
    behind_len: u8,
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
    /// The request line between quotes.
    Request,
    Group(Group),
}

/// What HAProxy's own formats have side by side: one step instead of three or nine, as what follows needs no look at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    Client,
    Route,
    HttpTimes,
    TcpTimes,
    Ends,
    Sessions,
    Queues,
}

/// The variables of each group, and what stands between them.
const GROUPS: [(Group, &[Field], &[u8]); 7] = {
    use Field::*;
    [
        (Group::Client, &[ClientIp, ClientPort], b":"),
        (Group::Route, &[FrontendTransport, Field::Backend, Server], b" /"),
        (Group::HttpTimes, &[Received, Queue, Connect, Response, Active], b"////"),
        (Group::TcpTimes, &[Queue, Connect, Total], b"//"),
        (Group::Ends, &[RequestCookie, ResponseCookie, EndCookie], b"  "),
        (
            Group::Sessions,
            &[ProcessSessions, FrontendSessions, BackendSessions, ServerSessions, Retries],
            b"////",
        ),
        (Group::Queues, &[ServerQueue, BackendQueue], b"/"),
    ]
};

const DATE_BYTES: usize = 24;

impl Steps {
    /// The steps of these parts.
    pub(super) fn new(parts: &[Part]) -> Steps {
        let mut steps = Steps::default();
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => steps.add_text(text),
                Part::Space => steps.add_space(parts),
                Part::Field(field @ (Field::RequestCaptures | Field::ResponseCaptures), flags, _)
                    if *flags == Flags::default() =>
                {
                    steps.0.push(Step::Captures(*field, index));
                }
                Part::Field(field, flags, _) => match What::of(*field, *flags) {
                    Some(what) => steps.run().add(what),
                    None => steps.0.push(Step::Part(index)),
                },
                _ => steps.0.push(Step::Part(index)),
            }
        }
        for step in &mut steps.0 {
            if let Step::Run(run) = step {
                run.join();
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
                Step::Captures(Field::RequestCaptures, _) if line.request_captures.spans.is_empty() => {}
                Step::Captures(Field::ResponseCaptures, _) if line.response_captures.spans.is_empty() => {}
                Step::Captures(_, index) | Step::Part(index) => {
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
        if field == Field::Request && flags == (Flags { quote: true, ..Flags::default() }) {
            return Some(What::Request);
        }
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
            What::Request => 2,
            // Joined when the room is known.
            What::Group(_) => 0,
        }
    }

    /// The variable that it is, where that is all to say.
    fn field(&self) -> Option<Field> {
        match self {
            What::Number(field) | What::Address(field) | What::Name(field) => Some(*field),
            What::Cookie(0) => Some(Field::RequestCookie),
            What::Cookie(_) => Some(Field::ResponseCookie),
            What::EndCookie => Some(Field::EndCookie),
            _ => None,
        }
    }
}

impl Item {
    fn new(what: What) -> Item {
        Item { what, behind: *b"  ", behind_len: 0 }
    }

    /// The bytes behind it.
    fn behind(&self) -> &[u8] {
        &self.behind[..self.behind_len.into()]
    }
}

impl Run {
    fn add(&mut self, what: What) {
        self.room += what.room() + 2;
        self.names += usize::from(matches!(what, What::Name(_)));
        self.has_request |= matches!(what, What::Request);
        self.items.push(Item::new(what));
    }

    fn add_byte(&mut self, byte: u8) {
        match self.items.last_mut() {
            Some(item @ Item { behind_len: 0 | 1, .. }) => {
                item.behind[usize::from(item.behind_len)] = byte;
                item.behind_len += 1;
            }
            _ => {
                self.add(What::Nothing);
                self.add_byte(byte);
            }
        }
    }

    /// Makes one item of those that are a group.
    fn join(&mut self) {
        for at in 0..self.items.len() {
            let Some(rest) = self.items.get(at..) else { return };
            let is_whole = |(_, fields, between): &&(Group, &[Field], &[u8])| {
                rest.len() >= fields.len()
                    && rest.iter().zip(*fields).all(|(item, field)| item.what.field() == Some(*field))
                    && rest.iter().zip(*between).all(|(item, byte)| item.behind() == [*byte])
            };
            if let Some((group, fields, _)) = GROUPS.iter().find(is_whole) {
                let last = at + fields.len() - 1;
                let joined = Item { what: What::Group(*group), ..self.items[last].clone() };
                self.items.splice(at..=last, [joined]);
            }
        }
    }

    /// Nothing but the operator's text ends with a space.
    fn ends_with_space(&self) -> bool {
        match self.items.last() {
            Some(Item { what: What::Text(text), behind_len: 0, .. }) => text.ends_with(b" "),
            Some(item) => item.behind().ends_with(b" "),
            None => false,
        }
    }

    fn write(&self, line: &Line<'_>, dates: &mut Dates, out: &mut Vec<u8>) {
        let mut room = self.room + if self.names > 0 { self.names * longest_name(line) } else { 0 };
        if self.has_request {
            room += line.request.map_or(0, <[u8]>::len);
        }
        let mut items = self.items.as_slice();
        loop {
            let start = out.len();
            out.resize(start + room, 0);
            let mut pen = Pen { out, at: start };
            let done = pen.items(items, line, dates);
            let end = pen.at;
            out.truncate(end);
            let Some((long, rest)) = items[done..].split_first() else { return };
            long.append(line, out);
            items = rest;
        }
    }
}

impl Item {
    /// Appends what may be long.
    #[cold]
    fn append(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        match self.what {
            What::Address(field) => address_to(address(field, line), out),
            What::Cookie(which) => text(line.cookies[which], Flags::default(), Map::Value, false, out),
            What::Request => {
                let flags = Flags { quote: true, ..Flags::default() };
                match line.request {
                    Some(request) => text(Some(request), flags, Map::Url, false, out),
                    None => text(Some(b"<BADREQ>"), flags, Map::Value, false, out),
                }
            }
            What::Group(Group::Client) => {
                address_to(&line.client, out);
                out.push(b':');
                match line.client.port() {
                    Some(port) => number_to(port.into(), out),
                    None => out.push(b'-'),
                }
            }
            What::Group(Group::Ends) => {
                for cookie in line.cookies {
                    text(cookie, Flags::default(), Map::Value, false, out);
                    out.push(b' ');
                }
                out.extend_from_slice(line.end.letters.as_bytes());
                out.extend_from_slice(&line.cookie);
            }
            _ => debug_assert!(false, "others have their room"),
        }
        out.extend_from_slice(self.behind());
    }
}

fn address<'l>(field: Field, line: &'l Line<'_>) -> &'l Addr {
    match field {
        Field::ClientIp => &line.client,
        Field::LocalIp => &line.local,
        Field::SourceIp => &line.source,
        _ => &line.remote,
    }
}

/// With the tilde of a frontend.
fn longest_name(line: &Line<'_>) -> usize {
    let server = line.server.unwrap_or(NO_SERVER).len();
    (line.frontend.len() + 1).max(line.backend.len()).max(server)
}

impl Pen<'_> {
    /// Puts items up to the end, or to the first that may be longer than the room for it: how many.
    #[inline]
    fn items(&mut self, items: &[Item], line: &Line<'_>, dates: &mut Dates) -> usize {
        for (index, item) in items.iter().enumerate() {
            match &item.what {
                What::Nothing => {}
                What::Text(text) => self.put(text),
                What::Number(field) => self.field(*field, line),
                What::Address(field) => match address(*field, line).ip() {
                    Some(IpAddr::V4(ip)) => self.ipv4(ip),
                    _ => return index,
                },
                What::Accepted => self.put(&dates.stamp(line.accepted)),
                What::Began => self.put(&dates.stamp(line.accepted + line.timers.before())),
                What::Name(field) => self.name(*field, line),
                What::Cookie(which) => match line.cookies[*which] {
                    None | Some([]) => self.byte(b'-'),
                    _ => return index,
                },
                What::End => self.letters(line),
                What::EndCookie => {
                    self.letters(line);
                    self.put(&line.cookie);
                }
                What::Request => match line.request {
                    Some(request) if !request.is_empty() && !Map::Url.is_in(request) => {
                        self.byte(b'"');
                        self.put(request);
                        self.byte(b'"');
                    }
                    _ => return index,
                },
                What::Group(Group::Client) => match &line.client {
                    Addr::Ip(SocketAddr::V4(client)) => {
                        self.ipv4(*client.ip());
                        self.byte(b':');
                        self.number(client.port().into());
                    }
                    _ => return index,
                },
                What::Group(Group::Ends) => {
                    let [None | Some([]), None | Some([])] = line.cookies else { return index };
                    self.put(b"- - ");
                    self.letters(line);
                    self.put(&line.cookie);
                }
                What::Group(group) => self.group(*group, line),
            }
            self.put_some(item.behind, item.behind_len.into());
        }
        items.len()
    }

    #[inline(never)]
    fn group(&mut self, group: Group, line: &Line<'_>) {
        let (t, levels) = (&line.timers, &line.levels);
        match group {
            Group::Client | Group::Ends => debug_assert!(false, "they may be long"),
            Group::Route => {
                self.name(Field::FrontendTransport, line);
                self.byte(b' ');
                self.name(Field::Backend, line);
                self.byte(b'/');
                self.name(Field::Server, line);
            }
            Group::HttpTimes => {
                self.before_slash(ms(t.request));
                self.before_slash(queue_ms(t));
                self.before_slash(ms(t.connect));
                self.before_slash(ms(t.response));
                self.mark(line.is_early);
                self.number(ms(Some(t.active())));
            }
            Group::TcpTimes => {
                self.before_slash(queue_ms(t));
                self.before_slash(ms(t.connect));
                self.mark(line.is_early);
                self.number(ms(Some(t.total)));
            }
            Group::Sessions => {
                self.before_slash(levels.process.into());
                self.before_slash(levels.frontend.into());
                self.before_slash(levels.backend.into());
                self.before_slash(levels.server.into());
                self.mark(line.redispatched);
                self.number(line.retries.into());
            }
            Group::Queues => {
                self.before_slash(line.queued_before.0.into());
                self.number(line.queued_before.1.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each group is found where its variables are side by side.
    #[test]
    fn groups_are_one_item() {
        for (group, fields, between) in GROUPS {
            let mut parts = Vec::new();
            for (at, field) in fields.iter().enumerate() {
                parts.push(Part::Field(*field, Flags::default(), None));
                parts.extend(between.get(at).map(|byte| match byte {
                    b' ' => Part::Space,
                    byte => Part::Text([*byte].as_slice().into()),
                }));
            }
            let steps = Steps::new(&parts);
            let Step::Run(run) = &steps.0[0] else { panic!("a run") };
            assert!(matches!(run.items.as_slice(), [Item { what: What::Group(one), .. }] if *one == group));
        }
    }
}

//! How a [`Snapshot`] is printed: which lines and columns are chosen, and one file per format.

pub mod csv;
pub mod doc;
pub mod info;
pub mod json;
pub mod prometheus;
pub mod typed;

use crate::base::time::Now;
use crate::stats::snapshot::{Entry, Facts, Snapshot, Value};
use crate::stats::table::{Object, Row, Stat, TABLE};

/// Which lines `show stat` prints, and how much it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Only this proxy.
    pub proxy: ProxyChoice,
    /// Bits of HAProxy's types: 1 frontends, 2 backends, 4 servers, 8 binds; `None`: all but binds, as HAProxy does
    /// without `option socket-stats`, because old tools take every unknown line for a server.
    pub types: Option<u32>,
    /// Only the server or bind with this number; proxies are not affected.
    pub sid: Option<u32>,
    /// No servers that are down or in maintenance (`up`).
    pub up: bool,
    /// No servers in maintenance (`no-maint`).
    pub no_maint: bool,
    /// Show addresses, cookies and algorithms: from level operator on.
    pub legends: bool,
    /// Append the help text (`desc`, typed form only).
    pub desc: bool,
}

/// Which proxies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProxyChoice {
    /// All.
    All,
    /// That with this number.
    Iid(u32),
    /// That with this name.
    Name(String),
}

impl Filter {
    /// Every line but binds, every column.
    pub const ALL: Filter = Filter {
        proxy: ProxyChoice::All,
        types: None,
        sid: None,
        up: false,
        no_maint: false,
        legends: true,
        desc: false,
    };

    /// Every line, those of binds too.
    pub const EVERYTHING: Filter = Filter { types: Some(15), ..Filter::ALL };

    /// No line: for the process alone.
    pub const NOTHING: Filter = Filter { types: Some(0), ..Filter::ALL };

    /// Whether a line is chosen as far as its kind, proxy and number decide.
    pub fn chooses(&self, object: Object, (iid, name): (u32, &str), sid: u32) -> bool {
        let proxy = match &self.proxy {
            ProxyChoice::All => true,
            ProxyChoice::Iid(wanted) => iid == *wanted,
            ProxyChoice::Name(wanted) => name == *wanted,
        };
        let kind = match self.types {
            Some(bits) => bits & (1 << object as u8) != 0,
            None => object != Object::Listener,
        };
        let has_sid = matches!(object, Object::Server | Object::Listener);
        proxy && kind && (!has_sid || self.sid.is_none_or(|wanted| sid == wanted))
    }

    fn shows(&self, entry: &Entry) -> bool {
        let state = match &entry.facts {
            Facts::Server(server) => {
                (!self.up || server.is_up()) && (!self.no_maint || !server.admin.is_maint())
            }
            _ => true,
        };
        state && self.chooses(entry.facts.object(), (entry.iid, &entry.proxy), entry.sid)
    }

    /// The lines to print.
    pub fn entries<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Entry> {
        snapshot.entries.iter().filter(|entry| self.shows(entry))
    }

    /// Whether level user is not to see a column.
    fn hides(&self, stat: Stat) -> bool {
        !self.legends && matches!(stat, Stat::Address | Stat::Cookie | Stat::Algorithm)
    }

    /// The columns of a line with their values.
    fn values<'a>(&'a self, entry: &'a Entry, now: Now) -> impl Iterator<Item = (&'static Row, Value<'a>)> {
        TABLE.iter().map(move |row| {
            (row, if self.hides(row.stat) { Value::Empty } else { entry.value(row.stat, now) })
        })
    }
}

/// The forms of `show stat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// HAProxy's CSV, what tools read.
    Csv,
    /// One value a line, with what kind of value it is.
    Typed,
    /// The same as one array.
    Json,
}

impl Form {
    /// All lines that a filter shows.
    pub fn stat(self, snapshot: &Snapshot, filter: &Filter, out: &mut String) {
        self.begin(out);
        snapshot.entries.iter().for_each(|entry| self.line(entry, snapshot.now, filter, out));
        self.end(out);
    }

    /// What stands before the lines.
    pub fn begin(self, out: &mut String) {
        match self {
            Form::Csv => csv::header(out),
            Form::Typed => {}
            Form::Json => out.push('['),
        }
    }

    /// Appends the line of an entry, if the filter shows it.
    pub fn line(self, entry: &Entry, now: Now, filter: &Filter, out: &mut String) {
        if !filter.shows(entry) {
            return;
        }
        match self {
            Form::Csv => csv::line(entry, now, filter, out),
            Form::Typed => typed::line(entry, now, filter, out),
            Form::Json => json::line(entry, now, filter, out),
        }
    }

    /// What stands behind them.
    pub fn end(self, out: &mut String) {
        if self == Form::Json {
            out.push_str("]\n");
        }
    }
}

/// Decimal digits. Half of the time of a large `show stat` went into the general formatting of numbers.
pub fn push_number(out: &mut String, mut n: u64) {
    // Most counters of most servers are zero.
    let digit = |n: u64| char::from(b'0' + u8::try_from(n).unwrap_or(0));
    if n < 10 {
        return out.push(digit(n));
    }
    if n < 100 {
        out.push(digit(n / 10));
        return out.push(digit(n % 10));
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n % 10).unwrap_or(0);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or("0"));
}

/// Free text as it can stand in any of the line formats. Tools split lines at commas and know no quotes, so text is
/// changed rather than quoted: control characters become spaces, `,` becomes `;` and `"` becomes `'`.
fn push_text(out: &mut String, text: &str) {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b',' && b != b'"') {
        return out.push_str(text);
    }
    out.extend(text.chars().map(|c| match c {
        ',' => ';',
        '"' => '\'',
        c if c.is_control() => ' ',
        c => c,
    }));
}

#[cfg(test)]
pub(crate) mod tests;

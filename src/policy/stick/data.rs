//! What a table can keep of a key. One row each: the words of `store`, of `show table`, and of fetches come from here.

use std::time::Duration;

/// A kind of data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "DATA says what each is")]
pub enum Data {
    ServerId,
    Gpt,
    Gpc,
    GpcRate,
    ConnCnt,
    ConnCur,
    ConnRate,
    SessCnt,
    SessRate,
    HttpReqCnt,
    HttpReqRate,
    HttpErrCnt,
    HttpErrRate,
    HttpFailCnt,
    HttpFailRate,
    BytesInCnt,
    BytesInRate,
    BytesOutCnt,
    BytesOutRate,
}

/// What is known of one kind.
#[derive(Debug)]
pub struct DataInfo {
    /// Its word in `store`.
    pub name: &'static str,
    /// The kind.
    pub data: Data,
    /// Events over a period.
    pub is_rate: bool,
    /// There may be several, by number.
    pub is_array: bool,
    /// What it is.
    pub help: &'static str,
}

const fn row(name: &'static str, data: Data, is_rate: bool, help: &'static str) -> DataInfo {
    DataInfo { name, data, is_rate, is_array: matches!(data, Data::Gpt | Data::Gpc | Data::GpcRate), help }
}

/// All kinds, in the order of `show table`.
pub const DATA: &[DataInfo] = &[
    row("server_id", Data::ServerId, false, "The server that persistence remembers."),
    row("gpt", Data::Gpt, false, "Tags that rules set."),
    row("gpc", Data::Gpc, false, "Counters that rules increase."),
    row("gpc_rate", Data::GpcRate, true, "Increases of these counters over a period."),
    row("conn_cnt", Data::ConnCnt, false, "Connections, or requests that rules on requests tracked."),
    row("conn_cur", Data::ConnCur, false, "Those that are open now."),
    row("conn_rate", Data::ConnRate, true, "Those over a period."),
    row("sess_cnt", Data::SessCnt, false, "Connections that connection rules tracked and accepted."),
    row("sess_rate", Data::SessRate, true, "Those over a period."),
    row("http_req_cnt", Data::HttpReqCnt, false, "Requests."),
    row("http_req_rate", Data::HttpReqRate, true, "Requests over a period."),
    row(
        "http_err_cnt",
        Data::HttpErrCnt,
        false,
        "Requests that were malformed, denied, or answered with 4xx.",
    ),
    row("http_err_rate", Data::HttpErrRate, true, "Those over a period."),
    row(
        "http_fail_cnt",
        Data::HttpFailCnt,
        false,
        "Requests that servers failed: 5xx but 501 and 505, or no answer.",
    ),
    row("http_fail_rate", Data::HttpFailRate, true, "Those over a period."),
    row("bytes_in_cnt", Data::BytesInCnt, false, "Bytes from clients."),
    row("bytes_in_rate", Data::BytesInRate, true, "Bytes from clients over a period."),
    row("bytes_out_cnt", Data::BytesOutCnt, false, "Bytes to clients."),
    row("bytes_out_rate", Data::BytesOutRate, true, "Bytes to clients over a period."),
];

impl Data {
    /// Its row.
    pub fn info(self) -> &'static DataInfo {
        DATA.iter().find(|info| info.data == self).expect("each kind has a row, a test looks")
    }
}

/// One value of an entry: a kind and, of those that there are several of, its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cell {
    /// The kind.
    pub data: Data,
    /// Its number.
    pub index: u8,
}

impl Cell {
    /// The only one of a kind, or the first.
    pub const fn of(data: Data) -> Cell {
        Cell { data, index: 0 }
    }

    /// As HAProxy names it: `gpc0`, `gpc1_rate`, `conn_cur`.
    pub fn name(self) -> String {
        let info = self.data.info();
        match (info.is_array, info.name.split_once('_')) {
            (false, _) => info.name.to_owned(),
            (true, None) => format!("{}{}", info.name, self.index),
            (true, Some((stem, rest))) => format!("{stem}{}_{rest}", self.index),
        }
    }

    /// The cell of a name: `gpc0`, `gpc(5)`, `gpc1_rate`, `gpc_rate(2)`, `conn_cur`.
    pub fn parse(name: &str) -> Option<Cell> {
        let (word, argument) = match name.split_once('(') {
            Some((word, rest)) => (word, Some(rest.strip_suffix(')')?)),
            None => (name, None),
        };
        if let Some(info) = DATA.iter().find(|info| info.name == word) {
            let index = match (info.is_array, argument) {
                (true, Some(text)) => text.parse().ok()?,
                (false, None) => 0,
                _ => return None,
            };
            return Some(Cell { data: info.data, index });
        }
        let (data, index) = numbered(word)?;
        argument.is_none().then_some(Cell { data, index })
    }
}

/// `gpc0`, `gpc1_rate` and their kin.
fn numbered(word: &str) -> Option<(Data, u8)> {
    let (data, digits) = match word.strip_prefix("gpc") {
        Some(rest) => match rest.strip_suffix("_rate") {
            Some(digits) => (Data::GpcRate, digits),
            None => (Data::Gpc, rest),
        },
        None => (Data::Gpt, word.strip_prefix("gpt")?),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok().map(|index| (data, index)))?
}

/// One column of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store {
    /// What it holds.
    pub cell: Cell,
    /// The period of a rate in milliseconds; 0 for others.
    pub period_ms: u64,
}

/// The columns that one word of `store` means: `gpc0`, `conn_rate(10s)`, `gpc(3)`, `gpc_rate(2,1m)`. `period` reads a time.
///
/// # Errors
/// What is wrong, for the operator.
pub fn parse_store(
    text: &str,
    period: impl Fn(&str) -> Result<Duration, String>,
) -> Result<Vec<Store>, String> {
    let unknown = || format!("\"{text}\" is nothing that a table keeps");
    let (word, argument) = match text.split_once('(') {
        Some((word, rest)) => (word, Some(rest.strip_suffix(')').ok_or_else(unknown)?)),
        None => (text, None),
    };
    let (data, first, count, rest) = match DATA.iter().find(|info| info.name == word) {
        Some(info) if info.is_array => {
            let usage = || match info.is_rate {
                true => format!("write {word}(NUMBER,PERIOD)"),
                false => format!("write {word}(NUMBER)"),
            };
            let argument = argument.ok_or_else(usage)?;
            let (number, rest) = match argument.split_once(',') {
                Some((number, rest)) => (number, Some(rest)),
                None => (argument, None),
            };
            let count: u8 = number.trim().parse().map_err(|_| usage())?;
            if count == 0 || count > COUNT_MAX {
                return Err(format!("{word} takes a number from 1 to {COUNT_MAX}"));
            }
            (info.data, 0, count, rest)
        }
        Some(info) => (info.data, 0, 1, argument),
        None => {
            let (data, index) = numbered(word).filter(|(_, index)| *index < COUNT_MAX).ok_or_else(unknown)?;
            (data, index, 1, argument)
        }
    };
    let period_ms = match (data.info().is_rate, rest) {
        (true, Some(text)) => {
            let ms = u64::try_from(period(text.trim())?.as_millis()).unwrap_or(u64::MAX);
            if ms == 0 {
                return Err(format!("the period of {word} is at least a millisecond"));
            }
            ms
        }
        (true, None) => return Err(format!("{word} needs a period: {word}(10s)")),
        (false, Some(_)) => return Err(format!("{word} takes no period")),
        (false, None) => 0,
    };
    Ok((first..first + count).map(|index| Store { cell: Cell { data, index }, period_ms }).collect())
}

/// Most counters or tags of one entry.
const COUNT_MAX: u8 = 16;

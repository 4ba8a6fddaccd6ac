//! The rows of fetches and converters that read stick tables: `sc_*` of a counter, `src_*` of the client's address, `table_*` of
//! any key.

use crate::base::limits::STICK_COUNTERS;
use crate::config::expr::ExprError;
use crate::config::expr::args::Args;
use crate::config::expr::converters::{ConverterInfo, row};
use crate::config::expr::fetches::{FetchInfo, Needs, plain};
use crate::policy::converter::Converter;
use crate::policy::sample::{Fetch, Kind};
use crate::policy::stick::{Cell, Data, Place, Read};

use Kind::{Any, Bool, Int};

macro_rules! fetches {
    ($(#[$doc:meta])* $table:ident; $($name:literal $args:literal $help:literal)*) => {
        $(#[$doc])*
        pub(super) const $table: &[FetchInfo] = &[
            plain("sc_tracked", Bool, Needs::Connection, "Whether a counter tracks something.", fetch)
                .args("COUNTER[,TABLE]")
                .aliases(&["sc0_tracked", "sc1_tracked", "sc2_tracked"]),
            plain("sc_trackers", Int, Needs::Connection, "How many streams and sessions of this core track the same.", fetch)
                .args("COUNTER[,TABLE]")
                .aliases(&["sc0_trackers", "sc1_trackers", "sc2_trackers"]),
            $(
                plain(concat!("sc_", $name), Int, Needs::Connection, concat!("Of what a counter tracks: ", $help), fetch)
                    .args(concat!($args, "COUNTER[,TABLE]"))
                    .aliases(&[concat!("sc0_", $name), concat!("sc1_", $name), concat!("sc2_", $name)]),
                plain(concat!("src_", $name), Int, Needs::Connection, concat!("Of the client's address: ", $help), fetch)
                    .args(concat!($args, "[TABLE]")),
            )*
            plain(
                "src_updt_conn_cnt",
                Int,
                Needs::Connection,
                "Counts a connection of the client's address, and gives how many there were.",
                fetch,
            )
            .args("[TABLE]"),
        ];
    };
}

fetches! {
    /// Fetches, but for `src_updt_conn_cnt` in pairs.
    STICK_FETCHES;
    "bytes_in_rate" "" "bytes from clients over the period of the table."
    "bytes_out_rate" "" "bytes to clients over the period of the table."
    "clr_gpc" "INDEX," "a general counter, which is set to 0."
    "clr_gpc0" "" "the first general counter, which is set to 0."
    "clr_gpc1" "" "the second general counter, which is set to 0."
    "conn_cnt" "" "connections, or tracked requests."
    "conn_cur" "" "connections that are open."
    "conn_rate" "" "connections over the period of the table."
    "get_gpc" "INDEX," "a general counter."
    "get_gpc0" "" "the first general counter."
    "get_gpc1" "" "the second general counter."
    "get_gpt" "INDEX," "a tag."
    "get_gpt0" "" "the first tag."
    "gpc_rate" "INDEX," "increases of a general counter over the period of the table."
    "gpc0_rate" "" "increases of the first general counter over the period of the table."
    "gpc1_rate" "" "increases of the second general counter over the period of the table."
    "http_err_cnt" "" "requests that were malformed, denied, or answered with 4xx."
    "http_err_rate" "" "those over the period of the table."
    "http_fail_cnt" "" "requests that servers failed."
    "http_fail_rate" "" "those over the period of the table."
    "http_req_cnt" "" "requests."
    "http_req_rate" "" "requests over the period of the table."
    "inc_gpc" "INDEX," "a general counter, after 1 is added."
    "inc_gpc0" "" "the first general counter, after 1 is added."
    "inc_gpc1" "" "the second general counter, after 1 is added."
    "kbytes_in" "" "kilobytes from clients."
    "kbytes_out" "" "kilobytes to clients."
    "sess_cnt" "" "connections that connection rules let in."
    "sess_rate" "" "those over the period of the table."
}

macro_rules! converters {
    ($(#[$doc:meta])* $table:ident; $($name:literal $args:literal $help:literal)*) => {
        $(#[$doc])*
        pub(super) const $table: &[ConverterInfo] = &[
            row("in_table", "TABLE", (Any, Bool), "Whether a stick table has an entry of this key.", converter),
            $(row(concat!("table_", $name), concat!($args, "TABLE"), (Any, Int), concat!("Of this key in a stick table: ", $help), converter),)*
        ];
    };
}

converters! {
    /// Converters.
    STICK_CONVERTERS;
    "bytes_in_rate" "" "bytes from clients over the period of the table."
    "bytes_out_rate" "" "bytes to clients over the period of the table."
    "conn_cnt" "" "connections, or tracked requests."
    "conn_cur" "" "connections that are open."
    "conn_rate" "" "connections over the period of the table."
    "gpc" "INDEX," "a general counter."
    "gpc0" "" "the first general counter."
    "gpc1" "" "the second general counter."
    "gpc_rate" "INDEX," "increases of a general counter over the period of the table."
    "gpc0_rate" "" "increases of the first general counter over the period of the table."
    "gpc1_rate" "" "increases of the second general counter over the period of the table."
    "gpt" "INDEX," "a tag."
    "gpt0" "" "the first tag."
    "http_err_cnt" "" "requests that were malformed, denied, or answered with 4xx."
    "http_err_rate" "" "those over the period of the table."
    "http_fail_cnt" "" "requests that servers failed."
    "http_fail_rate" "" "those over the period of the table."
    "http_req_cnt" "" "requests."
    "http_req_rate" "" "requests over the period of the table."
    "kbytes_in" "" "kilobytes from clients."
    "kbytes_out" "" "kilobytes to clients."
    "server_id" "" "the number of the server that persistence remembers, in the backend of the table."
    "sess_cnt" "" "connections that connection rules let in."
    "sess_rate" "" "those over the period of the table."
    "trackers" "" "how many streams and sessions of this core track it."
}

/// What the end of a name reads. `index` reads the number of an array's element.
fn read(name: &str, index: &mut impl FnMut() -> Result<u8, ExprError>) -> Result<Read, ExprError> {
    Ok(match name {
        "tracked" => Read::Tracked,
        "trackers" => Read::Trackers,
        "kbytes_in" => Read::Kilo(Cell::of(Data::BytesInCnt)),
        "kbytes_out" => Read::Kilo(Cell::of(Data::BytesOutCnt)),
        "updt_conn_cnt" => Read::Increment(Cell::of(Data::ConnCnt)),
        _ => {
            let (wrap, word): (fn(Cell) -> Read, &str) = if let Some(word) = name.strip_prefix("inc_") {
                (Read::Increment, word)
            } else if let Some(word) = name.strip_prefix("clr_") {
                (Read::Clear, word)
            } else {
                (Read::Value, name.strip_prefix("get_").unwrap_or(name))
            };
            let data = match word {
                "gpc" => Some(Data::Gpc),
                "gpt" => Some(Data::Gpt),
                "gpc_rate" => Some(Data::GpcRate),
                _ => None,
            };
            let cell = match data {
                Some(data) => Cell { data, index: index()? },
                None => Cell::parse(word).expect("a name of the tables above, a test compiles each"),
            };
            wrap(cell)
        }
    })
}

fn element(args: &mut Args<'_, '_>) -> Result<u8, ExprError> {
    let index = args.size("the index")?;
    u8::try_from(index).map_err(|_| args.error("the index is too large"))
}

fn fetch(args: &mut Args<'_, '_>) -> Result<Fetch, ExprError> {
    let name = args.name;
    if let Some(rest) = name.strip_prefix("src_") {
        let read = read(rest, &mut || element(args))?;
        return Ok(Fetch::Stick(Place::Source(args.table()?), read));
    }
    // `sc0_conn_cnt` is `sc_conn_cnt` of the counter 0.
    let (number, rest) = name.split_once('_').expect("each of them has one");
    let read = read(rest, &mut || element(args))?;
    let counter = match number.strip_prefix("sc").unwrap_or_default() {
        "" => args.size("the number of the counter")?,
        digit => digit.parse().expect("the names have digits here"),
    };
    if counter >= STICK_COUNTERS {
        return Err(args.error(format!("counters are 0 to {}", STICK_COUNTERS - 1)));
    }
    let counter = u8::try_from(counter).expect("few");
    Ok(Fetch::Stick(Place::Counter(counter, args.optional_table()?), read))
}

fn converter(args: &mut Args<'_, '_>) -> Result<Converter, ExprError> {
    let read = match args.name.strip_prefix("table_") {
        None => Read::Exists,
        Some(rest) => read(rest, &mut || element(args))?,
    };
    Ok(Converter::Table(args.table()?, read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_something() {
        for info in STICK_FETCHES {
            let rest = info.name.split_once('_').expect("a prefix").1;
            assert!(read(rest, &mut || Ok(0)).is_ok(), "{}", info.name);
        }
        for info in STICK_CONVERTERS.iter().filter(|info| info.name != "in_table") {
            assert!(read(&info.name["table_".len()..], &mut || Ok(0)).is_ok(), "{}", info.name);
        }
    }
}

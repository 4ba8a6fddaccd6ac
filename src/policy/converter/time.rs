//! Points in time as text, in UTC or in the time of this machine.

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

use crate::policy::converter::Step;
use crate::policy::sample::{Kind, TimeUnit};

/// The date of HTTP headers (RFC 9110 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// `http_date`, `utime` and `ltime`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DateFormat {
    /// As strftime(3) has it.
    format: String,
    /// Added to the input.
    offset: i64,
    /// What the input and the offset count.
    unit: TimeUnit,
    zone: TimeZone,
}

impl DateFormat {
    /// The date of HTTP headers.
    pub fn http(offset: i64, unit: TimeUnit) -> DateFormat {
        DateFormat { format: HTTP_DATE.to_owned(), offset, unit, zone: TimeZone::UTC }
    }

    /// A format of strftime(3), over seconds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(format: &str, offset: i64) -> Result<DateFormat, String> {
        DateFormat::in_zone(format, offset, TimeZone::UTC)
    }

    /// The same in the time of this machine, as TZ or /etc/localtime says at load.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn local(format: &str, offset: i64) -> Result<DateFormat, String> {
        DateFormat::in_zone(format, offset, TimeZone::system())
    }

    fn in_zone(format: &str, offset: i64, zone: TimeZone) -> Result<DateFormat, String> {
        let date = DateFormat { format: format.to_owned(), offset, unit: TimeUnit::Seconds, zone };
        date.write(0, &mut Vec::new()).map_err(|e| e.to_string())?;
        Ok(date)
    }

    pub(super) fn apply(&self, time: i64, out: &mut Vec<u8>) -> Step<'static> {
        match self.write(time.saturating_add(self.offset), out) {
            Ok(()) => Step::Written(Kind::Str),
            // Beyond the year 9999.
            Err(_) => Step::Missing,
        }
    }

    fn write(&self, time: i64, out: &mut Vec<u8>) -> Result<(), jiff::Error> {
        let timestamp = match self.unit {
            TimeUnit::Seconds => Timestamp::from_second(time)?,
            TimeUnit::Milliseconds => Timestamp::from_millisecond(time)?,
            TimeUnit::Microseconds => Timestamp::from_microsecond(time)?,
        };
        BrokenDownTime::from(&timestamp.to_zoned(self.zone.clone())).format(&self.format, out)
    }
}

//! Dates in logs. Formatting one that was asked for in the same second is a copy.

use std::time::Duration;

/// Where local time comes from: UNIX seconds in, seconds east of Greenwich out.
pub type Zone = fn(i64) -> i32;

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Offsets change at most this often; the time zones of the world switch at quarters of an hour.
const OFFSET_HOLDS_S: i64 = 900;

/// Writes dates, and remembers the last ones. One per core.
#[derive(Clone, Debug)]
pub struct Dates {
    zone: Zone,
    /// The quarter of an hour of the offset.
    slot: i64,
    offset: i32,
    /// The last text of [`Dates::log`].
    second: i64,
    text: [u8; 20],
    /// The last text of [`Dates::syslog`].
    syslog_second: i64,
    syslog_text: [u8; 15],
}

/// A day and a time.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    second_of_day: i64,
}

impl Civil {
    fn at(seconds: i64) -> Civil {
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Howard Hinnant's days_from_civil, the other way round: years begin in March, eras have 400 years.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let of_era = z.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 2 } else { shifted - 10 };
        let year = year_of_era + era * 400 + i64::from(month < 2);
        Civil { year, month: usize::try_from(month).unwrap_or(0) % 12, day, second_of_day }
    }
}

fn two(n: i64) -> [u8; 2] {
    let n = u8::try_from(n.rem_euclid(100)).unwrap_or(0);
    [b'0' + n / 10, b'0' + n % 10]
}

impl Dates {
    /// With this zone for local time.
    pub fn new(zone: Zone) -> Dates {
        Dates {
            zone,
            slot: i64::MIN,
            offset: 0,
            second: i64::MIN,
            text: [0; 20],
            syslog_second: i64::MIN,
            syslog_text: [0; 15],
        }
    }

    fn offset(&mut self, seconds: i64) -> i32 {
        let slot = seconds.div_euclid(OFFSET_HOLDS_S);
        if slot != self.slot {
            self.offset = (self.zone)(slot * OFFSET_HOLDS_S);
            self.slot = slot;
        }
        self.offset
    }

    /// `21/Nov/2026:04:47:10.123`, in local time.
    pub fn log(&mut self, time: Duration, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp(time));
    }

    /// The same as text.
    pub(super) fn stamp(&mut self, time: Duration) -> [u8; 24] {
        let seconds = seconds(time);
        if seconds != self.second {
            let offset = self.offset(seconds);
            let mut text = Vec::with_capacity(20);
            day_and_time(seconds + i64::from(offset), &mut text);
            if let Ok(text) = text.as_slice().try_into() {
                (self.text, self.second) = (text, seconds);
            }
        }
        let mut text = [b'.'; 24];
        text[..20].copy_from_slice(&self.text);
        text[21..].copy_from_slice(&milliseconds(time));
        text
    }

    /// `21/Nov/2026:04:47:10 +0000`, in local time.
    pub fn local(&mut self, time: Duration, out: &mut Vec<u8>) {
        let seconds = seconds(time);
        let offset = i64::from(self.offset(seconds));
        day_and_time(seconds + offset, out);
        out.push(b' ');
        out.push(if offset < 0 { b'-' } else { b'+' });
        let minutes = offset.abs() / 60;
        out.extend_from_slice(&two(minutes / 60));
        out.extend_from_slice(&two(minutes % 60));
    }

    /// `21/Nov/2026:04:47:10 +0000`, in universal time.
    pub fn universal(time: Duration, out: &mut Vec<u8>) {
        day_and_time(seconds(time), out);
        out.extend_from_slice(b" +0000");
    }

    /// `Nov  1 04:47:10`, in local time: the date of RFC 3164.
    pub fn syslog(&mut self, time: Duration, out: &mut Vec<u8>) {
        let seconds = seconds(time);
        if seconds == self.syslog_second {
            return out.extend_from_slice(&self.syslog_text);
        }
        let from = out.len();
        let civil = Civil::at(seconds + i64::from(self.offset(seconds)));
        out.extend_from_slice(MONTHS[civil.month]);
        out.push(b' ');
        let day = two(civil.day);
        out.push(if day[0] == b'0' { b' ' } else { day[0] });
        out.push(day[1]);
        out.push(b' ');
        clock(civil.second_of_day, out);
        if let Ok(text) = out[from..].try_into() {
            (self.syslog_text, self.syslog_second) = (text, seconds);
        }
    }

    /// `2026-11-21T04:47:10.123456+00:00`: RFC 3339 in local time, the date of RFC 5424.
    pub fn iso(&mut self, time: Duration, out: &mut Vec<u8>) {
        let seconds = seconds(time);
        let offset = i64::from(self.offset(seconds));
        let civil = Civil::at(seconds + offset);
        out.extend_from_slice(&two(civil.year / 100));
        out.extend_from_slice(&two(civil.year));
        out.push(b'-');
        out.extend_from_slice(&two(i64::try_from(civil.month).unwrap_or(0) + 1));
        out.push(b'-');
        out.extend_from_slice(&two(civil.day));
        out.push(b'T');
        clock(civil.second_of_day, out);
        out.push(b'.');
        let us = i64::from(time.subsec_micros());
        for part in [us / 10_000, us / 100, us] {
            out.extend_from_slice(&two(part));
        }
        out.push(if offset < 0 { b'-' } else { b'+' });
        let minutes = offset.abs() / 60;
        out.extend_from_slice(&two(minutes / 60));
        out.push(b':');
        out.extend_from_slice(&two(minutes % 60));
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 2)
}

/// Three digits.
pub(super) fn millis(time: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(&milliseconds(time));
}

fn milliseconds(time: Duration) -> [u8; 3] {
    let ms = time.subsec_millis();
    let digit = |n: u32| b'0' + u8::try_from(n % 10).unwrap_or(0);
    [digit(ms / 100), digit(ms / 10), digit(ms)]
}

fn clock(second_of_day: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&two(second_of_day / 3600));
    out.push(b':');
    out.extend_from_slice(&two(second_of_day / 60 % 60));
    out.push(b':');
    out.extend_from_slice(&two(second_of_day % 60));
}

fn day_and_time(seconds: i64, out: &mut Vec<u8>) {
    let civil = Civil::at(seconds);
    out.extend_from_slice(&two(civil.day));
    out.push(b'/');
    out.extend_from_slice(MONTHS[civil.month]);
    out.push(b'/');
    out.extend_from_slice(&two(civil.year / 100));
    out.extend_from_slice(&two(civil.year));
    out.push(b':');
    clock(civil.second_of_day, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn dates_are_those_of_jiff() {
        let mut dates = Dates::new(|_| 0);
        for day in 0..40_000 {
            let time = Duration::from_secs(day * 86_400 + day * 7 % 86_400);
            let at = jiff::Timestamp::from_second(seconds(time)).expect("in range");
            let expected = at.strftime("%d/%b/%Y:%H:%M:%S.000").to_string();
            assert_eq!(text(|out| dates.log(time, out)), expected);
        }
    }

    #[test]
    fn local_time_has_its_offset() {
        let time = Duration::new(1_795_236_430, 123_456_789);
        let mut east = Dates::new(|_| 5 * 3600 + 1800);
        let mut west = Dates::new(|_| -3600);
        assert_eq!(text(|out| east.local(time, out)), "21/Nov/2026:10:17:10 +0530");
        assert_eq!(text(|out| west.local(time, out)), "21/Nov/2026:03:47:10 -0100");
        assert_eq!(text(|out| west.log(time, out)), "21/Nov/2026:03:47:10.123");
        assert_eq!(text(|out| Dates::universal(time, out)), "21/Nov/2026:04:47:10 +0000");
        assert_eq!(text(|out| east.syslog(time, out)), "Nov 21 10:17:10");
        assert_eq!(text(|out| west.iso(time, out)), "2026-11-21T03:47:10.123456-01:00");
        let first = Duration::from_secs(1_793_491_200);
        assert_eq!(text(|out| west.syslog(first, out)), "Oct 31 23:00:00");
    }
}

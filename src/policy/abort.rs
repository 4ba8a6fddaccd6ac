//! The condition under which a configuration on trial is taken back: `http_5xx > 1% or p99 > 2x`. Pure: text -> [`Condition`],
//! measured [`Readings`] -> whether it holds and why. `control::trial` measures.

use std::fmt;
use std::time::Duration;

use crate::base::limits::{ABORT_CONDITION_TERMS_MAX, ABORT_SAMPLES_MIN};

/// What can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// Part of the responses to clients with a status 4xx.
    Http4xx,
    /// Part of the responses to clients with a status 5xx.
    Http5xx,
    /// Part of the requests (sessions in mode tcp) whose server could not be reached or broke its response.
    Errors,
    /// Half of the requests took no longer.
    P50,
    /// 90 % of them took no longer.
    P90,
    /// 99 % of them took no longer.
    P99,
    /// 99.9 % of them took no longer.
    P999,
    /// Requests and TCP sessions a second.
    Rate,
    /// Servers that are down.
    Down,
}

/// What a metric is measured in, and so what it may be compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Part,
    Time,
    Count,
}

/// All metrics: word, kind, meaning.
const METRICS: [(&str, Metric, Kind, &str); 9] = [
    ("http_5xx", Metric::Http5xx, Kind::Part, "responses with a status 5xx, of all responses"),
    ("http_4xx", Metric::Http4xx, Kind::Part, "responses with a status 4xx, of all responses"),
    (
        "errors",
        Metric::Errors,
        Kind::Part,
        "failed connections to servers and broken responses, of all requests",
    ),
    ("p50", Metric::P50, Kind::Time, "total time that half of the requests stay below"),
    ("p90", Metric::P90, Kind::Time, "total time that 90 % of them stay below"),
    ("p99", Metric::P99, Kind::Time, "total time that 99 % of them stay below"),
    ("p999", Metric::P999, Kind::Time, "total time that 99.9 % of them stay below"),
    ("rate", Metric::Rate, Kind::Count, "requests and TCP sessions a second"),
    ("down", Metric::Down, Kind::Count, "servers that are down"),
];

/// What is measured at once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Readings {
    /// How long it was measured.
    pub time: Duration,
    /// Requests and TCP sessions in that time.
    pub requests: u64,
    /// Responses to clients in that time.
    pub responses: u64,
    /// Those with a status 4xx.
    pub http_4xx: u64,
    /// Those with a status 5xx.
    pub http_5xx: u64,
    /// Failed connections to servers and broken responses.
    pub errors: u64,
    /// Requests with a duration.
    pub timed: u64,
    /// p50, p90, p99, p99.9 of their total time in microseconds.
    pub quantiles: [u64; 4],
    /// Servers that are down now.
    pub down: u64,
}

/// With what a metric is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limit {
    /// In thousandths of a percent.
    Part(u64),
    Time(Duration),
    Count(u64),
    /// In thousandths of the value before.
    Factor(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Term {
    metric: Metric,
    comparison: Comparison,
    limit: Limit,
}

/// A condition: it holds when one of its alternatives does, and that when all of its terms do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    alternatives: Vec<Vec<Term>>,
    text: String,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Condition {
    /// Reads one.
    ///
    /// # Errors
    /// It is none; the text says why and what would be.
    pub fn parse(text: &str) -> Result<Condition, String> {
        let tokens = tokens(text);
        let mut tokens = tokens.iter().map(String::as_str);
        let mut alternatives = vec![Vec::new()];
        for count in 0.. {
            if count == ABORT_CONDITION_TERMS_MAX {
                return Err(format!("more than {ABORT_CONDITION_TERMS_MAX} comparisons"));
            }
            let term = term(&mut tokens)?;
            alternatives.last_mut().expect("there is one from the start on").push(term);
            match tokens.next() {
                None => break,
                Some("and" | "&&") => {}
                Some("or" | "||") => alternatives.push(Vec::new()),
                Some(other) => return Err(format!("\"{other}\" is neither \"and\" nor \"or\"")),
            }
        }
        Ok(Condition { alternatives, text: text.trim().to_owned() })
    }

    /// Why it holds; `None`: it does not, or too little was seen to tell.
    pub fn holds(&self, before: &Readings, now: &Readings) -> Option<String> {
        self.alternatives.iter().find_map(|terms| {
            let reasons: Option<Vec<String>> = terms.iter().map(|term| term.holds(before, now)).collect();
            reasons.map(|reasons| reasons.join(", "))
        })
    }
}

/// Words, numbers with their units, and signs of comparison, with or without spaces between them.
fn tokens(text: &str) -> Vec<String> {
    let kind = |c: char| {
        if c.is_ascii_whitespace() {
            0
        } else if "<>=".contains(c) {
            1
        } else {
            2
        }
    };
    let mut tokens: Vec<String> = Vec::new();
    let mut last = 0;
    for c in text.chars() {
        match (kind(c), tokens.last_mut()) {
            (0, _) => {}
            (now, Some(token)) if now == last => token.push(c),
            _ => tokens.push(c.to_string()),
        }
        last = kind(c);
    }
    tokens
}

fn term<'a>(tokens: &mut impl Iterator<Item = &'a str>) -> Result<Term, String> {
    let word = tokens.next().ok_or("a comparison is missing, for example http_5xx > 1%")?;
    let Some((name, metric, kind, _)) = METRICS.iter().copied().find(|(name, ..)| *name == word) else {
        let known: Vec<&str> = METRICS.iter().map(|(name, ..)| *name).collect();
        return Err(format!("unknown value \"{word}\"; there are {}", known.join(", ")));
    };
    let comparison = match tokens.next() {
        Some(">") => Comparison::Above,
        Some(">=") => Comparison::AtLeast,
        Some("<") => Comparison::Below,
        Some("<=") => Comparison::AtMost,
        other => return Err(format!("after {name} stands {}, not one of > >= < <=", quoted(other))),
    };
    let value = tokens.next();
    let limit = value.and_then(|value| limit(value, kind)).ok_or_else(|| {
        let form = match kind {
            Kind::Part => "a percentage (1%)",
            Kind::Time => "a duration (300ms)",
            Kind::Count => "a number",
        };
        format!("{name} is compared with {form} or with what it was before (2x), not with {}", quoted(value))
    })?;
    Ok(Term { metric, comparison, limit })
}

fn quoted(word: Option<&str>) -> String {
    word.map_or_else(|| "nothing".to_owned(), |word| format!("\"{word}\""))
}

fn limit(text: &str, kind: Kind) -> Option<Limit> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let thousandths = thousandths(number)?;
    let time = |micros: u64| {
        thousandths.checked_mul(micros).map(|all| Limit::Time(Duration::from_micros(all / 1000)))
    };
    match (unit, kind) {
        ("x", _) => Some(Limit::Factor(thousandths)),
        ("%", Kind::Part) => Some(Limit::Part(thousandths)),
        ("us", Kind::Time) => time(1),
        ("ms", Kind::Time) => time(1_000),
        ("s", Kind::Time) => time(1_000_000),
        ("", Kind::Count) => number.parse().ok().map(Limit::Count),
        _ => None,
    }
}

/// A decimal number with at most three decimals.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    if rest.is_empty() || rest.len() > 3 || !rest.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let rest: u64 = format!("{rest:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(rest)
}

impl Term {
    fn holds(&self, before: &Readings, now: &Readings) -> Option<String> {
        let (part, whole) = self.metric.of(now)?;
        let old = self.metric.of(before);
        let (limit, scale) = match self.limit {
            Limit::Part(thousandths) => ((u128::from(thousandths), 100_000), 1),
            Limit::Time(time) => ((time.as_micros(), 1), 1),
            Limit::Count(count) => ((u128::from(count), 1), 1),
            Limit::Factor(thousandths) => (old?, u128::from(thousandths)),
        };
        // part / whole against limit.0 / limit.1 * scale, the scale of a factor in thousandths.
        let unit = if matches!(self.limit, Limit::Factor(_)) { 1000 } else { 1 };
        let (left, right) = (
            part.saturating_mul(limit.1).saturating_mul(unit),
            limit.0.saturating_mul(whole).saturating_mul(scale),
        );
        let holds = match self.comparison {
            Comparison::Above => left > right,
            Comparison::AtLeast => left >= right,
            Comparison::Below => left < right,
            Comparison::AtMost => left <= right,
        };
        holds.then(|| {
            let name =
                METRICS.iter().find(|(_, metric, ..)| *metric == self.metric).map_or("", |(name, ..)| name);
            let was = old.map_or_else(String::new, |old| format!(" (before {})", self.metric.show(old)));
            format!("{name} is {}{was}", self.metric.show((part, whole)))
        })
    }
}

impl Metric {
    /// The value as a fraction; `None`: too little was seen.
    fn of(self, readings: &Readings) -> Option<(u128, u128)> {
        let wide = u128::from;
        let part = |part: u64, all: u64| (all >= ABORT_SAMPLES_MIN).then_some((wide(part), wide(all)));
        let time =
            |at: usize| (readings.timed >= ABORT_SAMPLES_MIN).then_some((wide(readings.quantiles[at]), 1));
        match self {
            Metric::Http4xx => part(readings.http_4xx, readings.responses),
            Metric::Http5xx => part(readings.http_5xx, readings.responses),
            Metric::Errors => part(readings.errors.min(readings.requests), readings.requests),
            Metric::P50 => time(0),
            Metric::P90 => time(1),
            Metric::P99 => time(2),
            Metric::P999 => time(3),
            Metric::Rate => {
                let ms = readings.time.as_millis();
                (ms > 0).then(|| (wide(readings.requests) * 1000, ms))
            }
            Metric::Down => Some((wide(readings.down), 1)),
        }
    }

    fn show(self, (part, whole): (u128, u128)) -> String {
        let decimals = |value: u128, unit: &str| format!("{}.{:02}{unit}", value / 100, value % 100);
        match self {
            Metric::Http4xx | Metric::Http5xx | Metric::Errors => decimals(part * 10_000 / whole.max(1), "%"),
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 => decimals(part / 10, "ms"),
            Metric::Rate | Metric::Down => (part / whole.max(1)).to_string(),
        }
    }
}

/// What a condition may compare, as a table of the documentation.
pub fn reference() -> String {
    let mut text = "| value | compared with | what it is |\n|---|---|---|\n".to_owned();
    for (name, _, kind, what) in METRICS {
        let with = match kind {
            Kind::Part => "`1%`, `2x`",
            Kind::Time => "`300ms`, `2x`",
            Kind::Count => "`3`, `2x`",
        };
        text.push_str(&format!("| `{name}` | {with} | {what} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Readings = Readings {
        time: Duration::from_secs(10),
        requests: 1000,
        responses: 1000,
        http_4xx: 10,
        http_5xx: 5,
        errors: 0,
        timed: 1000,
        quantiles: [100, 200, 4_000, 9_000],
        down: 1,
    };

    fn holds(text: &str, now: &Readings) -> Option<String> {
        Condition::parse(text).expect("a condition").holds(&BEFORE, now)
    }

    #[test]
    fn values_are_compared_with_limits_and_with_what_was_before() {
        let now = Readings { http_5xx: 20, quantiles: [100, 200, 9_000, 9_000], down: 2, ..BEFORE };
        for (text, expected) in [
            ("http_5xx > 1%", Some("http_5xx is 2.00% (before 0.50%)")),
            ("http_5xx > 2%", None),
            ("http_5xx>=2%", Some("http_5xx is 2.00% (before 0.50%)")),
            ("http_5xx > 3x", Some("http_5xx is 2.00% (before 0.50%)")),
            ("http_5xx > 4x", None),
            ("http_4xx > 1.5x", None),
            ("p99 > 2x", Some("p99 is 9.00ms (before 4.00ms)")),
            ("p99 > 9ms", None),
            ("p99 > 8999us", Some("p99 is 9.00ms (before 4.00ms)")),
            ("p50 > 2x or p99 > 2.2x", Some("p99 is 9.00ms (before 4.00ms)")),
            ("p99 > 2x and http_5xx > 5%", None),
            (
                "p99 > 2x and http_5xx > 1% or errors > 50%",
                Some("p99 is 9.00ms (before 4.00ms), http_5xx is 2.00% (before 0.50%)"),
            ),
            ("down > 1", Some("down is 2 (before 1)")),
            ("rate < 0.5x", None),
            ("rate <= 100", Some("rate is 100 (before 100)")),
            ("errors >= 0%", Some("errors is 0.00% (before 0.00%)")),
        ] {
            assert_eq!(holds(text, &now).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn little_traffic_says_nothing() {
        let few = ABORT_SAMPLES_MIN - 1;
        let now = Readings { responses: few, http_5xx: few, requests: few, timed: few, ..BEFORE };
        assert_eq!(holds("http_5xx > 1% or p99 > 0ms or errors >= 0%", &now), None);
        assert_eq!(holds("rate < 0.5x", &now), Some(format!("rate is {} (before 100)", few / 10)));
        let condition = Condition::parse("p99 > 2x").expect("a condition");
        assert_eq!(
            condition.holds(&now, &Readings { quantiles: [9; 4], ..BEFORE }),
            None,
            "nothing to compare with"
        );
    }

    #[test]
    fn what_is_no_condition_is_explained() {
        for (text, expected) in [
            ("", "a comparison is missing"),
            ("http_5xx", "after http_5xx stands nothing"),
            ("http_5xx > ", "not with nothing"),
            ("http_5xx > 5", "compared with a percentage (1%)"),
            ("p99 > 5", "compared with a duration (300ms)"),
            ("p99 > 5%", "not with \"5%\""),
            ("down > 1.5", "compared with a number"),
            ("http_6xx > 1%", "there are http_5xx, http_4xx"),
            ("p99 = 2x", "stands \"=\""),
            ("p99 > 2x but p50 > 1x", "\"but\" is neither"),
            ("p99 > 2x or", "a comparison is missing"),
            ("p99 > 1.2345x", "not with \"1.2345x\""),
            ("p99 > 99999999999999999999x", "not with"),
        ] {
            let why = Condition::parse(text).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
        let many = vec!["down > 1"; ABORT_CONDITION_TERMS_MAX + 1].join(" or ");
        assert!(Condition::parse(&many).is_err());
    }
}

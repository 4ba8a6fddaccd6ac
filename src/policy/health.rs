//! The health of one server: results of checks in, transitions and the next interval out. Running checks is the control
//! core's work; it keeps one `Health` per distinct check and hands every result to [`Health::on_check`].
//!
//! ```text
//!                    fall failures in a row
//!        Up  ------------------------------------->  Down
//!      (health rise .. rise+fall-1)             (health 0 .. rise-1)
//!        Up  <-------------------------------------  Down
//!                    rise successes in a row
//!
//!        Up  <-- passed / conditionally passed -->  NoLoad      (a failure counts in both)
//! ```
//!
//! `health` is HAProxy's number: at the top (rise+fall-1) the server is fully up, one success while up returns there,
//! one failure while down returns to 0. A server starts at `rise`: up, and down at the first failure.

use std::fmt;
use std::time::Duration;

use crate::base::rng::Rng;

/// How a server is judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Interval while fully up (`inter`).
    pub inter: Duration,
    /// Interval while on the way between up and down (`fastinter`).
    pub fastinter: Duration,
    /// Interval while fully down (`downinter`).
    pub downinter: Duration,
    /// Successes in a row that bring it up (`rise`); 0 counts as 1.
    pub rise: u32,
    /// Failures in a row that take it down (`fall`); 0 counts as 1.
    pub fall: u32,
    /// Errors of real traffic that count as well (`observe`).
    pub observe: Option<Observe>,
}

/// `observe`, `error-limit`, `on-error`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observe {
    /// Errors in a row that trigger the action (`error-limit`, default 10).
    pub error_limit: u32,
    /// The action (`on-error`).
    pub on_error: OnError,
}

/// `on-error`. Each also asks for the next check soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnError {
    /// `fastinter`: only check soon.
    FastInter,
    /// `fail-check`: count a failed check (the default).
    FailCheck,
    /// `sudden-death`: count a failed check and leave one more until down.
    SuddenDeath,
    /// `mark-down`: down at once.
    MarkDown,
}

/// What a check found. The code, the words and the verdict of each are in [`CheckStatus::TABLE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckStatus {
    /// No check has run.
    Unknown,
    /// The first check has not finished.
    Initializing,
    /// Finished without an opinion.
    Checked,
    /// Errors of real traffic (`observe`).
    Analyzed,
    /// We could not try: no source port, no file descriptor, no memory. Says nothing about the server.
    SocketError,
    /// Connected.
    L4Ok,
    /// No connection in time.
    L4Timeout,
    /// Connection refused or unreachable.
    L4Connect,
    /// TLS established.
    L6Ok,
    /// TLS not established in time.
    L6Timeout,
    /// TLS failed.
    L6Response,
    /// Answered as expected.
    L7Ok,
    /// Answered 404 under `disable-on-404`: works, wants no new load.
    L7OkConditionally,
    /// No answer in time.
    L7Timeout,
    /// The answer is not the protocol's.
    L7Response,
    /// The answer says failure.
    L7Status,
}

/// What a [`CheckStatus`] means for the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A success.
    Passed,
    /// A success of a server that wants no new load.
    Conditional,
    /// A failure.
    Failed,
    /// Nothing.
    Neutral,
}

/// One row of [`CheckStatus::TABLE`].
#[derive(Clone, Copy, Debug)]
pub struct CheckStatusRow {
    /// The status.
    pub status: CheckStatus,
    /// Its code in `show stat` (`check_status`).
    pub code: &'static str,
    /// Its words in `show stat` (`check_desc`).
    pub description: &'static str,
    /// What it means for the server.
    pub verdict: Verdict,
}

const fn row(
    status: CheckStatus,
    code: &'static str,
    description: &'static str,
    verdict: Verdict,
) -> CheckStatusRow {
    CheckStatusRow { status, code, description, verdict }
}

impl CheckStatus {
    /// Codes and words as in HAProxy. The verdict differs in one place: SOCKERR is our own shortage, so it is no failure
    /// of the server.
    pub const TABLE: &'static [CheckStatusRow] = &[
        row(CheckStatus::Unknown, "UNK", "Unknown", Verdict::Neutral),
        row(CheckStatus::Initializing, "INI", "Initializing", Verdict::Neutral),
        row(CheckStatus::Checked, "CHECKED", "No status change", Verdict::Neutral),
        row(CheckStatus::Analyzed, "HANA", "Health analyze", Verdict::Failed),
        row(CheckStatus::SocketError, "SOCKERR", "Socket error", Verdict::Neutral),
        row(CheckStatus::L4Ok, "L4OK", "Layer4 check passed", Verdict::Passed),
        row(CheckStatus::L4Timeout, "L4TOUT", "Layer4 timeout", Verdict::Failed),
        row(CheckStatus::L4Connect, "L4CON", "Layer4 connection problem", Verdict::Failed),
        row(CheckStatus::L6Ok, "L6OK", "Layer6 check passed", Verdict::Passed),
        row(CheckStatus::L6Timeout, "L6TOUT", "Layer6 timeout", Verdict::Failed),
        row(CheckStatus::L6Response, "L6RSP", "Layer6 invalid response", Verdict::Failed),
        row(CheckStatus::L7Ok, "L7OK", "Layer7 check passed", Verdict::Passed),
        row(
            CheckStatus::L7OkConditionally,
            "L7OKC",
            "Layer7 check conditionally passed",
            Verdict::Conditional,
        ),
        row(CheckStatus::L7Timeout, "L7TOUT", "Layer7 timeout", Verdict::Failed),
        row(CheckStatus::L7Response, "L7RSP", "Layer7 invalid response", Verdict::Failed),
        row(CheckStatus::L7Status, "L7STS", "Layer7 wrong status", Verdict::Failed),
    ];

    /// Its row of the table.
    pub fn row(self) -> &'static CheckStatusRow {
        &Self::TABLE[self as usize]
    }
}

/// Whether the server takes load, as far as its checks go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Takes load.
    Up,
    /// Takes only sessions that persistence sends it (`NOLB`).
    NoLoad,
    /// Takes nothing.
    Down,
}

/// What one input changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The new state, if it is another one.
    pub entered: Option<State>,
    /// Whether `health` moved, which is worth a log line with `option log-health-checks`.
    pub moved: bool,
    /// Whether it counts as a failed check in the statistics (`chkfail`): a failure while not yet fully down.
    pub failed_check: bool,
    /// Whether the next check has to run after `fastinter` from now instead of when it was due.
    pub check_soon: bool,
}

const NOTHING: Outcome = Outcome { entered: None, moved: false, failed_check: false, check_soon: false };

/// The machine.
#[derive(Clone, Debug)]
pub struct Health {
    settings: Settings,
    health: u32,
    no_load: bool,
    errors_in_a_row: u32,
}

impl Health {
    /// A server that has not been checked: up, and down at the first failure.
    pub fn new(mut settings: Settings) -> Self {
        settings.rise = settings.rise.max(1);
        settings.fall = settings.fall.max(1);
        Health { health: settings.rise, settings, no_load: false, errors_in_a_row: 0 }
    }

    /// The result of a check.
    pub fn on_check(&mut self, status: CheckStatus) -> Outcome {
        match status.row().verdict {
            Verdict::Passed => self.pass(false),
            Verdict::Conditional => self.pass(true),
            Verdict::Failed => self.fail(),
            Verdict::Neutral => NOTHING,
        }
    }

    /// A response or connection of real traffic, good or bad, when `observe` is on.
    pub fn on_traffic(&mut self, good: bool) -> Outcome {
        let Some(observe) = self.settings.observe else { return NOTHING };
        if good || self.state() == State::Down {
            self.errors_in_a_row = 0;
            return NOTHING;
        }
        self.errors_in_a_row += 1;
        if self.errors_in_a_row < observe.error_limit {
            return NOTHING;
        }
        self.errors_in_a_row = 0;
        let rise = self.settings.rise;
        let outcome = match observe.on_error {
            OnError::FastInter => NOTHING,
            OnError::FailCheck => self.fail(),
            OnError::SuddenDeath => {
                self.health = self.health.min(rise + 1);
                self.fail()
            }
            OnError::MarkDown => {
                self.health = rise;
                self.fail()
            }
        };
        Outcome { check_soon: true, ..outcome }
    }

    /// `set server health`: what the operator says, until the next check.
    pub fn force(&mut self, state: State) -> Outcome {
        let before = (self.state(), self.health);
        self.no_load = state == State::NoLoad;
        self.health = if state == State::Down { 0 } else { self.top() };
        self.outcome(before, false)
    }

    /// Goes on from what another process knew: its number and whether the server wanted no new load.
    pub fn resume(&mut self, level: u32, no_load: bool) {
        self.health = level.min(self.top());
        self.no_load = no_load && self.health >= self.settings.rise;
    }

    /// What [`resume`](Self::resume) goes on from.
    pub fn memory(&self) -> (u32, bool) {
        (self.health, self.no_load)
    }

    /// The state now.
    pub fn state(&self) -> State {
        if self.health < self.settings.rise {
            State::Down
        } else if self.no_load {
            State::NoLoad
        } else {
            State::Up
        }
    }

    /// Time from the end of a check to the start of the next.
    pub fn interval(&self) -> Duration {
        if self.health == self.top() {
            self.settings.inter
        } else if self.health == 0 {
            self.settings.downinter
        } else {
            self.settings.fastinter
        }
    }

    /// Columns `check_rise`, `check_fall`, `check_health` of `show stat`.
    pub fn columns(&self) -> (u32, u32, u32) {
        (self.settings.rise, self.settings.fall, self.health)
    }

    fn top(&self) -> u32 {
        self.settings.rise + self.settings.fall - 1
    }

    fn pass(&mut self, conditional: bool) -> Outcome {
        let before = (self.state(), self.health);
        self.errors_in_a_row = 0;
        // HAProxy: a 404 does not bring a server up that is down, but keeps one that is.
        if conditional && self.health < self.settings.rise {
            return NOTHING;
        }
        self.no_load = conditional;
        self.health += u32::from(self.health < self.top());
        if self.health >= self.settings.rise {
            self.health = self.top();
        }
        self.outcome(before, false)
    }

    fn fail(&mut self) -> Outcome {
        let before = (self.state(), self.health);
        if self.health == 0 {
            return NOTHING;
        }
        self.health -= 1;
        if self.health < self.settings.rise {
            self.health = 0;
            self.no_load = false;
        }
        self.outcome(before, true)
    }

    fn outcome(&self, (state, health): (State, u32), failed_check: bool) -> Outcome {
        debug_assert!(self.health <= self.top());
        let entered = Some(self.state()).filter(|now| *now != state);
        Outcome { entered, moved: self.health != health, failed_check, check_soon: false }
    }
}

/// The `status` column of `show stat`: `UP`, `UP 1/3`, `NOLB`, `DOWN`, `DOWN 1/2`.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, at, of) = match self.state() {
            State::Down => ("DOWN", self.health, self.settings.rise),
            State::Up => ("UP", self.health - self.settings.rise + 1, self.settings.fall),
            State::NoLoad => ("NOLB", self.health - self.settings.rise + 1, self.settings.fall),
        };
        f.write_str(word)?;
        if self.health != 0 && self.health != self.top() { write!(f, " {at}/{of}") } else { Ok(()) }
    }
}

/// When the first check of each server starts: spread evenly over the shortest interval, so that a thousand checks do
/// not start in one burst. `position` counts all checks of the configuration, `checks` is how many there are.
pub fn start_offset(position: usize, checks: usize, shortest_interval: Duration) -> Duration {
    let checks = u32::try_from(checks.max(1)).unwrap_or(u32::MAX);
    let position = u32::try_from(position).unwrap_or(u32::MAX) % checks;
    let nanos = shortest_interval.as_nanos() * u128::from(position) / u128::from(checks);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// An interval with up to `percent` (0 to 50) added or taken away at random (`spread-checks`).
pub fn spread(interval: Duration, percent: u32, rng: &mut Rng) -> Duration {
    let percent = percent.min(50);
    let width = interval * (2 * percent) / 100;
    let nanos = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX);
    interval * (100 - percent) / 100 + Duration::from_nanos(rng.below(nanos.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use CheckStatus::{L4Connect, L4Ok, L7Ok, L7OkConditionally, L7Status, SocketError};

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn health(rise: u32, fall: u32) -> Health {
        Health::new(Settings {
            inter: ms(2000),
            fastinter: ms(500),
            downinter: ms(5000),
            rise,
            fall,
            observe: None,
        })
    }

    /// Feeds results and gives back the status text after each.
    fn texts(health: &mut Health, results: &[CheckStatus]) -> Vec<String> {
        results
            .iter()
            .map(|status| {
                health.on_check(*status);
                health.to_string()
            })
            .collect()
    }

    #[test]
    fn rows_stand_at_their_status() {
        for (at, row) in CheckStatus::TABLE.iter().enumerate() {
            assert_eq!(row.status as usize, at, "{}", row.code);
            assert_eq!(row.status.row().code, row.code);
        }
    }

    #[test]
    fn a_new_server_is_up_and_falls_at_the_first_failure() {
        let mut h = health(2, 3);
        assert_eq!((h.state(), h.to_string().as_str()), (State::Up, "UP 1/3"));
        assert_eq!(h.interval(), ms(500));
        let outcome = h.on_check(L4Connect);
        assert_eq!(outcome.entered, Some(State::Down));
        assert!(outcome.failed_check);
        assert_eq!(h.to_string(), "DOWN");
    }

    #[test]
    fn a_new_server_is_fully_up_after_one_success() {
        let mut h = health(2, 3);
        let outcome = h.on_check(L4Ok);
        assert_eq!((outcome.entered, outcome.moved), (None, true));
        assert_eq!((h.to_string().as_str(), h.interval(), h.columns()), ("UP", ms(2000), (2, 3, 4)));
    }

    #[test]
    fn rise_and_fall_count_in_a_row() {
        let mut h = health(2, 3);
        h.on_check(L4Ok);
        let down = [L4Connect, L4Connect, L4Ok, L4Connect, L4Connect, L4Connect];
        assert_eq!(texts(&mut h, &down), ["UP 2/3", "UP 1/3", "UP", "UP 2/3", "UP 1/3", "DOWN"]);
        assert_eq!(h.interval(), ms(5000));
        let up = [L4Ok, L4Connect, L4Ok, L4Ok];
        assert_eq!(texts(&mut h, &up), ["DOWN 1/2", "DOWN", "DOWN 1/2", "UP"]);
        h.on_check(L4Connect);
        assert_eq!(h.interval(), ms(500), "in transition");
    }

    #[test]
    fn a_failure_counts_until_the_server_is_fully_down() {
        let mut h = health(2, 1);
        assert!(h.on_check(L7Status).failed_check);
        assert_eq!(h.on_check(L7Status), NOTHING);
        h.on_check(L7Ok);
        assert!(h.on_check(L7Status).failed_check, "on the way up");
    }

    #[test]
    fn our_own_shortage_is_no_failure_of_the_server() {
        let mut h = health(1, 1);
        for _ in 0..100 {
            assert_eq!(h.on_check(SocketError), NOTHING);
        }
        assert_eq!(h.state(), State::Up);
        h.on_check(L4Connect);
        h.on_check(SocketError);
        assert_eq!(h.state(), State::Down, "nor a success");
    }

    #[test]
    fn a_conditional_pass_takes_the_load_away_but_not_the_server() {
        let mut h = health(1, 2);
        h.on_check(L7Ok);
        assert_eq!(h.on_check(L7OkConditionally).entered, Some(State::NoLoad));
        assert_eq!(h.to_string(), "NOLB");
        assert_eq!(texts(&mut h, &[L7Status]), ["NOLB 1/2"]);
        assert_eq!(h.on_check(L7Ok).entered, Some(State::Up));
        h.on_check(L7Status);
        h.on_check(L7Status);
        assert_eq!(h.on_check(L7OkConditionally), NOTHING, "it does not bring a server up");
        assert_eq!(h.state(), State::Down);
        assert_eq!(h.on_check(L7Ok).entered, Some(State::Up));
        assert_eq!(h.to_string(), "UP");
    }

    #[test]
    fn errors_of_traffic_do_what_on_error_says() {
        for (on_error, text, entered) in [
            (OnError::FastInter, "UP", None),
            (OnError::FailCheck, "UP 2/3", None),
            (OnError::SuddenDeath, "UP 1/3", None),
            (OnError::MarkDown, "DOWN", Some(State::Down)),
        ] {
            let mut h = health(2, 3);
            h.settings.observe = Some(Observe { error_limit: 3, on_error });
            h.on_check(L7Ok);
            for good in [false, false, true, false, false] {
                assert_eq!(h.on_traffic(good), NOTHING, "not three in a row");
            }
            let outcome = h.on_traffic(false);
            assert!(outcome.check_soon);
            assert_eq!((h.to_string().as_str(), outcome.entered), (text, entered), "{on_error:?}");
        }
    }

    #[test]
    fn traffic_counts_only_with_observe() {
        let mut h = health(1, 1);
        for _ in 0..100 {
            assert_eq!(h.on_traffic(false), NOTHING);
        }
        assert_eq!(h.state(), State::Up);
    }

    #[test]
    fn an_operator_can_force_a_state() {
        let mut h = health(2, 3);
        assert_eq!(h.force(State::Down).entered, Some(State::Down));
        assert_eq!(h.to_string(), "DOWN");
        assert_eq!(h.force(State::NoLoad).entered, Some(State::NoLoad));
        assert_eq!(h.force(State::Up).entered, Some(State::Up));
        assert_eq!(h.to_string(), "UP");
        assert_eq!(h.force(State::Up).entered, None);
    }

    #[test]
    fn another_process_goes_on_where_one_was() {
        let mut before = health(2, 3);
        for status in [CheckStatus::L4Ok, CheckStatus::L4Connect, CheckStatus::L4Connect] {
            before.on_check(status);
        }
        let (level, no_load) = before.memory();
        let mut after = health(2, 3);
        after.resume(level, no_load);
        assert_eq!(after.to_string(), before.to_string());
        assert_eq!(after.on_check(CheckStatus::L4Connect).entered, Some(State::Down));
        let (level, no_load) = after.memory();
        let mut third = health(2, 3);
        third.resume(level, no_load);
        assert_eq!(third.state(), State::Down);
        let mut smaller = health(1, 1);
        smaller.resume(100, true);
        assert_eq!(smaller.state(), State::NoLoad, "a number beyond the new settings is the best one");
    }

    #[test]
    fn zero_rise_or_fall_counts_as_one() {
        let mut h = health(0, 0);
        assert_eq!(texts(&mut h, &[L4Connect, L4Ok, L4Connect]), ["DOWN", "UP", "DOWN"]);
    }

    #[test]
    fn first_checks_are_spread_over_the_interval() {
        let offsets: Vec<u128> = (0..4).map(|n| start_offset(n, 4, ms(2000)).as_millis()).collect();
        assert_eq!(offsets, [0, 500, 1000, 1500]);
        assert_eq!(start_offset(9, 0, ms(2000)), ms(0));
    }

    #[test]
    fn a_spread_interval_stays_within_its_percentage() {
        let mut rng = Rng::new(3);
        for _ in 0..1000 {
            let spread = spread(ms(1000), 20, &mut rng);
            assert!((ms(800)..=ms(1200)).contains(&spread), "{spread:?}");
        }
        assert_eq!(spread(ms(1000), 0, &mut rng), ms(1000));
    }
}

//! The health machine against a naive model that keeps the whole history of results.

use std::time::Duration;

use shardgate::policy::health::{CheckStatus, Health, Settings, State};

use crate::world::{between, worlds};

/// Up or down by counting results in a row, from the words of the manual.
struct Model {
    rise: u32,
    fall: u32,
    up: bool,
    in_a_row: u32,
}

impl Model {
    /// A new server is up and falls at the first failure.
    fn new(rise: u32, fall: u32) -> Self {
        Model { rise, fall, up: true, in_a_row: fall - 1 }
    }

    fn result(&mut self, passed: bool) {
        if passed == self.up {
            self.in_a_row = 0;
            return;
        }
        self.in_a_row += 1;
        if self.in_a_row == if self.up { self.fall } else { self.rise } {
            self.up = !self.up;
            self.in_a_row = 0;
        }
    }

    fn text(&self) -> String {
        match (self.up, self.in_a_row) {
            (true, 0) => "UP".to_owned(),
            (false, 0) => "DOWN".to_owned(),
            (true, n) => format!("UP {}/{}", self.fall - n, self.fall),
            (false, n) => format!("DOWN {}/{}", n, self.rise),
        }
    }
}

#[test]
fn health_agrees_with_counting_in_a_row() {
    worlds(500, |rng| {
        let (rise, fall) = (between(rng, 1, 5), between(rng, 1, 5));
        let [inter, fastinter, downinter] = [3, 1, 5].map(Duration::from_secs);
        let mut health = Health::new(Settings { inter, fastinter, downinter, rise, fall, observe: None });
        let mut model = Model::new(rise, fall);
        let luck = between(rng, 1, 9);
        for step in 0..200 {
            let was_up = model.up;
            let outcome = match between(rng, 0, 10) {
                10 => health.on_check(CheckStatus::SocketError),
                n => {
                    model.result(n < luck);
                    let status = if n < luck { CheckStatus::L4Ok } else { CheckStatus::L7Timeout };
                    health.on_check(status)
                }
            };
            let expected = if model.up { State::Up } else { State::Down };
            assert_eq!(health.state(), expected, "step {step}, rise {rise}, fall {fall}");
            assert_eq!(outcome.entered, (model.up != was_up).then_some(expected));
            assert_eq!(health.to_string(), model.text());
            let interval = match (model.in_a_row, model.up) {
                (0, true) => inter,
                (0, false) => downinter,
                _ => fastinter,
            };
            assert_eq!(health.interval(), interval);
            let (r, f, h) = health.columns();
            assert!((r, f) == (rise, fall) && h < rise + fall);
        }
    });
}

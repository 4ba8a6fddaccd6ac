//! Arithmetic, which saturates and never fails, as HAProxy's does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::converter::Step;
use crate::policy::sample::Value;

/// Arithmetic and bitwise operations with an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Math {
    /// `add`.
    Add,
    /// `sub`.
    Sub,
    /// `mul`.
    Mul,
    /// `div`; by zero gives the largest integer.
    Div,
    /// `mod`; by zero gives zero.
    Mod,
    /// `and`.
    And,
    /// `or`.
    Or,
    /// `xor`.
    Xor,
}

impl Math {
    /// The result for an input and an operand.
    pub fn apply(self, a: i64, b: i64) -> i64 {
        match self {
            Math::Add => a.saturating_add(b),
            Math::Sub => a.saturating_sub(b),
            Math::Mul => a.saturating_mul(b),
            Math::Div if b == 0 => i64::MAX,
            Math::Div => a.saturating_div(b),
            // Only MIN % -1 overflows, and its remainder is zero.
            Math::Mod => a.checked_rem(b).unwrap_or(0),
            Math::And => a & b,
            Math::Or => a | b,
            Math::Xor => a ^ b,
        }
    }
}

/// Tests of an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// `bool`.
    NonZero,
    /// `not`.
    Zero,
    /// `even`.
    Even,
    /// `odd`.
    Odd,
}

impl Comparison {
    /// Whether it holds.
    pub fn holds(self, i: i64) -> bool {
        match self {
            Comparison::NonZero => i != 0,
            Comparison::Zero => i == 0,
            Comparison::Even => i & 1 == 0,
            Comparison::Odd => i & 1 == 1,
        }
    }
}

/// `ipmask`: without a mask for IPv6 such addresses have no result.
pub(super) fn mask(ip: IpAddr, v4: u32, v6: Option<u32>) -> Step<'static> {
    let masked = match (ip, v6) {
        (IpAddr::V4(a), _) => {
            IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & !u32::MAX.checked_shr(v4).unwrap_or(0)))
        }
        (IpAddr::V6(a), Some(v6)) => {
            IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !u128::MAX.checked_shr(v6).unwrap_or(0)))
        }
        (IpAddr::V6(_), None) => return Step::Missing,
    };
    Step::Value(Value::Ip(masked))
}

//! Evaluation of an expression: the fetch, then one converter after the other. Bytes that a step makes go to one of two scratch
//! buffers while the next step reads them from the other, so nothing is allocated once both have grown.

use std::mem;
use std::ops::Range;

use crate::policy::converter::{Converter, Step};
use crate::policy::sample::fetch::{Fetch, Fetched};
use crate::policy::sample::{Facts, Kind, Value};

/// What the evaluation of an expression gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample<'a> {
    /// The value; `None`: there is no such thing here.
    pub value: Option<Value<'a>>,
    /// Another value may come when more bytes arrive. A missing or unwanted value is final only if this is false.
    pub may_change: bool,
}

/// Memory that evaluation writes intermediate values to. One per core is enough; it grows to the largest value.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    pub(crate) values: Buffers,
    /// For pattern sets.
    pub(crate) fold: Vec<u8>,
    /// Rules that may apply.
    pub(crate) rules: Vec<u32>,
}

/// The part of [`Scratch`] that values borrow from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    front: Vec<u8>,
    back: Vec<u8>,
    message: Vec<u8>,
}

/// Which of several values a fetch gives next: a header may occur more than once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    /// Whether all values are wanted, one after the other, or the one that stands for all.
    pub(crate) each: bool,
    /// Where the fetch goes on.
    pub(crate) at: usize,
    /// Whether there may be another value.
    pub(crate) more: bool,
}

impl Cursor {
    /// At the first of all values.
    pub(crate) fn each() -> Cursor {
        Cursor { each: true, ..Cursor::default() }
    }
    /// Whether there may be another value.
    pub(crate) fn more(&self) -> bool {
        self.more
    }
}

/// A compiled expression: one fetch and its converters.
#[derive(Clone, Debug)]
pub struct Expr {
    fetch: Fetch,
    converters: Vec<Converter>,
    kind: Kind,
}

/// A value on its way through the converters.
enum Current<'a> {
    /// Borrowed from the facts or from the expression.
    Value(Value<'a>),
    /// In the front buffer.
    Front(Kind, Range<usize>),
}

impl Expr {
    /// An expression from its parts. `kind` is the type of the last converter, or of the fetch if there is none.
    pub fn new(fetch: Fetch, converters: Vec<Converter>, kind: Kind) -> Expr {
        Expr { fetch, converters, kind }
    }

    /// Whether it reads the first bytes of the client, which may have to be waited for.
    pub fn reads_first_bytes(&self) -> bool {
        self.fetch.reads_first_bytes()
    }

    /// Whether asking changes nothing, and gives the same while messages, variables and first bytes stay as they are.
    pub(crate) fn is_steady(&self) -> bool {
        self.fetch.is_steady() && self.converters.iter().all(Converter::is_plain)
    }

    /// Whether two steady expressions give the same.
    pub(crate) fn is_same(&self, other: &Expr) -> bool {
        let kind = mem::discriminant::<Converter>;
        self.fetch == other.fetch
            && self.converters.iter().chain(&other.converters).all(Converter::is_plain)
            && self.converters.iter().map(kind).eq(other.converters.iter().map(kind))
    }

    /// The type of its values.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Evaluates. The value borrows from the facts, from the expression or from the scratch memory. Of several values it is the
    /// one that the fetch gives outside of conditions: the last header of a name, for one.
    pub fn eval<'a, F: Facts>(&'a self, facts: &'a F, scratch: &'a mut Scratch) -> Sample<'a> {
        let mut cursor = Cursor::default();
        self.eval_next(facts, &mut scratch.values, &mut cursor)
    }

    /// Evaluates for the value at the cursor and moves it on; `cursor.more` says whether to call again.
    pub(crate) fn eval_next<'a, F: Facts>(
        &'a self,
        facts: &'a F,
        buffers: &'a mut Buffers,
        cursor: &mut Cursor,
    ) -> Sample<'a> {
        cursor.more = false;
        buffers.front.clear();
        let (fetched, may_change) = self.fetch.fetch(facts, cursor, &mut buffers.front, &mut buffers.message);
        let current = match fetched {
            Fetched::Value(value) => Some(Current::Value(value)),
            Fetched::Written(kind) => Some(Current::Front(kind, 0..buffers.front.len())),
            Fetched::Missing => None,
        };
        let current = current.and_then(|current| self.convert(facts, buffers, current));
        let value = current.map(|current| match current {
            Current::Value(value) => value,
            Current::Front(kind, range) => bytes(kind, &buffers.front[range]),
        });
        Sample { value, may_change }
    }

    fn convert<'a, F: Facts>(
        &'a self,
        facts: &'a F,
        buffers: &mut Buffers,
        mut current: Current<'a>,
    ) -> Option<Current<'a>> {
        for converter in &self.converters {
            current = cast(current, converter.input(), buffers)?;
            let input = match &current {
                Current::Value(value) => *value,
                Current::Front(kind, range) => bytes(*kind, &buffers.front[range.clone()]),
            };
            buffers.back.clear();
            let step = converter.apply(facts, input, &mut buffers.back, &mut buffers.message);
            current = match step {
                Step::Value(value) => Current::Value(value),
                Step::Slice(kind, part) => slice(current, kind, part)?,
                Step::Written(kind) => {
                    mem::swap(&mut buffers.front, &mut buffers.back);
                    Current::Front(kind, 0..buffers.front.len())
                }
                Step::Missing => return None,
            };
        }
        Some(current)
    }
}

/// Reads a value as the type that the next step wants.
fn cast<'a>(current: Current<'a>, want: Kind, buffers: &mut Buffers) -> Option<Current<'a>> {
    let value = match &current {
        Current::Value(value) => *value,
        Current::Front(kind, range) => bytes(*kind, &buffers.front[range.clone()]),
    };
    let scalar = match want {
        Kind::Any => return Some(current),
        Kind::Bool => Value::Bool(value.as_bool()?),
        Kind::Int => Value::Int(value.as_int()?),
        Kind::Ip => Value::Ip(value.as_ip()?),
        Kind::Str | Kind::Bin => {
            return Some(match current {
                Current::Front(_, range) => Current::Front(want, range),
                Current::Value(Value::Str(b) | Value::Bin(b)) => Current::Value(bytes(want, b)),
                Current::Value(scalar) => {
                    buffers.front.clear();
                    if want == Kind::Str {
                        scalar.append_text(&mut buffers.front);
                    } else {
                        scalar.append_binary(&mut buffers.front);
                    }
                    Current::Front(want, 0..buffers.front.len())
                }
            });
        }
    };
    Some(Current::Value(scalar))
}

fn slice(current: Current<'_>, kind: Kind, part: Range<usize>) -> Option<Current<'_>> {
    Some(match current {
        Current::Value(Value::Str(b) | Value::Bin(b)) => Current::Value(bytes(kind, b.get(part)?)),
        Current::Value(_) => return None,
        Current::Front(_, range) => {
            debug_assert!(part.end <= range.len(), "a part lies within its whole");
            Current::Front(kind, range.start + part.start..range.start + part.end)
        }
    })
}

fn bytes(kind: Kind, bytes: &[u8]) -> Value<'_> {
    if kind == Kind::Bin { Value::Bin(bytes) } else { Value::Str(bytes) }
}

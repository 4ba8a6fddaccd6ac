//! Compiled log formats and how they are written: HAProxy's text, or one JSON or CBOR object of the named items.

use crate::policy::format::Flags;
use crate::policy::log::pen::number_to;
use crate::policy::log::plain::{Plain, number};
use crate::policy::log::steps::Steps;
use crate::policy::log::{Dates, Field, Line, Reads, escape};
use crate::policy::sample::{Expr, Facts, Kind, Scratch, Value};

/// A compiled log format.
#[derive(Clone, Debug, Default)]
pub struct LogFormat {
    parts: Vec<Part>,
    encoding: Encoding,
    /// How its parts are written as text.
    steps: Steps,
}

/// What a line looks like as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encoding {
    /// Text.
    #[default]
    Plain,
    /// A JSON object of the items that have a name (`%{+json}o`).
    Json,
    /// A CBOR map of them (`%{+cbor}o`), in hexadecimal digits unless `bin` is set.
    Cbor {
        /// The bytes themselves.
        bin: bool,
    },
}

/// A piece of a log format.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text of the operator.
    Text(Box<[u8]>),
    /// White space: one space, unless the line ends with one already.
    Space,
    /// A variable.
    Field(Field, Flags, Name),
    /// An expression that is evaluated when the line is written.
    Value(Expr, Flags, Name),
    /// A value that was kept: its number in [`Line::kept`] and its type.
    Kept(usize, Kind, Flags, Name),
}

impl Part {
    /// The name of an item.
    pub fn name(&self) -> Option<&str> {
        match self {
            Part::Text(_) | Part::Space => None,
            Part::Field(_, _, name) | Part::Value(_, _, name) | Part::Kept(_, _, _, name) => name.as_deref(),
        }
    }
}

/// The name of an item (`%(status)ST`).
pub type Name = Option<Box<str>>;

/// A value to keep while its message is there.
#[derive(Clone, Debug)]
pub struct Keep {
    /// What is evaluated.
    pub expr: Expr,
    /// When.
    pub moment: Moment,
}

/// When a value is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// When the request goes to a server, with the changes of rules.
    Request,
    /// When the response goes to the client, with the changes of rules.
    Response,
}

impl LogFormat {
    /// A format from its parts.
    pub fn new(parts: Vec<Part>, encoding: Encoding) -> LogFormat {
        let steps = Steps::new(&parts);
        LogFormat { parts, encoding, steps }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// What it reads of a stream that has to be fetched or kept for it.
    pub fn reads(&self) -> Reads {
        self.fields().fold(Reads::default(), |reads, field| reads | field.reads())
    }

    /// Whether a line is text and no object.
    pub fn is_text(&self) -> bool {
        self.encoding == Encoding::Plain
    }

    /// Whether a line is a JSON object.
    pub fn is_json(&self) -> bool {
        self.encoding == Encoding::Json
    }

    /// The variables in it.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(field, ..) => Some(*field),
            _ => None,
        })
    }

    /// Appends the line, without an end of line.
    pub fn write<F: Facts>(&self, line: &Line<'_>, facts: &F, memory: &mut Memory<'_>, out: &mut Vec<u8>) {
        match self.encoding {
            Encoding::Plain => self.steps.write(&self.parts, line, facts, memory, out),
            Encoding::Json => {
                out.push(b'{');
                let mut between = "";
                self.each_named(line, facts, memory, out, |name, item, out| {
                    out.extend_from_slice(between.as_bytes());
                    between = ", ";
                    escape::json(name.as_bytes(), out);
                    out.extend_from_slice(b": ");
                    match item {
                        Item::Number(number) => number_to(number, out),
                        Item::Text(text) => escape::json(text, out),
                        Item::Missing => out.extend_from_slice(b"null"),
                    }
                });
                out.push(b'}');
            }
            Encoding::Cbor { bin } => {
                let from = out.len();
                out.push(0xbf);
                self.each_named(line, facts, memory, out, |name, item, out| {
                    escape::cbor_text(name.as_bytes(), out);
                    match item {
                        Item::Number(number) if number < 0 => {
                            escape::cbor_head(1, number.unsigned_abs() - 1, out);
                        }
                        Item::Number(number) => escape::cbor_head(0, number.unsigned_abs(), out),
                        Item::Text(text) => escape::cbor_text(text, out),
                        Item::Missing => out.push(0xf6),
                    }
                });
                out.push(0xff);
                if !bin {
                    escape::hex_from(from, memory.text, out);
                }
            }
        }
    }

    fn each_named<F: Facts>(
        &self,
        line: &Line<'_>,
        facts: &F,
        memory: &mut Memory<'_>,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&str, Item<'_>, &mut Vec<u8>),
    ) {
        for part in &self.parts {
            match part {
                Part::Text(_) | Part::Space => {}
                Part::Field(field, flags, name) => {
                    let Some(name) = name else { continue };
                    let flags = Flags { hex: flags.hex, ..Flags::default() };
                    if is_missing(*field, line) {
                        write(name, Item::Missing, out);
                        continue;
                    }
                    match number(*field, line) {
                        Some(number) if !flags.hex => {
                            write(name, number.map_or(Item::Missing, Item::Number), out);
                        }
                        _ => {
                            memory.text.clear();
                            let mut plain =
                                Plain { line, flags, raw: true, dates: memory.dates, out: memory.text };
                            plain.field(*field);
                            let text = memory.text.as_slice();
                            write(name, if text.is_empty() { Item::Missing } else { Item::Text(text) }, out);
                        }
                    }
                }
                Part::Value(expr, _, name) => {
                    let Some(name) = name else { continue };
                    memory.text.clear();
                    let number = match expr.eval(facts, memory.scratch).value {
                        None => {
                            write(name, Item::Missing, out);
                            continue;
                        }
                        Some(Value::Int(number)) => Some(number),
                        Some(value) => {
                            value.append_text(memory.text);
                            None
                        }
                    };
                    write(name, number.map_or(Item::Text(memory.text), Item::Number), out);
                }
                Part::Kept(slot, kind, _, name) => {
                    let Some(name) = name else { continue };
                    let text = line.kept.get(*slot);
                    let number = text.filter(|_| *kind == Kind::Int).and_then(|text| {
                        std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok())
                    });
                    let item = match (number, text) {
                        (Some(number), _) => Item::Number(number),
                        (None, Some(text)) => Item::Text(text),
                        (None, None) => Item::Missing,
                    };
                    write(name, item, out);
                }
            }
        }
    }
}

/// What text says with a word of its own (`<NOSRV>`, `<BADREQ>`), or with a number that is none.
fn is_missing(field: Field, line: &Line<'_>) -> bool {
    match field {
        Field::Backend => !line.is_routed,
        Field::Server => line.server.is_none(),
        Field::Status => line.status <= 0,
        field => field.is_of_request() && line.request.is_none(),
    }
}

/// What writing a line works with.
pub struct Memory<'a> {
    /// For expressions.
    pub scratch: &'a mut Scratch,
    /// For dates.
    pub dates: &'a mut Dates,
    /// For texts on their way to an encoding.
    pub text: &'a mut Vec<u8>,
}

/// A value of an object.
enum Item<'a> {
    Number(i64),
    Text(&'a [u8]),
    Missing,
}

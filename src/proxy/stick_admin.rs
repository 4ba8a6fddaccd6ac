//! Stick tables for operators: what the admin socket shows and changes, on the core that is asked. Each answer is a part: a table
//! of millions is not walked in one turn.

use std::rc::Rc;

use crate::policy::stick::{Cell, Key, Row, Slot, Spec, Table};
use crate::proxy::core::CoreBase;
use crate::rt;

/// Places that one answer looks at: a millisecond or so.
const LOOK: u32 = 2048;

/// A question about stick tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Tell the others at once what was counted.
    Share,
    /// All tables, without their entries.
    List,
    /// Entries of a table.
    Show(Part),
    /// Forget entries of a table.
    Clear(Part),
    /// Make an entry, or change one.
    Set {
        /// The name of the table.
        table: String,
        /// The entry.
        key: Key,
        /// What is set.
        values: Vec<(Cell, u64)>,
    },
}

/// Which entries, and where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The name of the table.
    pub table: String,
    /// Those that pass this.
    pub filter: Filter,
    /// From this place on.
    pub from: u32,
}

/// Which entries of a table are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// All.
    All,
    /// That of a key.
    Key(Key),
    /// Those whose values compare so, each of them.
    Values(Vec<(Cell, Comparison, u64)>),
}

/// How a value compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "as HAProxy writes them")]
pub enum Comparison {
    Eq,
    Ne,
    Le,
    Ge,
    Lt,
    Gt,
}

impl Comparison {
    fn holds(self, a: u64, b: u64) -> bool {
        match self {
            Comparison::Eq => a == b,
            Comparison::Ne => a != b,
            Comparison::Le => a <= b,
            Comparison::Ge => a >= b,
            Comparison::Lt => a < b,
            Comparison::Gt => a > b,
        }
    }
}

/// The answer of one core.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    /// The tables that were asked for, each with the number of its entries.
    pub tables: Vec<(Spec, usize)>,
    /// Entries.
    pub rows: Vec<Row>,
    /// Where to go on.
    pub next: Option<u32>,
    /// Entries that are in use, and so were not forgotten.
    pub in_use: usize,
    /// The table is full.
    pub is_full: bool,
}

impl CoreBase {
    /// Answers a question.
    pub(super) fn answer_stick(self: &Rc<Self>, question: &Question) -> Told {
        let mut told = Told::default();
        let core = self.current();
        let named = |name: &str| core.tables.values().find(|table| &*table.name == name);
        match question {
            Question::Share => self.share_stick(),
            Question::List => {
                let view = |table: &Table| (table.spec().clone(), table.len());
                told.tables = core.tables.values().map(|table| view(&table.table.borrow())).collect();
            }
            Question::Show(part) => {
                let Some(table) = named(&part.table) else { return told };
                let entries = table.table.borrow();
                told.tables.push((entries.spec().clone(), entries.len()));
                let (slots, next) = chosen(&entries, part);
                told.rows = slots.into_iter().map(|slot| entries.row(slot, rt::now())).collect();
                told.next = next;
            }
            Question::Clear(part) => {
                let Some(table) = named(&part.table) else { return told };
                let mut entries = table.table.borrow_mut();
                let (slots, next) = chosen(&entries, part);
                told.in_use = slots.into_iter().filter(|slot| !entries.remove(*slot)).count();
                told.next = next;
                drop(entries);
                self.stick_changed(table);
            }
            Question::Set { table, key, values } => {
                let Some(table) = named(table) else { return told };
                let mut entries = table.table.borrow_mut();
                let now = rt::now();
                match entries.entry(key, now) {
                    Ok(slot) => {
                        entries.touch(slot, now);
                        values.iter().for_each(|(cell, value)| entries.set(slot, *cell, *value, now));
                    }
                    Err(_) => told.is_full = true,
                }
                drop(entries);
                self.stick_changed(table);
            }
        }
        told
    }
}

fn chosen(entries: &Table, part: &Part) -> (Vec<Slot>, Option<u32>) {
    let now = rt::now();
    match &part.filter {
        Filter::Key(key) => (entries.find(key, now).into_iter().collect(), None),
        Filter::All => entries.part(part.from, LOOK, now),
        Filter::Values(wanted) => {
            let (mut slots, next) = entries.part(part.from, LOOK, now);
            slots.retain(|slot| {
                wanted.iter().all(|(cell, comparison, value)| {
                    entries.read(*slot, *cell, now).is_some_and(|own| comparison.holds(own, *value))
                })
            });
            (slots, next)
        }
    }
}

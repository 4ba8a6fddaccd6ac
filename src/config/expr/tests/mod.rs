//! Texts compiled and evaluated over facts.

mod conditions;
mod errors;
mod expressions;
mod formats;
mod http;
mod jwt;
mod logs;
mod properties;
mod rules;

use crate::base::id::{BackendId, FrontendId, ServerId, TableId};
use crate::config::expr::{Acls, Context, ExprError, NameKind, Resolver, Scope, parse_condition, parse_expr};
use crate::policy::acl::{Condition, Truth};
use crate::policy::pattern::PatternTable;
use crate::policy::sample::testing::TestFacts;
use crate::policy::sample::{Expr, Scratch, UserlistId, Value, VariableId, VariableTable};

/// A configuration of frontend `fe`, backends `web` (servers `a`, `b`) and `api`.
#[derive(Default)]
struct World {
    patterns: PatternTable,
    files: Vec<(&'static str, String)>,
}

impl Resolver for World {
    fn backend(&self, name: &str) -> Option<BackendId> {
        ["web", "api"].iter().position(|n| *n == name).and_then(|n| u32::try_from(n).ok()).map(BackendId)
    }
    fn frontend(&self, name: &str) -> Option<FrontendId> {
        (name == "fe").then_some(FrontendId(0))
    }
    fn server(&self, backend: BackendId, name: &str) -> Option<ServerId> {
        match (backend.0, name) {
            (0, "a") => Some(ServerId(0)),
            (0, "b") => Some(ServerId(1)),
            _ => None,
        }
    }
    fn names(&self, what: NameKind) -> Vec<String> {
        let names: &[&str] = match what {
            NameKind::Frontend => &["fe"],
            NameKind::Backend => &["web", "api"],
            NameKind::Server => &["web/a", "web/b"],
            NameKind::Table => &["st"],
        };
        names.iter().map(|n| (*n).to_owned()).collect()
    }
    fn here(&self) -> (Option<FrontendId>, Option<BackendId>) {
        (Some(FrontendId(0)), None)
    }
    fn load(&self, path: &str) -> Result<Vec<u8>, String> {
        let file = self.files.iter().find(|(p, _)| *p == path);
        file.map(|(_, text)| text.clone().into_bytes()).ok_or_else(|| "no such file".to_owned())
    }
    fn patterns(&self) -> &PatternTable {
        &self.patterns
    }
    fn userlist(&self, name: &str) -> Option<UserlistId> {
        (name == "staff").then_some(UserlistId(0))
    }
    fn table(&self, name: Option<&str>) -> Option<TableId> {
        name.is_none_or(|name| name == "st").then_some(TableId(0))
    }
    fn env(&self, name: &str) -> Option<String> {
        (name == "SITE").then(|| "paris".to_owned())
    }
    fn hostname(&self) -> String {
        "lb1".to_owned()
    }
}

/// Compiles an expression; the variable `txn.v` has id 0, `sess.w` id 1.
fn expr(text: &str, world: &World) -> Result<Expr, ExprError> {
    let mut variables = variables();
    let acls = Acls::default();
    parse_expr(text, &mut scope(world, &acls, &mut variables, Context::Content))
}

fn condition(text: &str, acls: &[(&str, Vec<&str>)], context: Context) -> Result<Condition, ExprError> {
    condition_in(&World::default(), text, acls, context)
}

fn condition_in(
    world: &World,
    text: &str,
    acls: &[(&str, Vec<&str>)],
    context: Context,
) -> Result<Condition, ExprError> {
    let mut variables = variables();
    let none = Acls::default();
    let (acls, errors) =
        Acls::compile(acls.iter().cloned(), &mut scope(world, &none, &mut variables, context));
    assert_eq!(errors, [], "named ACLs compile");
    parse_condition(text, &mut scope(world, &acls, &mut variables, context))
}

fn variables() -> VariableTable {
    use crate::policy::sample::VariableScope::{Session, Transaction};
    let mut table = VariableTable::default();
    assert_eq!(table.id("txn.v", Transaction), Some(VariableId(0)));
    assert_eq!(table.id("sess.w", Session), Some(VariableId(1)));
    table
}

fn scope<'a>(
    world: &'a World,
    acls: &'a Acls,
    variables: &'a mut VariableTable,
    context: Context,
) -> Scope<'a> {
    Scope { acls, resolver: world, variables, context }
}

/// The value of an expression as text, with its type.
fn value(text: &str, facts: &TestFacts) -> Option<String> {
    let expr = expr(text, &World::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    show(expr.eval(facts, &mut Scratch::default()).value)
}

fn check_value(world: &World, text: &str, facts: &TestFacts, expected: Option<&str>) {
    let expr = expr(text, world).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let shown = show(expr.eval(facts, &mut Scratch::default()).value);
    assert_eq!(shown.as_deref(), expected, "{text}");
}

fn show(value: Option<Value<'_>>) -> Option<String> {
    value.map(|v| match v {
        Value::Bin(b) => b.iter().map(|b| format!("{b:02x}")).collect(),
        Value::Bool(b) => b.to_string(),
        v => v.with_text(|t| String::from_utf8_lossy(t).into_owned()),
    })
}

fn truth(text: &str, facts: &TestFacts) -> Truth {
    let condition = condition(text, &[], Context::Content).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    condition.eval(facts, &mut Scratch::default())
}

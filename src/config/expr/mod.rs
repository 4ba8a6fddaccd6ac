//! Conditions, expressions and formats: text -> compiled. The grammar is HAProxy's for ACLs and sample expressions, extended
//! with `and`, `or`, `not` and parentheses. Names become ids here; what can be wrong is reported with the offset of the byte
//! where it is wrong. `config::resolve` calls it.

mod args;
mod condition;
mod converters;
mod fetches;
mod format;
mod http_fetches;
mod log;
mod reference;
mod sample;
mod source;
mod stick;
mod stream_fetches;
#[cfg(test)]
mod tests;
mod tls_fetches;

use crate::base::id::{BackendId, FrontendId, ServerId, TableId};
use crate::policy::acl::Condition;
use crate::policy::format::Format;
use crate::policy::log::{Keep, LogFormat};
use crate::policy::pattern::PatternTable;
use crate::policy::sample::{Expr, UserlistId, VariableTable};

use condition::CompiledTest;

pub use condition::PREDEFINED;
pub use converters::ConverterInfo;
pub use fetches::{FetchInfo, Needs, all as fetches};
pub use format::FORMAT_VARIABLES;
pub use log::{CLF, HTTPLOG, HTTPSLOG, REFUSED, SPAN, TCPLOG, json_preset};
pub use reference::reference;

/// What is wrong with an expression or a condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExprError {
    /// Byte offset in the text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl ExprError {
    fn at(offset: usize, message: String) -> ExprError {
        ExprError { offset, message, help: None }
    }
    fn help(self, help: String) -> ExprError {
        ExprError { help: Some(help), ..self }
    }
}

/// Where an expression is evaluated: says which facts exist there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// On a fresh connection, before any byte of it (`connection-rules`).
    Connection,
    /// On the first bytes of a TCP session, with `inspect-delay` (`rules` in TCP mode, `balance = "hash EXPR"`).
    Content,
    /// On the head of an HTTP request.
    Request,
    /// On the head of an HTTP response.
    Response,
    /// When a stream is over, in a log format.
    Log,
}

/// What the parser asks of the rest of the configuration and of the machine.
pub trait Resolver {
    /// The id of a backend.
    fn backend(&self, name: &str) -> Option<BackendId>;
    /// The id of a frontend.
    fn frontend(&self, name: &str) -> Option<FrontendId>;
    /// The id of a server.
    fn server(&self, backend: BackendId, name: &str) -> Option<ServerId>;
    /// Names that a misspelt backend, frontend or server may have meant. Servers as `backend/server`.
    fn names(&self, what: NameKind) -> Vec<String>;
    /// The section that the text belongs to, for fetches without their argument: `be_conn`, `fe_conn`.
    fn here(&self) -> (Option<FrontendId>, Option<BackendId>);
    /// The id of a list of users (`[userlist.NAME]`).
    fn userlist(&self, name: &str) -> Option<UserlistId> {
        let _ = name;
        None
    }
    /// The stick table of a section; of this section if none is named.
    fn table(&self, name: Option<&str>) -> Option<TableId> {
        let _ = name;
        None
    }
    /// The text of a pattern file (`-f`, map files); relative paths are relative to what the caller decides.
    ///
    /// # Errors
    /// What went wrong, for the operator, without the path.
    fn load(&self, path: &str) -> Result<Vec<u8>, String>;
    /// The pattern files of the configuration, which the parser adds to: each file is loaded once.
    fn patterns(&self) -> &PatternTable;
    /// An environment variable.
    fn env(&self, name: &str) -> Option<String>;
    /// The host name of this machine.
    fn hostname(&self) -> String;
}

/// What [`Resolver::names`] lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameKind {
    /// Frontends.
    Frontend,
    /// Backends.
    Backend,
    /// Servers, as `backend/server`.
    Server,
    /// Stick tables.
    Table,
}

/// The surroundings of a text.
pub struct Scope<'a> {
    /// Named ACLs of the section (`acl.NAME`), compiled.
    pub acls: &'a Acls,
    /// The rest of the configuration.
    pub resolver: &'a dyn Resolver,
    /// The variables of the configuration; grows as texts name new ones. One table for the whole configuration, because the
    /// rules of a frontend and of its backends see the same variables.
    pub variables: &'a mut VariableTable,
    /// Where the text is evaluated.
    pub context: Context,
}

/// The named ACLs of one section.
#[derive(Clone, Debug, Default)]
pub struct Acls {
    table: Vec<(String, Vec<CompiledTest>)>,
}

/// A wrong text of a named ACL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AclError {
    /// The ACL.
    pub name: String,
    /// Which of its texts; 0 when its name is wrong.
    pub text: usize,
    /// What is wrong in it.
    pub error: ExprError,
}

impl Acls {
    /// Compiles the named ACLs of a section: each name has one text or several, which are or-ed. Wrong texts are left out and
    /// reported; the others work. `scope.acls` and `scope.context` are not used: an ACL may use any fetch, and where it is used
    /// it is checked that the fetch makes sense there.
    pub fn compile<'t>(
        table: impl IntoIterator<Item = (&'t str, Vec<&'t str>)>,
        scope: &mut Scope<'_>,
    ) -> (Acls, Vec<AclError>) {
        let mut acls = Acls::default();
        let mut errors = Vec::new();
        for (name, texts) in table {
            if let Some(message) = condition::check_acl_name(name) {
                let error = ExprError::at(0, message);
                errors.push(AclError { name: name.to_owned(), text: 0, error });
            }
            let mut tests = Vec::with_capacity(texts.len());
            for (at, text) in texts.into_iter().enumerate() {
                match condition::parse_acl(name, text, scope) {
                    Ok(test) => tests.push(test),
                    Err(error) => errors.push(AclError { name: name.to_owned(), text: at, error }),
                }
            }
            acls.table.push((name.to_owned(), tests));
        }
        (acls, errors)
    }

    fn get(&self, name: &str) -> Option<&[CompiledTest]> {
        self.table.iter().find(|(n, _)| n == name).map(|(_, tests)| tests.as_slice())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.table.iter().map(|(name, _)| name.as_str())
    }
}

/// Compiles a condition (the value of `if` or `unless`).
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_condition(text: &str, scope: &mut Scope<'_>) -> Result<Condition, ExprError> {
    condition::parse(text, scope)
}

/// Compiles a sample expression: `src`, `req.ssl_sni,lower`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_expr(text: &str, scope: &mut Scope<'_>) -> Result<Expr, ExprError> {
    let source = source::Source::new(text);
    let start = source.skip_space(0);
    let (parsed, after) = sample::parse(&source, start, None, scope)?;
    let end = source.skip_space(after);
    if end < text.len() {
        return Err(ExprError::at(end, "unexpected text after the expression".to_owned()));
    }
    let help = |(message, help)| ExprError { offset: start, message, help: Some(help) };
    parsed.needs.check(scope.context, &parsed.fetch).map_err(help)?;
    Ok(parsed.expr)
}

/// Compiles a format: text with `%[EXPRESSION]` in it, `%%` for a percent sign.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_format(text: &str, scope: &mut Scope<'_>) -> Result<Format, ExprError> {
    format::parse(text, scope)
}

/// Compiles a log format. Values that are there only while a message is are added to `keep`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_log_format(
    text: &str,
    keep: &mut Vec<Keep>,
    scope: &mut Scope<'_>,
) -> Result<LogFormat, ExprError> {
    log::parse(text, keep, scope)
}

/// The closest of some names, if one is close enough to be meant.
fn closest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    names
        .map(|n| (strsim::damerau_levenshtein(&name.to_ascii_lowercase(), &n.to_ascii_lowercase()), n))
        .min()
        .filter(|(distance, n)| *distance <= (n.len().max(name.len()) / 3).max(1))
        .map(|(_, n)| n.to_owned())
}

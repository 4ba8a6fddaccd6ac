//! The bridge to `expr`: names of this file become ids there, and byte offsets in a text become positions in the file.

use super::layout::{Layout, Proxy};
use crate::base::id::{BackendId, FrontendId, Id, ServerId, TableId};
use crate::config::expr::{self, Acls, Context as Place, ExprError, NameKind, Resolver, Scope};
use crate::config::file::Data;
use crate::config::section::{Context, Section, Text, texts_of};
use crate::policy::acl::Condition;
use crate::policy::format::Format;
use crate::policy::log::{Keep, LogFormat};
use crate::policy::pattern::PatternTable;
use crate::policy::sample::{Expr, UserlistId, VariableTable};

/// What a condition or expression of one section may refer to.
pub(super) struct Language<'a> {
    context: &'a Context<'a>,
    layout: &'a Layout<'a>,
    here: (Option<FrontendId>, Option<BackendId>),
    acls: Acls,
}

impl<'a> Language<'a> {
    pub(super) fn new(layout: &'a Layout<'a>, here: (Option<FrontendId>, Option<BackendId>)) -> Language<'a> {
        Language { context: layout.global.context, layout, here, acls: Acls::default() }
    }

    /// Compiles the named ACLs of a section.
    pub(super) fn with_acls(mut self, section: &Section<'_>, variables: &mut VariableTable) -> Language<'a> {
        let Some(named) = section.table("acl") else { return self };
        let texts: Vec<(&str, Vec<(usize, Text)>)> = named
            .entries
            .iter()
            .filter(|entry| matches!(entry.value.data, Data::String(_) | Data::Array(_)))
            .map(|entry| (entry.key.as_str(), texts_of(self.context, &entry.value)))
            .collect();
        let table: Vec<(&str, Vec<&str>)> = texts
            .iter()
            .map(|(name, texts)| (*name, texts.iter().map(|(_, text)| text.text.as_str()).collect()))
            .collect();
        let none = Acls::default();
        let (acls, errors) = Acls::compile(table, &mut self.scope(&none, Place::Content, variables));
        for error in errors {
            let text =
                texts.iter().find(|(name, _)| *name == error.name).and_then(|(_, t)| t.get(error.text));
            match text {
                Some((_, text)) => self.report(text, error.error),
                None => self.context.error(section.at, error.error.message, error.error.help),
            }
        }
        self.acls = acls;
        self
    }

    /// Compiles a condition, the value of `if` or `unless`.
    pub(super) fn condition(
        &self,
        text: &Text,
        place: Place,
        variables: &mut VariableTable,
    ) -> Option<Condition> {
        let result = expr::parse_condition(&text.text, &mut self.scope(&self.acls, place, variables));
        result.map_err(|error| self.report(text, error)).ok()
    }

    /// Compiles an expression that starts at byte `from` of a text.
    pub(super) fn expression(
        &self,
        text: &Text,
        from: usize,
        place: Place,
        variables: &mut VariableTable,
    ) -> Option<Expr> {
        let result = expr::parse_expr(&text.text[from..], &mut self.scope(&self.acls, place, variables));
        let shifted = result.map_err(|error| ExprError { offset: error.offset + from, ..error });
        shifted.map_err(|error| self.report(text, error)).ok()
    }

    /// Compiles a format that starts at byte `from` of a text.
    pub(super) fn format(
        &self,
        text: &Text,
        from: usize,
        place: Place,
        variables: &mut VariableTable,
    ) -> Option<Format> {
        let result = expr::parse_format(&text.text[from..], &mut self.scope(&self.acls, place, variables));
        let shifted = result.map_err(|error| ExprError { offset: error.offset + from, ..error });
        shifted.map_err(|error| self.report(text, error)).ok()
    }

    /// Compiles a log format.
    pub(super) fn log_format(
        &self,
        text: &Text,
        keep: &mut Vec<Keep>,
        variables: &mut VariableTable,
    ) -> Option<LogFormat> {
        let mut scope = self.scope(&self.acls, Place::Log, variables);
        let result = expr::parse_log_format(&text.text, keep, &mut scope);
        result.map_err(|error| self.report(text, error)).ok()
    }

    /// Compiles a condition of ours.
    pub(super) fn preset(&self, text: &str, variables: &mut VariableTable) -> Option<Condition> {
        expr::parse_condition(text, &mut self.scope(&self.acls, Place::Request, variables)).ok()
    }

    /// Compiles a log format of ours.
    pub(super) fn log_preset(
        &self,
        text: &str,
        keep: &mut Vec<Keep>,
        variables: &mut VariableTable,
    ) -> LogFormat {
        let mut scope = self.scope(&self.acls, Place::Log, variables);
        // A test compiles each of them.
        expr::parse_log_format(text, keep, &mut scope).unwrap_or_default()
    }

    /// Whether the section is a frontend, or has one half of it.
    pub(super) fn is_frontend(&self) -> bool {
        self.here.0.is_some()
    }

    /// The backend half of a listen section, or the backend itself.
    pub(super) fn own_backend(&self) -> Option<BackendId> {
        self.here.1
    }

    /// The stick table of the section.
    pub(super) fn own_table(&self) -> Option<TableId> {
        self.layout.table(self.section_name())
    }

    /// Name of the section.
    pub(super) fn section_name(&self) -> &str {
        let (frontend, backend) = self.here;
        let named = |proxy: &&Proxy<'_>| match frontend {
            Some(_) => proxy.frontend == frontend,
            None => proxy.backend == backend,
        };
        self.layout.proxies.iter().find(named).map_or("", |proxy| proxy.name)
    }

    fn scope<'s>(&'s self, acls: &'s Acls, context: Place, variables: &'s mut VariableTable) -> Scope<'s> {
        self.context.depends_on_place();
        Scope { acls, resolver: self, variables, context }
    }

    fn report(&self, text: &Text, error: ExprError) {
        let at = error.offset.min(text.text.len());
        self.context.error(self.context.offset_in(text, at), error.message, error.help);
    }
}

impl Resolver for Language<'_> {
    fn backend(&self, name: &str) -> Option<BackendId> {
        self.context.depends_on_others();
        self.layout.backend(name)
    }
    fn frontend(&self, name: &str) -> Option<FrontendId> {
        self.context.depends_on_others();
        self.layout.frontends().find(|(proxy, _)| proxy.name == name).map(|(_, id)| id)
    }
    fn server(&self, backend: BackendId, name: &str) -> Option<ServerId> {
        self.context.depends_on_others();
        let range = self.layout.server_ranges.get(backend)?;
        range.iter().find(|id| self.layout.servers[*id].name == name)
    }
    fn names(&self, what: NameKind) -> Vec<String> {
        self.context.depends_on_others();
        let owned = |name: &str| name.to_owned();
        match what {
            NameKind::Frontend => self.layout.frontends().map(|(proxy, _)| owned(proxy.name)).collect(),
            NameKind::Table => self.layout.tables.values().map(|table| table.name.clone()).collect(),
            NameKind::Backend => self.layout.backends().map(|(proxy, _)| owned(proxy.name)).collect(),
            NameKind::Server => {
                let backends: Vec<&str> = self.layout.backends().map(|(proxy, _)| proxy.name).collect();
                let of = |backend: BackendId| backends.get(backend.index()).copied().unwrap_or_default();
                self.layout.servers.values().map(|s| format!("{}/{}", of(s.backend), s.name)).collect()
            }
        }
    }
    fn here(&self) -> (Option<FrontendId>, Option<BackendId>) {
        self.here
    }
    fn userlist(&self, name: &str) -> Option<UserlistId> {
        self.context.depends_on_others();
        if let Some(id) = super::http::auth_list(self.layout, name) {
            return Some(id);
        }
        let Data::Table(lists) = &self.context.file.root.entry("userlist")?.value.data else { return None };
        // The ids are those of `http::userlists`, which leaves out what is no table.
        let mut tables = lists.entries.iter().filter(|entry| matches!(entry.value.data, Data::Table(_)));
        u16::try_from(tables.position(|entry| entry.key == name)?).ok().map(UserlistId)
    }
    fn table(&self, name: Option<&str>) -> Option<TableId> {
        self.context.depends_on_others();
        match name {
            Some(name) => self.layout.table(name),
            None => self.own_table(),
        }
    }
    fn load(&self, path: &str) -> Result<Vec<u8>, String> {
        self.context.depends_on_others();
        (self.context.env.read)(path.as_ref())
    }
    fn patterns(&self) -> &PatternTable {
        self.context.depends_on_others();
        &self.layout.patterns
    }
    fn env(&self, name: &str) -> Option<String> {
        (self.context.env.variable)(name)
    }
    fn hostname(&self) -> String {
        self.context.env.hostname.clone()
    }
}

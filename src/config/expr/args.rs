//! Arguments of fetches and converters, read one after the other by the functions of the two tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::base::id::{BackendId, FrontendId, ServerId, TableId};
use crate::config::expr::source::Arg;
use crate::config::expr::{ExprError, NameKind, Scope, closest};
use crate::policy::converter::Operand;
use crate::policy::pattern::PatternFile;
use crate::policy::sample::{HeaderName, TimeUnit, UserlistId, VariableId, VariableScope};
use crate::proto::http::is_token;

/// The arguments of one fetch or converter.
pub(super) struct Args<'a, 's> {
    /// Its name.
    pub(super) name: &'a str,
    pub(super) scope: &'a mut Scope<'s>,
    list: std::vec::IntoIter<Arg>,
    /// Where the last argument that was read stands.
    at: usize,
}

type Result<T> = std::result::Result<T, ExprError>;

impl<'a, 's> Args<'a, 's> {
    pub(super) fn new(name: &'a str, offset: usize, list: Vec<Arg>, scope: &'a mut Scope<'s>) -> Self {
        Args { name, scope, list: list.into_iter(), at: offset }
    }

    /// An error at the last argument that was read.
    pub(super) fn error(&self, message: impl Into<String>) -> ExprError {
        ExprError::at(self.at, message.into())
    }

    /// Fails if there are more arguments than were read.
    pub(super) fn finish(mut self, usage: &str) -> Result<()> {
        match self.list.next() {
            None => Ok(()),
            // `name()` is `name`.
            Some(arg) if arg.text.is_empty() && self.list.len() == 0 => Ok(()),
            Some(arg) if usage.is_empty() => {
                Err(ExprError::at(arg.offset, format!("`{}` takes no argument", self.name)))
            }
            Some(arg) => Err(ExprError::at(arg.offset, format!("`{}` has too many arguments", self.name))
                .help(format!("write {}({usage})", self.name))),
        }
    }

    /// The next argument, if it is given and not empty.
    fn optional(&mut self) -> Option<Vec<u8>> {
        let arg = self.list.next()?;
        self.at = arg.offset;
        (!arg.text.is_empty()).then_some(arg.text)
    }

    fn required(&mut self, what: &str) -> Result<Vec<u8>> {
        self.optional().ok_or_else(|| self.error(format!("`{}` needs {what}", self.name)))
    }

    fn required_text(&mut self, what: &str) -> Result<String> {
        let bytes = self.required(what)?;
        String::from_utf8(bytes).map_err(|_| self.error(format!("{what} is not UTF-8")))
    }

    /// Text, which may be empty; `None` if it is not given at all.
    pub(super) fn bytes(&mut self) -> Option<Box<[u8]>> {
        let arg = self.list.next()?;
        self.at = arg.offset;
        Some(arg.text.into())
    }

    /// Text, which may be empty or left out.
    pub(super) fn bytes_or_empty(&mut self) -> Box<[u8]> {
        self.bytes().unwrap_or_default()
    }

    /// Text that is not empty.
    pub(super) fn nonempty(&mut self, what: &str) -> Result<Box<[u8]>> {
        self.required(what).map(Into::into)
    }

    /// UTF-8 text that is not empty.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        self.required_text(what)
    }

    /// UTF-8 text, if it is given and not empty.
    pub(super) fn optional_string(&mut self) -> Result<Option<String>> {
        self.optional()
            .map(|bytes| String::from_utf8(bytes).map_err(|_| self.error("the argument is not UTF-8")))
            .transpose()
    }

    /// An integer.
    pub(super) fn int(&mut self, what: &str) -> Result<i64> {
        let text = self.required_text(what)?;
        self.parse_int(&text, what)
    }

    /// An integer, if it is given.
    pub(super) fn optional_int(&mut self, what: &str) -> Result<Option<i64>> {
        match self.optional_string()? {
            Some(text) => self.parse_int(&text, what).map(Some),
            None => Ok(None),
        }
    }

    fn parse_int(&self, text: &str, what: &str) -> Result<i64> {
        let digits = text.trim();
        let parsed = match digits.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        parsed.map_err(|_| self.error(format!("{what} is an integer, not `{text}`")))
    }

    /// A number of bytes or of pieces.
    pub(super) fn size(&mut self, what: &str) -> Result<usize> {
        let value = self.int(what)?;
        usize::try_from(value).map_err(|_| self.error(format!("{what} is not negative")))
    }

    /// As [`size`](Self::size), if it is given.
    pub(super) fn optional_size(&mut self, what: &str) -> Result<Option<usize>> {
        match self.optional_int(what)? {
            Some(value) => {
                usize::try_from(value).map(Some).map_err(|_| self.error(format!("{what} is not negative")))
            }
            None => Ok(None),
        }
    }

    /// A switch: absent and `0` are off, another number is on.
    pub(super) fn switch(&mut self, what: &str) -> Result<bool> {
        Ok(self.optional_int(what)?.unwrap_or(0) != 0)
    }

    /// `s`, `ms` or `us`; seconds if it is not given.
    pub(super) fn time_unit(&mut self) -> Result<TimeUnit> {
        match self.optional().as_deref() {
            None | Some(b"s") => Ok(TimeUnit::Seconds),
            Some(b"ms") => Ok(TimeUnit::Milliseconds),
            Some(b"us") => Ok(TimeUnit::Microseconds),
            Some(_) => Err(self.error("the unit is s, ms or us")),
        }
    }

    /// An address.
    pub(super) fn ip(&mut self) -> Result<IpAddr> {
        let text = self.required_text("an IP address")?;
        text.trim().parse().map_err(|_| self.error(format!("`{text}` is not an IP address")))
    }

    /// A prefix length, or a mask written as an address.
    pub(super) fn mask(&self, text: &str, width: u32) -> Result<u32> {
        let mask = match text.parse::<u32>() {
            Ok(prefix) if prefix <= width => return Ok(prefix),
            Ok(_) => None,
            Err(_) if width == 32 => text.parse::<Ipv4Addr>().ok().map(|a| u128::from(a.to_bits()) << 96),
            Err(_) => text.parse::<Ipv6Addr>().ok().map(|a| a.to_bits()),
        };
        match mask {
            Some(bits) if bits.count_ones() == bits.leading_ones() => Ok(bits.leading_ones()),
            _ => Err(self.error(format!("`{text}` is not a prefix length of 0 to {width} or a mask"))),
        }
    }

    /// A backend; the one of this section if none is named.
    pub(super) fn backend(&mut self) -> Result<BackendId> {
        let Some(name) = self.optional_string()? else {
            return self.scope.resolver.here().1.ok_or_else(|| {
                self.error(format!("`{}` needs the name of a backend here", self.name))
                    .help(format!("write {}(BACKEND)", self.name))
            });
        };
        let found = self.scope.resolver.backend(&name);
        found.ok_or_else(|| self.unknown("backend", NameKind::Backend, &name))
    }

    /// A frontend; the one of this section if none is named.
    pub(super) fn frontend(&mut self) -> Result<FrontendId> {
        let Some(name) = self.optional_string()? else {
            return self.scope.resolver.here().0.ok_or_else(|| {
                self.error(format!("`{}` needs the name of a frontend here", self.name))
                    .help(format!("write {}(FRONTEND)", self.name))
            });
        };
        let found = self.scope.resolver.frontend(&name);
        found.ok_or_else(|| self.unknown("frontend", NameKind::Frontend, &name))
    }

    /// A server, `BACKEND/SERVER`, or one of this section.
    pub(super) fn server(&mut self) -> Result<ServerId> {
        let name = self.required_text("the name of a server")?;
        let resolver = self.scope.resolver;
        let (backend, server) = match name.split_once('/') {
            Some((backend, server)) => (resolver.backend(backend), server),
            None => (resolver.here().1, name.as_str()),
        };
        let found = backend.and_then(|b| resolver.server(b, server));
        found.ok_or_else(|| {
            let error = self.unknown("server", NameKind::Server, &name);
            if name.contains('/') || backend.is_some() || error.help.is_some() {
                return error;
            }
            error.help("name its backend too: BACKEND/SERVER".to_owned())
        })
    }

    /// A stick table; that of this section if none is named.
    pub(super) fn table(&mut self) -> Result<TableId> {
        match self.optional_table()? {
            Some(table) => Ok(table),
            None => self.scope.resolver.table(None).ok_or_else(|| {
                self.error(format!("`{}` needs the name of a section with a stick-table here", self.name))
            }),
        }
    }

    /// A stick table, if one is named.
    pub(super) fn optional_table(&mut self) -> Result<Option<TableId>> {
        let Some(name) = self.optional_string()? else { return Ok(None) };
        let found = self.scope.resolver.table(Some(&name));
        found.map(Some).ok_or_else(|| self.unknown("stick table", NameKind::Table, &name))
    }

    /// A list of users.
    pub(super) fn userlist(&mut self) -> Result<UserlistId> {
        let name = self.required_text("the name of a userlist")?;
        let found = self.scope.resolver.userlist(&name);
        found.ok_or_else(|| self.error(format!("unknown userlist `{name}`")))
    }

    /// The name of a header, if one is given.
    pub(super) fn header_name(&mut self) -> Result<Option<HeaderName>> {
        let Some(name) = self.optional() else { return Ok(None) };
        let name = name.trim_ascii();
        if !is_token(name) {
            return Err(self.error(format!("`{}` is no name of a header", String::from_utf8_lossy(name))));
        }
        Ok(Some(HeaderName::new(name)))
    }

    fn unknown(&self, what: &str, kind: NameKind, name: &str) -> ExprError {
        let names = self.scope.resolver.names(kind);
        let error = self.error(format!("unknown {what} `{name}`"));
        match closest(name, names.iter().map(String::as_str)) {
            Some(close) => error.help(format!("did you mean `{close}`?")),
            None => error,
        }
    }

    /// A variable with its scope, `txn.host`.
    pub(super) fn variable(&mut self) -> Result<VariableId> {
        let name = self.required_text("the name of a variable, such as txn.host")?;
        self.parse_variable(&name)
    }

    /// A variable, if one is given.
    pub(super) fn optional_variable(&mut self) -> Result<Option<VariableId>> {
        match self.optional_string()? {
            Some(name) => self.parse_variable(&name).map(Some),
            None => Ok(None),
        }
    }

    /// The variable that a text names, if it has the form of one: a scope and a name.
    pub(super) fn named_variable(&mut self, text: &str) -> Result<Option<VariableId>> {
        let is_variable =
            ["proc.", "sess.", "txn.", "req.", "res."].iter().any(|scope| text.starts_with(scope));
        if is_variable { self.parse_variable(text).map(Some) } else { Ok(None) }
    }

    fn parse_variable(&mut self, name: &str) -> Result<VariableId> {
        parse_variable(name, self.scope).map_err(|(message, help)| self.error(message).help(help))
    }

    /// A number or a variable.
    pub(super) fn operand(&mut self) -> Result<Operand> {
        let text = self.required_text("a number or a variable")?;
        let first = text.trim_start().bytes().next();
        if first.is_some_and(|b| b.is_ascii_digit() || b == b'-' || b == b'+') {
            return self.parse_int(&text, "the operand").map(Operand::Number);
        }
        self.parse_variable(&text).map(Operand::Variable)
    }

    /// A pattern file.
    pub(super) fn pattern_file(&mut self, is_map: bool) -> Result<Arc<PatternFile>> {
        let path = self.required_text("the path of a file")?;
        load_patterns(&path, is_map, self.scope).map_err(|message| self.error(message))
    }
}

/// The id of a variable, or what is wrong with its name and what to do.
pub(super) fn parse_variable(
    name: &str,
    scope: &mut Scope<'_>,
) -> std::result::Result<VariableId, (String, String)> {
    const SCOPES: &str = "a variable is written SCOPE.NAME, with one of the scopes proc, sess, txn, req, res";
    let parts = name.split_once('.').and_then(|(lifetime, rest)| {
        let lifetime = match lifetime {
            "proc" => VariableScope::Proc,
            "sess" => VariableScope::Session,
            "txn" => VariableScope::Transaction,
            "req" => VariableScope::Request,
            "res" => VariableScope::Response,
            _ => return None,
        };
        Some((lifetime, rest))
    });
    let Some((lifetime, rest)) = parts else {
        return Err((format!("`{name}` is not the name of a variable"), SCOPES.to_owned()));
    };
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if rest.is_empty() || !rest.bytes().all(valid) {
        return Err((
            format!("`{name}` is not the name of a variable"),
            "after its scope it has only letters, digits, `_` and `.`".to_owned(),
        ));
    }
    scope
        .variables
        .id(name, lifetime)
        .ok_or_else(|| ("there are too many variables".to_owned(), "65,536 names are the limit".to_owned()))
}

/// A pattern file, read once for the whole configuration.
pub(super) fn load_patterns(
    path: &str,
    is_map: bool,
    scope: &Scope<'_>,
) -> std::result::Result<Arc<PatternFile>, String> {
    let patterns = scope.resolver.patterns();
    if let Some(file) = patterns.get(path, is_map) {
        return Ok(file);
    }
    let text = scope.resolver.load(path).map_err(|e| format!("cannot read `{path}`: {e}"))?;
    Ok(patterns.add(PatternFile::parse(path, &text, is_map)))
}

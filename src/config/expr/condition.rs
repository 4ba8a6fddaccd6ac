//! Conditions: named ACLs, anonymous ones in braces, and, or, not, parentheses; and the tests that ACLs are made of.

use std::sync::Arc;

use crate::base::limits::CONDITION_DEPTH_MAX;
use crate::config::expr::args::load_patterns;
use crate::config::expr::fetches::{self, Needs};
use crate::config::expr::sample::{self, ParsedExpr};
use crate::config::expr::source::Source;
use crate::config::expr::{Context, ExprError, Scope, closest};
use crate::policy::acl::{Condition, Node, Patterns, Test};
use crate::policy::pattern::{Entry, Method, PatternError, PatternSet};

/// ACLs that always exist.
pub const PREDEFINED: &[(&str, &str)] = &[
    ("FALSE", "always_false"),
    ("TRUE", "always_true"),
    ("HTTP", "req.proto_http"),
    ("HTTP_1.0", "req.ver 1.0"),
    ("HTTP_1.1", "req.ver 1.1"),
    ("HTTP_2.0", "req.ver 2.0"),
    ("HTTP_CONTENT", "req.hdr_val(content-length) gt 0"),
    ("HTTP_URL_ABS", "url_reg ^[^/:]*://"),
    ("HTTP_URL_SLASH", "url_beg /"),
    ("HTTP_URL_STAR", "url *"),
    ("LOCALHOST", "src 127.0.0.1/8 ::1"),
    ("METH_CONNECT", "method CONNECT"),
    ("METH_DELETE", "method DELETE"),
    ("METH_GET", "method GET HEAD"),
    ("METH_HEAD", "method HEAD"),
    ("METH_OPTIONS", "method OPTIONS"),
    ("METH_POST", "method POST"),
    ("METH_PUT", "method PUT"),
    ("METH_TRACE", "method TRACE"),
    ("RDP_COOKIE", "req.rdp_cookie_cnt gt 0"),
    ("REQ_CONTENT", "req.len gt 0"),
    ("WAIT_END", "wait_end"),
];

/// Words of the grammar; no ACL may have such a name.
const RESERVED: &[&str] = &["and", "or", "not", "if", "unless"];

/// A compiled test and the fetch it needs.
#[derive(Clone, Debug)]
pub(super) struct CompiledTest {
    pub(super) test: Arc<Test>,
    fetch: String,
    needs: Needs,
}

/// What is wrong with the name of an ACL.
pub(super) fn check_acl_name(name: &str) -> Option<String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if name.is_empty() || !name.bytes().all(valid) {
        return Some(format!(
            "`{name}` is no name for an ACL: it has letters, digits, `-`, `_`, `.` and `:`"
        ));
    }
    RESERVED.contains(&name).then(|| format!("`{name}` is a word of conditions and no name for an ACL"))
}

/// Parses the text of a named ACL: `FETCH [FLAGS] [OPERATOR] PATTERNS`.
pub(super) fn parse_acl(name: &str, text: &str, scope: &mut Scope<'_>) -> Result<CompiledTest, ExprError> {
    let source = Source::new(text);
    let (CompiledTest { test, fetch, needs }, end) = parse_test(&source, 0, false, scope)?;
    debug_assert_eq!(end, source.bytes.len());
    let test = Arc::unwrap_or_clone(test).written(format!("{name}: {}", text.trim()));
    Ok(CompiledTest { test: Arc::new(test), fetch, needs })
}

/// Parses a whole condition.
pub(super) fn parse(text: &str, scope: &mut Scope<'_>) -> Result<Condition, ExprError> {
    let mut parser = Parser { source: Source::new(text), at: 0, scope, depth: 0 };
    let root = parser.any()?;
    match parser.peek() {
        None => Ok(Condition::new(root)),
        Some(byte) => {
            let word = char::from(byte).escape_default();
            Err(ExprError::at(parser.offset(), format!("unexpected `{word}` after the condition")))
        }
    }
}

struct Parser<'a, 's> {
    source: Source,
    at: usize,
    scope: &'a mut Scope<'s>,
    depth: usize,
}

impl Parser<'_, '_> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.at = self.source.skip_space(self.at);
        self.source.peek(self.at)
    }

    fn offset(&self) -> usize {
        self.source.offset(self.at)
    }

    /// Takes a word or a sign of the grammar if it comes next.
    fn take(&mut self, sign: &str) -> bool {
        self.peek();
        let rest = &self.source.bytes[self.at..];
        if !rest.starts_with(sign.as_bytes()) {
            return false;
        }
        let is_word = sign.as_bytes()[0].is_ascii_alphabetic();
        if is_word && rest.get(sign.len()).is_some_and(|b| is_name_byte(*b)) {
            return false;
        }
        self.at += sign.len();
        true
    }

    /// Terms between `or` and `||`.
    fn any(&mut self) -> Result<Node, ExprError> {
        let mut nodes = vec![self.all()?];
        while self.take("||") || self.take("or") {
            nodes.push(self.all()?);
        }
        Ok(flatten(nodes, Node::Or))
    }

    /// Terms after each other, with or without `and` between them.
    fn all(&mut self) -> Result<Node, ExprError> {
        let mut nodes = vec![self.term()?];
        loop {
            if self.take("&&") || self.take("and") {
                nodes.push(self.term()?);
                continue;
            }
            let before = self.at;
            if matches!(self.peek(), None | Some(b')' | b'|')) || self.take("or") {
                self.at = before;
                return Ok(flatten(nodes, Node::And));
            }
            nodes.push(self.term()?);
        }
    }

    fn term(&mut self) -> Result<Node, ExprError> {
        let mut negated = false;
        while self.take("!") || self.take("not") {
            negated = !negated;
        }
        let node = match self.peek() {
            Some(b'(') => self.group()?,
            Some(b'{') => {
                let open = self.offset();
                let (test, end) = parse_test(&self.source, self.at + 1, true, self.scope)?;
                check_context(&test, None, open, self.scope.context)?;
                self.at = end;
                Node::Test(test.test)
            }
            Some(b) if is_name_byte(b) => self.named()?,
            other => {
                let found =
                    other.map_or("the end".to_owned(), |b| format!("`{}`", char::from(b).escape_default()));
                return Err(ExprError::at(self.offset(), format!("expected an ACL, found {found}"))
                    .help("an ACL is a name, or a test in braces: { src 192.0.2.0/24 }".to_owned()));
            }
        };
        Ok(if negated { Node::Not(Box::new(node)) } else { node })
    }

    fn group(&mut self) -> Result<Node, ExprError> {
        let open = self.offset();
        self.depth += 1;
        if self.depth > CONDITION_DEPTH_MAX {
            return Err(ExprError::at(open, format!("more than {CONDITION_DEPTH_MAX} parentheses are open")));
        }
        self.at += 1;
        let node = self.any()?;
        if !self.take(")") {
            return Err(ExprError::at(open, "this parenthesis is not closed".to_owned()));
        }
        self.depth -= 1;
        Ok(node)
    }

    fn named(&mut self) -> Result<Node, ExprError> {
        let offset = self.offset();
        let rest = &self.source.bytes[self.at..];
        let len = rest.iter().position(|b| !is_name_byte(*b)).unwrap_or(rest.len());
        let name = String::from_utf8_lossy(&rest[..len]).into_owned();
        self.at += len;
        if RESERVED.contains(&name.as_str()) {
            return Err(ExprError::at(offset, format!("expected an ACL, found `{name}`")));
        }
        if let Some(tests) = self.scope.acls.get(&name) {
            for test in tests {
                check_context(test, Some(&name), offset, self.scope.context)?;
            }
            let nodes = tests.iter().map(|t| Node::Test(Arc::clone(&t.test))).collect();
            return Ok(flatten(nodes, Node::Or));
        }
        if let Some((_, text)) = PREDEFINED.iter().find(|(n, _)| *n == name) {
            let test = parse_acl(&name, text, self.scope).map_err(|e| ExprError { offset, ..e })?;
            check_context(&test, Some(&name), offset, self.scope.context)?;
            return Ok(Node::Test(test.test));
        }
        Err(self.unknown(&name, offset))
    }

    fn unknown(&self, name: &str, offset: usize) -> ExprError {
        let error = ExprError::at(offset, format!("unknown ACL `{name}`"));
        if fetches::find(name).is_some() {
            return error
                .help(format!("`{name}` is a sample fetch; tests stand in braces: {{ {name} ... }}"));
        }
        let names = self.scope.acls.names().chain(PREDEFINED.iter().map(|(n, _)| *n));
        match closest(name, names) {
            Some(close) => error.help(format!("did you mean `{close}`?")),
            None => error,
        }
    }
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':')
}

fn flatten(mut nodes: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(only) if nodes.is_empty() => only,
        Some(last) => {
            nodes.push(last);
            join(nodes)
        }
        // An ACL whose texts were all wrong: it was reported, and the configuration is not run.
        None => Node::Or(Vec::new()),
    }
}

/// Whether the facts that a test reads exist where the condition is evaluated.
fn check_context(
    test: &CompiledTest,
    acl: Option<&str>,
    offset: usize,
    context: Context,
) -> Result<(), ExprError> {
    test.needs.check(context, &test.fetch).map_err(|(message, help)| {
        let message = match acl {
            Some(acl) => format!("ACL `{acl}`: {message}"),
            None => message,
        };
        ExprError { offset, message, help: Some(help) }
    })
}

/// Parses a test from `at` on, up to the end of the text or, in braces, up to ` }`.
fn parse_test(
    source: &Source,
    at: usize,
    braces: bool,
    scope: &mut Scope<'_>,
) -> Result<(CompiledTest, usize), ExprError> {
    let open = source.offset(at.saturating_sub(1));
    let begin = source.skip_space(at);
    let at = begin;
    let (parsed, at) = match source.peek(at) {
        // The whole expression in quotes, as configurations for HAProxy write it.
        Some(b'"' | b'\'') => match source.word(at)? {
            Some((word, after)) => (sample::parse(&word, 0, None, scope)?.0, after),
            None => return Err(ExprError::at(open, "expected a sample fetch".to_owned())),
        },
        None | Some(b'}') if braces => {
            return Err(ExprError::at(open, "the braces hold no test".to_owned()));
        }
        _ => sample::parse(source, at, None, scope)?,
    };
    let mut words = Vec::new();
    let mut at = at;
    loop {
        let start = source.skip_space(at);
        let closing = source.peek(start) == Some(b'}')
            && source.peek(start + 1).is_none_or(|b| b.is_ascii_whitespace() || b == b')');
        if braces && closing {
            at = start + 1;
            break;
        }
        match source.word(at)? {
            Some((word, after)) => {
                words.push(word);
                at = after;
            }
            None if braces => {
                let error = ExprError::at(open, "this brace is not closed".to_owned());
                return Err(
                    error.help("the closing brace stands alone, with a space before it: ` }`".to_owned())
                );
            }
            None => break,
        }
    }
    let CompiledTest { test, fetch, needs } = build_test(parsed, &words, scope)?;
    let written = source.bytes.get(begin..if braces { at - 1 } else { at }).unwrap_or_default();
    let written = String::from_utf8_lossy(written).trim().to_owned();
    let test = CompiledTest { test: Arc::new(Arc::unwrap_or_clone(test).written(written)), fetch, needs };
    Ok((test, if braces { at } else { source.bytes.len() }))
}

/// The flags and patterns of a test.
struct Matching {
    method: Option<Method>,
    ignore_case: bool,
    as_map: bool,
    /// `--` was there: no pattern is what the operator wants.
    ended: bool,
    files: Vec<(String, usize, bool)>,
}

fn build_test(parsed: ParsedExpr, words: &[Source], scope: &Scope<'_>) -> Result<CompiledTest, ExprError> {
    let offset = words.first().map_or(0, |w| w.offset(0));
    let (matching, rest) = parse_flags(&parsed, words)?;
    let kind = parsed.expr.kind();
    let Some(method) = matching.method.or(parsed.method).or(Method::default_for(kind)) else {
        return Err(ExprError::at(
            offset,
            format!("how is `{}` matched? Its type has no default", parsed.fetch),
        )
        .help(
            "name a method: -m found, bool, int, ip, bin, len, str, beg, end, sub, dir, dom or reg"
                .to_owned(),
        ));
    };
    if !method.accepts(kind) {
        return Err(ExprError::at(
            offset,
            format!("-m {method} cannot match a value of type {}", kind.name()),
        ));
    }
    let (entries, offsets) = parse_patterns(method, rest, matching.ignore_case)?;
    let mut sets = Vec::new();
    for (path, offset, ignore_case) in &matching.files {
        let file = load_patterns(path, matching.as_map, scope).map_err(|m| ExprError::at(*offset, m))?;
        let shared = file.compile(method, *ignore_case).map_err(|e| {
            let line = file.lines().get(e.entry).map(|(p, _)| String::from_utf8_lossy(p).into_owned());
            ExprError::at(*offset, format!("{path}: `{}`: {}", line.unwrap_or_default(), e.message))
        })?;
        sets.push(Patterns::File(shared));
    }
    if !entries.is_empty() && method.takes_patterns() {
        let set = PatternSet::compile(method, &entries).map_err(|PatternError { entry, message }| {
            ExprError::at(offsets.get(entry).copied().unwrap_or(offset), message)
        })?;
        sets.push(Patterns::Inline(set));
    }
    if sets.is_empty() && method.takes_patterns() && !matching.ended {
        return Err(ExprError::at(
            offset,
            format!("`{}` has no pattern to match, so it never would", parsed.fetch),
        )
        .help("to test that it is there, write -m found; to match nothing on purpose, write --".to_owned()));
    }
    let ParsedExpr { expr, fetch, needs, .. } = parsed;
    Ok(CompiledTest { test: Arc::new(Test::new(expr, method, sets)), fetch, needs })
}

fn parse_flags<'w>(parsed: &ParsedExpr, words: &'w [Source]) -> Result<(Matching, &'w [Source]), ExprError> {
    let mut matching =
        Matching { method: None, ignore_case: false, as_map: false, ended: false, files: Vec::new() };
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let offset = word.offset(0);
        let argument = |what: &str| {
            let value = after.first().ok_or_else(|| ExprError::at(offset, format!("{what} is missing")))?;
            Ok((value.text(), value.offset(0)))
        };
        rest = match word.bytes.as_slice() {
            b"-i" => {
                matching.ignore_case = true;
                after
            }
            // Host names are never resolved here.
            b"-n" => after,
            b"-M" => {
                matching.as_map = true;
                after
            }
            b"-u" => {
                argument("the id after -u")?;
                &after[1..]
            }
            b"-f" => {
                let (path, offset) = argument("the path after -f")?;
                matching.files.push((path, offset, matching.ignore_case));
                &after[1..]
            }
            b"-m" => {
                let (name, offset) = argument("the method after -m")?;
                if !matching.files.is_empty() {
                    return Err(ExprError::at(offset, "-m must stand before -f".to_owned()));
                }
                matching.method = Some(find_method(&name, offset)?);
                &after[1..]
            }
            b"--" => {
                matching.ended = true;
                return Ok((matching, after));
            }
            [b'-', next, ..] if !next.is_ascii_digit() => {
                let text = word.text();
                return Err(ExprError::at(offset, format!("`{text}` is no flag of `{}`", parsed.fetch))
                    .help("flags are -i, -m METHOD, -f FILE, -M, -n, -u ID; -- ends them".to_owned()));
            }
            _ => break,
        };
    }
    Ok((matching, rest))
}

fn find_method(name: &str, offset: usize) -> Result<Method, ExprError> {
    if let Some((_, method)) = Method::NAMED.iter().find(|(n, _)| *n == name) {
        return Ok(*method);
    }
    let error = ExprError::at(offset, format!("unknown matching method `{name}`"));
    let names: Vec<_> = Method::NAMED.iter().map(|(n, _)| *n).collect();
    Err(error.help(format!("methods are {}", names.join(", "))))
}

/// The patterns after the flags, with operators turned into ranges, and where each one stands.
fn parse_patterns(
    method: Method,
    words: &[Source],
    ignore_case: bool,
) -> Result<(Vec<Entry>, Vec<usize>), ExprError> {
    let mut entries = Vec::with_capacity(words.len());
    let mut offsets = Vec::with_capacity(words.len());
    let mut operator = None;
    for word in words {
        let offset = word.offset(0);
        let numeric = matches!(method, Method::Int | Method::Len | Method::Version);
        if numeric && matches!(word.bytes.as_slice(), b"eq" | b"ge" | b"gt" | b"le" | b"lt") {
            operator = Some(word.text());
            continue;
        }
        let pattern = match &operator {
            Some(operator) => {
                range_of(operator, &word.text(), method).map_err(|m| ExprError::at(offset, m))?
            }
            None => word.bytes.clone(),
        };
        if method == Method::Bool && !matches!(pattern.as_slice(), b"1" | b"true") {
            return Err(ExprError::at(offset, "a boolean is not compared with a value".to_owned())
                .help("write the test alone, or `!` before it".to_owned()));
        }
        if method == Method::Found {
            return Err(ExprError::at(offset, "-m found takes no pattern".to_owned()));
        }
        entries.push(Entry { pattern, value: None, ignore_case });
        offsets.push(offset);
    }
    if let (Some(operator), true) = (&operator, entries.is_empty()) {
        return Err(ExprError::at(words[0].offset(0), format!("`{operator}` needs a value after it")));
    }
    Ok((entries, offsets))
}

/// `gt 5` is the range `6:`. Versions have no successor that is written as simply, so they count in the last place.
fn range_of(operator: &str, value: &str, method: Method) -> Result<Vec<u8>, String> {
    if value.contains(':') {
        return Err(format!("`{operator}` compares with one value and not with the range `{value}`"));
    }
    let beside = |by: i64| -> Result<String, String> {
        if method == Method::Version {
            let (major, minor) = value.split_once('.').unwrap_or((value, "0"));
            let number =
                major.parse::<i64>().ok().zip(minor.parse::<i64>().ok()).map(|(a, b)| (a << 16 | b) + by);
            let number = number.ok_or_else(|| format!("`{value}` is not a version such as 3.1"))?;
            return Ok(format!("{}.{}", number >> 16, number & 0xffff));
        }
        let number = value.parse::<i64>().map_err(|_| format!("`{value}` is not an integer"))?;
        number
            .checked_add(by)
            .map(|n| n.to_string())
            .ok_or_else(|| format!("`{operator} {value}` never holds"))
    };
    Ok(match operator {
        "ge" => format!("{value}:"),
        "gt" => format!("{}:", beside(1)?),
        "le" => format!(":{value}"),
        "lt" => format!(":{}", beside(-1)?),
        _ => value.to_owned(),
    }
    .into_bytes())
}

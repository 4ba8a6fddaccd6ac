//! Answers of our own: `deny`, `return`, `tarpit`, and error pages.

use std::sync::Arc;

use super::actions::inner;
use super::rules::Reader;
use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section};
use crate::model::http::ErrorPages;
use crate::policy::http_action::{Reply, ReplyContent};
use crate::proto::http::{StatusCode, is_token, is_value};

/// Statuses that Shardgate answers by itself.
const PAGES: &[u16] = &[
    200, 400, 401, 403, 404, 405, 407, 408, 410, 413, 414, 421, 422, 425, 429, 431, 500, 501, 502, 503, 504,
    505,
];

/// Reads the reply of an action, whose status is `usual` unless it says otherwise.
pub(super) fn reply(
    reader: &mut Reader<'_, '_>,
    table: &Section<'_>,
    key: &str,
    usual: u16,
) -> Option<Reply> {
    let returns = key == "return";
    let Some(inner) = inner(table, key, Scope::Reply) else {
        let content = if returns { ReplyContent::Empty } else { ReplyContent::ErrorPage };
        return Some(Reply { status: usual, content, headers: Vec::new() });
    };
    let status = inner.count("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(usual);
    let headers = headers(reader, &inner);
    let content = content(reader, &inner, returns)?;
    Some(Reply { status, content, headers: headers? })
}

fn headers(
    reader: &mut Reader<'_, '_>,
    inner: &Section<'_>,
) -> Option<Vec<(Box<[u8]>, crate::policy::format::Format)>> {
    let Some(table) = inner.table("hdr") else { return Some(Vec::new()) };
    let mut headers = Vec::new();
    let mut wrong = false;
    for entry in &table.entries {
        if !crate::proto::http::is_token(entry.key.as_bytes()) {
            let message = format!("\"{}\" is not the name of a header", entry.key);
            inner.context.error(entry.key_span.start, message, None);
            wrong = true;
        }
        for (_, text) in crate::config::section::texts_of(inner.context, &entry.value) {
            match reader.language.format(&text, 0, reader.place, reader.variables) {
                Some(value) => headers.push((entry.key.as_bytes().into(), value)),
                None => wrong = true,
            }
        }
    }
    (!wrong).then_some(headers)
}

fn content(reader: &mut Reader<'_, '_>, inner: &Section<'_>, returns: bool) -> Option<ReplyContent> {
    let forms = ["string", "file", "lf-string"];
    let present: Vec<&str> = forms.into_iter().filter(|form| inner.value(form).is_some()).collect();
    let content_type = inner.string("content-type");
    let form = match present.as_slice() {
        [] => {
            if content_type.is_some() {
                inner.warning("content-type", "content-type has no effect without a body", None);
            }
            return Some(if returns { ReplyContent::Empty } else { ReplyContent::ErrorPage });
        }
        [form] => *form,
        _ => {
            inner.context.error(inner.at, "a reply has one of string, file and lf-string", None);
            return None;
        }
    };
    if content_type.as_deref().is_some_and(|text| text.contains(char::is_control)) {
        inner.error("content-type", "a media type is one line of text", None);
    }
    let content_type = content_type.unwrap_or_else(|| "text/plain".to_owned());
    let text = inner.text(form)?;
    Some(match form {
        "lf-string" => {
            let body = reader.language.format(&text, 0, reader.place, reader.variables)?;
            ReplyContent::Format { content_type, body }
        }
        "file" => {
            ReplyContent::Bytes { content_type, body: read(inner.context, inner.value_at(form), &text.text)? }
        }
        _ => ReplyContent::Bytes { content_type, body: text.text.into_bytes().into() },
    })
}

fn read(context: &Context<'_>, at: usize, path: &str) -> Option<Arc<[u8]>> {
    context.depends_on_others();
    match (context.env.read)(path.as_ref()) {
        Ok(bytes) => {
            let bytes = bytes.into();
            context.note_file(path, &bytes);
            Some(bytes)
        }
        Err(error) => {
            context.error(at, format!("cannot read \"{path}\": {error}"), None);
            None
        }
    }
}

/// The pages of a section, then those of the defaults: `http-error`, `errorfile`, `errorloc302` and `errorloc303`, then those of the sections
/// that `errorfiles` names.
pub(super) fn error_pages(section: &Section<'_>) -> ErrorPages {
    let mut pages = ErrorPages::default();
    for layer in section.each_layer() {
        own_pages(&layer, &mut pages);
    }
    pages.pages.sort_by_key(|(status, _)| *status);
    pages
}

/// What one table says of error pages.
fn own_pages(section: &Section<'_>, pages: &mut ErrorPages) {
    let context = section.context;
    for reply in section.tables("http-error", Scope::Reply) {
        if let Some((status, page)) = made_page(&reply) {
            put(context, (reply.at, status), page.into(), pages);
        }
    }
    if let Some(table) = section.table("errorfile") {
        add(context, table, pages);
    }
    for (key, line) in [("errorloc302", "302 Found"), ("errorloc303", "303 See Other")] {
        for entry in section.table(key).into_iter().flat_map(|table| &table.entries) {
            let Some(status) = status_of(context, entry.key_span.start, &entry.key) else { continue };
            let Some(url) = context.text(&entry.value) else { continue };
            if !is_value(url.text.as_bytes()) || url.text.is_empty() {
                context.error(entry.value.span.start, "this cannot stand in a header", None);
            }
            let page = format!(
                "HTTP/1.1 {line}\r\nContent-Length: 0\r\nCache-Control: no-cache\r\nLocation: {}\r\nConnection: close\r\n\r\n",
                url.text
            );
            put(context, (entry.key_span.start, status), page.into_bytes().into(), pages);
        }
    }
    for (at, text) in section.texts("errorfiles") {
        context.depends_on_others();
        let named = context.file.root.at("http-errors").and_then(|value| match &value.data {
            Data::Table(table) => table.entry(&text.text),
            _ => None,
        });
        match named.map(|entry| &entry.value.data) {
            Some(Data::Table(table)) => {
                if let Some(Data::Table(files)) = table.entry("errorfile").map(|entry| &entry.value.data) {
                    add(context, files, pages);
                }
            }
            _ => {
                let help = format!("add [http-errors.{}]", text.text);
                context.error(at, format!("unknown section \"{}\"", text.text), Some(help));
            }
        }
    }
}

/// The whole response of an entry of `http-error`.
fn made_page(reply: &Section<'_>) -> Option<(u16, Vec<u8>)> {
    let Some(status) = reply.count("status") else {
        let help = Some("add status = 503".to_owned());
        reply.context.error(reply.at, "an error page is for a status", help);
        return None;
    };
    let fixed = |at: usize, text: &str| {
        if text.contains("%[") {
            let help = "write a rule with return for what depends on the request".to_owned();
            reply.context.error(at, "the text of an error page is fixed", Some(help));
        }
        text.replace("%%", "%")
    };
    let body = match (reply.text("string"), reply.text("file"), reply.text("lf-string")) {
        (None, None, None) => Vec::new(),
        (Some(text), None, None) => text.text.into_bytes(),
        (None, Some(path), None) => read(reply.context, reply.value_at("file"), &path.text)?.to_vec(),
        (None, None, Some(text)) => fixed(reply.value_at("lf-string"), &text.text).into_bytes(),
        _ => {
            reply.context.error(reply.at, "a reply has one of string, file and lf-string", None);
            return None;
        }
    };
    let status = u16::try_from(status).ok()?;
    let reason = StatusCode::new(status).map_or("Error", StatusCode::reason);
    let mut lines = vec![("Content-Length".to_owned(), body.len().to_string())];
    if !body.is_empty() {
        let media_type = reply.string("content-type").unwrap_or_else(|| "text/plain".to_owned());
        lines.push(("Content-Type".to_owned(), media_type));
    }
    for entry in reply.table("hdr").into_iter().flat_map(|table| &table.entries) {
        for (at, text) in crate::config::section::texts_of(reply.context, &entry.value) {
            lines.push((entry.key.clone(), fixed(at, &text.text)));
        }
    }
    lines.push(("Connection".to_owned(), "close".to_owned()));
    let mut page = format!("HTTP/1.1 {status} {reason}\r\n");
    for (name, value) in lines {
        if !is_token(name.as_bytes()) || !is_value(value.as_bytes()) {
            let message = format!("\"{name}: {value}\" cannot stand in a header");
            reply.context.error(reply.at, message, None);
        }
        page.push_str(&format!("{name}: {value}\r\n"));
    }
    page.push_str("\r\n");
    Some((status, [page.as_bytes(), &body].concat()))
}

fn add(context: &Context<'_>, files: &crate::config::file::Table, pages: &mut ErrorPages) {
    for entry in &files.entries {
        let Some(status) = status_of(context, entry.key_span.start, &entry.key) else { continue };
        let Some(path) = context.text(&entry.value) else { continue };
        let at = entry.value.span.start;
        let Some(bytes) = read(context, at, &path.text) else { continue };
        // An empty page, /dev/null as a rule: the connection is closed without a word. A challenge cannot be one.
        let is_nothing = bytes.is_empty() && status != 401;
        if !bytes.starts_with(b"HTTP/1.") && !is_nothing {
            let help =
                "it holds a whole response: status line, headers, an empty line, and the body".to_owned();
            context.error(at, format!("\"{}\" does not start with \"HTTP/1.\"", path.text), Some(help));
        }
        put(context, (entry.key_span.start, status), bytes, pages);
    }
}

fn status_of(context: &Context<'_>, at: usize, key: &str) -> Option<u16> {
    let status = key.parse::<u16>().ok();
    if status.is_none() {
        context.error(at, format!("\"{key}\" is no status that has an error page"), Some(statuses()));
    }
    status
}

fn statuses() -> String {
    format!("those are {}", PAGES.iter().map(u16::to_string).collect::<Vec<_>>().join(", "))
}

/// The nearer section's page was added first, and stays.
fn put(context: &Context<'_>, (at, status): (usize, u16), page: Arc<[u8]>, pages: &mut ErrorPages) {
    if !PAGES.contains(&status) {
        context.error(at, format!("\"{status}\" is no status that has an error page"), Some(statuses()));
        return;
    }
    if !pages.pages.iter().any(|(other, _)| *other == status) {
        pages.pages.push((status, page));
    }
}

//! Answers of our own: `deny`, `return`, `tarpit`, and error pages.

use std::sync::Arc;

use super::actions::inner;
use super::rules::Reader;
use crate::config::file::Data;
use crate::config::keywords::Scope;
use crate::config::section::{Context, Section};
use crate::model::http::ErrorPages;
use crate::policy::http_action::{Reply, ReplyContent};

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

/// The pages of `errorfile`, then those of the sections that `errorfiles` names.
pub(super) fn error_pages(section: &Section<'_>) -> ErrorPages {
    let mut pages = ErrorPages::default();
    if let Some(table) = section.table("errorfile") {
        add(section.context, table, &mut pages);
    }
    for (at, text) in section.texts("errorfiles") {
        section.context.depends_on_others();
        let named = section.context.file.root.at("http-errors").and_then(|value| match &value.data {
            Data::Table(table) => table.entry(&text.text),
            _ => None,
        });
        match named.map(|entry| &entry.value.data) {
            Some(Data::Table(table)) => {
                if let Some(Data::Table(files)) = table.entry("errorfile").map(|entry| &entry.value.data) {
                    add(section.context, files, &mut pages);
                }
            }
            _ => {
                let help = format!("add [http-errors.{}]", text.text);
                section.context.error(at, format!("unknown section \"{}\"", text.text), Some(help));
            }
        }
    }
    pages.pages.sort_by_key(|(status, _)| *status);
    pages
}

fn add(context: &Context<'_>, files: &crate::config::file::Table, pages: &mut ErrorPages) {
    for entry in &files.entries {
        let Some(status) = entry.key.parse::<u16>().ok().filter(|status| PAGES.contains(status)) else {
            let message = format!("\"{}\" is no status that has an error page", entry.key);
            let list = PAGES.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            context.error(entry.key_span.start, message, Some(format!("those are {list}")));
            continue;
        };
        // The nearer section's page was added first.
        if pages.pages.iter().any(|(other, _)| *other == status) {
            continue;
        }
        let Some(path) = context.text(&entry.value) else { continue };
        let at = entry.value.span.start;
        let Some(bytes) = read(context, at, &path.text) else { continue };
        if !bytes.starts_with(b"HTTP/1.") {
            let help =
                "it holds a whole response: status line, headers, an empty line, and the body".to_owned();
            context.error(at, format!("\"{}\" does not start with \"HTTP/1.\"", path.text), Some(help));
        }
        pages.pages.push((status, bytes));
    }
}

//! The statistics page. A table that needs no script; with scripts it follows the process by server-sent events. Nothing is
//! loaded from elsewhere, and the content security policy lets nothing be.

use std::fmt::Write as _;

use ahash::AHashMap;

use crate::control::web::rows::{self, COLUMNS, Row, SPANS};
use crate::control::web::{Answer, Request, Web, form, rules};
use crate::model::statistics::StatsPage;
use crate::stats::history::Graph;
use crate::stats::render::Filter;
use crate::stats::snapshot::{Entry, Snapshot};
use crate::stats::table::Object;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page.
pub(super) fn page(
    web: &Web,
    request: &Request,
    settings: &StatsPage,
    snapshot: &Snapshot,
    filter: &Filter,
) -> Answer {
    let nonce = form::token(web, format!("{:?}", crate::rt::now()).as_bytes());
    let mut out = String::with_capacity(64 * 1024);
    head(request, settings, snapshot, &nonce, &mut out);
    tiles(web, snapshot, &settings.scope, &mut out);
    if let Some(text) = notice(request) {
        let _ = write!(out, "<p class=\"notice\" role=\"status\">{text}</p>");
    }
    controls(request, settings, &mut out);
    if request.is_admin {
        let token = form::token(web, &request.authorization);
        let _ = write!(
            out,
            "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"t\" value=\"{token}\">",
            escaped(&settings.uri)
        );
    }
    table(web, (request, settings), snapshot, filter, &mut out);
    if request.is_admin {
        out.push_str(ADMIN_BAR);
        rules::section(web, &settings.scope, &mut out);
    }
    footer(settings, snapshot, &mut out);
    let _ = writeln!(out, "<script nonce=\"{nonce}\">{SCRIPT}</script></body></html>");
    let headers = format!(
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'\r\n\
         Referrer-Policy: no-referrer\r\n"
    );
    Answer { headers, ..Answer::ok("text/html; charset=utf-8", out) }
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn head(request: &Request, settings: &StatsPage, snapshot: &Snapshot, nonce: &str, out: &mut String) {
    let process = &snapshot.process;
    let title =
        settings.node.as_ref().map_or_else(|| "Statistics".to_owned(), |node| format!("{node}: statistics"));
    let refresh = match settings.refresh {
        Some(refresh) if !request.has("norefresh") => {
            format!("<noscript><meta http-equiv=\"refresh\" content=\"{}\"></noscript>", refresh.as_secs())
        }
        _ => String::new(),
    };
    let _ = write!(
        out,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">{refresh}\
         <style nonce=\"{nonce}\">{STYLE}</style></head><body><header><h1>Shardgate</h1>",
        escaped(&title)
    );
    let node =
        settings.node.as_deref().map(|node| format!(" on <b>{}</b>", escaped(node))).unwrap_or_default();
    if !settings.hide_version {
        let (name, version) = (escaped(&process.name), escaped(&process.version));
        let _ =
            write!(out, "<p>{name} version {version}, released {}{node}</p>", escaped(&process.release_date));
    } else if !node.is_empty() {
        let _ = write!(out, "<p>{}</p>", node.trim_start_matches(" on "));
    }
    if let Some(description) = settings.description.as_deref().filter(|text| !text.is_empty()) {
        let _ = write!(out, "<p>{}</p>", escaped(description));
    }
    out.push_str("<span id=\"state\" hidden></span></header>");
}

fn tiles(web: &Web, snapshot: &Snapshot, scope: &[String], out: &mut String) {
    out.push_str("<section class=\"tiles\" aria-label=\"Process\">");
    for (name, value) in rows::tiles(web, snapshot, scope) {
        let _ = write!(out, "<div class=\"tile\"><span>{name}</span><b>{value}</b></div>");
    }
    out.push_str("<div class=\"tile cores\"><span>Cores</span><div id=\"cores\">");
    let cores = web.base.cores.len();
    // All of them at once, also in the first second: updates look for their places.
    let collector = web.base.collector.borrow();
    let loads = collector.loads();
    for core in 0..=cores {
        let load = loads.get(core).copied().unwrap_or(0);
        let name = if core == cores { "control".to_owned() } else { core.to_string() };
        let _ = write!(
            out,
            "<div class=\"core\" title=\"core {name}\"><meter min=\"0\" max=\"100\" high=\"85\" value=\"{load}\"></meter>\
             <small>{name}: <i>{load}</i> %</small></div>"
        );
    }
    out.push_str("</div></div></section>");
}

/// What became of a form.
fn notice(request: &Request) -> Option<&'static str> {
    let (_, code) = request.target.rsplit_once(";st=")?;
    Some(match code {
        "DONE" => "Done.",
        "NONE" => "No server was chosen.",
        "PART" => "Some of the changes failed; the log says which.",
        "ERRP" => "The change failed.",
        "UNKN" => "That is no action, or the weight is missing.",
        _ => return None,
    })
}

fn controls(request: &Request, settings: &StatsPage, out: &mut String) {
    out.push_str("<nav><fieldset class=\"views\"><legend>View</legend>");
    for (at, (id, name)) in
        [("o", "Overview"), ("t", "Traffic"), ("l", "Latency"), ("e", "Errors"), ("h", "Health")]
            .iter()
            .enumerate()
    {
        let checked = if at == 0 { " checked" } else { "" };
        let _ = write!(
            out,
            "<label><input type=\"radio\" name=\"view\" id=\"v-{id}\"{checked}><span>{name}</span></label>"
        );
    }
    let uri = escaped(&settings.uri);
    out.push_str(
        "</fieldset><input id=\"filter\" type=\"search\" placeholder=\"Filter by name or state\" \
         aria-label=\"Filter\" hidden><span class=\"links\"><small>latency of</small>",
    );
    // Each link keeps what the others chose.
    let kept =
        |words: &[&str]| words.iter().find(|w| request.has(w)).map_or(String::new(), |w| format!(";{w}"));
    let rows = kept(&["up", "no-maint"]);
    let window = kept(&["10s", "1m", "5m", "start"]);
    let span = kept(&SPANS.map(|span| span.word)[1..]);
    let link = |rows: &str, window: &str, span: &str, name: &str, is_it: bool| {
        let current = if is_it { " aria-current=\"true\"" } else { "" };
        format!(" <a href=\"{uri}{rows}{window}{span}\"{current}>{name}</a>")
    };
    for (word, name) in [("10s", "10 s"), ("1m", "1 min"), ("5m", "5 min"), ("start", "start")] {
        let is_it = window.get(1..).unwrap_or("10s") == word;
        out.push_str(&link(&rows, &format!(";{word}"), &span, name, is_it));
    }
    out.push_str("</span><span class=\"links\"><small>graphs of</small>");
    for one in &SPANS {
        let word = if one.word.is_empty() { String::new() } else { format!(";{}", one.word) };
        out.push_str(&link(&rows, &window, &word, one.name, span == word));
    }
    out.push_str("</span><span class=\"links\"><small>servers</small>");
    for (word, name) in [("", "all"), (";up", "up"), (";no-maint", "no maintenance")] {
        out.push_str(&link(word, &window, &span, name, rows == word));
    }
    let _ = write!(
        out,
        "</span><span class=\"links data\"><a href=\"{uri};csv\">CSV</a> <a href=\"{uri};json\">JSON</a></span></nav>"
    );
    debug_assert!(!request.is_post, "forms are answered by a redirect");
}

fn table(
    web: &Web,
    (request, settings): (&Request, &StatsPage),
    snapshot: &Snapshot,
    filter: &Filter,
    out: &mut String,
) {
    let span = request.span();
    let graphs = rows::graphs(web, &settings.scope, span);
    let _ = write!(
        out,
        "<div class=\"scroll\"><table data-part=\"{}\" data-span=\"{}\"><thead><tr>",
        span.part_s, span.word
    );
    if request.is_admin {
        out.push_str("<th class=\"pick\"><span class=\"sr\">Choose</span></th>");
    }
    out.push_str("<th class=\"name\">Name</th><th class=\"state\">State</th>");
    for column in COLUMNS {
        let classes = classes(column.views);
        let (graph, of) = match rows::graph(column) {
            Some(_) => (" graph", format!(" {}", span.name)),
            None => ("", String::new()),
        };
        let (title, help) = (column.title.trim_end(), column.help);
        let _ = write!(out, "<th class=\"{classes}{graph}\" title=\"{help}\">{title}{of}</th>");
    }
    out.push_str("</tr></thead>");
    let mut last = None;
    let span = COLUMNS.len() + 2 + usize::from(request.is_admin);
    for entry in filter.entries(snapshot) {
        if last != Some(entry.iid) {
            if last.replace(entry.iid).is_some() {
                out.push_str("</tbody>");
            }
            let _ = write!(
                out,
                "<tbody data-name=\"{0}\"><tr class=\"proxy\"><th colspan=\"{span}\" scope=\"rowgroup\"><span>{0}</span> \
                 <small>{1}</small></th></tr>",
                escaped(&entry.proxy),
                if entry.http { "HTTP" } else { "TCP" }
            );
        }
        line(request, entry, &rows::row(entry, snapshot, filter), &graphs, out);
    }
    out.push_str("</tbody></table></div>");
}

fn classes(views: &str) -> String {
    views.split(' ').map(|view| format!("g-{view}")).collect::<Vec<_>>().join(" ")
}

fn line(request: &Request, entry: &Entry, row: &Row, graphs: &AHashMap<String, Graph>, out: &mut String) {
    let object = entry.facts.object();
    let (kind, name) = match object {
        Object::Frontend => ("frontend", "Frontend"),
        Object::Backend => ("backend", "Backend"),
        Object::Server => ("server", entry.name.as_str()),
        Object::Listener => ("listener", entry.name.as_str()),
    };
    let _ = write!(out, "<tr id=\"r{}\" class=\"{kind} s-{}\">", row.key, row.class);
    if request.is_admin {
        out.push_str("<td class=\"pick\">");
        if object == Object::Server {
            let _ = write!(
                out,
                "<input type=\"checkbox\" name=\"s\" value=\"{0}/{1}\" aria-label=\"{0}/{1}\">",
                escaped(&entry.proxy),
                escaped(&entry.name)
            );
        }
        out.push_str("</td>");
    }
    let _ = write!(
        out,
        "<th scope=\"row\" class=\"name\">{}</th><td class=\"state\"><span>{}</span></td>",
        escaped(name),
        escaped(&row.status)
    );
    for (column, cell) in COLUMNS.iter().zip(&row.cells) {
        let classes = classes(column.views);
        match rows::graph(column) {
            None => {
                let _ = write!(out, "<td class=\"{classes}\">{}</td>", escaped(cell));
            }
            Some(which) => {
                let values = graphs.get(&row.key).map_or(&[][..], |graphs| &graphs[which]);
                let known: Vec<String> = values.iter().map(u64::to_string).collect();
                let _ = write!(
                    out,
                    "<td class=\"{classes} graph\"><svg viewBox=\"0 0 60 16\" preserveAspectRatio=\"none\" \
                     class=\"k{which}\" data-v=\"{}\" aria-hidden=\"true\"><polyline points=\"{}\"/></svg></td>",
                    known.join(","),
                    rows::line(values)
                );
            }
        }
    }
    out.push_str("</tr>");
}

const ADMIN_BAR: &str = "<div class=\"bar\"><span>Chosen servers:</span>\
    <button name=\"action\" value=\"ready\">Ready</button>\
    <button name=\"action\" value=\"drain\">Drain</button>\
    <button name=\"action\" value=\"maint\">Maintenance</button>\
    <button name=\"action\" value=\"shutdown\" class=\"danger\">Shut down sessions</button>\
    <label>Weight <input name=\"weight\" inputmode=\"numeric\" size=\"4\" pattern=\"[0-9]{1,3}%?\"></label>\
    <button name=\"action\" value=\"weight\">Set weight</button></div></form>";

/// Some tools read the uptime from the markup that HAProxy has around it.
fn footer(settings: &StatsPage, snapshot: &Snapshot, out: &mut String) {
    let process = &snapshot.process;
    let s = process.uptime.as_secs();
    let _ = write!(
        out,
        "<footer><p><b>pid = </b> {} (process #1, nbproc = 1, nbthread = {})<br><b>uptime = </b> {}d {}h{:02}m{:02}s<br>\
         <b>maxconn = </b> {}; <b>ulimit-n = </b> {}</p><p class=\"key\"><span class=\"s-up\">up</span> \
         <span class=\"s-warn\">changing</span> <span class=\"s-drain\">draining</span> <span class=\"s-maint\">maintenance</span> \
         <span class=\"s-down\">down</span> <span class=\"s-none\">not checked</span></p></footer>",
        process.pid,
        process.threads,
        s / 86400,
        s / 3600 % 24,
        s / 60 % 60,
        s % 60,
        process.maxconn,
        process.fd_limit,
    );
    debug_assert!(settings.uri.starts_with('/'), "resolve saw to it");
}

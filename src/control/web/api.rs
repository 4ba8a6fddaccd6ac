//! The JSON API: `GET /api/v1/...` mirrors `show` commands, `POST /api/v1/command` runs any command for administrators.

use std::rc::Rc;

use serde::Deserialize;

use crate::control::web::{Answer, Request, Web};
use crate::model::AdminLevel;

const JSON: &str = "application/json";

/// The body of `POST /api/v1/command`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    command: String,
}

/// Answers a request below `/api/v1/`.
pub(super) async fn answer(web: &Rc<Web>, request: &Request) -> Answer {
    let (_, path) = request.target.split_once("/api/v1/").unwrap_or_default();
    let path = path.split(['?', ';', '&']).next().unwrap_or_default();
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    match (words.as_slice(), request.is_post) {
        (["command"], true) => command(web, request).await,
        (["command"], false) => not_this_way("POST"),
        (_, true) => not_this_way("GET, HEAD"),
        (words, false) => show(web, request, words).await,
    }
}

fn not_this_way(allowed: &str) -> Answer {
    Answer { headers: format!("Allow: {allowed}\r\n"), ..Answer::error("405 Method Not Allowed") }
}

/// `info`, `stats`, `schema`, and `show/...` for any other `show` command.
async fn show(web: &Rc<Web>, request: &Request, words: &[&str]) -> Answer {
    let is_plain = |word: &&str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:#".contains(&b));
    if !words.iter().all(is_plain) {
        return Answer::error("400 Bad Request");
    }
    let line = match words {
        ["info"] => "show info json".to_owned(),
        ["stats"] => "show stat json".to_owned(),
        ["schema"] => "show schema json".to_owned(),
        // These go on for as long as the client listens, or say what is nobody's business.
        ["show", "events", ..] => return Answer::error("404 Not Found"),
        ["show", rest @ ..] if !rest.is_empty() => format!("show {}", rest.join(" ")),
        _ => return Answer::error("404 Not Found"),
    };
    let text = web.command(request.level(), request.who(), &line).await;
    if line.ends_with(" json") { Answer::ok(JSON, text) } else { lines(&line, &text) }
}

fn lines(command: &str, text: &str) -> Answer {
    let lines: Vec<&str> = text.lines().collect();
    Answer::ok(JSON, format!("{}\n", serde_json::json!({ "command": command, "lines": lines })))
}

/// Runs one line of the admin socket. Another site cannot make a browser send JSON without asking first, which nobody answers.
async fn command(web: &Rc<Web>, request: &Request) -> Answer {
    if !request.is_admin || request.is_foreign {
        return Answer::error("403 Forbidden");
    }
    if !request.is_json {
        return Answer::error("415 Unsupported Media Type");
    }
    let Ok(Order { command }) = serde_json::from_slice(&request.body) else {
        return Answer::error("400 Bad Request");
    };
    if command.chars().any(char::is_control) {
        return Answer::error("400 Bad Request");
    }
    let text = web.command(AdminLevel::Admin, request.who(), &command).await;
    lines(&command, &text)
}

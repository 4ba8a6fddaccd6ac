//! argv -> subcommand -> exit code. What a subcommand does is in the library.

mod arguments;

use std::io::IsTerminal;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};

use shardgate::control::explain::Question;
use shardgate::control::explain_states::States;
use shardgate::control::vip::{bird, watch};
use shardgate::control::{self, ctl, ctl_prompt, load, replay};
use shardgate::model::Model;

use arguments::{Arguments, Command, Explained, Files, Gateways, Source, Transparent, Vip};

/// `show generations` tells what a generation holds.
#[global_allocator]
static ALLOCATOR: shardgate::rt::alloc::Counting = shardgate::rt::alloc::Counting;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().map(PathBuf::from).unwrap_or_default();
    if name.file_name().is_some_and(|name| name == "haproxy") {
        return control::haproxy::main(words);
    }
    match Arguments::parse().command {
        Command::Run { source, takeover } => run(&source, takeover),
        Command::Demo => control::demo(),
        Command::Check { source } => check(&source),
        Command::Plan { source, socket } => plan(&socket, &source),
        Command::Reload { socket, confirm, abort_if } => {
            let confirm = confirm.map(|time| format!(" confirm {time}")).unwrap_or_default();
            let condition = abort_if.map(|condition| format!(" abort-if {condition}")).unwrap_or_default();
            order(&socket, &format!("reload{confirm}{condition}"))
        }
        Command::Confirm { socket } => order(&socket, "confirm"),
        Command::Rollback { socket, generation } => {
            let generation = generation.map(|number| number.to_string()).unwrap_or_default();
            order(&socket, format!("rollback {generation}").trim_end())
        }
        Command::Explain { source, node, request, headers, src, sni, client_cert, body, frontend, json } => {
            if let Some(node) = &node {
                load::name_node(node);
            }
            let question = Question { request, headers, source: src, frontend, sni, ..Question::default() };
            explain(&source, question, (body.as_deref(), client_cert.as_deref()), json)
        }
        Command::Doctor { source, apply, sysctl_file, socket } => match load(&source) {
            Ok((model, ..)) => {
                control::doctor::run(&model, &control::doctor::Options { socket, apply, sysctl_file })
            }
            Err(code) => code,
        },
        Command::Transparent { action } => transparent(&action),
        Command::Gateways { action } => gateways(&action),
        Command::Vip { action } => vip(&action),
        Command::Assets { directory } => exit(assets(&directory).map_err(|e| e.to_string())),
        Command::Replay { log, source, host_capture, json } => {
            replay(&source, &log, replay::Options { host_capture }, json)
        }
        Command::Import { files, output } => import(&files, output.as_deref()),
        Command::Top { socket } => top(&socket),
        Command::Ctl { socket, commands } => control_client(&socket, &commands),
    }
}

impl Source {
    fn place(&self) -> load::Source {
        if let Some(node) = &self.node {
            load::name_node(node);
        }
        match &self.files.config {
            Some(path) => load::Source::Toml(path.clone()),
            None => load::Source::Haproxy(self.files.haproxy.clone()),
        }
    }
}

fn run(source: &Source, takeover: Option<PathBuf>) -> ExitCode {
    match load(source) {
        Ok((model, warnings, text)) => {
            let config = Some(control::Config { source: source.place(), text, maxconn: None });
            control::run(model, control::Options { warnings, config, takeover, ..Default::default() })
        }
        Err(code) => code,
    }
}

fn check(source: &Source) -> ExitCode {
    let model = match load(source) {
        Ok((model, ..)) => model,
        Err(code) => return code,
    };
    if let Err(reasons) = control::load::certificates(&model, None) {
        for reason in reasons.to_string().lines() {
            eprintln!("error: {reason}");
        }
        return ExitCode::FAILURE;
    }
    control::load::shared_addresses(&model).iter().for_each(|warning| eprintln!("{warning}"));
    println!("Configuration file is valid");
    ExitCode::SUCCESS
}

/// The body of a request, and the certificate of its client.
type Sent<'a> = (Option<&'a Path>, Option<&'a Path>);

fn explain(source: &Explained, question: Question, files: Sent<'_>, json: bool) -> ExitCode {
    match explained(source, question, files, json) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is explained; files: the body and the certificate of the client.
fn explained(
    source: &Explained,
    mut question: Question,
    (body, certificate): Sent<'_>,
    json: bool,
) -> Result<String, String> {
    let (model, states) = match &source.socket {
        Some(socket) => {
            let (text, states) = control::explain_states::running(socket)?;
            let (model, diagnostics) = load::from_text("running", &text)?;
            let errors: Vec<String> =
                diagnostics.iter().filter(|d| d.is_error()).map(ToString::to_string).collect();
            let model = model.ok_or_else(|| {
                format!("what runs there is not what would load here:\n{}", errors.join("\n"))
            })?;
            (model, states)
        }
        None => {
            let files = Files { config: source.config.clone(), haproxy: source.haproxy.clone() };
            let (model, ..) =
                load(&Source { files, node: None }).map_err(|_| "the configuration is wrong".to_owned())?;
            (model, States::default())
        }
    };
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
    question.body = body.map(read).transpose()?.unwrap_or_default();
    question.client_certificate = certificate.map(read).transpose()?;
    control::explain::run(model, &states, &question, json)
}

fn replay(source: &Source, log: &Path, options: replay::Options, json: bool) -> ExitCode {
    let model = match load(source) {
        Ok((model, ..)) => model,
        Err(code) => return code,
    };
    let file = || std::fs::File::open(log).map_err(|e| format!("cannot read {}: {e}", log.display()));
    let replayed = match log.as_os_str() == "-" {
        true => replay::run(model, std::io::stdin().lock(), options),
        false => file().and_then(|file| replay::run(model, std::io::BufReader::new(file), options)),
    };
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match json {
        true => println!("{}", serde_json::to_string_pretty(&replayed).unwrap_or_default()),
        false => print!("{}", replayed.text()),
    }
    ExitCode::from(if replayed.different == 0 { 0 } else { 2 })
}

/// Loads a configuration and prints what there is to say about it; the model, the number of warnings and the text.
fn load(source: &Source) -> Result<(Model, u64, Arc<str>), ExitCode> {
    let loaded = source.place().load().map_err(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })?;
    for diagnostic in &loaded.diagnostics {
        eprintln!("{diagnostic}");
    }
    let model = loaded.model.ok_or(ExitCode::FAILURE)?;
    Ok((model, loaded.diagnostics.len() as u64, loaded.text))
}

fn transparent(action: &Transparent) -> ExitCode {
    let plan = |source| load(source).map(|(model, ..)| control::transparent::plan(&model));
    let done = match action {
        Transparent::Remove => control::transparent::remove(),
        Transparent::Install { source } => match plan(source) {
            Ok(plan) => plan.install(),
            Err(code) => return code,
        },
        Transparent::Show { source } => match plan(source) {
            Ok(plan) => {
                print!("{}", plan.script());
                Ok(())
            }
            Err(code) => return code,
        },
    };
    exit(done)
}

fn gateways(action: &Gateways) -> ExitCode {
    exit(match action {
        Gateways::Remove => {
            control::gateways::remove();
            Ok(())
        }
        Gateways::Networkd { source } => match load(source) {
            Ok((model, ..)) => {
                print!("{}", control::gateways::networkd(&model));
                Ok(())
            }
            Err(code) => return code,
        },
        Gateways::Install { source } => match load(source) {
            Ok((model, ..)) => control::gateways::install(&model),
            Err(code) => return code,
        },
    })
}

fn vip(action: &Vip) -> ExitCode {
    exit(match action {
        Vip::Keepalived { source, directory } => match load(source) {
            Ok((model, ..)) => control::vip::keepalived_here(&model, directory).map(|text| print!("{text}")),
            Err(code) => return code,
        },
        Vip::Bird { source } => match load(source) {
            Ok((model, ..)) => bird::configuration(&model).map(|text| print!("{text}")),
            Err(code) => return code,
        },
        Vip::Watch { socket, bird, directory } => watch::watch(&watch::Options {
            socket: socket.clone(),
            bird: bird.clone(),
            directory: directory.clone(),
        }),
        Vip::Withdraw { bird } => watch::withdraw(bird),
        Vip::Check { watched: Some(directory), .. } if watch::is_watched(directory) => Ok(()),
        Vip::Check { name, serves, socket, watched: _ } => control::vip::check(socket, name, *serves),
        // keepalived speaks of instances alone: groups and their priorities are not ours.
        Vip::Notify { socket, name, role, kind: _, priority: _ } => control::vip::notify(socket, name, role),
    })
}

/// Everything that the package has from the definitions above.
fn assets(directory: &Path) -> std::io::Result<()> {
    use clap_complete::Shell;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Arguments::command(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Arguments::command(), "shardgate", &completions)?;
    }
    Ok(())
}

fn exit(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Exit code 0: nothing would change; 2: something would; 1: it cannot be told.
fn plan(socket: &std::path::Path, source: &Source) -> ExitCode {
    match control::plan::plan(socket, &source.place()) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(changes)) => {
            print!("{changes}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives a running process an order about its configuration.
fn order(socket: &std::path::Path, order: &str) -> ExitCode {
    let mut answer = Vec::new();
    if order.contains([';', '\n', '\\']) {
        eprintln!("error: ; and \\ have no place in a time or condition");
        return ExitCode::FAILURE;
    }
    if let Err(error) = ctl::run(socket, &[order.to_owned()], &mut answer) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let answer = String::from_utf8_lossy(&answer);
    // As HAProxy's master socket: what came of it, a line of two dashes, and what there is to say.
    match answer.trim_end().split_once("\n--\n") {
        Some(("Success=1", said)) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Some((_, said)) => {
            eprintln!("{said}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("error: {}", answer.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn import(files: &[PathBuf], output: Option<&Path>) -> ExitCode {
    let imported = match control::load::import(files) {
        Ok(imported) => imported,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let written = match output {
        Some(path) => std::fs::write(path, &imported.toml).map_err(|e| format!("{}: {e}", path.display())),
        None => write!(std::io::stdout(), "{}", imported.toml).map_err(|e| e.to_string()),
    };
    if let Err(error) = written {
        eprintln!("error: cannot write {error}");
        return ExitCode::FAILURE;
    }
    eprint!("{}", imported.report.text());
    let errors = control::load::check_import(&imported).unwrap_or_default();
    errors.iter().for_each(|error| eprintln!("{error}"));
    ExitCode::from(if errors.is_empty() { imported.report.exit_code() } else { 3 })
}

fn top(socket: &Path) -> ExitCode {
    match control::top::run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn control_client(socket: &std::path::Path, commands: &[String]) -> ExitCode {
    let mut out = std::io::stdout();
    let result = match commands {
        [] if std::io::stdin().is_terminal() => ctl_prompt::run(socket),
        [] => ctl::run_script(socket, &mut std::io::stdin(), &mut out),
        commands => ctl::run(socket, commands, &mut out),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

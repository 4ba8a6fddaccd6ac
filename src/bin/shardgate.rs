//! argv -> subcommand -> exit code. What a subcommand does is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use shardgate::control::{self, ctl};
use shardgate::model::Model;

/// A thread-per-core load balancer for TCP.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM (finishes what runs) or a second SIGINT (now)
    Run {
        /// Configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Start three origin servers with a proxy in front of them, and say what to try
    Demo,
    /// Say everything that is wrong with a configuration file
    Check {
        /// Configuration file
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Send commands to the admin socket of a running process and print its answers
    Ctl {
        /// Admin socket
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::DEFAULT_SOCKET)]
        socket: PathBuf,
        /// Commands, each one argument: 'show stat'; none: they are read from standard input, one a line
        commands: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Demo => control::demo(),
        Command::Check { config } => check(&config),
        Command::Ctl { socket, commands } => control_client(&socket, &commands),
    }
}

fn run(config: &std::path::Path) -> ExitCode {
    match load(config) {
        Ok((model, warnings)) => control::run(model, control::Options { warnings, ..Default::default() }),
        Err(code) => code,
    }
}

fn check(config: &std::path::Path) -> ExitCode {
    match load(config) {
        Ok(_) => {
            println!("Configuration file is valid");
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Loads a configuration and prints what there is to say about it; the model and the number of warnings.
fn load(config: &std::path::Path) -> Result<(Model, u64), ExitCode> {
    let (model, diagnostics) = control::load::load(config).map_err(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })?;
    for diagnostic in &diagnostics {
        eprintln!("{diagnostic}");
    }
    Ok((model.ok_or(ExitCode::FAILURE)?, diagnostics.len() as u64))
}

fn control_client(socket: &std::path::Path, commands: &[String]) -> ExitCode {
    let mut out = std::io::stdout();
    let result = match commands {
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

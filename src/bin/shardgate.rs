//! argv -> subcommand -> exit code. What a subcommand does is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use shardgate::control::{self, ctl};

/// A thread-per-core load balancer for TCP.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
        Command::Check { config } => check(&config),
        Command::Ctl { socket, commands } => control_client(&socket, &commands),
    }
}

fn check(config: &std::path::Path) -> ExitCode {
    let (model, diagnostics) = match control::load::load(config) {
        Ok(loaded) => loaded,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    for diagnostic in &diagnostics {
        eprintln!("{diagnostic}");
    }
    if model.is_none() {
        return ExitCode::FAILURE;
    }
    println!("Configuration file is valid");
    ExitCode::SUCCESS
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

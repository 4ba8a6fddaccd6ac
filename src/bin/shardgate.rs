//! argv -> subcommand -> exit code. What a subcommand does is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use shardgate::control;

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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check { config } => check(&config),
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

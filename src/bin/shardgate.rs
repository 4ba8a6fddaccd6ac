//! argv -> subcommand -> exit code.

fn main() {}

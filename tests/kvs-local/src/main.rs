//! The `kvs-local` command: a Kinesis Video Streams service on this machine, for demonstrations
//! and for programs in other languages.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("kvs-local: {error}");
            eprintln!("Try 'kvs-local --help'.");
            return ExitCode::from(2);
        }
    };
    let settings = match command {
        cli::args::Command::Help => {
            print!("{}", cli::args::HELP);
            return ExitCode::SUCCESS;
        }
        cli::args::Command::Version => {
            println!("kvs-local {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        cli::args::Command::Run(settings) => settings,
    };
    match cli::run::run(*settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvs-local: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The program `vestibule`: `serve` answers a few routes over every stage of the road, `replay` prints what the machine makes
//! of a byte file.

#![forbid(unsafe_code)]

mod args;
mod inspect;
mod live;
mod page;
mod replay;
mod routes;
mod serve;
mod upload;

use args::Command;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => return print(&args::help()),
        Ok(Command::Version) => return print(concat!("vestibule ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Serve(options)) => serve::run(&options),
        Ok(Command::Replay(options)) => replay::run(&options),
        Err(message) => {
            say(&format!("vestibule: {message}\n`vestibule --help` says what there is."));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&format!("vestibule: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// To the standard output; a reader that is gone (`vestibule replay x | head`) is no reason to panic.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

/// A line on the standard error stream.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

//! Servers on loopback under load, ours and their peers, in one run:
//! `cargo run --release -p vestibule-benches --features loopback --example loopback -- [--seconds 2] [--rounds 3] [--smoke] [--idle] [names..]`
//!
//! Each server is a process of its own (`loopback serve NAME`), loaded by `wrk` and `h2load`; tools that are missing are said and passed over.
//! One with a single thread has processor 0 for itself, and its load processor 1; the others share all with their load. Every load goes
//! through all names in turn, round by round. What is printed:
//!
//! - `CPU x`: the peer's CPU time for a request over ours, user and system, the median of the ratios of the rounds. More is better.
//! - `rate x`: our requests per second over the peer's, alike. Where the load's own processor is full, it says nothing of servers.
//! - `ns/request`, `requests/s`: medians. They say little about another machine, or day.
//!
//! Then what each connection holds that idles (`--idle`: that alone). `--smoke` asks every server for a moment whether it answers.

#![allow(clippy::print_stdout)]

mod child;
mod client;
mod counter;
mod floor;
mod identity;
mod idle;
mod load;
mod names;
mod peer;
mod serve;
mod smoke;
mod table;

use child::Server;
use identity::Identity;
use load::{Load, Loads, is_here};
use names::{Contender, Made, PEER};
use std::error::Error;
use std::time::Duration;
use table::Figures;

/// What was asked for.
struct Choices {
    seconds: Duration,
    rounds: usize,
    smoke: bool,
    idle: bool,
    contenders: Vec<Contender>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", name] => serve::serve(names::find(name)?, &Identity::new()?),
        ["serve", name, certificate, key] => {
            serve::serve(names::find(name)?, &Identity::from_arguments(certificate, key)?)
        }
        arguments => run(&choices(arguments)?),
    }
}

fn choices(arguments: &[&str]) -> Result<Choices, Box<dyn Error>> {
    let mut choices =
        Choices { seconds: Duration::from_secs(2), rounds: 3, smoke: false, idle: false, contenders: Vec::new() };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a number"));
        match *argument {
            "--seconds" => {
                let seconds = Duration::try_from_secs_f64(value()?.parse()?)?;
                choices.seconds = seconds.clamp(Duration::from_millis(100), Duration::from_secs(600));
            }
            "--rounds" => choices.rounds = value()?.parse::<usize>()?.clamp(1, 100),
            "--smoke" => choices.smoke = true,
            "--idle" => choices.idle = true,
            name => choices.contenders.push(names::find(name)?),
        }
    }
    if choices.contenders.is_empty() {
        choices.contenders = names::all();
    }
    if !choices.contenders.iter().any(|contender| contender.name == PEER) && !choices.smoke {
        choices.contenders.insert(0, names::find(PEER)?); // the ratios need it
    }
    Ok(choices)
}

fn run(choices: &Choices) -> Result<(), Box<dyn Error>> {
    let identity = Identity::new()?;
    let contenders = able(&choices.contenders, &identity)?;
    if choices.smoke {
        for contender in contenders {
            let answered = smoke::smoke(&mut Server::start(contender, &identity, None)?);
            let answered = answered.map_err(|error| format!("{}: {error}", contender.name))?;
            println!("{:<22} {answered} requests answered", contender.name);
        }
        return Ok(());
    }
    if !choices.idle {
        loads(choices, &contenders, &identity)?;
    }
    idle::run(&contenders, &identity)
}

/// Those that this machine can run. Only io_uring may be missing: then it is said why.
fn able(contenders: &[Contender], identity: &Identity) -> Result<Vec<Contender>, Box<dyn Error>> {
    let mut able = Vec::new();
    for contender in contenders {
        match Server::start(*contender, identity, None) {
            Ok(_) => able.push(*contender),
            Err(error) if matches!(contender.made, Made::Uring(_)) => {
                println!("{} is passed over: {error}", contender.name);
            }
            Err(error) => return Err(format!("{}: {error}", contender.name).into()),
        }
    }
    Ok(able)
}

fn loads(choices: &Choices, contenders: &[Contender], identity: &Identity) -> Result<(), Box<dyn Error>> {
    let all: Vec<_> = Load::ALL.iter().enumerate().filter(|(_, load)| is_here(load.tool())).collect();
    for load in Load::ALL.iter().filter(|load| !is_here(load.tool())) {
        println!("{} is passed over: {} is not installed", load.name(), load.tool());
    }
    if !is_here("taskset") {
        println!("taskset is not installed: nothing is pinned to a processor");
    }
    let (loads, mut figures) = (Loads::new(choices.seconds)?, Figures::default());
    for round in 1..=choices.rounds {
        let start = |contender: &Contender| Server::start(*contender, identity, loads.pins(contender.is_single()).0);
        let mut servers = contenders.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        for (place, load) in &all {
            for server in servers.iter_mut().filter(|server| load.fits(server)) {
                let name = server.contender.name;
                let figure = loads.measure(**load, server);
                if let Err(error) = &figure {
                    println!("round {round}, {}, {name}: {error}", load.name());
                }
                figures.add(*place, name, figure.ok());
            }
        }
    }
    figures.against_the_peer(contenders);
    figures.against_the_usual(contenders);
    Ok(())
}

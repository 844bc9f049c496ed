//! Against the peers, in one run: `cargo bench`.
//!
//! Every case of a group runs in turn, round by round, on recorded bytes in memory; there is no socket and no kernel in it.
//! What is printed:
//!
//! - `ns` or `GB/s`: the median over all rounds, in CPU time of the thread. It says little about another machine, or day.
//! - `ratio`: its time over that of the first case, the median of the ratios of the rounds. This is the figure to quote.
//! - `instructions`: counted by `valgrind --tool=callgrind` if it is installed. Under valgrind a library may choose older kernels
//!   than it does here, so those of TLS are for comparing revisions.
//! - `allocations`: exact. Where there must be none, one fails the run.
//!
//! `VESTIBULE_BENCH_SMOKE=1` makes all of it a matter of seconds, to see that it works. `cargo bench --bench roads -- WORD` runs
//! the groups whose name contains the word.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod codings;
mod encoding;
mod forms;
mod h2;
mod json;
mod measure;
mod plain;
mod protobuf;
mod tls;

use measure::{Effort, Group};

/// The groups of one file each. What they work on is made only when they are wanted: under valgrind that takes its time.
const FAMILIES: [fn() -> Vec<Group>; 8] = [
    plain::groups,
    h2::groups,
    tls::groups,
    codings::groups,
    encoding::groups,
    json::groups,
    forms::groups,
    protobuf::groups,
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, family, group, case, n] = &arguments[..]
        && flag == "--count"
    {
        let family: usize = family.parse().expect("a place");
        return measure::count(&FAMILIES[family](), group, case, n.parse().expect("a count"));
    }
    let mut effort = Effort::of_environment();
    if !effort.valgrind {
        println!("valgrind is not installed: instructions are not counted");
    }
    if cfg!(not(nghttp2)) {
        println!("libnghttp2-dev was not there when this was built: nghttp2 is left out");
    }
    let wanted = arguments.iter().find(|a| !a.starts_with('-')).map_or("", |a| a);
    for (family, groups) in FAMILIES.iter().enumerate() {
        effort.family = family;
        for group in groups().iter().filter(|g| g.name.contains(wanted)) {
            measure::run(group, effort);
            effort.valgrind &= !effort.smoke; // to see that it works, one is enough
        }
    }
}

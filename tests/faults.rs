//! What happens when memory runs out (ENG-06, P-15): in every scene each allocation fails once, and then all from it on.
//!
//! An allocation that cannot fail aborts the process on stable Rust, so the scenes are played by children of this test: the same program,
//! told by a variable what to play and from which allocation on. A child says which one it is about to refuse; if it dies, the next
//! child goes on behind that one, and the list of all deaths is what fails the test.
//!
//! Of what survives is asked: no panic; whoever waits is told, or nothing was amiss; the connection can be dropped, and nothing is leaked;
//! another connection of the same configuration gets what it always gets.
#![cfg(all(feature = "tls", feature = "br", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

#[path = "faults/exceptions.rs"]
mod exceptions;
#[path = "faults/failing.rs"]
mod failing;
#[path = "faults/readers.rs"]
mod readers;
#[path = "faults/road.rs"]
mod road;
#[path = "faults/scenes.rs"]
mod scenes;
#[path = "faults/tls.rs"]
mod tls;
#[path = "faults/wires.rs"]
mod wires;

use std::io::Write;
use std::process::{Command, Output};

use exceptions::EXCEPTIONS;
use failing::Mode;
use scenes::{SCENES, Scene, Seen};

/// What a child is to play: scene, mode, and the first allocation.
const ORDER: &str = "VESTIBULE_FAULTS";

/// What was found of a scene.
#[derive(Default)]
struct Report {
    allocations: u64,
    /// Which allocation could not be refused: what the child said as it died.
    failures: Vec<(u64, String)>,
    spared: [u64; EXCEPTIONS.len()],
}

#[test]
fn whatever_allocation_fails_nobody_dies_of_it() {
    if std::env::var_os(ORDER).is_some() {
        return;
    }
    let (mut failures, mut spared) = (Vec::new(), [0; EXCEPTIONS.len()]);
    for scene in SCENES {
        for &mode in scene.modes {
            let report = play(scene, mode);
            let (count, failed) = (report.allocations, report.failures.len());
            println!("{:24} {:8} {count:4} allocations, {failed} failures", scene.name, format!("{mode:?}"));
            spared.iter_mut().zip(report.spared).for_each(|(all, some)| *all += some);
            failures.extend(report.failures.into_iter().map(|(at, said)| (scene, mode, at, said)));
        }
    }
    for (scene, mode, at, said) in &failures {
        println!("\n{} {mode:?}, allocation {at}: {said}", scene.name);
        // Where it was made; later ones than the first that fails can only be met after a failure.
        print!("{}", child(scene, Mode::Trace, *at).1);
    }
    assert!(failures.is_empty(), "{} failures: make them fallible, or explain them in exceptions.rs", failures.len());
    for (exception, count) in EXCEPTIONS.iter().zip(spared) {
        println!("{count:4} times {} under {}: {}", exception.inside, exception.under, exception.reason);
        assert!(count > 0, "nothing needs this exception any more: {exception:?}");
    }
}

/// Every allocation of a scene, by as many children as it takes.
fn play(scene: &Scene, mode: Mode) -> Report {
    let mut report = Report::default();
    let mut from = 1;
    loop {
        let (output, text) = child(scene, mode, from);
        let said = |key: &str| text.lines().rev().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        if output.status.success() {
            report.allocations = said("@done ").parse().expect("a number");
            let counts = said("@spared ").split(' ');
            report.spared.iter_mut().zip(counts).for_each(|(n, text)| *n += text.parse().unwrap_or(0));
            return report;
        }
        let at: u64 = said("@at ").parse().unwrap_or_else(|_| panic!("{}: no child: {text}", scene.name));
        let last = text.lines().filter(|line| !line.starts_with("@at ")).take(12).collect::<Vec<_>>().join("\n");
        report.failures.push((at, last));
        assert!(report.failures.len() < 200, "{}: not even the last {:?}", scene.name, report.failures.last());
        from = at + 1;
    }
}

/// Runs a child to its end, and what it said.
fn child(scene: &Scene, mode: Mode, from: u64) -> (Output, String) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "a_child_plays", "--nocapture", "--test-threads=1"]);
    let output = command.env(ORDER, format!("{}|{mode:?}|{from}", scene.name)).output().expect("a child");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, text)
}

/// Said at once, whatever becomes of the process.
fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).expect("somebody listens");
}

/// In a child of the test above: plays what it was told. By itself: nothing.
#[test]
fn a_child_plays() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let mut words = order.split('|');
    let name = words.next().expect("a scene");
    let mode = match words.next() {
        Some("Onward") => Mode::Onward,
        Some("Trace") => Mode::Trace,
        _ => Mode::Once,
    };
    let from: u64 = words.next().and_then(|word| word.parse().ok()).expect("an allocation");
    let scene = SCENES.iter().find(|scene| scene.name == name).expect("a scene of that name");
    let mut stage = (scene.make)();
    let mut output = Vec::with_capacity(1 << 21);
    if mode == Mode::Trace {
        failing::begin(mode, from, false);
        stage(&mut output);
        failing::end();
        let frames = failing::trace().map(|trace| exceptions::frames(&trace)).unwrap_or_default();
        let own = frames.iter().rposition(|frame| frame.contains("failing::Failing")).unwrap_or(0);
        frames.iter().skip(own + 1).take(16).for_each(|frame| say(&format!("    {frame}\n")));
        return;
    }
    // Whatever is set up once, by whomever, is set up by now; then what is normal.
    stage(&mut output);
    failing::begin(Mode::Count, 0, false);
    let normal = stage(&mut output);
    failing::end();
    let mut at = from;
    loop {
        say(&format!("@at {at}\n"));
        let base = failing::live();
        failing::begin(mode, at, scene.sparing);
        let seen = stage(&mut output);
        let count = failing::end();
        let case = || format!("{name} {mode:?}, allocation {at}");
        assert_eq!(failing::live(), base, "{}: bytes are leaked; {seen:?}", case());
        if count < at {
            break;
        }
        seen.judge(&normal, &output).unwrap_or_else(|why| panic!("{}: {why}\n{seen:?}\nbut {normal:?}", case()));
        failing::begin(Mode::Count, 0, false);
        let sibling: Seen = stage(&mut output);
        failing::end();
        assert_eq!(sibling, normal, "{}: what came behind it", case());
        at += 1;
    }
    let spared: Vec<String> = failing::spared().iter().map(u64::to_string).collect();
    say(&format!("@spared {}\n@done {}\n", spared.join(" "), at - 1));
}

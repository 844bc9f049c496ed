//! In: cases that do the same work. Out: a table of what each one costs, and by how much, in one run.

use cpu_time::ThreadTime;
use std::cell::Cell;
use std::process::Command;

/// Work that is ready to be done, once: the set-up is not measured.
pub(crate) type Work = Box<dyn FnMut()>;

/// One way to do the work of a group.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Makes the work of so many operations.
    pub(crate) make: Box<dyn Fn(usize) -> Work>,
    /// It may not allocate. That is counted, not timed, and so it is asserted.
    pub(crate) no_allocations: bool,
}

impl Case {
    pub(crate) fn new(name: &'static str, make: impl Fn(usize) -> Work + 'static) -> Case {
        Case { name, make: Box::new(make), no_allocations: false }
    }

    pub(crate) fn without_allocations(self) -> Case {
        Case { no_allocations: true, ..self }
    }
}

/// Cases that are compared. The first one is what the others are measured by.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Operations in one round.
    pub(crate) count: usize,
    /// Operations that come together: a round has a multiple of them.
    pub(crate) batch: usize,
    /// Bytes of content in one operation, if throughput says more than time.
    pub(crate) bytes: Option<usize>,
    pub(crate) cases: Vec<Case>,
}

/// How much is measured.
#[derive(Copy, Clone)]
pub(crate) struct Effort {
    pub(crate) smoke: bool,
    pub(crate) rounds: usize,
    pub(crate) valgrind: bool,
    /// Where the group stands in the list of families.
    pub(crate) family: usize,
}

impl Effort {
    pub(crate) fn of_environment() -> Effort {
        let smoke = std::env::var_os("VESTIBULE_BENCH_SMOKE").is_some_and(|v| !v.is_empty() && v != "0");
        let valgrind = Command::new("valgrind").arg("--version").output().is_ok_and(|o| o.status.success());
        Effort { smoke, rounds: if smoke { 3 } else { 31 }, valgrind, family: 0 }
    }

    fn count(self, group: &Group) -> usize {
        let n = if self.smoke { (group.count / 64).max(8) } else { group.count };
        n.next_multiple_of(group.batch)
    }
}

/// Where the work is done. Callgrind counts between its entry and its return, by this name.
#[inline(never)]
pub(crate) fn measured_region(work: &mut dyn FnMut()) {
    work();
    std::hint::black_box(());
}

/// Runs every case in turn, round by round, and prints the group.
pub(crate) fn run(group: &Group, mut effort: Effort) {
    let n = effort.count(group);
    let mut times = vec![Vec::new(); group.cases.len()];
    for round in 0..=effort.rounds {
        for (case, times) in group.cases.iter().zip(&mut times) {
            let mut work = (case.make)(n);
            let start = ThreadTime::now();
            measured_region(&mut work);
            let nanos = start.elapsed().as_nanos() as f64 / n as f64;
            if round > 0 {
                times.push(nanos); // the first one warms up
            }
        }
    }
    let unit = if group.bytes.is_some() { "GB/s" } else { "ns" };
    println!("\n{}", group.name);
    println!("  {:<34} {unit:>8} {:>8} {:>13} {:>12}", "", "ratio", "instructions", "allocations");
    for (case, own) in group.cases.iter().zip(&times) {
        let ratio = median(own.iter().zip(&times[0]).map(|(own, first)| own / first));
        let nanos = median(own.iter().copied());
        let figure = group.bytes.map_or(nanos, |bytes| bytes as f64 / nanos);
        let allocations = allocations(case, n);
        let instructions = instructions(group, case, effort).map_or("-".into(), |i| format!("{i:.0}"));
        println!("  {:<34} {figure:>8.1} {ratio:>8.2} {instructions:>13} {allocations:>12.2}", case.name);
        effort.valgrind &= !effort.smoke; // to see that it works, one is enough
        assert!(!case.no_allocations || allocations == 0.0, "{}: {} allocates", group.name, case.name);
    }
}

/// Allocations of one operation. What is there only once, such as a connection's buffers, is divided among them.
fn allocations(case: &Case, n: usize) -> f64 {
    let mut work = (case.make)(n);
    let before = FOREIGN.get();
    let counted = allocation_counter::measure(|| measured_region(&mut work));
    (counted.count_total + FOREIGN.get() - before) as f64 / n as f64
}

thread_local! {
    static FOREIGN: Cell<u64> = const { Cell::new(0) };
}

/// A library that does not allocate through Rust has done so.
#[cfg(nghttp2)]
pub(crate) fn allocated() {
    FOREIGN.set(FOREIGN.get() + 1);
}

/// Instructions of one operation: this program once more under callgrind, which counts in [`measured_region`] alone.
fn instructions(group: &Group, case: &Case, effort: Effort) -> Option<f64> {
    if !effort.valgrind {
        return None;
    }
    // Twice, and the difference, so that what a run costs once does not count.
    let base = if effort.smoke { 8_usize } else { 64 }.next_multiple_of(group.batch);
    let run = |count: usize| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .args(["--collect-atstart=no", "--toggle-collect=*measured_region*"])
            .arg(std::env::current_exe().ok()?)
            .args(["--count", &effort.family.to_string(), group.name, case.name, &count.to_string()])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find_map(|l| l.split_once("Collected : "))?;
        line.1.trim().parse::<f64>().ok()
    };
    let counts = [run(base), run(3 * base)];
    match counts {
        [Some(less), Some(more)] => Some((more - less) / (2 * base) as f64),
        _ => None,
    }
}

/// What `--count` asks for: does the work of one case and says nothing.
pub(crate) fn count(groups: &[Group], group: &str, case: &str, n: usize) {
    let group = groups.iter().find(|g| g.name == group).expect("a group of that name");
    let case = group.cases.iter().find(|c| c.name == case).expect("a case of that name");
    let mut work = (case.make)(n);
    measured_region(&mut work);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

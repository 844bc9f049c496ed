//! In: a snapshot. Out: the text that Prometheus reads (exposition format 0.0.4): each family with its HELP and TYPE, then its samples.

use super::Unit;
use super::histogram::Distribution;
use super::snapshot::{CLASSES, PoolCounts, Snapshot, Stage, StageCounts, ThreadCounts};
use std::fmt::Write;
use std::time::Duration;

/// What stands in front of every name.
const PREFIX: &str = "vestibule_";

/// All of it.
pub(crate) fn text(snapshot: &Snapshot) -> String {
    let mut page = Page { text: String::with_capacity(16 << 10) };
    page.gauge("uptime_seconds", "Time since the server was bound.", &[], snapshot.at.as_secs_f64());
    connections(&mut page, snapshot);
    requests(&mut page, snapshot);
    stages(&mut page, snapshot);
    threads(&mut page, &snapshot.threads);
    pools(&mut page, &snapshot.pools);
    queues(&mut page, snapshot);
    for gauge in &snapshot.gauges {
        page.gauge(gauge.name, gauge.help, &[], gauge.value);
    }
    page.text
}

struct Page {
    text: String,
}

type Labels<'a> = [(&'a str, &'a str)];

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {PREFIX}{name} ");
        for c in help.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
        let _ = writeln!(self.text, "\n# TYPE {PREFIX}{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &Labels<'_>, value: f64) {
        let _ = write!(self.text, "{PREFIX}{name}");
        for (place, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if place == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        number(&mut self.text, value);
        self.text.push('\n');
    }

    fn gauge(&mut self, name: &str, help: &str, labels: &Labels<'_>, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, labels, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value as f64);
    }

    /// One sample for each of `all`, with its label.
    fn each<T>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        all: &[T],
        tell: impl Fn(&T) -> (&'static str, String, f64),
    ) {
        if all.is_empty() {
            return;
        }
        self.family(name, kind, help);
        for one in all {
            let (label, of, value) = tell(one);
            self.sample(name, &[(label, &of)], value);
        }
    }

    fn histogram(&mut self, name: &str, labels: &Labels<'_>, values: &Distribution) {
        let scale = if values.unit == Unit::Nanos { 1e-9 } else { 1.0 };
        let bucket = format!("{name}_bucket");
        for (bound, upto) in values.cumulative() {
            let mut le = String::new();
            number(&mut le, bound as f64 * scale);
            self.sample(&bucket, &[labels, &[("le", &le)]].concat(), upto as f64);
        }
        let count = values.count() as f64;
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample(&format!("{name}_sum"), labels, values.sum as f64 * scale);
        self.sample(&format!("{name}_count"), labels, count);
    }
}

/// As Go's ParseFloat takes it, which reads what Rust writes but for the infinities.
fn number(text: &mut String, value: f64) {
    let _ = match value {
        v if v == f64::INFINITY => write!(text, "+Inf"),
        v if v == f64::NEG_INFINITY => write!(text, "-Inf"),
        v => write!(text, "{v}"),
    };
}

fn connections(page: &mut Page, snapshot: &Snapshot) {
    let connections = &snapshot.connections;
    page.counter("connections_accepted_total", "Connections accepted.", connections.accepted);
    page.gauge("connections_open", "Connections that are open.", &[], connections.open as f64);
    let ended = [("closed", connections.closed), ("reset", connections.reset), ("cut", connections.cut)];
    let family =
        ("connections_ended_total", "counter", "Connections that ended: closed, reset by the peer, cut off by us.");
    page.each(family, &ended, |&(how, n)| ("how", how.into(), n as f64));
}

fn requests(page: &mut Page, snapshot: &Snapshot) {
    let [old, new] = snapshot.requests;
    let family = ("requests_total", "counter", "Requests that began.");
    page.each(family, &[("HTTP/1", old), ("HTTP/2", new)], |&(version, n)| ("version", version.into(), n as f64));
    let classes: Vec<_> = CLASSES.into_iter().zip(snapshot.responses).collect();
    let family = ("responses_total", "counter", "Responses whose head was made, interim ones included.");
    page.each(family, &classes, |&(class, n)| ("class", class.into(), n as f64));
    for (name, help, values) in [
        (
            "request_duration_seconds",
            "From a request's head to the end of its answer, as it is made.",
            &snapshot.durations,
        ),
        ("service_duration_seconds", "Each call of the service.", &snapshot.services),
        ("turn_duration_seconds", "Each turn of a connection, its service included.", &snapshot.turns),
        ("read_size_bytes", "Bytes that came at a time.", &snapshot.reads),
    ] {
        page.family(name, "histogram", help);
        page.histogram(name, &[], values);
    }
    let family = ("faults_total", "counter", "Rules that peers broke.");
    page.each(family, &snapshot.faults, |&(rule, n)| ("rule", rule.into(), n as f64));
    page.counter("timeouts_total", "Those of the broken rules that are about time.", snapshot.timeouts);
    page.counter("requests_refused_total", "Requests answered 503 because a pool was full.", snapshot.refused);
    page.counter("panics_total", "Services that panicked.", snapshot.panics);
}

fn stages(page: &mut Page, snapshot: &Snapshot) {
    let all: Vec<(Stage, StageCounts)> = Stage::ALL.into_iter().zip(snapshot.stages).collect();
    type Tell = fn(&StageCounts) -> f64;
    let families: [(&str, &str, &str, Tell); 5] = [
        ("stage_seconds_total", "counter", "Time of threads that a stage took.", |s| s.time.as_secs_f64()),
        ("stage_bytes_total", "counter", "Bytes that went through a stage.", |s| s.bytes as f64),
        ("stage_operations_total", "counter", "How often a stage had something to do.", |s| s.count as f64),
        ("stage_queue_depth", "gauge", "What waits for a stage now.", |s| s.queue as f64),
        ("stage_queue_depth_max", "gauge", "What waited for a stage at most.", |s| s.queue_most as f64),
    ];
    for (name, kind, help, tell) in families {
        page.each((name, kind, help), &all, |(stage, counts)| ("stage", stage.name().into(), tell(counts)));
    }
}

fn threads(page: &mut Page, threads: &[ThreadCounts]) {
    type Tell = fn(&ThreadCounts) -> Duration;
    let families: [(&str, &str, Tell); 3] = [
        ("thread_cpu_seconds_total", "Processor time of a thread, in the kernel too.", |thread| thread.cpu),
        ("thread_busy_seconds_total", "Time that a thread worked.", |thread| thread.busy),
        ("thread_waiting_seconds_total", "Time that a thread waited.", |thread| thread.waiting),
    ];
    for (name, help, tell) in families {
        page.each((name, "counter", help), threads, |thread| ("thread", thread.name(), tell(thread).as_secs_f64()));
    }
}

fn pools(page: &mut Page, pools: &[PoolCounts]) {
    type Tell = fn(&PoolCounts) -> u64;
    let families: [(&str, &str, &str, Tell); 7] = [
        ("pool_threads", "gauge", "Threads of a pool.", |pool| pool.threads),
        ("pool_busy", "gauge", "Threads of a pool that work now.", |pool| pool.busy),
        ("pool_queue_depth", "gauge", "Tasks that wait for a pool now.", |pool| pool.queued),
        ("pool_queue_depth_max", "gauge", "Tasks that waited for a pool at most.", |pool| pool.queued_most),
        ("pool_queue_capacity", "gauge", "Tasks that may wait for a pool.", |pool| pool.capacity),
        ("pool_tasks_total", "counter", "Tasks that a pool took.", |pool| pool.taken),
        ("pool_refused_total", "counter", "Tasks that found a pool full.", |pool| pool.refused),
    ];
    for (name, kind, help, tell) in families {
        page.each((name, kind, help), pools, |pool| ("pool", pool.name.into(), tell(pool) as f64));
    }
    if !pools.is_empty() {
        page.family("pool_wait_seconds", "histogram", "How long tasks waited for a pool.");
        pools.iter().for_each(|pool| page.histogram("pool_wait_seconds", &[("pool", pool.name)], &pool.wait));
    }
}

fn queues(page: &mut Page, snapshot: &Snapshot) {
    let queues = &snapshot.accept_queues;
    let family = ("accept_queue_depth", "gauge", "Connections that wait to be accepted now.");
    page.each(family, queues, |queue| ("listener", queue.name.clone(), queue.waiting as f64));
    let family = (
        "accept_queue_depth_max",
        "gauge",
        "Connections that waited to be accepted at most, as far as it was looked at.",
    );
    page.each(family, queues, |queue| ("listener", queue.name.clone(), queue.waiting_most as f64));
    let family = ("accept_queue_capacity", "gauge", "Connections that may wait to be accepted.");
    page.each(family, queues, |queue| ("listener", queue.name.clone(), queue.capacity as f64));
    if let Some(overflows) = snapshot.overflows {
        let help = "Connections for which the kernel had no room, in the whole system since its start.";
        page.counter("accept_overflows_total", help, overflows);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::super::histogram::Histogram;
    use super::super::meter::Role;
    use super::super::snapshot::{Gauge, QueueCounts};
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    type Sample = (String, BTreeMap<String, String>, f64);

    /// Reads the format, and takes nothing that it does not allow: families in one piece with HELP and TYPE in front, names and escapes as
    /// they have to be, no sample twice, counters ending in `_total` and not negative, buckets that grow and agree with their count.
    pub(crate) fn strict(text: &str) -> Result<Vec<Sample>, String> {
        let (mut samples, mut seen, mut done) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let (mut family, mut kind, mut help) = (String::new(), String::new(), None::<String>);
        if !text.ends_with('\n') {
            return Err("the last line has no end".into());
        }
        for line in text.lines() {
            let wrong = |why: &str| Err(format!("{why}: {line}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').ok_or("HELP says nothing")?;
                if help.is_some() || text.is_empty() || !escapes(text, "\\n") {
                    return wrong("HELP");
                }
                help = Some(name.into());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, is) = rest.split_once(' ').ok_or("TYPE says nothing")?;
                if help.take().as_deref() != Some(name) || !done.insert(name.to_string()) || !is_name(name, true) {
                    return wrong("TYPE");
                }
                if !["counter", "gauge", "histogram"].contains(&is) || (is == "counter") != name.ends_with("_total") {
                    return wrong("the kind does not go with the name");
                }
                (family, kind) = (name.into(), is.into());
            } else {
                let sample = sample(line)?;
                let suffix = sample.0.strip_prefix(&family).unwrap_or("?");
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                if !suffixes.contains(&suffix) || (suffix == "_bucket") != sample.1.contains_key("le") {
                    return wrong("not of its family");
                }
                if !seen.insert((sample.0.clone(), sample.1.clone())) {
                    return wrong("twice");
                }
                if kind != "gauge" && (sample.2.is_nan() || sample.2 < 0.0) {
                    return wrong("a count below 0");
                }
                samples.push(sample);
            }
        }
        buckets(&samples)?;
        Ok(samples)
    }

    /// Each histogram's buckets grow, end with `+Inf`, and agree with its count; and it has a sum.
    fn buckets(samples: &[Sample]) -> Result<(), String> {
        let mut last: BTreeMap<(String, BTreeMap<String, String>), (f64, f64)> = BTreeMap::new();
        for (name, labels, value) in samples {
            if let Some(name) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let le = labels.remove("le").unwrap_or_default();
                let le = if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| format!("le {le}"))? };
                let before = last.insert((name.into(), labels), (le, *value));
                if before.is_some_and(|(bound, upto)| bound >= le || upto > *value) {
                    return Err(format!("the buckets of {name} do not grow at {le}"));
                }
            }
        }
        for ((name, labels), (le, upto)) in last {
            let find = |suffix: &str| samples.iter().find(|s| s.0 == format!("{name}{suffix}") && s.1 == labels);
            let count = find("_count").ok_or(format!("{name} has no count"))?.2;
            if le != f64::INFINITY || count != upto || find("_sum").is_none() {
                return Err(format!("{name} does not agree with its count {count}"));
            }
        }
        Ok(())
    }

    fn is_name(name: &str, metric: bool) -> bool {
        let mut chars = name.chars();
        let first = |c: char| c.is_ascii_alphabetic() || c == '_' || metric && c == ':';
        chars.next().is_some_and(first) && chars.all(|c| first(c) || c.is_ascii_digit())
    }

    /// Backslashes only stand in front of themselves and of these.
    fn escapes(text: &str, more: &str) -> bool {
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c == '\\' && !chars.next().is_some_and(|c| more.contains(c)) {
                return false;
            }
        }
        true
    }

    fn sample(line: &str) -> Result<Sample, String> {
        let wrong = |why: &str| format!("{why}: {line}");
        let end = line.find(['{', ' ']).ok_or(wrong("no value"))?;
        let (name, mut rest) = line.split_at(end);
        if !is_name(name, true) {
            return Err(wrong("name"));
        }
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, quoted) = rest.split_once("=\"").ok_or(wrong("label"))?;
                let mut value = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next().ok_or(wrong("open quote"))? {
                        (at, '"') => break at,
                        (_, '\\') => value.push(match chars.next().ok_or(wrong("escape"))?.1 {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            _ => return Err(wrong("escape")),
                        }),
                        (_, c) => value.push(c),
                    }
                };
                if !is_name(label, false) || labels.insert(label.to_string(), value).is_some() {
                    return Err(wrong("label"));
                }
                rest = &quoted[end + 1..];
                match rest.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => break,
                }
            }
            rest = rest.strip_prefix('}').ok_or(wrong("}"))?;
        }
        let value = rest.strip_prefix(' ').ok_or(wrong("no space"))?;
        let value = match value {
            "+Inf" => f64::INFINITY,
            "-Inf" => f64::NEG_INFINITY,
            text => text.parse().map_err(|_| wrong("value"))?,
        };
        Ok((name.into(), labels, value))
    }

    /// Something of everything.
    pub(crate) fn full() -> Snapshot {
        let mut snapshot = Snapshot::new();
        snapshot.at = Duration::from_millis(12_500);
        (snapshot.requests, snapshot.timeouts) = ([3, 4], 2);
        snapshot.responses = [1, 5, 0, 2, 0];
        let histogram = Histogram::new(Unit::Nanos);
        [100, 5_000, 5_000, u64::MAX >> 8].into_iter().for_each(|nanos| histogram.record(nanos));
        histogram.read_into(&mut snapshot.durations);
        snapshot.faults = vec![("HeadTimeout", 2), ("BareLf", 1)];
        let busy = Duration::from_secs(1);
        for (role, number) in [(Role::Worker, 0), (Role::Worker, 1), (Role::Pool("crypto"), 0)] {
            snapshot.threads.push(ThreadCounts {
                role,
                number,
                busy,
                waiting: busy,
                cpu: busy,
                ready: 1,
                ready_most: 2,
            });
        }
        let mut pool = PoolCounts { threads: 1, refused: 9, ..PoolCounts::new("crypto") };
        histogram.read_into(&mut pool.wait);
        snapshot.pools = vec![pool, PoolCounts::new("decode")];
        let name = "a \"quoted\\\npath\"".to_string();
        snapshot.accept_queues = vec![QueueCounts { name, waiting: 1, waiting_most: 2, capacity: 3 }];
        snapshot.overflows = Some(5);
        snapshot.gauges = vec![Gauge { name: "mood", help: "A back\\slash\nand a line.", value: f64::NAN }];
        snapshot.at_stage(Stage::Process, |stage| (stage.time, stage.bytes) = (busy, 77));
        snapshot
    }

    #[test]
    fn all_of_it_is_in_the_format_and_says_what_was_counted() {
        let text = text(&full());
        let samples = strict(&text).unwrap();
        let get = |name: &str, label: &str, value: &str| {
            let wanted = |s: &&Sample| s.0 == name && (label.is_empty() || s.1.get(label).is_some_and(|v| v == value));
            samples.iter().find(wanted).map(|sample| sample.2)
        };
        assert_eq!(get("vestibule_requests_total", "version", "HTTP/2"), Some(4.0));
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| get("vestibule_responses_total", "class", class));
        assert_eq!(classes, [1.0, 5.0, 0.0, 2.0, 0.0].map(Some));
        assert_eq!(get("vestibule_stage_seconds_total", "stage", "process"), Some(1.0));
        assert_eq!(get("vestibule_stage_bytes_total", "stage", "process"), Some(77.0));
        assert_eq!(get("vestibule_faults_total", "rule", "BareLf"), Some(1.0));
        assert_eq!(get("vestibule_thread_busy_seconds_total", "thread", "crypto 0"), Some(1.0));
        assert_eq!(get("vestibule_pool_refused_total", "pool", "crypto"), Some(9.0));
        assert_eq!(get("vestibule_accept_queue_depth_max", "listener", "a \"quoted\\\npath\""), Some(2.0));
        assert_eq!(get("vestibule_accept_overflows_total", "", ""), Some(5.0));
        assert_eq!(get("vestibule_request_duration_seconds_count", "", ""), Some(4.0));
        assert_eq!(get("vestibule_request_duration_seconds_bucket", "le", "0.000001024"), Some(1.0));
        assert_eq!(get("vestibule_request_duration_seconds_bucket", "le", "0.000008192"), Some(3.0));
        assert_eq!(get("vestibule_pool_wait_seconds_bucket", "le", "+Inf"), Some(4.0));
        assert!(get("vestibule_mood", "", "").is_some_and(f64::is_nan));
        assert!(text.contains("# HELP vestibule_mood A back\\\\slash\\nand a line.\n"));
    }

    #[test]
    fn an_empty_server_is_in_the_format_too() {
        assert!(strict(&text(&Snapshot::new())).is_ok());
    }

    #[test]
    fn the_reader_is_strict() {
        let head = "# HELP a_total x\n# TYPE a_total counter\n";
        for (wrong, text) in [
            ("no end", "# HELP a x".to_string()),
            ("TYPE without HELP", "# TYPE a gauge\na 1\n".into()),
            ("counter without _total", "# HELP a x\n# TYPE a counter\na 1\n".into()),
            ("twice", format!("{head}a_total 1\na_total 2\n")),
            ("other family", format!("{head}b_total 1\n")),
            ("negative", format!("{head}a_total -1\n")),
            ("label", format!("{head}a_total{{0a=\"x\"}} 1\n")),
            ("escape", format!("{head}a_total{{a=\"\\x\"}} 1\n")),
            ("no value", format!("{head}a_total\n")),
            ("family again", format!("{head}a_total 1\n{head}a_total{{b=\"c\"}} 1\n")),
            ("no count", "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n".into()),
            (
                "shrinks",
                "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"
                    .into(),
            ),
        ] {
            assert!(strict(&text).is_err(), "{wrong}");
        }
        assert!(strict(&format!("{head}a_total{{b=\"c\\n\\\\\\\"\"}} 1\n")).is_ok());
    }
}

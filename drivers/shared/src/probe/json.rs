//! In: two snapshots. Out: the later one as a JSON object, with rates and shares of the time between them.

use super::bottleneck::Bottleneck;
use super::histogram::Distribution;
use super::snapshot::{CLASSES, PoolCounts, QueueCounts, Snapshot, Stage, ThreadCounts};
use std::fmt::Write;

/// All of it.
///
/// ```text
/// { "at": 12.5, "window": 1.0,
///   "bottleneck": { "what": "worker 0", "stage": "process", "why": ".." },
///   "requests": { "total": 7, "per_second": 3, "p50": 0.000002, .. }, "connections": { .. },
///   "responses": [ { "class": "1xx", "total": 0, "per_second": 0 }, { "class": "2xx", .. }, .. ],
///   "stages": [ { "name": "accept", "share": 0.1, "seconds": .., "bytes_per_second": .., "queue": 0, "queue_most": 3, .. }, .. ],
///   "threads": [ { "name": "worker 0", "busy": 0.98 }, .. ], "pools": [ .. ], "accept_queues": [ .. ], "faults": { "BareLf": 1 } }
/// ```
pub(crate) fn text(before: &Snapshot, now: &Snapshot) -> String {
    let mut out = Object(String::with_capacity(8 << 10), false);
    let window = now.at.saturating_sub(before.at).as_secs_f64();
    let rate = |now: u64, before: u64| {
        if window > 0.0 { now.saturating_sub(before) as f64 / window } else { 0.0 }
    };
    out.0.push('{');
    out.number("at", now.at.as_secs_f64());
    out.number("window", window);
    let Bottleneck { what, stage, why } = Bottleneck::between(before, now);
    out.object("bottleneck", |out| {
        out.string("what", &what.to_string());
        match stage {
            Some(stage) => out.string("stage", stage.name()),
            None => out.raw("stage", "null"),
        }
        out.string("why", &why);
    });
    totals(&mut out, before, now, &rate);
    let shares = now.shares(before);
    let stages =
        Stage::ALL.into_iter().zip(shares).map(|(stage, share)| (stage, share, now.stage(stage), before.stage(stage)));
    out.list("stages", stages, |out, (stage, share, counts, earlier)| {
        out.string("name", stage.name());
        out.number("share", share);
        out.number("seconds", counts.time.as_secs_f64());
        out.number("bytes", counts.bytes as f64);
        out.number("bytes_per_second", rate(counts.bytes, earlier.bytes));
        out.number("count", counts.count as f64);
        out.number("per_second", rate(counts.count, earlier.count));
        out.number("queue", counts.queue as f64);
        out.number("queue_most", counts.queue_most as f64);
    });
    out.list("threads", &now.threads, |out, thread: &ThreadCounts| {
        out.string("name", &thread.name());
        out.number("busy", now.utilisation(before, thread));
    });
    out.list("pools", &now.pools, |out, pool: &PoolCounts| {
        out.string("name", pool.name);
        out.number("busy", now.utilisation_of_pool(before, pool.name));
        let counts = [("threads", pool.threads), ("queue", pool.queued), ("queue_most", pool.queued_most)];
        let more = [("capacity", pool.capacity), ("tasks", pool.taken), ("refused", pool.refused)];
        counts.into_iter().chain(more).for_each(|(name, n)| out.number(name, n as f64));
        let earlier = before.pools.iter().find(|other| other.name == pool.name);
        quantiles(out, "wait_", &earlier.map_or(pool.wait, |earlier| pool.wait.since(&earlier.wait)));
    });
    out.list("accept_queues", &now.accept_queues, |out, queue: &QueueCounts| {
        out.string("name", &queue.name);
        let counts = [("waiting", queue.waiting), ("waiting_most", queue.waiting_most), ("capacity", queue.capacity)];
        counts.into_iter().for_each(|(name, n)| out.number(name, n as f64));
    });
    if let Some(overflows) = now.overflows {
        out.number("overflows", overflows as f64);
    }
    out.object("faults", |out| now.faults.iter().for_each(|&(rule, n)| out.number(rule, n as f64)));
    out.number("timeouts", now.timeouts as f64);
    out.number("panics", now.panics as f64);
    out.object("gauges", |out| now.gauges.iter().for_each(|gauge| out.number(gauge.name, gauge.value)));
    out.0.push('}');
    out.0
}

/// Requests, responses and connections, all of them together.
fn totals(out: &mut Object, before: &Snapshot, now: &Snapshot, rate: &dyn Fn(u64, u64) -> f64) {
    out.object("requests", |out| {
        let [total, earlier] = [now, before].map(|s| s.requests.iter().sum());
        out.number("total", total as f64);
        out.number("http2", now.requests[1] as f64);
        out.number("per_second", rate(total, earlier));
        out.number("refused", now.refused as f64);
        quantiles(out, "", &now.durations.since(&before.durations));
        quantiles(out, "service_", &now.services.since(&before.services));
    });
    let classes = CLASSES.into_iter().zip(now.responses.into_iter().zip(before.responses));
    out.list("responses", classes, |out, (class, (total, earlier))| {
        out.string("class", class);
        out.number("total", total as f64);
        out.number("per_second", rate(total, earlier));
    });
    out.object("connections", |out| {
        let (c, earlier) = (&now.connections, &before.connections);
        let all =
            [("accepted", c.accepted), ("open", c.open), ("closed", c.closed), ("reset", c.reset), ("cut", c.cut)];
        all.into_iter().for_each(|(name, n)| out.number(name, n as f64));
        out.number("per_second", rate(c.accepted, earlier.accepted));
    });
}

/// In seconds.
fn quantiles(out: &mut Object, prefix: &str, values: &Distribution) {
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        match values.quantile(part) {
            Some(bound) => out.number(&format!("{prefix}{name}"), bound as f64 * 1e-9),
            None => out.raw(&format!("{prefix}{name}"), "null"),
        }
    }
}

/// The text so far, and whether the next member needs a comma.
struct Object(String, bool);

impl Object {
    fn name(&mut self, name: &str) {
        if self.1 {
            self.0.push(',');
        }
        self.quote(name);
        self.0.push(':');
        self.1 = true;
    }

    fn quote(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => {
                    self.0.push('\\');
                    self.0.push(c);
                }
                c if c < ' ' => drop(write!(self.0, "\\u{:04x}", c as u32)),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push_str(value);
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quote(value);
    }

    /// JSON has no number that is none.
    fn number(&mut self, name: &str, value: f64) {
        self.name(name);
        let _ = if value.is_finite() { write!(self.0, "{value}") } else { write!(self.0, "null") };
    }

    fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object)) {
        self.name(name);
        self.braces(fill);
    }

    fn braces(&mut self, fill: impl FnOnce(&mut Object)) {
        self.0.push('{');
        self.1 = false;
        fill(self);
        self.0.push('}');
        self.1 = true;
    }

    fn list<T>(&mut self, name: &str, all: impl IntoIterator<Item = T>, fill: impl Fn(&mut Object, T)) {
        self.name(name);
        self.0.push('[');
        for (place, one) in all.into_iter().enumerate() {
            if place > 0 {
                self.0.push(',');
            }
            self.braces(|out| fill(out, one));
        }
        self.0.push(']');
        self.1 = true;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::prometheus::tests::full;
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    #[test]
    fn it_is_json_and_says_rates_and_shares_of_the_time_between() {
        let (before, mut now) = (full(), full());
        now.at += Duration::from_secs(2);
        now.requests = [13, 14];
        now.responses[3] += 5;
        now.at_stage(Stage::Read, |stage| (stage.time, stage.bytes) = (Duration::from_millis(300), 5_000));
        now.at_stage(Stage::Process, |stage| stage.time += Duration::from_millis(100));
        now.threads[1].busy += Duration::from_secs(1);
        let value: Value = serde_json::from_str(&text(&before, &now)).unwrap();
        assert_eq!((&value["at"], &value["window"]), (&json!(14.5), &json!(2)));
        assert_eq!((&value["requests"]["total"], &value["requests"]["per_second"]), (&json!(27), &json!(10)));
        assert_eq!(value["responses"][1], json!({"class": "2xx", "total": 5, "per_second": 0}));
        assert_eq!(value["responses"][3], json!({"class": "4xx", "total": 7, "per_second": 2.5}));
        let stage =
            |name: &str| value["stages"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone();
        assert_eq!((&stage("read")["share"], &stage("read")["bytes_per_second"]), (&json!(0.75), &json!(2_500)));
        assert_eq!((&stage("process")["share"], &stage("process")["bytes"]), (&json!(0.25), &json!(77)));
        assert_eq!(value["threads"][1], json!({"name": "worker 1", "busy": 0.5}));
        assert_eq!((&value["pools"][0]["name"], &value["pools"][0]["wait_p50"]), (&json!("crypto"), &Value::Null));
        assert_eq!(value["accept_queues"][0]["name"], "a \"quoted\\\npath\"");
        assert_eq!((&value["faults"]["BareLf"], &value["gauges"]["mood"]), (&json!(1), &Value::Null));
        assert_eq!((&value["bottleneck"]["what"], &value["bottleneck"]["stage"]), (&json!("none"), &Value::Null));
    }

    #[test]
    fn a_first_look_is_json_too() {
        let nothing = Snapshot::new();
        let value: Value = serde_json::from_str(&text(&nothing, &nothing)).unwrap();
        assert_eq!((&value["window"], value["stages"].as_array().map(Vec::len)), (&json!(0), Some(8)));
    }
}

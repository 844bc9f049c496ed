//! In: what the probe found. Out: the part of the page that shows it: as a table that stands by itself, and which `live.js` keeps new.

use crate::page::escape;
use serde_json::Value;
use std::fmt::Write;

/// What the page runs.
pub(crate) const SCRIPT: &str = include_str!("live.js");

/// The stages: their names as the probe has them, and what they do.
const STAGES: [(&str, &str); 8] = [
    ("accept", "takes connections from the kernel's queue; beyond the cap they wait there"),
    ("read", "bytes land in one buffer; heads, bodies and readers that are too slow are given up"),
    ("decrypt", "TLS records are opened in the place where they lie"),
    ("parse", "HTTP/1.1 and HTTP/2, strictly; a broken rule is named and answered once"),
    ("decode", "gzip, deflate, brotli and zstd under caps; gathered bodies"),
    ("process", "the routes of this program"),
    ("write", "answers go back, as fast as they are taken"),
    ("machine", "what a turn takes beyond its stages"),
];

/// The probe's JSON as a part of the page; `None`: there is no probe.
pub(crate) fn live(page: &mut String, probe: Option<&Value>, about: &str) {
    let Some(probe) = probe else {
        page.push_str("<p>Nothing is measured: the probe is off (<code>--no-probe</code>).</p>\n");
        return stages(page, &Value::Null);
    };
    page.push_str("<p class=\"verdict\" id=\"verdict\">Bottleneck: <b data-key=\"what\">");
    escape(page, text(probe, "/bottleneck/what"));
    page.push_str("</b><br><span data-key=\"why\">");
    escape(page, text(probe, "/bottleneck/why"));
    page.push_str("</span></p>\n<p id=\"totals\">");
    for (name, place, unit) in [
        ("requests", "/requests/per_second", " requests/s"),
        ("p50", "/requests/p50", " half of them within"),
        ("p99", "/requests/p99", " 99 % within"),
        ("open", "/connections/open", " connections open"),
        ("refused", "/requests/refused", " refused"),
    ] {
        let value = probe.pointer(place).unwrap_or(&Value::Null);
        let value = if name.starts_with('p') { seconds(value.as_f64()) } else { short(value.as_f64().unwrap_or(0.0)) };
        let _ = match name.starts_with('p') {
            true => write!(page, "<span>{unit} <b data-key=\"{name}\">{value}</b></span> "),
            false => write!(page, "<span><b data-key=\"{name}\">{value}</b>{unit}</span> "),
        };
    }
    page.push_str("</p>\n");
    responses(page, probe);
    stages(page, probe);
    page.push_str("<div class=\"pair\">\n");
    crews(page, "threads", "Threads", probe);
    crews(page, "pools", "Pools", probe);
    page.push_str("</div>\n<p class=\"small\">");
    escape(page, about);
    page.push_str(
        ". What is shown is of the time since somebody last looked: about a second on a page that is alive<span id=\"alive\"></span>. \
         The same for Prometheus: <a href=\"/metrics\">/metrics</a>; as JSON: <a href=\"/probe.json\">/probe.json</a>.</p>\n",
    );
}

/// What was answered, by the class of its status: now, and since the server was bound, since an error is seldom.
fn responses(page: &mut String, probe: &Value) {
    page.push_str("<p id=\"responses\">Responses:");
    for one in probe["responses"].as_array().map_or(&[][..], Vec::as_slice) {
        let class = text(one, "/class");
        let [now, all] = ["per_second", "total"].map(|key| short(one[key].as_f64().unwrap_or(0.0)));
        let _ = write!(
            page,
            " <span>{class} <b data-class=\"{class}\">{now}</b>/s of <b data-total=\"{class}\">{all}</b></span>"
        );
    }
    page.push_str("</p>\n");
}

fn stages(page: &mut String, probe: &Value) {
    page.push_str(
        "<div class=\"wide\"><table id=\"stages\"><thead><tr><th>stage<th class=\"share\">share of the time<th class=\"n\">bytes/s\
         <th class=\"n\">done/s<th class=\"n\">queue<th class=\"n\">most<th class=\"does\">what it does</thead>\n<tbody>\n",
    );
    let all = probe["stages"].as_array().map_or(&[][..], Vec::as_slice);
    let worst = text(probe, "/bottleneck/stage");
    for (name, does) in STAGES {
        let stage = all.iter().find(|stage| stage["name"] == name).unwrap_or(&Value::Null);
        let number = |key: &str| stage[key].as_f64().unwrap_or(0.0);
        let class = if worst == name { " class=\"hot\"" } else { "" };
        let _ = write!(page, "<tr data-stage=\"{name}\"{class}><td>{name}<td class=\"share\">");
        meter(page, number("share"));
        for key in ["bytes_per_second", "per_second", "queue", "queue_most"] {
            let _ = write!(page, "<td class=\"n\" data-key=\"{key}\">{}", short(number(key)));
        }
        let _ = writeln!(page, "<td class=\"does\">{does}");
    }
    page.push_str("</tbody></table></div>\n");
}

/// Threads, or pools, and how busy they are.
fn crews(page: &mut String, key: &str, title: &str, probe: &Value) {
    let all = probe[key].as_array().map_or(&[][..], Vec::as_slice);
    let hidden = if all.is_empty() { " hidden" } else { "" };
    let _ = write!(page, "<table id=\"{key}\"{hidden}><thead><tr><th>{title}<th class=\"share\">busy");
    let queues = key == "pools";
    page.push_str(if queues { "<th class=\"n\">queue<th class=\"n\">most<th class=\"n\">refused" } else { "" });
    page.push_str("</thead>\n<tbody>\n");
    for one in all {
        page.push_str("<tr><td>");
        escape(page, text(one, "/name"));
        page.push_str("<td class=\"share\">");
        meter(page, one["busy"].as_f64().unwrap_or(0.0));
        for key in if queues { &["queue", "queue_most", "refused"][..] } else { &[] } {
            let _ = write!(page, "<td class=\"n\">{}", short(one[*key].as_f64().unwrap_or(0.0)));
        }
        page.push('\n');
    }
    page.push_str("</tbody></table>\n");
}

/// A bar, and the same in words.
fn meter(page: &mut String, part: f64) {
    let part = part.clamp(0.0, 1.0);
    let _ = write!(page, "<meter max=\"1\" value=\"{part:.3}\"></meter> <span>{:.0} %</span>", part * 100.0);
}

fn text<'a>(value: &'a Value, place: &str) -> &'a str {
    value.pointer(place).and_then(Value::as_str).unwrap_or("")
}

/// A number in a few characters; `live.js` does the same.
fn short(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1}G", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n if n >= 1e4 => format!("{:.1}k", n / 1e3),
        n if n >= 10.0 || n == n.trunc() => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

/// Seconds, in the unit that fits.
fn seconds(n: Option<f64>) -> String {
    match n {
        None => "-".into(),
        Some(n) if n >= 1.0 => format!("{n:.1} s"),
        Some(n) if n >= 1e-3 => format!("{:.1} ms", n * 1e3),
        Some(n) => format!("{:.0} µs", n * 1e6),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_found_stands_on_the_page_without_any_script() {
        let probe = json!({
            "bottleneck": {"what": "worker <0>", "stage": "process", "why": "it is & stays busy"},
            "requests": {"per_second": 12_345, "p50": 0.000016384, "p99": null, "refused": 0},
            "connections": {"open": 3},
            "responses": [{"class": "2xx", "total": 1_234_567, "per_second": 12_345}, {"class": "5xx", "total": 1, "per_second": 0}],
            "stages": [{"name": "process", "share": 0.618, "bytes_per_second": 2_500_000, "per_second": 0.5, "queue": 7, "queue_most": 9}],
            "threads": [{"name": "worker 0", "busy": 0.98}],
            "pools": [{"name": "process", "busy": 1.0, "queue": 7, "queue_most": 9, "refused": 1}],
        });
        let mut page = String::new();
        live(&mut page, Some(&probe), "driver std");
        for shown in [
            "Bottleneck: <b data-key=\"what\">worker &lt;0&gt;</b>",
            "it is &amp; stays busy",
            "<b data-key=\"requests\">12.3k</b> requests/s",
            "Responses: <span>2xx <b data-class=\"2xx\">12.3k</b>/s of <b data-total=\"2xx\">1.2M</b></span> \
             <span>5xx <b data-class=\"5xx\">0</b>/s of <b data-total=\"5xx\">1</b></span></p>",
            "half of them within <b data-key=\"p50\">16 µs</b>",
            "99 % within <b data-key=\"p99\">-</b>",
            "<tr data-stage=\"process\" class=\"hot\"><td>process<td class=\"share\"><meter max=\"1\" value=\"0.618\"></meter> <span>62 %</span>\
             <td class=\"n\" data-key=\"bytes_per_second\">2.5M<td class=\"n\" data-key=\"per_second\">0.5<td class=\"n\" data-key=\"queue\">7",
            "<tr><td>worker 0<td class=\"share\"><meter max=\"1\" value=\"0.980\"></meter> <span>98 %</span>",
            "<tr><td>process<td class=\"share\"><meter max=\"1\" value=\"1.000\"></meter> <span>100 %</span><td class=\"n\">7<td class=\"n\">9<td class=\"n\">1",
        ] {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        assert_eq!(page.matches("data-stage").count(), 8);
        let mut off = String::new();
        live(&mut off, None, "");
        assert!(off.contains("--no-probe") && off.matches("data-stage").count() == 8);
    }

    #[test]
    fn numbers_are_short() {
        for (n, is) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.25, "0.2"),
            (12.6, "13"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
            (3.25e9, "3.2G"),
        ] {
            assert_eq!(short(n), is);
        }
        assert_eq!([0.00002, 0.0123, 12.0].map(|n| seconds(Some(n))), ["20 µs", "12.3 ms", "12.0 s"]);
    }
}

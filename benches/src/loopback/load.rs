//! In: a server. Out: what a request costs it under a load, and how many there were, in the middle of the load's time.

use crate::child::{Server, command};
use std::error::Error;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long it runs on behind that, at least.
const TAIL: Duration = Duration::from_millis(100);
/// How much longer than asked a tool may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests that come together on one connection.
const PIPELINED: &str = "init = function(args)
  local all = {}
  for i = 1, 16 do all[i] = wrk.format(nil, '/') end
  all = table.concat(all)
  request = function() return all end
end
";

/// A kind of load.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Load {
    Http1,
    Pipelined,
    Http1Tls,
    H2c,
    Http2Tls,
    New,
    NewTls,
}

/// Which program makes it.
const WRK: &str = "wrk";
const H2LOAD: &str = "h2load";

impl Load {
    pub(crate) const ALL: [Load; 7] =
        [Load::Http1, Load::Pipelined, Load::Http1Tls, Load::H2c, Load::Http2Tls, Load::New, Load::NewTls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Http1 => "HTTP/1.1, 64 connections",
            Load::Pipelined => "HTTP/1.1 pipelined by 16",
            Load::Http1Tls => "HTTP/1.1 over TLS",
            Load::H2c => "h2c, 8 connections by 32",
            Load::Http2Tls => "HTTP/2 over TLS",
            Load::New => "new connections",
            Load::NewTls => "new TLS connections",
        }
    }

    pub(crate) fn tool(self) -> &'static str {
        if matches!(self, Load::H2c | Load::Http2Tls) { H2LOAD } else { WRK }
    }

    fn is_tls(self) -> bool {
        matches!(self, Load::Http1Tls | Load::Http2Tls | Load::NewTls)
    }

    /// Can it be served by that server?
    pub(crate) fn fits(self, server: &Server) -> bool {
        server.contender.is_complete() || matches!(self, Load::Http1 | Load::Pipelined | Load::New)
    }
}

/// What was measured.
#[derive(Copy, Clone)]
pub(crate) struct Figure {
    pub(crate) nanos: f64,
    pub(crate) rate: f64,
}

/// What makes loads. Its script goes with it.
pub(crate) struct Loads {
    script: PathBuf,
    seconds: Duration,
    has_taskset: bool,
}

impl Loads {
    /// Loads that are measured for so long. What is missing on this machine is said.
    pub(crate) fn new(seconds: Duration) -> std::io::Result<Loads> {
        let script = std::env::temp_dir().join(format!("vestibule-loopback-{}.lua", std::process::id()));
        std::fs::write(&script, PIPELINED)?;
        Ok(Loads { script, seconds, has_taskset: is_here("taskset") })
    }

    /// Where a server and its load run: on a processor each, if the server has one thread.
    pub(crate) fn pins(&self, single: bool) -> (Option<usize>, Option<usize>) {
        if single && self.has_taskset { (Some(0), Some(1)) } else { (None, None) }
    }

    /// Measures one load. What its tool complains of is an error.
    pub(crate) fn measure(&self, load: Load, server: &mut Server) -> Result<Figure, Box<dyn Error>> {
        let mut tool = Tool(self.command(load, server)?.spawn()?, Instant::now());
        sleep(WARM_UP);
        let (begun, before) = (Instant::now(), server.used()?);
        sleep(self.seconds);
        let (elapsed, after) = (begun.elapsed(), server.used()?);
        let said = tool.end(self.length() + PATIENCE)?;
        if let Some(line) = complaint(&said) {
            return Err(line.into());
        }
        let requests = after.requests.saturating_sub(before.requests);
        if requests == 0 {
            return Err("nothing was answered".into());
        }
        let nanos = after.cpu_nanos.saturating_sub(before.cpu_nanos) as f64 / requests as f64;
        Ok(Figure { nanos, rate: requests as f64 / elapsed.as_secs_f64() })
    }

    /// wrk counts whole seconds.
    fn length(&self) -> Duration {
        let least = WARM_UP + self.seconds + TAIL;
        Duration::from_secs(least.as_secs() + u64::from(least.subsec_nanos() > 0))
    }

    fn command(&self, load: Load, server: &Server) -> Result<Command, Box<dyn Error>> {
        let (port, scheme) = if load.is_tls() { (server.tls, "https") } else { (Some(server.plain), "http") };
        let url = format!("{scheme}://127.0.0.1:{}/", port.ok_or("it has no TLS")?);
        let mut command = command(load.tool(), self.pins(server.contender.is_single()).1);
        if load.tool() == WRK {
            command.args(["-t1", "-c64", &format!("-d{}s", self.length().as_secs())]);
            match load {
                Load::Pipelined => drop(command.arg("-s").arg(&self.script)),
                Load::New | Load::NewTls => drop(command.args(["-H", "Connection: close"])),
                _ => {}
            }
        } else {
            let length = (WARM_UP + self.seconds + TAIL).as_millis();
            command.args(["-c8", "-m32", "-t1", &format!("-D{length}ms")]);
        }
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.script);
    }
}

/// Is there a program of that name?
pub(crate) fn is_here(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok()
}

/// A running tool. It ends when it is dropped.
struct Tool(Child, Instant);

impl Tool {
    /// What it says, once it has ended by itself. It says little: a pipe holds it all.
    fn end(&mut self, most: Duration) -> Result<String, Box<dyn Error>> {
        let Tool(child, begun) = self;
        while child.try_wait()?.is_none() {
            if begun.elapsed() > most {
                return Err("the load does not end".into());
            }
            sleep(Duration::from_millis(10));
        }
        let (mut said, outputs) = (String::new(), (child.stdout.take(), child.stderr.take()));
        if let (Some(mut output), Some(mut errors)) = outputs {
            std::io::Read::read_to_string(&mut output, &mut said)?;
            std::io::Read::read_to_string(&mut errors, &mut said)?;
        }
        Ok(said)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

/// The line with which a tool says that something went wrong.
fn complaint(said: &str) -> Option<&str> {
    let number = |line: &str, word: &str| {
        let before = line.split(',').find(|part| part.contains(word))?;
        before.split_whitespace().find_map(|text| text.parse::<u64>().ok())
    };
    said.lines().map(str::trim).find(|line| {
        let wrk = line.starts_with("Socket errors") || line.starts_with("Non-2xx") || line.starts_with("unable to");
        let requests = line.starts_with("requests:")
            && ["failed", "errored", "timeout"].iter().any(|word| number(line, word) != Some(0));
        let codes =
            line.starts_with("status codes:") && ["3xx", "4xx", "5xx"].iter().any(|word| number(line, word) != Some(0));
        wrk || requests || codes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_of_a_good_run_is_no_complaint() {
        let wrk = "  2 threads and 64 connections\n  Latency 1.00ms\n  66 requests in 1.00s, 8.80KB read\nRequests/sec: 66.00\n";
        assert_eq!(complaint(wrk), None);
        let h2load = "requests: 66 total, 66 started, 66 done, 66 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 66 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(complaint(h2load), None);
    }

    #[test]
    fn whatever_was_not_answered_is_a_complaint() {
        let good = "requests: 66 total, 66 started, 66 done, 66 succeeded, 0 failed, 0 errored, 0 timeout";
        for bad in [
            "Socket errors: connect 0, read 1, write 0, timeout 0",
            "Non-2xx or 3xx responses: 66",
            "unable to connect to 127.0.0.1:1 Connection refused",
            "requests: 66 total, 66 started, 60 done, 50 succeeded, 10 failed, 0 errored, 0 timeout",
            "requests: 66 total, 66 started, 60 done, 50 succeeded, 0 failed, 10 errored, 0 timeout",
            "status codes: 50 2xx, 0 3xx, 0 4xx, 16 5xx",
        ] {
            assert_eq!(complaint(&format!("{good}\n  {bad}\n")), Some(bad));
        }
    }
}

//! In: a contender. Out: its server in a process of its own, and what it has used so far.

use crate::identity::Identity;
use crate::names::Contender;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A server. It ends when it is dropped.
pub(crate) struct Server {
    pub(crate) contender: Contender,
    pub(crate) plain: u16,
    /// None if it has no TLS.
    pub(crate) tls: Option<u16>,
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a server has used and done since it began.
#[derive(Copy, Clone)]
pub(crate) struct Used {
    pub(crate) cpu_nanos: u64,
    pub(crate) requests: u64,
    pub(crate) resident_kib: u64,
}

/// A program, on one processor if `pinned` says which.
pub(crate) fn command(program: &str, pinned: Option<usize>) -> Command {
    match pinned {
        Some(processor) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &processor.to_string(), program]);
            command
        }
        None => Command::new(program),
    }
}

impl Server {
    /// Starts it, on one processor if `pinned` says which.
    pub(crate) fn start(
        contender: Contender,
        identity: &Identity,
        pinned: Option<usize>,
    ) -> Result<Server, Box<dyn Error>> {
        let program = std::env::current_exe()?;
        let mut process = command(program.to_str().ok_or("a path that is no text")?, pinned)
            .args(["serve", contender.name])
            .args(identity.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err("pipes were asked for".into()) };
        let output = BufReader::new(output);
        let mut server = Server { contender, plain: 0, tls: None, process, input, output };
        let [plain, tls] = server.line()?;
        server.plain = u16::try_from(plain)?;
        server.tls = Some(u16::try_from(tls)?).filter(|port| *port > 0);
        Ok(server)
    }

    /// What it has used so far.
    pub(crate) fn used(&mut self) -> Result<Used, Box<dyn Error>> {
        self.input.write_all(b"\n")?;
        let [cpu_nanos, requests, resident_kib] = self.line()?;
        Ok(Used { cpu_nanos, requests, resident_kib })
    }

    fn line<const N: usize>(&mut self) -> Result<[u64; N], Box<dyn Error>> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let numbers: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let name = self.contender.name;
        numbers?.try_into().map_err(|_| format!("{name} does not answer as a server of this program").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

//! In: the words of the command line. Out: what to do, or what is wrong with them.
//!
//! The flags of `serve` are one table, from which they are read and explained: a new one is one more entry.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use vestibule_driver::trust::Trust;
use vestibule_driver::{HandOut, Offload, Topology};

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut text = "\
vestibule: the road of a request, from ciphertext to a decoded value

  vestibule [serve] [FLAGS]
      Serves until SIGINT or SIGTERM.
"
    .to_string();
    for flag in SERVE {
        let name = format!("{} {}", flag.name, flag.value);
        // The first line stands beside the flag, the others below.
        for (line, words) in flag.help.lines().enumerate() {
            let left = if line == 0 { name.trim_end() } else { "" };
            text += &format!("      {left:<22} {words}\n");
        }
    }
    text + "\
      Both ports speak HTTP/1.1 and HTTP/2; TLS agrees on one of them by ALPN. To try HTTP/2:
        curl --http2-prior-knowledge http://127.0.0.1:8080/hello
        curl -k --http2 https://127.0.0.1:8443/hello
      The page at / shows where the time goes, /metrics says it to Prometheus.

  vestibule replay FILE [--tls-off] [--split N]
      Feeds a file to the machine and prints its events and its output. `-` reads the standard input.
      A file that begins with a TLS record goes to a TLS connection.
      --tls-off              not so: it is HTTP, whatever it begins with
      --split N              N bytes at a time

  vestibule --help, vestibule --version
"
}

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Version,
    Serve(Box<Serve>),
    Replay(Replay),
}

/// The drivers that there are; a build may be without some of them.
pub(crate) const DRIVERS: [&str; 3] = ["std", "tokio", "uring"];

/// What was chosen for `serve`. `None`: as the builder has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Serve {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// Files of the certificate chain and its key.
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) driver: &'static str,
    pub(crate) topology: Topology,
    pub(crate) workers: Option<usize>,
    pub(crate) threads: Option<usize>,
    pub(crate) pin: bool,
    pub(crate) reuse_port: bool,
    pub(crate) backlog: Option<usize>,
    pub(crate) connections: Option<usize>,
    pub(crate) per_source: Option<usize>,
    pub(crate) defer_accept: Option<usize>,
    pub(crate) fast_open: Option<usize>,
    /// Plain HTTP at a Unix socket as well.
    pub(crate) unix: Option<PathBuf>,
    /// The control socket for restarts.
    pub(crate) handover: Option<PathBuf>,
    /// Whose PROXY headers are believed.
    pub(crate) trust: Trust,
    pub(crate) hand_out: Option<HandOut>,
    pub(crate) offload: Offload,
    pub(crate) pool_threads: Option<usize>,
    pub(crate) queue: Option<usize>,
    /// Responses are coded where their clients accept it.
    pub(crate) compress: bool,
    pub(crate) probe: bool,
}

impl Default for Serve {
    fn default() -> Serve {
        let [http, https] = [8080, 8443].map(|port| ([127, 0, 0, 1], port).into());
        Serve {
            http,
            https,
            cert: None,
            key: None,
            driver: "std",
            topology: Topology::default(),
            workers: None,
            threads: None,
            pin: false,
            reuse_port: false,
            backlog: None,
            connections: None,
            per_source: None,
            defer_accept: None,
            fast_open: None,
            unix: None,
            handover: None,
            trust: Trust::nobody(),
            hand_out: None,
            offload: Offload::NONE,
            pool_threads: None,
            queue: None,
            compress: true,
            probe: true,
        }
    }
}

/// One flag of `serve`.
struct Flag {
    name: &'static str,
    /// What its value is called; empty if it has none.
    value: &'static str,
    help: &'static str,
    /// Takes the value, or says what is wrong with it.
    set: fn(&mut Serve, &str) -> Result<(), String>,
}

const SERVE: &[Flag] = &[
    Flag {
        name: "--http",
        value: "ADDR",
        help: "plain HTTP here (127.0.0.1:8080; port 0: any)",
        set: |serve, text| address(text).map(|addr| serve.http = addr),
    },
    Flag {
        name: "--https",
        value: "ADDR",
        help: "TLS here (127.0.0.1:8443; port 0: any)",
        set: |serve, text| address(text).map(|addr| serve.https = addr),
    },
    Flag {
        name: "--cert",
        value: "PEM",
        help: "the certificate chain, with --key (a certificate for localhost, made at start)",
        set: |serve, text| {
            serve.cert = Some(text.into());
            Ok(())
        },
    },
    Flag {
        name: "--key",
        value: "PEM",
        help: "its key",
        set: |serve, text| {
            serve.key = Some(text.into());
            Ok(())
        },
    },
    Flag {
        name: "--driver",
        value: "NAME",
        help: "std, tokio or uring (std)",
        set: |serve, text| {
            let known = DRIVERS.into_iter().find(|name| *name == text);
            known.map(|name| serve.driver = name).ok_or(format!("there is no such driver, but {}", DRIVERS.join(", ")))
        },
    },
    Flag {
        name: "--topology",
        value: "NAME",
        help: "single    one thread does everything\n\
               workers   independent workers (this one)\n\
               acceptor  one thread accepts for the workers\n\
               stages    a thread for each stage\n\
               threads   a blocking thread for each connection",
        set: |serve, text| named(text).map(|topology| serve.topology = topology),
    },
    Flag {
        name: "--workers",
        value: "N",
        help: "workers of `workers` and `acceptor` (one a processor)",
        set: |serve, text| number(text).map(|n| serve.workers = Some(n)),
    },
    Flag {
        name: "--threads",
        value: "N",
        help: "threads of `threads` at most (512)",
        set: |serve, text| number(text).map(|n| serve.threads = Some(n)),
    },
    Flag {
        name: "--pin",
        value: "",
        help: "each worker stays on one processor",
        set: |serve, _| {
            serve.pin = true;
            Ok(())
        },
    },
    Flag {
        name: "--reuseport",
        value: "",
        help: "each of the `workers` listens by itself (SO_REUSEPORT)",
        set: |serve, _| {
            serve.reuse_port = true;
            Ok(())
        },
    },
    Flag {
        name: "--backlog",
        value: "N",
        help: "connections that may wait to be accepted (1024)",
        set: |serve, text| number(text).map(|n| serve.backlog = Some(n)),
    },
    Flag {
        name: "--connections",
        value: "N",
        help: "open connections at most; beyond it they wait (10000)",
        set: |serve, text| number(text).map(|n| serve.connections = Some(n)),
    },
    Flag {
        name: "--per-source",
        value: "N",
        help: "open connections of one address at most; loopback is not counted (256)",
        set: |serve, text| number(text).map(|n| serve.per_source = Some(n)),
    },
    Flag {
        name: "--defer-accept",
        value: "SECONDS",
        help: "Linux: a connection is accepted when its first bytes are there, or after so long",
        set: |serve, text| number(text).map(|n| serve.defer_accept = Some(n)),
    },
    Flag {
        name: "--fast-open",
        value: "N",
        help: "Linux: so many connections may send data with their SYN (TCP Fast Open)",
        set: |serve, text| number(text).map(|n| serve.fast_open = Some(n)),
    },
    Flag {
        name: "--unix",
        value: "PATH",
        help: "plain HTTP at this Unix socket as well",
        set: |serve, text| {
            serve.unix = Some(text.into());
            Ok(())
        },
    },
    Flag {
        name: "--trust",
        value: "LIST",
        help: "connections from these addresses begin with a PROXY header:\n10.0.0.0/8, 2001:db8::1, unix",
        set: |serve, text| {
            serve.trust = text.parse().map_err(|error: vestibule_driver::trust::TrustError| error.to_string())?;
            Ok(())
        },
    },
    Flag {
        name: "--handover",
        value: "PATH",
        help: "Linux: a control socket for restarts. The next one started with it takes the\nlistening sockets over, and this one drains: no connection is refused",
        set: |serve, text| {
            serve.handover = Some(text.into());
            Ok(())
        },
    },
    Flag {
        name: "--hand-out",
        value: "HOW",
        help: "to whom `acceptor` gives a connection: round-robin or least-loaded (this one)",
        set: |serve, text| {
            serve.hand_out = Some(match text {
                "round-robin" => HandOut::RoundRobin,
                "least-loaded" => HandOut::LeastLoaded,
                _ => return Err("there is no such way, but round-robin, least-loaded".into()),
            });
            Ok(())
        },
    },
    Flag {
        name: "--offload",
        value: "STAGES",
        help: "what is done on pools instead of workers, with commas:\nhandshakes, records, decode, process",
        set: |serve, text| named(text).map(|offload| serve.offload = offload),
    },
    Flag {
        name: "--pool-threads",
        value: "N",
        help: "threads of each pool (one a processor; of `stages` one)",
        set: |serve, text| number(text).map(|n| serve.pool_threads = Some(n)),
    },
    Flag {
        name: "--queue",
        value: "N",
        help: "what may wait for each pool; new requests beyond it get 503 (1024)",
        set: |serve, text| number(text).map(|n| serve.queue = Some(n)),
    },
    Flag {
        name: "--no-compress",
        value: "",
        help: "answers go as they are, not by zstd or gzip to those who accept it",
        set: |serve, _| {
            serve.compress = false;
            Ok(())
        },
    },
    Flag {
        name: "--no-probe",
        value: "",
        help: "nothing is measured; no /metrics",
        set: |serve, _| {
            serve.probe = false;
            Ok(())
        },
    },
];

#[derive(Debug, PartialEq)]
pub(crate) struct Replay {
    pub(crate) file: PathBuf,
    pub(crate) tls_off: bool,
    pub(crate) split: Option<usize>,
}

pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Command, String> {
    let words: Vec<String> = words.collect();
    match words.iter().find_map(|w| match w.as_str() {
        "-h" | "--help" => Some(Command::Help),
        "-V" | "--version" => Some(Command::Version),
        _ => None,
    }) {
        Some(command) => return Ok(command),
        None if words.first().is_some_and(|w| w == "help") => return Ok(Command::Help),
        None => {}
    }
    match words.first().map(String::as_str) {
        None => Ok(Command::Serve(Box::default())),
        Some("serve") => serve(Words::behind(1, words)),
        Some("replay") => replay(Words::behind(1, words)),
        Some(word) if word.starts_with("--") => serve(Words::behind(0, words)),
        Some(word) => Err(format!("there is no command `{word}`")),
    }
}

struct Words(std::vec::IntoIter<String>);

impl Words {
    fn behind(n: usize, mut words: Vec<String>) -> Words {
        words.drain(..n);
        Words(words.into_iter())
    }

    /// The next word, cut at `=` if it is a flag with its value: `--http=ADDR` reads like `--http ADDR`.
    fn next(&mut self) -> Option<(String, Option<String>)> {
        let word = self.0.next()?;
        match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => Some((flag.into(), Some(value.into()))),
            _ => Some((word, None)),
        }
    }

    fn value(&mut self, flag: &str, value: Option<String>) -> Result<String, String> {
        value.or_else(|| self.0.next()).ok_or_else(|| format!("{flag} needs a value"))
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("localhost:").map_or(text.to_string(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| "not an address and a port, as 127.0.0.1:8080 is".into())
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("not a number above 0".into()),
    }
}

fn named<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|unknown: T::Err| unknown.to_string())
}

fn serve(mut words: Words) -> Result<Command, String> {
    let mut options = Serve::default();
    while let Some((name, value)) = words.next() {
        let Some(flag) = SERVE.iter().find(|flag| flag.name == name) else {
            return Err(format!("serve takes no `{name}`"));
        };
        let value = match (flag.value, value) {
            ("", Some(_)) => return Err(format!("{name} takes no value")),
            ("", None) => String::new(),
            (_, value) => words.value(&name, value)?,
        };
        (flag.set)(&mut options, &value).map_err(|wrong| format!("{name} {value}: {wrong}"))?;
    }
    agree(&options)?;
    Ok(Command::Serve(Box::new(options)))
}

/// A flag that would do nothing beside the others is a mistake.
fn agree(options: &Serve) -> Result<(), String> {
    let topology = options.topology;
    let many = matches!(topology, Topology::Workers | Topology::Acceptor);
    let pools = topology == Topology::Stages || options.offload != Offload::NONE;
    for (is_set, does, name, needs) in [
        (options.workers.is_some(), many, "--workers", "--topology workers or acceptor"),
        (options.threads.is_some(), topology == Topology::Threads, "--threads", "--topology threads"),
        (options.reuse_port, topology == Topology::Workers, "--reuseport", "--topology workers"),
        (options.hand_out.is_some(), topology == Topology::Acceptor, "--hand-out", "--topology acceptor"),
        (options.pool_threads.is_some(), pools, "--pool-threads", "--offload, or --topology stages"),
        (options.queue.is_some(), pools, "--queue", "--offload, or --topology stages"),
    ] {
        if is_set && !does {
            return Err(format!("{name} needs {needs}"));
        }
    }
    if options.cert.is_some() != options.key.is_some() {
        return Err("--cert and --key go together".into());
    }
    Ok(())
}

fn replay(mut words: Words) -> Result<Command, String> {
    let (mut file, mut tls_off, mut split) = (None, false, None);
    while let Some((word, value)) = words.next() {
        match word.as_str() {
            "--tls-off" if value.is_none() => tls_off = true,
            "--split" => {
                let text = words.value(&word, value)?;
                split = Some(number(&text).map_err(|wrong| format!("{word} {text}: {wrong}"))?);
            }
            _ if word.starts_with("--") => return Err(format!("replay takes no `{word}`")),
            _ if file.is_some() => return Err("replay takes one file".into()),
            _ => file = Some(PathBuf::from(word)),
        }
    }
    let file = file.ok_or("replay needs a file, or `-`")?;
    Ok(Command::Replay(Replay { file, tls_off, split }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(String::from))
    }

    fn served(change: impl FnOnce(&mut Serve)) -> Result<Command, String> {
        let mut serve = Serve::default();
        change(&mut serve);
        Ok(Command::Serve(Box::new(serve)))
    }

    #[test]
    fn words_become_commands() {
        assert_eq!(of(""), served(|_| {}));
        assert_eq!(of("serve"), of(""));
        assert_eq!(of("serve --driver std --workers=4"), served(|serve| serve.workers = Some(4)));
        assert_eq!(of("--http localhost:0"), of("serve --http=127.0.0.1:0"));
        assert_eq!(of("serve --no-compress"), served(|serve| serve.compress = false));
        let pem = served(|serve| (serve.cert, serve.key) = (Some("a".into()), Some("b".into())));
        assert_eq!(of("serve --cert a --key b"), pem);
        let replay = Replay { file: "-".into(), tls_off: true, split: Some(3) };
        assert_eq!(of("replay - --tls-off --split 3"), Ok(Command::Replay(replay)));
        assert_eq!(of("serve --help"), Ok(Command::Help));
    }

    #[test]
    fn every_choice_of_the_builder_is_a_flag() {
        let line = "--driver uring --topology acceptor --workers 3 --pin --backlog 7 --connections 9 --hand-out round-robin \
                    --offload handshakes,process --pool-threads 2 --queue 5 --no-probe";
        let expected = served(|serve| {
            serve.driver = "uring";
            (serve.topology, serve.workers, serve.pin) = (Topology::Acceptor, Some(3), true);
            (serve.backlog, serve.connections, serve.hand_out) = (Some(7), Some(9), Some(HandOut::RoundRobin));
            serve.offload = "process,handshakes".parse().unwrap();
            (serve.pool_threads, serve.queue, serve.probe) = (Some(2), Some(5), false);
        });
        assert_eq!(of(line), expected);
        assert_eq!(of("--reuseport"), served(|serve| serve.reuse_port = true));
        let threads = served(|serve| (serve.topology, serve.threads) = (Topology::Threads, Some(8)));
        assert_eq!(of("serve --topology threads --threads 8"), threads);
        assert_eq!(
            of("--topology stages --queue 5"),
            served(|serve| (serve.topology, serve.queue) = (Topology::Stages, Some(5)))
        );
        for topology in Topology::ALL {
            assert_eq!(of(&format!("--topology {topology}")), served(|serve| serve.topology = topology));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, wrong) in [
            ("paint", "there is no command `paint`"),
            ("serve --cert a", "--cert and --key go together"),
            ("serve --http", "--http needs a value"),
            ("serve --http here", "--http here: not an address and a port, as 127.0.0.1:8080 is"),
            ("serve --no-compress=1", "--no-compress takes no value"),
            ("serve --workers 0", "--workers 0: not a number above 0"),
            ("serve --driver mill", "--driver mill: there is no such driver, but std, tokio, uring"),
            (
                "--topology star",
                "--topology star: there is no topology `star`, but single, workers, acceptor, stages, threads",
            ),
            (
                "--offload decode,paint",
                "--offload decode,paint: there is no stage to offload `paint`, but handshakes, records, decode, process",
            ),
            ("--topology single --workers 2", "--workers needs --topology workers or acceptor"),
            ("--threads 2", "--threads needs --topology threads"),
            ("--topology acceptor --reuseport", "--reuseport needs --topology workers"),
            ("--hand-out round-robin", "--hand-out needs --topology acceptor"),
            ("--topology acceptor --hand-out x", "--hand-out x: there is no such way, but round-robin, least-loaded"),
            ("--queue 1", "--queue needs --offload, or --topology stages"),
            ("--pool-threads 1", "--pool-threads needs --offload, or --topology stages"),
            ("--nonsense", "serve takes no `--nonsense`"),
            ("replay", "replay needs a file, or `-`"),
            ("replay - --split x", "--split x: not a number above 0"),
        ] {
            assert_eq!(of(line), Err(wrong.into()));
        }
    }

    #[test]
    fn the_help_names_every_flag_once_and_fits_a_terminal() {
        let help = help();
        for flag in SERVE {
            assert_eq!(help.matches(&format!("      {} ", flag.name)).count(), 1, "{}", flag.name);
        }
        for line in help.lines() {
            assert!(line.len() <= 110 && line.trim_end() == line, "{line}");
        }
        for topology in Topology::ALL {
            assert!(help.contains(topology.name()));
        }
    }
}

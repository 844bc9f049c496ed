//! In: the words of the command line. Out: what to do, or what is wrong with them.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
vestibule: the road of a request, from ciphertext to a decoded value

  vestibule [serve] [--http ADDR] [--https ADDR] [--cert PEM --key PEM] [--driver std] [--workers N] [--no-compress]
      Serves until SIGINT or SIGTERM.
      --http ADDR      plain HTTP here      (127.0.0.1:8080; port 0: any)
      --https ADDR     TLS here             (127.0.0.1:8443; port 0: any)
      --cert, --key    PEM files            (a certificate for localhost, made at start)
      --driver std     sockets and threads  (std; there is no other one yet)
      --workers N      threads at most      (512)
      --no-compress    answers go as they are, not by zstd or gzip to those who accept it
      Both ports speak HTTP/1.1 and HTTP/2; TLS agrees on one of them by ALPN. To try HTTP/2:
        curl --http2-prior-knowledge http://127.0.0.1:8080/hello
        curl -k --http2 https://127.0.0.1:8443/hello

  vestibule replay FILE [--tls-off] [--split N]
      Feeds a file to the machine and prints its events and its output. `-` reads the standard input.
      A file that begins with a TLS record goes to a TLS connection.
      --tls-off        not so: it is HTTP, whatever it begins with
      --split N        N bytes at a time

  vestibule --help, vestibule --version
";

#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Version,
    Serve(Serve),
    Replay(Replay),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Serve {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// Files of the certificate chain and its key.
    pub(crate) pem: Option<(PathBuf, PathBuf)>,
    pub(crate) workers: usize,
    /// Responses are coded where their clients accept it.
    pub(crate) compress: bool,
}

impl Default for Serve {
    fn default() -> Serve {
        let [http, https] = [8080, 8443].map(|port| ([127, 0, 0, 1], port).into());
        Serve { http, https, pem: None, workers: 512, compress: true }
    }
}

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
        None => Ok(Command::Serve(Serve::default())),
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

fn addr(flag: &str, text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("localhost:").map_or(text.to_string(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| format!("{flag} {text}: not an address and a port, as 127.0.0.1:8080 is"))
}

fn number(flag: &str, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("{flag} {text}: not a number above 0")),
    }
}

fn serve(mut words: Words) -> Result<Command, String> {
    let (mut options, mut cert, mut key) = (Serve::default(), None, None);
    while let Some((flag, value)) = words.next() {
        match flag.as_str() {
            "--http" => options.http = addr(&flag, &words.value(&flag, value)?)?,
            "--https" => options.https = addr(&flag, &words.value(&flag, value)?)?,
            "--cert" => cert = Some(PathBuf::from(words.value(&flag, value)?)),
            "--key" => key = Some(PathBuf::from(words.value(&flag, value)?)),
            "--workers" => options.workers = number(&flag, &words.value(&flag, value)?)?,
            "--no-compress" if value.is_none() => options.compress = false,
            "--driver" => match words.value(&flag, value)?.as_str() {
                "std" => {}
                other => return Err(format!("--driver {other}: there is only `std`")),
            },
            _ => return Err(format!("serve takes no `{flag}`")),
        }
    }
    options.pem = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("--cert and --key go together".into()),
    };
    Ok(Command::Serve(options))
}

fn replay(mut words: Words) -> Result<Command, String> {
    let (mut file, mut tls_off, mut split) = (None, false, None);
    while let Some((word, value)) = words.next() {
        match word.as_str() {
            "--tls-off" if value.is_none() => tls_off = true,
            "--split" => split = Some(number(&word, &words.value(&word, value)?)?),
            _ if word.starts_with("--") => return Err(format!("replay takes no `{word}`")),
            _ if file.is_some() => return Err("replay takes one file".into()),
            _ => file = Some(PathBuf::from(word)),
        }
    }
    let file = file.ok_or("replay needs a file, or `-`")?;
    Ok(Command::Replay(Replay { file, tls_off, split }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn words_become_commands() {
        assert_eq!(of(""), Ok(Command::Serve(Serve::default())));
        assert_eq!(of("serve"), of(""));
        assert_eq!(of("serve --driver std --workers=4"), Ok(Command::Serve(Serve { workers: 4, ..Serve::default() })));
        assert_eq!(of("--http localhost:0"), of("serve --http=127.0.0.1:0"));
        assert_eq!(of("serve --no-compress"), Ok(Command::Serve(Serve { compress: false, ..Serve::default() })));
        let pem = Some(("a".into(), "b".into()));
        assert_eq!(of("serve --cert a --key b"), Ok(Command::Serve(Serve { pem, ..Serve::default() })));
        let replay = Replay { file: "-".into(), tls_off: true, split: Some(3) };
        assert_eq!(of("replay - --tls-off --split 3"), Ok(Command::Replay(replay)));
        assert_eq!(of("serve --help"), Ok(Command::Help));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, wrong) in [
            ("paint", "there is no command `paint`"),
            ("serve --cert a", "--cert and --key go together"),
            ("serve --http", "--http needs a value"),
            ("serve --http here", "--http here: not an address and a port, as 127.0.0.1:8080 is"),
            ("serve --no-compress=1", "serve takes no `--no-compress`"),
            ("serve --workers 0", "--workers 0: not a number above 0"),
            ("serve --driver uring", "--driver uring: there is only `std`"),
            ("replay", "replay needs a file, or `-`"),
        ] {
            assert_eq!(of(line), Err(wrong.into()));
        }
    }
}

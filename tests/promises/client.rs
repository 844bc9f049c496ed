//! A strict little client: what it does not understand at once is an error.

/// One response, as a client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The framing says that it is all there.
    pub complete: bool,
}

impl Response {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|f| f.0 == name).map(|f| f.1.as_str())
    }
}

/// Everything that came back. Interim responses are among them; behind a 101 or a 2xx to CONNECT all is one last body.
///
/// # Errors
/// What no strict client would accept.
pub fn responses(mut bytes: &[u8], methods: &[String]) -> Result<Vec<Response>, String> {
    let (mut all, mut finals) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let method = methods.get(finals).map_or("", |m| m.as_str());
        let (response, rest) = response(bytes, method)?;
        finals += usize::from(response.status >= 200 || response.status == 101);
        bytes = rest;
        all.push(response);
    }
    Ok(all)
}

fn fields(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let mut fields = Vec::new();
    for line in text.split_terminator("\r\n") {
        let (name, value) = line.split_once(": ").ok_or(format!("a field line: {line:?}"))?;
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !token || value != value.trim() || value.chars().any(char::is_control) {
            return Err(format!("a field line: {line:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.to_string()));
    }
    Ok(fields)
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|w| w == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// Up to the empty line.
fn section(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"\r\n") {
        return Some((&[], rest));
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((&bytes[..end + 2], &bytes[end + 4..]))
}

fn response<'b>(bytes: &'b [u8], method: &str) -> Result<(Response, &'b [u8]), String> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    if !matches!(httparse::Response::new(&mut slots).parse(bytes), Ok(httparse::Status::Complete(_))) {
        return Err(format!("not a head: {}", bytes[..bytes.len().min(200)].escape_ascii()));
    }
    let (first, rest) = line(bytes).ok_or("no status line")?;
    let (head, rest) = section(rest).ok_or("no end of the head")?;
    let first = std::str::from_utf8(first).map_err(|e| e.to_string())?;
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3)?.parse::<u16>().ok()).ok_or(first)?;
    let mut response =
        Response { status, fields: fields(head)?, body: Vec::new(), trailers: Vec::new(), complete: true };
    let lengths: Vec<usize> = response
        .fields
        .iter()
        .filter(|f| f.0 == "content-length")
        .map(|f| f.1.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| "a length")?;
    let codings: Vec<_> = response.fields.iter().filter(|f| f.0 == "transfer-encoding").collect();
    if lengths.len() + codings.len() > 1 || codings.iter().any(|c| c.1 != "chunked") {
        return Err(format!("framing that contradicts itself: {:?}", response.fields));
    }
    if status == 101 || (method == "CONNECT" && (200..300).contains(&status)) {
        response.body = rest.to_vec();
        return Ok((response, &[]));
    }
    if status < 200 || status == 204 {
        return if lengths.len() + codings.len() > 0 {
            Err(format!("{status} with framing"))
        } else {
            Ok((response, rest))
        };
    }
    if status == 304 || method == "HEAD" {
        return Ok((response, rest));
    }
    if let Some(&n) = lengths.first() {
        let n_here = n.min(rest.len());
        response.body = rest[..n_here].to_vec();
        response.complete = n_here == n;
        return Ok((response, &rest[n_here..]));
    }
    if codings.is_empty() {
        response.body = rest.to_vec();
        return Ok((response, &[]));
    }
    chunks(response, rest)
}

fn chunks(mut response: Response, mut rest: &[u8]) -> Result<(Response, &[u8]), String> {
    response.complete = false;
    loop {
        let Some((size, behind)) = line(rest) else { return Ok((response, &[])) };
        let size = std::str::from_utf8(size).map_err(|e| e.to_string())?;
        let n = usize::from_str_radix(size, 16).map_err(|e| format!("{size:?}: {e}"))?;
        if n == 0 {
            let Some((trailers, behind)) = section(behind) else { return Ok((response, &[])) };
            response.trailers = fields(trailers)?;
            response.complete = true;
            return Ok((response, behind));
        }
        let here = n.min(behind.len());
        response.body.extend_from_slice(&behind[..here]);
        match behind[here..].strip_prefix(b"\r\n") {
            Some(behind) => rest = behind,
            None if behind.len() < n + 2 => return Ok((response, &[])),
            None => return Err("a chunk that does not end".into()),
        }
    }
}

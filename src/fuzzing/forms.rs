//! Forms of both kinds.

/// Pairs, percent-encoded.
pub fn form(data: &[u8]) {
    let _ = data;
}

/// Parts between boundaries.
pub fn multipart(data: &[u8]) {
    let _ = data;
}

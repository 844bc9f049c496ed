//! Content codings, taken off and put on.

/// A brotli stream.
pub fn br(data: &[u8]) {
    let _ = data;
}

/// A zlib stream.
pub fn deflate(data: &[u8]) {
    let _ = data;
}

/// Content that is coded.
pub fn encode(data: &[u8]) {
    let _ = data;
}

/// A Zstandard frame.
pub fn zstd(data: &[u8]) {
    let _ = data;
}

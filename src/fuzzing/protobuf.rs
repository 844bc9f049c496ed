//! Protobuf messages, and streams of them.

/// Length-prefixed messages.
pub fn grpc(data: &[u8]) {
    let _ = data;
}

/// A message.
pub fn protobuf(data: &[u8]) {
    let _ = data;
}

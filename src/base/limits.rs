//! In: what the caller wants. Out: every limit of the machine, each with a default, a range and a unit, and no way to say
//! "unlimited".

/// What a limit counts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Octets.
    Bytes,
    /// Milliseconds.
    Millis,
    /// Octets a second.
    BytesPerSecond,
    /// Things, a second.
    PerSecond,
    /// Things.
    Count,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $unit:ident, $default:expr, $min:expr, $max:expr;)*) => {
        /// One bound on what a peer can make the machine do or keep. The table behind it is the only place with numbers.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Limit { $(
            $(#[$doc])*
            #[doc = concat!("\n\nDefault ", stringify!($default), ", from ", stringify!($min), " to ", stringify!($max), ".")]
            $name,
        )* }

        impl Limit {
            /// Every limit, in the order of the table.
            pub const ALL: &'static [Limit] = &[$(Limit::$name),*];
            const TABLE: &'static [(&'static str, Unit, u64, u64, u64)] = &[$(($text, Unit::$unit, $default, $min, $max)),*];
        }
    };
}

limits! {
    /// The request line, without its line end (RFC 9112 §3). Beyond it: 414.
    RequestLineBytes, "request_line_bytes", Bytes, 8_192, 16, 65_536;
    /// The method (RFC 9110 §9.1). Beyond it: 501.
    MethodBytes, "method_bytes", Bytes, 32, 7, 256;
    /// A field section: name, value and 96 for every line, as HTTP/2 will count it too. Beyond it: 431.
    FieldSectionBytes, "field_section_bytes", Bytes, 32_768, 256, 262_144;
    /// Field lines of a section. Beyond it: 431.
    FieldLines, "field_lines", Count, 100, 1, 128;
    /// One field name. Beyond it: 431.
    FieldNameBytes, "field_name_bytes", Bytes, 256, 20, 4_096;
    /// One field value. Beyond it: 431.
    FieldValueBytes, "field_value_bytes", Bytes, 16_384, 64, 65_536;
    /// Trailer lines, inside what the header section left of `FieldLines`. Beyond it: 400.
    TrailerLines, "trailer_lines", Count, 16, 0, 128;
    /// The trailer section, counted as the header section, inside what that left of `FieldSectionBytes`. Beyond it: 400.
    TrailerBytes, "trailer_bytes", Bytes, 4_096, 0, 65_536;
    /// A request body, as sent. Beyond it: 413.
    BodyBytes, "body_bytes", Bytes, 1_048_576, 0, 1_099_511_627_776;
    /// Extensions of one chunk (RFC 9112 §7.1.1).
    ChunkExtBytes, "chunk_ext_bytes", Bytes, 256, 0, 4_096;
    /// Extensions of all chunks of a body.
    ChunkExtBodyBytes, "chunk_ext_body_bytes", Bytes, 4_096, 0, 65_536;
    /// Chunk framing beyond 16 bytes a chunk and twice the payload: many tiny chunks.
    ChunkOverheadBytes, "chunk_overhead_bytes", Bytes, 16_384, 256, 1_048_576;
    /// Requests on one connection; the last one is answered with `Connection: close`.
    ConnectionRequests, "connection_requests", Count, 1_000_000, 1, 1_000_000_000;
    /// Age of a connection; the next answer carries `Connection: close`.
    ConnectionAgeMs, "connection_age_ms", Millis, 3_600_000, 1_000, 604_800_000;
    /// To the end of a head: from accept (with TLS, from the handshake's end), later from the head's first byte. Beyond it: 408.
    HeadMs, "head_ms", Millis, 10_000, 100, 600_000;
    /// A PROXY header of version 2, all of it; one of version 1 has 107 bytes at most. Beyond it: the end, without an answer.
    ProxyHeaderBytes, "proxy_header_bytes", Bytes, 2_048, 232, 16_384;
    /// What `HeadMs` is for a connection that is only told that there are too many.
    OverloadMs, "overload_ms", Millis, 1_000, 100, 600_000;
    /// From accept to the end of the TLS handshake, a PROXY header in front of it included.
    HandshakeMs, "handshake_ms", Millis, 10_000, 100, 600_000;
    /// Between a response and the first byte of the next request.
    IdleMs, "idle_ms", Millis, 30_000, 100, 3_600_000;
    /// Least average rate of a request body, and of a response's way out. Beyond it: 408, or the end.
    MinRate, "min_rate_bytes_per_second", BytesPerSecond, 240, 1, 1_048_576;
    /// How long a rate may be anything.
    RateGraceMs, "rate_grace_ms", Millis, 5_000, 100, 600_000;
    /// How long a closing connection still reads, so that the last answer is not reset away (RFC 9112 §9.6).
    LingerMs, "linger_ms", Millis, 2_000, 0, 60_000;
    /// How much a closing connection still reads.
    LingerBytes, "linger_bytes", Bytes, 65_536, 0, 16_777_216;
    /// How much of an unread body is skipped to keep the connection.
    DrainBytes, "drain_bytes", Bytes, 65_536, 0, 16_777_216;
    /// Units of work in one turn; then it yields.
    TurnUnits, "turn_units", Count, 256, 1, 65_536;
    /// Room that must be free in the outbox before an event is handed out that may be answered.
    ReplyRoomBytes, "reply_room_bytes", Bytes, 1_024, 512, 65_536;
    /// A TLS handshake message, as declared (RFC 8446 §4).
    HandshakeMessageBytes, "tls_handshake_message_bytes", Bytes, 65_536, 16_384, 65_536;
    /// A ClientHello, as declared.
    ClientHelloBytes, "tls_client_hello_bytes", Bytes, 16_384, 1_024, 65_536;
    /// Certificates of a client's chain, its own included.
    ClientCertificates, "tls_client_certificates", Count, 8, 1, 16;
    /// The certificates of a client's chain together.
    ClientCertificateBytes, "tls_client_certificate_bytes", Bytes, 65_536, 1_024, 65_536;
    /// Records of a handshake: one-byte records must pass, endless ones must not.
    HandshakeRecords, "tls_handshake_records", Count, 16_384, 64, 65_536;
    /// Consecutive records without content.
    EmptyRecords, "tls_empty_records", Count, 32, 1, 1_024;
    /// Warning alerts of a connection.
    WarningAlerts, "tls_warning_alerts", Count, 4, 0, 64;
    /// ChangeCipherSpec records of a handshake (RFC 8446 appendix D.4).
    CompatibilityCcs, "tls_change_cipher_specs", Count, 2, 1, 32;
    /// Post-handshake records without plaintext, at once.
    KeyUpdateBurst, "tls_key_update_burst", Count, 32, 1, 1_024;
    /// Post-handshake records without plaintext, a second.
    KeyUpdateRate, "tls_key_update_rate", PerSecond, 10, 1, 1_024;
    /// Layers of content coding.
    CodingLayers, "coding_layers", Count, 1, 1, 1;
    /// A decoded body. Beyond it: 413.
    DecodedBytes, "decoded_bytes", Bytes, 4_194_304, 1_024, 1_099_511_627_776;
    /// Decoded bytes for each coded byte, once `RatioFreeBytes` came out. Beyond it: 413.
    DecodedRatio, "decoded_ratio", Count, 100, 2, 1_032;
    /// What may be decoded before the ratio counts, and coded before a decoder must have given something.
    RatioFreeBytes, "ratio_free_bytes", Bytes, 65_536, 1_024, 16_777_216;
    /// The optional header fields of a gzip member (RFC 1952 §2.3).
    GzipHeaderBytes, "gzip_header_bytes", Bytes, 4_096, 10, 65_536;
    /// Windows and state of a connection's decoders.
    DecoderPoolBytes, "decoder_pool_bytes", Bytes, 8_388_608, 65_536, 67_108_864;
    /// The window that a zstd frame may ask for; RFC 9659 §3 allows 8 MiB over HTTP.
    ZstdWindowBytes, "zstd_window_bytes", Bytes, 8_388_608, 1_024, 8_388_608;
    /// The window that a brotli stream may ask for (RFC 7932 §9.1).
    BrotliWindowBytes, "brotli_window_bytes", Bytes, 16_777_216, 1_024, 16_777_216;
    /// State of a connection's encoders. A response that finds no room is sent without a coding.
    EncoderPoolBytes, "encoder_pool_bytes", Bytes, 2_097_152, 0, 67_108_864;
    /// Content that is shorter is not worth a coding.
    EncodeFromBytes, "encode_from_bytes", Bytes, 512, 0, 1_048_576;
    /// Bodies gathered whole, of a connection.
    GatherBytes, "gather_bytes", Bytes, 1_048_576, 1_024, 268_435_456;
    /// Nesting of a JSON text.
    JsonDepth, "json_depth", Count, 64, 1, 256;
    /// Characters of a JSON number.
    JsonNumberBytes, "json_number_bytes", Bytes, 256, 16, 4_096;
    /// A JSON object key.
    JsonKeyBytes, "json_key_bytes", Bytes, 1_024, 16, 65_536;
    /// Keys of one JSON object, so that duplicates can be told.
    JsonKeys, "json_keys", Count, 1_024, 1, 65_536;
    /// White space of a JSON text.
    JsonWhitespaceBytes, "json_whitespace_bytes", Bytes, 65_536, 0, 16_777_216;
    /// Nesting of messages and groups in a Protobuf message.
    ProtobufDepth, "protobuf_depth", Count, 64, 1, 256;
    /// A Protobuf message, and one of a gRPC stream, once it is decompressed.
    ProtobufMessageBytes, "protobuf_message_bytes", Bytes, 4_194_304, 16, 1_073_741_824;
    /// Fields of a Protobuf message, those of the messages in it and the elements of packed ones included.
    ProtobufElements, "protobuf_elements", Count, 65_536, 1, 16_777_216;
    /// Names and values of a form, or of a query.
    FormFields, "form_fields", Count, 1_000, 1, 1_000_000;
    /// A name in a form, decoded.
    FormNameBytes, "form_name_bytes", Bytes, 1_024, 16, 65_536;
    /// A value in a form that is no file, decoded.
    FormValueBytes, "form_value_bytes", Bytes, 65_536, 16, 268_435_456;
    /// Parts of a multipart body.
    Parts, "parts", Count, 128, 1, 65_536;
    /// The header of one part: its lines with their ends.
    PartHeadBytes, "part_head_bytes", Bytes, 4_096, 128, 65_536;
    /// One file of a multipart body.
    PartFileBytes, "part_file_bytes", Bytes, 1_048_576, 0, 1_099_511_627_776;
    /// HTTP/2: streams at once (RFC 9113 §5.1.2). Beyond it: REFUSED_STREAM.
    ConcurrentStreams, "concurrent_streams", Count, 100, 1, 1_000;
    /// HTTP/2: what a client may send on a stream at first; consumed promptly, the window grows to the connection's.
    StreamWindowBytes, "stream_window_bytes", Bytes, 65_536, 65_535, 16_777_216;
    /// HTTP/2: what a client may send on all streams together before it is taken.
    ConnectionWindowBytes, "connection_window_bytes", Bytes, 1_048_576, 65_535, 16_777_216;
    /// HTTP/2: CONTINUATION frames of a header block. Beyond it: ENHANCE_YOUR_CALM.
    ContinuationFrames, "continuation_frames", Count, 8, 1, 256;
    /// HTTP/2: a header block as sent, all its frames together. Beyond it: ENHANCE_YOUR_CALM.
    HeaderBlockBytes, "header_block_bytes", Bytes, 65_536, 1_024, 262_144;
    /// HTTP/2: cookie crumbs of a request, beside its field lines (RFC 9113 §8.2.3). Beyond it: 431.
    CookieCrumbs, "cookie_crumbs", Count, 200, 1, 800;
    /// HTTP/2: the dynamic table that clients may fill (RFC 7541 §4.2).
    HeaderTableBytes, "header_table_bytes", Bytes, 4_096, 0, 65_536;
    /// HTTP/2: entries of a SETTINGS frame. Beyond it: ENHANCE_YOUR_CALM.
    SettingsEntries, "settings_entries", Count, 32, 8, 256;
    /// HTTP/2: how long a client may take to acknowledge our SETTINGS. Beyond it: SETTINGS_TIMEOUT.
    SettingsAckMs, "settings_ack_ms", Millis, 10_000, 100, 600_000;
    /// HTTP/2: streams that the client reset, or made us reset, at once. Beyond it: ENHANCE_YOUR_CALM.
    ResetBurst, "reset_burst", Count, 200, 1, 100_000;
    /// HTTP/2: the same, a second.
    ResetRate, "reset_rate", PerSecond, 33, 1, 100_000;
    /// HTTP/2: odd things that a client may do at once. At three quarters a graceful GOAWAY, beyond it ENHANCE_YOUR_CALM.
    GlitchBurst, "glitch_burst", Count, 1_000, 8, 1_000_000;
    /// HTTP/2: the same, a second.
    GlitchRate, "glitch_rate", PerSecond, 33, 1, 100_000;
    /// HTTP/2: DATA and CONTINUATION frames without content, that end nothing, of a connection. Beyond it: ENHANCE_YOUR_CALM.
    EmptyFrames, "empty_frames", Count, 100, 1, 100_000;
    /// HTTP/2: what small DATA frames lack of 256 bytes, summed over those that no handler has taken. Beyond it: ENHANCE_YOUR_CALM.
    SmallFrameBytes, "small_frame_bytes", Bytes, 25_600, 256, 16_777_216;
    /// HTTP/2: PRIORITY and PRIORITY_UPDATE frames, beside one for each stream. Beyond it: ENHANCE_YOUR_CALM.
    PriorityFrames, "priority_frames", Count, 100, 1, 100_000;
    /// HTTP/2: an eighth of all that was received, beyond header blocks and content. Beyond it: ENHANCE_YOUR_CALM.
    OverheadBytes, "overhead_bytes", Bytes, 1_048_576, 1_024, 1_073_741_824;
    /// HTTP/2: how long a response may wait for a window while less than 1 KiB of it goes out. Beyond it: CANCEL.
    StallMs, "stall_ms", Millis, 10_000, 100, 600_000;
    /// The head of a response.
    ResponseHeadBytes, "response_head_bytes", Bytes, 32_768, 512, 262_144;
}

/// A value that a limit does not take. There is no "unlimited".
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LimitError {
    /// Which limit.
    pub limit: Limit,
    /// The value that was refused.
    pub value: u64,
}

impl core::fmt::Display for LimitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (min, max) = self.limit.range();
        write!(f, "{} cannot be {}: it goes from {min} to {max}", self.limit.name(), self.value)
    }
}

impl core::error::Error for LimitError {}

impl Limit {
    /// Its name, with the unit last.
    pub const fn name(self) -> &'static str {
        Self::TABLE[self as usize].0
    }

    /// What it counts.
    pub const fn unit(self) -> Unit {
        Self::TABLE[self as usize].1
    }

    /// Its default.
    pub const fn default(self) -> u64 {
        Self::TABLE[self as usize].2
    }

    /// Its least and greatest value.
    pub const fn range(self) -> (u64, u64) {
        (Self::TABLE[self as usize].3, Self::TABLE[self as usize].4)
    }
}

/// The value of every [`Limit`].
///
/// ```
/// use vestibule::{Limit, Limits};
/// const LIMITS: Limits = match Limits::DEFAULT.with(Limit::BodyBytes, 64 << 20) {
///     Ok(limits) => limits,
///     Err(_) => panic!("out of range"),
/// };
/// assert_eq!(LIMITS.get(Limit::BodyBytes), 64 << 20);
/// assert!(Limits::DEFAULT.with(Limit::BodyBytes, u64::MAX).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits([u64; Limit::ALL.len()]);

impl Limits {
    /// All defaults.
    pub const DEFAULT: Limits = {
        let mut values = [0; Limit::ALL.len()];
        let mut i = 0;
        while i < values.len() {
            values[i] = Limit::TABLE[i].2;
            i += 1;
        }
        Limits(values)
    };

    /// The value of one limit.
    #[inline]
    pub const fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// The same, with one limit changed.
    ///
    /// # Errors
    /// The value lies outside the limit's range.
    pub const fn with(mut self, limit: Limit, value: u64) -> Result<Limits, LimitError> {
        let (min, max) = limit.range();
        if value < min || value > max {
            return Err(LimitError { limit, value });
        }
        self.0[limit as usize] = value;
        Ok(self)
    }

    pub(crate) fn size(&self, limit: Limit) -> usize {
        usize::try_from(self.get(limit)).unwrap_or(usize::MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range_and_no_limit_is_unlimited() {
        for &limit in Limit::ALL {
            let (min, max) = limit.range();
            assert!(min <= limit.default() && limit.default() <= max, "{}", limit.name());
            assert!(max < u64::MAX / 1_000_000, "{} has an end", limit.name());
            assert!(Limits::DEFAULT.with(limit, max).is_ok() && Limits::DEFAULT.with(limit, min).is_ok());
            assert_eq!(Limits::DEFAULT.with(limit, max + 1), Err(LimitError { limit, value: max + 1 }));
        }
    }
}

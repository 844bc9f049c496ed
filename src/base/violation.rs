//! In: the rule that a peer broke. Out: what it must be told, in every protocol, and where that is written. One table.

use super::{Limit, Limits};

/// How far a broken rule reaches.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The connection is over.
    Connection,
    /// Only this message; in HTTP/1.1, where a message's end may be lost with it, the connection as well.
    Message,
}

struct Row {
    text: &'static str,
    scope: Scope,
    status: u16,
    h2: u32,
    h3: u32,
    alert: u8,
    section: &'static str,
    limit: Option<Limit>,
}

// HTTP/2 and HTTP/3 error codes (RFC 9113 §7, RFC 9114 §8.1), as far as the table needs them.
const PROTOCOL: (u32, u32) = (0x1, 0x10e);
const CANCEL: (u32, u32) = (0x8, 0x10c);
const CALM: (u32, u32) = (0xb, 0x107);
const REFUSED: (u32, u32) = (0x7, 0x10b);
const INTERNAL: (u32, u32) = (0x2, 0x102);
// What only HTTP/2 has; HTTP/3 would call it H3_GENERAL_PROTOCOL_ERROR.
const FLOW: (u32, u32) = (0x3, 0x101);
const SETTINGS: (u32, u32) = (0x4, 0x101);
const CLOSED: (u32, u32) = (0x5, 0x101);
const FRAME_SIZE: (u32, u32) = (0x6, 0x106);
const COMPRESSION: (u32, u32) = (0x9, 0x101);

macro_rules! rules {
    ($($name:ident: $scope:ident $status:literal $codes:ident $alert:literal $section:literal $text:literal $(limit $limit:ident)?;)*) => {
        /// A rule that a peer can break. The name says what it did.
        #[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Rule { $(
            #[doc = $text]
            #[doc = concat!(" (", $section, ")")]
            $name,
        )* }

        impl Rule {
            /// Every rule, in the order of the table.
            pub const ALL: &'static [Rule] = &[$(Rule::$name),*];
            const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];
            const TABLE: &'static [Row] = &[$(Row {
                text: $text, scope: Scope::$scope, status: $status, h2: $codes.0, h3: $codes.1, alert: $alert, section: $section,
                limit: rules!(@limit $($limit)?),
            }),*];
        }
    };
    (@limit $limit:ident) => { Some(Limit::$limit) };
    (@limit) => { None };
}

rules! {
    // HTTP/1.1: bytes and lines
    BytesBeforeRequestLine: Connection 400 PROTOCOL 0 "RFC 9112 §2.2" "something other than one CRLF stood before the request line";
    BareLf: Connection 400 PROTOCOL 0 "RFC 9112 §2.2" "a line ended with LF alone";
    BareCr: Connection 400 PROTOCOL 0 "RFC 9112 §2.2" "a CR was not followed by LF";
    ControlByte: Connection 400 PROTOCOL 0 "RFC 9110 §5.5" "a control byte stood in a line";
    RequestLine: Connection 400 PROTOCOL 0 "RFC 9112 §3" "the request line is not method, one space, target, one space, version";
    MethodSyntax: Connection 400 PROTOCOL 0 "RFC 9110 §9.1" "the method is not a token";
    MethodTooLong: Connection 501 PROTOCOL 0 "RFC 9110 §9.1" "the method is too long" limit MethodBytes;
    TargetSyntax: Connection 400 PROTOCOL 0 "RFC 9112 §3.2" "the request target holds a byte that no target may hold";
    TargetForm: Connection 400 PROTOCOL 0 "RFC 9112 §3.2" "the form of the request target does not go with the method";
    RequestLineTooLong: Connection 414 PROTOCOL 0 "RFC 9112 §3" "the request line is too long" limit RequestLineBytes;
    VersionSyntax: Connection 400 PROTOCOL 0 "RFC 9112 §2.3" "the version is malformed, or missing as in HTTP/0.9";
    VersionUnsupported: Connection 505 PROTOCOL 0 "RFC 9110 §15.6.6" "the version is neither HTTP/1.0 nor HTTP/1.1";
    Http2Preface: Connection 400 PROTOCOL 0 "RFC 9113 §3.4" "the client speaks HTTP/2 where it is not spoken";
    // HTTP/1.1: fields
    FieldSyntax: Connection 400 PROTOCOL 0 "RFC 9112 §5" "a field line is not name, colon, value";
    FieldNameSyntax: Connection 400 PROTOCOL 0 "RFC 9110 §5.1" "a field name is empty or not a token";
    FieldNameSpace: Connection 400 PROTOCOL 0 "RFC 9112 §5.1" "white space stood between a field name and its colon";
    ObsFold: Connection 400 PROTOCOL 0 "RFC 9112 §5.2" "a field line began with white space";
    FieldNameTooLong: Connection 431 PROTOCOL 0 "RFC 6585 §5" "a field name is too long" limit FieldNameBytes;
    FieldValueTooLong: Connection 431 PROTOCOL 0 "RFC 6585 §5" "a field value is too long" limit FieldValueBytes;
    FieldSectionTooLarge: Connection 431 PROTOCOL 0 "RFC 6585 §5" "the field section is too large" limit FieldSectionBytes;
    TooManyFields: Connection 431 PROTOCOL 0 "RFC 6585 §5" "there are too many field lines" limit FieldLines;
    HeadOverInbox: Connection 431 PROTOCOL 0 "RFC 6585 §5" "the head does not fit the inbox that the server lent";
    HostMissing: Connection 400 PROTOCOL 0 "RFC 9112 §3.2" "an HTTP/1.1 request has no Host";
    HostRepeated: Connection 400 PROTOCOL 0 "RFC 9112 §3.2" "a request has more than one Host";
    HostSyntax: Connection 400 PROTOCOL 0 "RFC 9110 §7.2" "Host is not a host with an optional port";
    HostDisagrees: Connection 400 PROTOCOL 0 "RFC 9112 §3.2.2" "the authority of the target is not the one in Host";
    ConnectionSyntax: Connection 400 PROTOCOL 0 "RFC 9110 §7.6.1" "Connection is not a list of tokens";
    ConnectionNominates: Connection 400 PROTOCOL 0 "RFC 9110 §7.6.1" "Connection nominates a field that frames, routes or authorises";
    FieldAlias: Connection 400 PROTOCOL 0 "RFC 9110 §5.1" "a field name imitates a framing field with an underscore";
    UpgradeWithBody: Connection 400 PROTOCOL 0 "RFC 9110 §7.8" "a request to upgrade carries a body";
    UpgradeSyntax: Connection 400 PROTOCOL 0 "RFC 9110 §7.8" "Upgrade is not a list of protocols";
    ConnectWithBody: Connection 400 PROTOCOL 0 "RFC 9110 §9.3.6" "a CONNECT request carries a body";
    Misdirected: Message 421 PROTOCOL 0 "RFC 9110 §7.4" "the request is for a host that this connection does not serve";
    ExpectationUnknown: Connection 417 PROTOCOL 0 "RFC 9110 §10.1.1" "the expectation is not 100-continue";
    // HTTP/1.1: framing
    LengthAndCoding: Connection 400 PROTOCOL 0 "RFC 9112 §6.1" "Content-Length and Transfer-Encoding stand together";
    TransferCoding: Connection 400 PROTOCOL 0 "RFC 9112 §6.1" "Transfer-Encoding is not chunked, once and alone";
    TransferCodingUnknown: Connection 501 PROTOCOL 0 "RFC 9112 §6.1" "a transfer coding before chunked is not known here";
    TransferCodingOldVersion: Connection 400 PROTOCOL 0 "RFC 9112 §6.1" "an HTTP/1.0 request has Transfer-Encoding";
    ContentLengthSyntax: Connection 400 PROTOCOL 0 "RFC 9110 §8.6" "Content-Length is not one plain decimal number";
    ContentLengthRepeated: Connection 400 PROTOCOL 0 "RFC 9110 §8.6" "Content-Length stands more than once";
    BodyTooLarge: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "the body is too large" limit BodyBytes;
    BodyOverHandler: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "the body is larger than its handler takes";
    BodyOverGather: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "the body is larger than what may be gathered" limit GatherBytes;
    GatherPool: Message 503 REFUSED 0 "RFC 9110 §15.6.4" "no room to gather another body" limit GatherBytes;
    BodyOverInbox: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "the whole body does not fit the inbox that the server lent";
    ChunkSize: Connection 400 PROTOCOL 0 "RFC 9112 §7.1" "a chunk size is not 1 to 16 hexadecimal digits below 2^63";
    ChunkLineEnd: Connection 400 PROTOCOL 0 "RFC 9112 §7.1" "a chunk line does not end with CRLF";
    ChunkExtension: Connection 400 PROTOCOL 0 "RFC 9112 §7.1.1" "a chunk extension is malformed";
    ChunkExtensionTooLong: Connection 400 PROTOCOL 0 "RFC 9112 §7.1.1" "a chunk extension is too long" limit ChunkExtBytes;
    ChunkExtensionsTooLong: Connection 400 PROTOCOL 0 "RFC 9112 §7.1.1" "the chunk extensions of a body are too long" limit ChunkExtBodyBytes;
    ChunkDataEnd: Connection 400 PROTOCOL 0 "RFC 9112 §7.1" "chunk data is not followed by CRLF";
    ChunkOverhead: Connection 400 CALM 0 "RFC 9112 §7.1" "tiny chunks: more framing than payload" limit ChunkOverheadBytes;
    TrailerForbidden: Connection 400 PROTOCOL 0 "RFC 9110 §6.5.1" "a trailer field may not stand in a trailer";
    TrailerTooLarge: Connection 400 PROTOCOL 0 "RFC 9112 §7.1.2" "the trailer section is too large" limit TrailerBytes;
    TooManyTrailers: Connection 400 PROTOCOL 0 "RFC 9112 §7.1.2" "there are too many trailer lines" limit TrailerLines;
    MessageIncomplete: Connection 400 PROTOCOL 0 "RFC 9112 §8" "the connection ended inside a message";
    // Field sections of HTTP/2 and HTTP/3
    PseudoField: Message 400 PROTOCOL 0 "RFC 9113 §8.3" "a pseudo-field is missing, repeated, unknown, or stands where none may stand";
    SchemeSyntax: Message 400 PROTOCOL 0 "RFC 9113 §8.3.1" "the scheme is neither http nor https";
    ConnectProtocol: Message 400 PROTOCOL 0 "RFC 8441 §4" "the pseudo-fields are not those of CONNECT, plain or extended";
    ConnectFields: Message 400 PROTOCOL 0 "RFC 9113 §8.5" "a field section came on the stream of a CONNECT";
    FieldNameCase: Message 400 PROTOCOL 0 "RFC 9113 §8.2.1" "a field name holds an upper-case letter";
    FieldValueSyntax: Message 400 PROTOCOL 0 "RFC 9113 §8.2.1" "a field value holds a control byte, or begins or ends with white space";
    ConnectionField: Message 400 PROTOCOL 0 "RFC 9113 §8.2.2" "a field belongs to one connection of HTTP/1.1";
    TeValue: Message 400 PROTOCOL 0 "RFC 9113 §8.2.2" "TE says something other than trailers";
    TooManyCrumbs: Message 431 CALM 0 "RFC 6585 §5" "there are too many cookie crumbs" limit CookieCrumbs;
    ContentLengthDisagrees: Message 400 PROTOCOL 0 "RFC 9113 §8.1.1" "the content is not as long as Content-Length says";
    FieldSectionFlood: Connection 431 CALM 0 "RFC 9113 §10.5.1" "the field section is four times too large, or has ten times too many lines" limit FieldSectionBytes;
    HeaderBlockTooLarge: Connection 431 CALM 0 "RFC 9113 §10.5.1" "the header block is too large" limit HeaderBlockBytes;
    HeaderCompression: Connection 400 COMPRESSION 0 "RFC 9113 §4.3" "the header block cannot be decoded";
    // HTTP/2: frames
    PrefaceSyntax: Connection 400 PROTOCOL 0 "RFC 9113 §3.4" "the client's preface is not the one of HTTP/2, with SETTINGS behind it";
    FrameSize: Connection 400 FRAME_SIZE 0 "RFC 9113 §4.2" "a frame is too long, or not as long as its type says";
    PrioritySize: Message 400 FRAME_SIZE 0 "RFC 9113 §6.3" "a PRIORITY frame is not five bytes long";
    FrameStream: Connection 400 PROTOCOL 0 "RFC 9113 §5.1.1" "a frame of a stream stands on the connection, or the other way round";
    StreamNumber: Connection 400 PROTOCOL 0 "RFC 9113 §5.1.1" "a new stream's number is even, or not above all before it";
    StreamIdle: Connection 400 PROTOCOL 0 "RFC 9113 §5.1" "a frame came on a stream that was never opened";
    StreamClosed: Connection 400 CLOSED 0 "RFC 9113 §5.1" "a frame came on a stream that is closed";
    StreamHalfClosed: Message 400 CLOSED 0 "RFC 9113 §5.1" "a frame came behind the end of its stream";
    TrailersWithoutEnd: Message 400 PROTOCOL 0 "RFC 9113 §8.1" "a trailer section does not end its stream";
    PushPromise: Connection 400 PROTOCOL 0 "RFC 9113 §8.4" "a client cannot push";
    Padding: Connection 400 PROTOCOL 0 "RFC 9113 §6.1" "the padding is as long as the frame, or longer";
    HeaderBlockCut: Connection 400 PROTOCOL 0 "RFC 9113 §6.10" "a header block is interrupted, or continued where none is open";
    ContinuationFlood: Connection 431 CALM 0 "RFC 9113 §10.5" "too many CONTINUATION frames" limit ContinuationFrames;
    SettingsSyntax: Connection 400 PROTOCOL 0 "RFC 9113 §6.5.2" "a setting has a value that it cannot have";
    SettingsWindow: Connection 400 FLOW 0 "RFC 9113 §6.5.2" "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1, or takes a window there";
    SettingsFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too many settings in a frame" limit SettingsEntries;
    SettingsUnasked: Connection 400 PROTOCOL 0 "RFC 9113 §6.5.3" "an acknowledgement of settings that were not sent";
    SettingsTimeout: Connection 408 SETTINGS 0 "RFC 9113 §6.5.3" "our settings were not acknowledged in time" limit SettingsAckMs;
    WindowUpdateZero: Connection 400 PROTOCOL 0 "RFC 9113 §6.9" "WINDOW_UPDATE by nothing on the connection";
    WindowUpdateZeroStream: Message 400 PROTOCOL 0 "RFC 9113 §6.9" "WINDOW_UPDATE by nothing on a stream";
    WindowOverflow: Connection 400 FLOW 0 "RFC 9113 §6.9.1" "the connection's window goes above 2^31-1";
    WindowOverflowStream: Message 400 FLOW 0 "RFC 9113 §6.9.1" "a stream's window goes above 2^31-1";
    WindowExceeded: Connection 400 FLOW 0 "RFC 9113 §6.9.1" "more content than the connection's window allows" limit ConnectionWindowBytes;
    WindowExceededStream: Message 400 FLOW 0 "RFC 9113 §6.9.1" "more content than the stream's window allows";
    TooManyStreams: Message 503 REFUSED 0 "RFC 9113 §5.1.2" "too many streams at once" limit ConcurrentStreams;
    GoawayNumber: Connection 400 PROTOCOL 0 "RFC 9113 §6.8" "a later GOAWAY names a higher stream";
    SelfDependency: Message 400 PROTOCOL 0 "RFC 7540 §5.3.1" "a stream depends on itself";
    PriorityUpdateStream: Connection 400 PROTOCOL 0 "RFC 9218 §7.1" "PRIORITY_UPDATE names no stream of a request, or more of them than may come";
    // HTTP/2: floods
    ResetFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too many streams that are reset" limit ResetBurst;
    GlitchFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too many odd frames" limit GlitchBurst;
    EmptyFrameFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too many frames without content" limit EmptyFrames;
    SmallFrameFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too many small frames that nobody takes" limit SmallFrameBytes;
    PriorityFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too many priority frames" limit PriorityFrames;
    OverheadFlood: Connection 400 CALM 0 "RFC 9113 §10.5" "too little content for so many frames" limit OverheadBytes;
    Stalled: Message 408 CANCEL 0 "RFC 9113 §10.5" "a response waits too long for its window" limit StallMs;
    StallFlood: Connection 408 CALM 0 "RFC 9113 §10.5" "a third response waits too long for its window" limit StallMs;
    // Accept
    ProxySignature: Connection 400 PROTOCOL 0 "PROXY protocol §2" "the connection does not begin with a PROXY header";
    ProxyLine: Connection 400 PROTOCOL 0 "PROXY protocol §2.1" "the line of a PROXY header is malformed";
    ProxyLineTooLong: Connection 400 PROTOCOL 0 "PROXY protocol §2.1" "the line of a PROXY header does not end within 107 bytes";
    ProxyAddress: Connection 400 PROTOCOL 0 "PROXY protocol §2.1" "an address or a port of a PROXY header is malformed";
    ProxyVersion: Connection 400 PROTOCOL 0 "PROXY protocol §2.2" "a PROXY header has a version or a command that does not exist";
    ProxyFamily: Connection 400 PROTOCOL 0 "PROXY protocol §2.2" "a PROXY header has an address family or a transport that does not exist";
    ProxyLength: Connection 400 PROTOCOL 0 "PROXY protocol §2.2" "a PROXY header is too short for its addresses";
    ProxyTooLong: Connection 400 PROTOCOL 0 "PROXY protocol §2.2" "a PROXY header is too long" limit ProxyHeaderBytes;
    ProxyTlv: Connection 400 PROTOCOL 0 "PROXY protocol §2.2" "a value of a PROXY header is malformed, or stands twice";
    ProxyChecksum: Connection 400 PROTOCOL 0 "PROXY protocol §2.2.3" "the checksum of a PROXY header is wrong";
    ProxyTruncated: Connection 400 PROTOCOL 0 "PROXY protocol §2.2" "the connection ended inside a PROXY header";
    ProxyTimeout: Connection 408 CANCEL 0 "PROXY protocol §2" "the PROXY header did not arrive in time" limit HeadMs;
    Overloaded: Connection 503 CALM 0 "RFC 9110 §15.6.4" "the server has too many connections";
    NoMemory: Connection 500 INTERNAL 0 "RFC 9110 §15.6.1" "the server has no memory for what this needs";
    // Time and rates
    HeadTimeout: Connection 408 CANCEL 0 "RFC 9112 §9.5" "the head did not arrive in time" limit HeadMs;
    HandshakeTimeout: Connection 408 CANCEL 90 "RFC 9112 §9.5" "the TLS handshake did not end in time" limit HandshakeMs;
    IdleTimeout: Connection 408 CANCEL 0 "RFC 9112 §9.5" "the connection was idle too long" limit IdleMs;
    BodyTooSlow: Message 408 CALM 0 "RFC 9110 §15.5.9" "the body arrives too slowly" limit MinRate;
    ReaderTooSlow: Connection 408 CALM 0 "RFC 9112 §9.5" "the response is read too slowly" limit MinRate;
    // TLS (alerts: RFC 8446 §6)
    TlsRecordType: Connection 400 PROTOCOL 10 "RFC 8446 §5.1" "not a TLS record, or one that may not come now";
    TlsRecordVersion: Connection 400 PROTOCOL 70 "RFC 8446 §5.1" "the record's version is not TLS";
    TlsPlainHttp: Connection 400 PROTOCOL 10 "RFC 8446 §5.1" "plain HTTP on the TLS port";
    TlsRecordTooLong: Connection 400 PROTOCOL 22 "RFC 8446 §5.2" "a record is too long";
    TlsRecordEmpty: Connection 400 PROTOCOL 10 "RFC 8446 §5.1" "an empty record of a kind that may not be empty";
    TlsEmptyRecords: Connection 400 CALM 10 "RFC 8446 §5.1" "too many records without content" limit EmptyRecords;
    TlsHandshakeRecords: Connection 400 CALM 10 "RFC 8446 §5.1" "too many records in a handshake" limit HandshakeRecords;
    TlsHandshakeTooLong: Connection 400 PROTOCOL 47 "RFC 8446 §4" "a handshake message is too long" limit HandshakeMessageBytes;
    TlsClientHelloTooLong: Connection 400 PROTOCOL 47 "RFC 8446 §4" "the ClientHello is too long" limit ClientHelloBytes;
    TlsHandshake: Connection 400 PROTOCOL 40 "RFC 8446 §4" "the handshake failed";
    TlsCertificate: Connection 400 PROTOCOL 42 "RFC 8446 §4.4.2" "the client's certificate was refused";
    TlsCertificateMissing: Connection 400 PROTOCOL 116 "RFC 8446 §4.4.2.4" "the client has sent no certificate where one is required";
    TlsCertificatesTooMany: Connection 400 PROTOCOL 42 "RFC 8446 §4.4.2" "the client's chain has too many certificates" limit ClientCertificates;
    TlsCertificatesTooLong: Connection 400 PROTOCOL 42 "RFC 8446 §4.4.2" "the client's chain of certificates is too long" limit ClientCertificateBytes;
    TlsNoApplicationProtocol: Connection 400 PROTOCOL 120 "RFC 7301 §3.2" "no application protocol in common";
    TlsServerName: Connection 400 PROTOCOL 112 "RFC 6066 §3" "the server name is not one that is served here";
    TlsVersion: Connection 400 PROTOCOL 70 "RFC 8446 §4.2.1" "no TLS version in common";
    TlsBadRecord: Connection 400 PROTOCOL 20 "RFC 8446 §5.2" "a record did not authenticate";
    TlsInnerPlaintext: Connection 400 PROTOCOL 10 "RFC 8446 §5.4" "a record holds no content type, or one that may not come now";
    TlsKeyUpdate: Connection 400 PROTOCOL 50 "RFC 8446 §4.6.3" "a KeyUpdate is malformed, or shares its record";
    TlsKeyUpdateValue: Connection 400 PROTOCOL 47 "RFC 8446 §4.6.3" "a KeyUpdate asks for what does not exist";
    TlsKeyUpdateFlood: Connection 400 CALM 10 "RFC 8446 §4.6.3" "too many records that carry no data" limit KeyUpdateBurst;
    TlsPostHandshake: Connection 400 PROTOCOL 10 "RFC 8446 §4.6" "a handshake message that may not come after the handshake";
    TlsRenegotiation: Connection 400 PROTOCOL 10 "RFC 5246 §7.2.2" "the client insists on renegotiation";
    TlsAlertSyntax: Connection 400 PROTOCOL 50 "RFC 8446 §6" "an alert is not two bytes";
    TlsWarnings: Connection 400 CALM 10 "RFC 8446 §6" "too many warning alerts" limit WarningAlerts;
    TlsChangeCipherSpec: Connection 400 PROTOCOL 10 "RFC 8446 appendix D.4" "a ChangeCipherSpec that may not come now" limit CompatibilityCcs;
    TlsPeerAlert: Connection 400 CANCEL 0 "RFC 8446 §6.2" "the peer sent a fatal alert";
    TlsTruncated: Connection 400 CANCEL 0 "RFC 8446 §6.1" "the connection ended without close_notify";
    TlsKeysWornOut: Connection 400 INTERNAL 80 "RFC 8446 §5.5" "a key has sealed or opened as much as it safely can";
    TlsInternal: Connection 500 INTERNAL 80 "RFC 8446 §6.2" "the TLS library failed";
    TlsNoMemory: Connection 500 INTERNAL 80 "RFC 8446 §6.2" "the server has no memory for the handshake";
    // Content codings
    CodingUnknown: Message 415 REFUSED 0 "RFC 9110 §8.4" "the content coding is not known here";
    CodingLayers: Message 415 REFUSED 0 "RFC 9110 §8.4" "too many layers of content coding" limit CodingLayers;
    DecodedTooLarge: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "the decoded body is too large" limit DecodedBytes;
    DecodedRatio: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "the body decodes to too many times its size" limit DecodedRatio;
    DecoderStalled: Message 400 CALM 0 "RFC 1951 §3.2" "coded bytes that decode to next to nothing" limit RatioFreeBytes;
    DecoderPool: Message 503 REFUSED 0 "RFC 9110 §15.6.4" "no room for another decoder" limit DecoderPoolBytes;
    GzipHeader: Message 400 PROTOCOL 0 "RFC 1952 §2.3" "the gzip header is malformed";
    GzipHeaderTooLong: Message 400 PROTOCOL 0 "RFC 1952 §2.3" "the gzip header is too long" limit GzipHeaderBytes;
    GzipTrailer: Message 400 PROTOCOL 0 "RFC 1952 §2.3.1" "the gzip checksum or length is wrong";
    GzipMembers: Message 400 PROTOCOL 0 "RFC 1952 §2.2" "bytes follow the gzip member";
    ZlibHeader: Message 400 PROTOCOL 0 "RFC 1950 §2.2" "the zlib header is malformed";
    ZlibTrailer: Message 400 PROTOCOL 0 "RFC 1950 §2.2" "the zlib checksum is wrong, or bytes follow it";
    DeflateData: Message 400 PROTOCOL 0 "RFC 1951 §3.2" "the compressed data is malformed";
    // Content codings: brotli and zstd
    BrotliWindow: Message 400 PROTOCOL 0 "RFC 7932 §9.1" "the brotli window is too large" limit BrotliWindowBytes;
    BrotliData: Message 400 PROTOCOL 0 "RFC 7932 §9.2" "the brotli stream is malformed";
    BrotliTrailing: Message 400 PROTOCOL 0 "RFC 7932 §9" "bytes follow the brotli stream";
    ZstdHeader: Message 400 PROTOCOL 0 "RFC 8878 §3.1.1" "not the header of a Zstandard frame";
    ZstdWindow: Message 400 PROTOCOL 0 "RFC 9659 §3" "the window of the Zstandard frame is too large" limit ZstdWindowBytes;
    ZstdDictionary: Message 400 PROTOCOL 0 "RFC 8878 §3.1.1.1.3" "the Zstandard frame needs a dictionary";
    ZstdData: Message 400 PROTOCOL 0 "RFC 8878 §3.1.1.2" "a block of the Zstandard frame is malformed";
    ZstdChecksum: Message 400 PROTOCOL 0 "RFC 8878 §3.1.1" "the checksum of the Zstandard frame is wrong";
    ZstdTrailing: Message 400 PROTOCOL 0 "RFC 8878 §3.1" "bytes follow the Zstandard frame";
    CodedTruncated: Message 400 PROTOCOL 0 "RFC 9110 §8.4" "the coded body ends too soon";
    // Text and JSON
    Utf8: Message 400 PROTOCOL 0 "RFC 3629 §3" "the text is not UTF-8";
    CharsetUnsupported: Message 415 PROTOCOL 0 "RFC 9110 §8.3.2" "the charset is not supported";
    JsonEmpty: Message 400 PROTOCOL 0 "RFC 8259 §2" "there is no JSON text";
    JsonByteOrderMark: Message 400 PROTOCOL 0 "RFC 8259 §8.1" "the JSON text begins with a byte order mark or is not UTF-8";
    JsonSyntax: Message 400 PROTOCOL 0 "RFC 8259 §2" "the JSON text is malformed";
    JsonTruncated: Message 400 PROTOCOL 0 "RFC 8259 §2" "the JSON text ends too soon";
    JsonTrailing: Message 400 PROTOCOL 0 "RFC 8259 §2" "something follows the JSON text";
    JsonNumber: Message 400 PROTOCOL 0 "RFC 8259 §6" "a JSON number is malformed";
    JsonNumberTooLong: Message 400 PROTOCOL 0 "RFC 8259 §6" "a JSON number is too long" limit JsonNumberBytes;
    JsonNumberRange: Message 400 PROTOCOL 0 "RFC 8259 §6" "a JSON number lies outside what its receiver can hold";
    JsonString: Message 400 PROTOCOL 0 "RFC 8259 §7" "a JSON string holds a raw control character or a bad escape";
    JsonSurrogate: Message 400 PROTOCOL 0 "RFC 8259 §8.2" "a JSON string escapes half of a surrogate pair";
    JsonDepth: Message 400 PROTOCOL 0 "RFC 8259 §9" "the JSON text is nested too deeply" limit JsonDepth;
    JsonDuplicateKey: Message 400 PROTOCOL 0 "RFC 8259 §4" "a JSON object holds a key twice";
    JsonKeyTooLong: Message 400 PROTOCOL 0 "RFC 8259 §4" "a JSON object key is too long" limit JsonKeyBytes;
    JsonTooManyKeys: Message 400 PROTOCOL 0 "RFC 8259 §4" "a JSON object has too many keys" limit JsonKeys;
    JsonWhitespace: Message 400 PROTOCOL 0 "RFC 8259 §2" "the JSON text holds too much white space" limit JsonWhitespaceBytes;
    JsonShape: Message 400 PROTOCOL 0 "RFC 8259 §3" "the JSON text is not the value that was asked for";
    // Media types and forms
    MediaTypeSyntax: Message 400 PROTOCOL 0 "RFC 9110 §8.3.1" "the media type is malformed";
    MediaTypeParameters: Message 400 PROTOCOL 0 "RFC 9110 §5.6.6" "the media type has more than 16 parameters";
    MediaTypeParameterRepeated: Message 400 PROTOCOL 0 "RFC 6838 §4.3" "a parameter of the media type stands more than once";
    MediaTypeUnsupported: Message 415 PROTOCOL 0 "RFC 9110 §15.5.16" "the media type is not one that is taken here";
    FormEscape: Message 400 PROTOCOL 0 "WHATWG URL §5.1" "a percent sign in a form is not followed by two hexadecimal digits";
    FormTooManyFields: Message 413 CANCEL 0 "WHATWG URL §5.1" "a form has too many fields" limit FormFields;
    FormNameTooLong: Message 400 PROTOCOL 0 "WHATWG URL §5.1" "a name in a form is too long" limit FormNameBytes;
    FormValueTooLong: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "a value in a form is too long" limit FormValueBytes;
    FormShape: Message 400 PROTOCOL 0 "WHATWG URL §5.1" "the form is not the value that was asked for";
    MultipartBoundary: Message 400 PROTOCOL 0 "RFC 2046 §5.1.1" "the boundary of a multipart body is missing or malformed";
    MultipartPreamble: Message 400 PROTOCOL 0 "RFC 2046 §5.1.1" "a multipart body does not begin with its boundary";
    MultipartDelimiter: Message 400 PROTOCOL 0 "RFC 2046 §5.1.1" "a boundary is not followed by the end of its line";
    MultipartTruncated: Message 400 PROTOCOL 0 "RFC 2046 §5.1.1" "a multipart body ends before its closing boundary";
    MultipartEpilogue: Message 400 PROTOCOL 0 "RFC 2046 §5.1.1" "something follows the closing boundary of a multipart body";
    MultipartTooManyParts: Message 413 CANCEL 0 "RFC 2046 §5.1" "a multipart body has too many parts" limit Parts;
    PartHeadTooLarge: Message 400 PROTOCOL 0 "RFC 2046 §5.1" "the header of a part is too large" limit PartHeadBytes;
    PartHeadOverHandler: Message 400 PROTOCOL 0 "RFC 2046 §5.1" "the header of a part is larger than what its handler keeps";
    PartFieldSyntax: Message 400 PROTOCOL 0 "RFC 2046 §5.1" "a field line of a part is malformed";
    PartDisposition: Message 400 PROTOCOL 0 "RFC 7578 §4.2" "Content-Disposition of a part is not form-data with one name, once";
    PartTransferEncoding: Message 400 PROTOCOL 0 "RFC 7578 §4.7" "a part has a Content-Transfer-Encoding that codes it";
    PartFileTooLarge: Message 413 CANCEL 0 "RFC 9110 §15.5.14" "a file of a multipart body is too large" limit PartFileBytes;
    // Protobuf and gRPC
    ProtobufTag: Message 400 PROTOCOL 0 "Protobuf encoding" "a Protobuf tag is too long, or has a field number or wire type that does not exist";
    ProtobufGroup: Message 400 PROTOCOL 0 "Protobuf encoding" "a Protobuf message holds a group";
    ProtobufVarint: Message 400 PROTOCOL 0 "Protobuf encoding" "a Protobuf varint does not fit 64 bits";
    ProtobufLength: Message 400 PROTOCOL 0 "Protobuf encoding" "a Protobuf field is longer than what it stands in";
    ProtobufTruncated: Message 400 PROTOCOL 0 "Protobuf encoding" "the Protobuf message ends too soon";
    ProtobufDepth: Message 400 PROTOCOL 0 "Protobuf encoding" "the Protobuf message is nested too deeply" limit ProtobufDepth;
    ProtobufTooLarge: Message 400 PROTOCOL 0 "Protobuf encoding" "the Protobuf message is too large" limit ProtobufMessageBytes;
    ProtobufTooMany: Message 400 PROTOCOL 0 "Protobuf encoding" "the Protobuf message has too many fields and elements" limit ProtobufElements;
    ProtobufShape: Message 400 PROTOCOL 0 "Protobuf encoding" "the Protobuf message is not of the type that was asked for";
    GrpcFlag: Message 400 PROTOCOL 0 "gRPC over HTTP/2" "the flag in front of a gRPC message is neither 0 nor 1";
    GrpcTooLarge: Message 413 CANCEL 0 "gRPC over HTTP/2" "a gRPC message is too large" limit ProtobufMessageBytes;
    GrpcTruncated: Message 400 PROTOCOL 0 "gRPC over HTTP/2" "the content ends inside a gRPC message";
    GrpcEncoding: Message 415 REFUSED 0 "gRPC over HTTP/2" "the encoding of the gRPC messages is not known here";
    GrpcUnnamedEncoding: Message 400 PROTOCOL 0 "gRPC over HTTP/2" "a gRPC message is compressed, and grpc-encoding does not say how";
    GrpcTimeout: Message 400 PROTOCOL 0 "gRPC over HTTP/2" "grpc-timeout is not one to eight digits and a unit";
}

impl Rule {
    const fn row(self) -> &'static Row {
        &Self::TABLE[self as usize]
    }
}

/// What a peer did wrong: the rule, where in the input, and for limits the value that was passed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The rule that was broken.
    pub rule: Rule,
    /// Offset of the offending byte: in the connection's plaintext for HTTP/1.1, in the received bytes for TLS, in the
    /// decoded body for text, JSON, Protobuf, gRPC, and what is decoded to too much, in the coded body for the rest of the codings.
    pub at: u64,
    /// The value of the limit that was passed, or of the handler's own cap; 0 for rules that are no limits.
    pub value: u64,
}

impl Violation {
    /// A broken rule that is no limit.
    pub const fn new(rule: Rule, at: u64) -> Violation {
        Violation { rule, at, value: 0 }
    }

    /// A broken limit, with the value in force.
    pub const fn over(rule: Rule, at: u64, limits: &Limits) -> Violation {
        let value = match rule.row().limit {
            Some(limit) => limits.get(limit),
            None => 0,
        };
        Violation { rule, at, value }
    }

    /// The same, `by` bytes further on.
    pub const fn shifted(mut self, by: u64) -> Violation {
        self.at = self.at.saturating_add(by);
        self
    }

    /// The rule's name, as in [`Rule`].
    pub const fn name(&self) -> &'static str {
        Rule::NAMES[self.rule as usize]
    }

    /// What happened, in a sentence.
    pub const fn text(&self) -> &'static str {
        self.rule.row().text
    }

    /// How far it reaches.
    pub const fn scope(&self) -> Scope {
        self.rule.row().scope
    }

    /// The HTTP status that answers it.
    pub const fn status(&self) -> u16 {
        self.rule.row().status
    }

    /// The HTTP/2 error code (RFC 9113 §7).
    pub const fn h2_code(&self) -> u32 {
        self.rule.row().h2
    }

    /// The HTTP/3 error code (RFC 9114 §8.1).
    pub const fn h3_code(&self) -> u32 {
        self.rule.row().h3
    }

    /// The TLS alert (RFC 8446 §6); 0 where none is due.
    pub const fn alert(&self) -> u8 {
        self.rule.row().alert
    }

    /// Where the rule is written.
    pub const fn section(&self) -> &'static str {
        self.rule.row().section
    }

    /// The limit that was passed, if it was one.
    pub const fn limit(&self) -> Option<Limit> {
        self.rule.row().limit
    }
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({}) at byte {}", self.text(), self.section(), self.at)?;
        match self.limit() {
            Some(limit) => write!(f, ", {} is {}", limit.name(), self.value),
            None if self.value > 0 => write!(f, ", at most {}", self.value), // the handler's own cap
            None => Ok(()),
        }
    }
}

impl core::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_status_a_section_and_a_sentence() {
        for &rule in Rule::ALL {
            let v = Violation::over(rule, 7, &Limits::DEFAULT);
            assert!((400..=505).contains(&v.status()), "{rule:?}");
            let documents = ["RFC ", "WHATWG ", "Protobuf ", "gRPC ", "PROXY protocol "];
            assert!(documents.iter().any(|d| v.section().starts_with(d)), "{rule:?}");
            assert!(!v.text().is_empty());
            assert_eq!(v.limit().is_some(), v.value != 0, "{rule:?}");
        }
        assert_eq!(
            Violation::over(Rule::HeadTimeout, 3, &Limits::DEFAULT).to_string(),
            "the head did not arrive in time (RFC 9112 §9.5) at byte 3, head_ms is 10000"
        );
    }
}

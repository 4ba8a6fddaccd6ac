//! The table of reasons for which an HTTP/2 message is refused after its fields were decoded.

use std::fmt;

/// What becomes of the stream of a message that is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// RST_STREAM(PROTOCOL_ERROR): the message is malformed (RFC 9113 8.1.1).
    Reset,
    /// A response with this status: the message is well formed and asks for too much.
    Status(u16),
}

/// `Variant "name" answer "text";`
macro_rules! reasons {
    ($($variant:ident $name:literal $answer:expr, $text:literal;)*) => {
        /// Why a message is refused.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Malformed {
            $(#[doc = $text] $variant,)*
        }

        impl Malformed {
            /// All of them.
            pub const ALL: &'static [Malformed] = &[$(Malformed::$variant,)*];

            /// Stable name for counters and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Malformed::$variant => $name,)* }
            }
            /// What the sender of a request gets.
            pub const fn answer(self) -> Answer {
                match self { $(Malformed::$variant => $answer,)* }
            }
            /// One phrase for an operator.
            pub const fn text(self) -> &'static str {
                match self { $(Malformed::$variant => $text,)* }
            }
        }
    };
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Malformed {}

reasons! {
    Pseudo "pseudo" Answer::Reset, "a pseudo-header field that no request has, or one that is there twice";
    Method "method" Answer::Reset, "`:method` is missing or not a token";
    Scheme "scheme" Answer::Reset, "`:scheme` is missing or malformed";
    Path "path" Answer::Reset, "`:path` is missing, empty or has a byte that no path has";
    PathTooLong "path-too-long" Answer::Status(414), "`:path` is too long";
    Authority "authority" Answer::Reset, "`:authority` is not a host with an optional port";
    AuthorityDiffers "authority-differs" Answer::Reset, "Host differs from `:authority`";
    Connect "connect" Answer::Reset, "CONNECT with pseudo-header fields that it does not have, or without those it needs";
    Protocol "protocol" Answer::Status(501), "an extended CONNECT for a protocol other than websocket";
    Status "status" Answer::Reset, "`:status` is not a status code, or 101";
    Name "name" Answer::Reset, "a field name is empty or has a byte that no name has";
    Uppercase "uppercase" Answer::Reset, "a field name with an uppercase letter";
    Value "value" Answer::Reset, "a control byte in a field value, or space at one of its ends";
    HopByHop "hop-by-hop" Answer::Reset, "a field that is about one connection of HTTP/1";
    Trailer "trailer" Answer::Reset, "a trailer field that frames or routes messages";
    TooLarge "too-large" Answer::Status(431), "the head is too large";
    TooMany "too-many" Answer::Status(431), "the head has too many fields";
}

//! The table of reasons for which an HTTP/1 message is refused: names for counters, status codes for replies.

use std::fmt;

/// A message that is refused: why, and where the evidence stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Index of the offending byte in the bytes that the parser was given; zero when it is not one byte's fault.
    pub at: usize,
}

impl Refusal {
    pub(crate) const fn new(reason: Reason, at: usize) -> Refusal {
        Refusal { reason, at }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.reason.text(), self.at)
    }
}

impl std::error::Error for Refusal {}

/// `Variant "name" status "text";`
macro_rules! reasons {
    ($($variant:ident $name:literal $status:literal $text:literal;)*) => {
        /// Why a message is refused. The same for requests and responses; a response that is refused becomes a 502.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $text] $variant,)*
        }

        impl Reason {
            /// All of them, in the order of their indexes: rows for counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// Stable name for counters and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
            /// Status code of the reply to a request that is refused for it.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$variant => $status,)* }
            }
            /// One phrase for an operator.
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$variant => $text,)* }
            }
        }
    };
}

impl Reason {
    /// Its row in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

reasons! {
    EmptyLines "empty-lines" 400 "too many empty lines before the message";
    MethodSyntax "method-syntax" 400 "the method is not a token followed by one space";
    MethodTooLong "method-too-long" 501 "the method is longer than any that is known";
    TargetSyntax "target-syntax" 400 "the request target is empty or has a byte that no target has";
    TargetTooLong "target-too-long" 414 "the request target is too long";
    TargetForm "target-form" 400 "the request target has a form that the method does not take";
    Authority "authority" 400 "the authority of the request target is malformed";
    VersionSyntax "version-syntax" 400 "the start line does not end with HTTP/ and a version";
    VersionUnsupported "version-unsupported" 505 "the version is neither HTTP/1.0 nor HTTP/1.1";
    StatusSyntax "status-syntax" 502 "the status line has no three-digit code";
    BareCr "bare-cr" 400 "CR without LF";
    BareLf "bare-lf" 400 "LF without CR";
    Nul "nul" 400 "NUL byte";
    NameSyntax "name-syntax" 400 "a header name is empty or has a byte that no name has";
    NameTooLong "name-too-long" 431 "a header name is too long";
    NoColon "no-colon" 400 "a header line without colon";
    SpaceBeforeColon "space-before-colon" 400 "space between a header name and the colon";
    ValueSyntax "value-syntax" 400 "a control byte in a header value";
    LeadingSpace "leading-space" 400 "space before the first header";
    ObsFold "obs-fold" 400 "a header goes on in the next line";
    HeadTooLarge "head-too-large" 431 "the head is too large";
    TooManyHeaders "too-many-headers" 431 "the head has too many headers";
    HostMissing "host-missing" 400 "an HTTP/1.1 request without Host";
    HostRepeated "host-repeated" 400 "more than one Host";
    HostSyntax "host-syntax" 400 "Host is not a host with an optional port";
    HostDiffers "host-differs" 400 "Host differs from the authority of the request target";
    LengthSyntax "length-syntax" 400 "Content-Length is not a number";
    LengthList "length-list" 400 "Content-Length is a list";
    LengthRepeated "length-repeated" 400 "Content-Length is there more than once";
    LengthDiffers "length-differs" 400 "two Content-Length differ";
    LengthTooLarge "length-too-large" 413 "Content-Length is larger than any body";
    LengthWithCoding "length-with-coding" 400 "Content-Length beside Transfer-Encoding";
    CodingOnHttp10 "coding-on-http10" 400 "Transfer-Encoding in an HTTP/1.0 message";
    CodingSyntax "coding-syntax" 400 "Transfer-Encoding is not a list of tokens";
    CodingUnknown "coding-unknown" 501 "a transfer coding other than chunked";
    ChunkedNotLast "chunked-not-last" 400 "chunked is not the last transfer coding";
    ChunkedRepeated "chunked-repeated" 400 "chunked is applied twice";
    ConnectBody "connect-body" 400 "CONNECT with a body";
    UnexpectedSwitch "unexpected-switch" 502 "101 without an Upgrade in the request";
    ChunkSize "chunk-size" 400 "a chunk size is not a hexadecimal number";
    ChunkTooLarge "chunk-too-large" 413 "a chunk size is larger than any body";
    ChunkExtension "chunk-extension" 400 "a malformed chunk extension";
    ChunkExtensionTooLong "chunk-extension-too-long" 400 "chunk extensions are too long";
    ChunkEnd "chunk-end" 400 "chunk data is not followed by CRLF";
    TrailerTooLarge "trailer-too-large" 431 "the trailer section is too large";
    TrailerForbidden "trailer-forbidden" 400 "a trailer field that frames or routes messages";
    HeadTimeout "head-timeout" 408 "the head did not arrive in time";
    BodyTimeout "body-timeout" 408 "the body did not arrive in time";
    BodyTooLarge "body-too-large" 413 "the body is larger than configured";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_codes_are_those_that_are_promised() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!([400, 408, 413, 414, 431, 501, 502, 505].contains(&reason.status()));
            assert!(Reason::ALL[..index].iter().all(|other| other.name() != reason.name()));
        }
    }
}

//! The `traceparent` header of W3C Trace Context: where a request stands in a trace. What `tracestate` says is passed on as
//! it is, or dropped where the header beside it is no good.

/// Bytes of a header of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// The one flag of version 00: the caller records this request.
const SAMPLED: u8 = 1;

/// A place in a trace: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The trace; never all zero.
    pub trace: [u8; 16],
    /// The span that speaks; never all zero.
    pub span: [u8; 8],
    /// Whether it records.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads a header; `None`: it is as if it were not there (section 4.3 of the recommendation).
    pub fn parse(text: &[u8]) -> Option<TraceContext> {
        let (own, more) = text.trim_ascii().split_at_checked(TRACEPARENT_BYTES)?;
        let [version] = hex(&own[..2])?;
        // A later version may have more fields behind these.
        let ends_well = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.first().is_none_or(|byte| *byte == b'-'),
        };
        let are_apart = [2, 35, 52].iter().all(|at| own[*at] == b'-');
        let (trace, span) = (hex(&own[3..35])?, hex(&own[36..52])?);
        let [flags] = hex(&own[53..])?;
        let is_good = ends_well && are_apart && trace != [0; 16] && span != [0; 8];
        is_good.then_some(TraceContext { trace, span, is_sampled: flags & SAMPLED != 0 })
    }

    /// The header.
    pub fn header(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-                                -                -00";
        put_hex(&self.trace, &mut text[3..35]);
        put_hex(&self.span, &mut text[36..52]);
        put_hex(&[if self.is_sampled { SAMPLED } else { 0 }], &mut text[53..]);
        text
    }
}

/// Small letters alone are digits here.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (text.len() == 2 * N).then_some(bytes)
}

fn put_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written() {
        let context = TraceContext::parse(GOOD.as_bytes()).expect("the one of the recommendation");
        assert_eq!((context.trace[0], context.span[7], context.is_sampled), (0x4b, 0xb7, true));
        assert_eq!(context.header(), GOOD.as_bytes());
        let unsampled = TraceContext { is_sampled: false, ..context };
        assert!(unsampled.header().ends_with(b"-00"));
        assert_eq!(TraceContext::parse(format!(" {GOOD}\t").as_bytes()), Some(context));
    }

    #[test]
    fn later_versions_may_say_more() {
        for (text, is_good) in [
            (GOOD.replace("00-4", "cc-4"), true),
            (GOOD.replace("00-4", "cc-4") + "-what", true),
            (GOOD.replace("00-4", "cc-4") + ".what", false),
            (GOOD.to_owned() + "-what", false),
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()).is_some(), is_good, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_no_context() {
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47g6-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
    }
}

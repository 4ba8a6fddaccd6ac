//! Text with positions: words and their quoting, as HAProxy's configuration reads them.

use crate::config::expr::ExprError;

/// A piece of a text, with the offset of each byte in the text that the operator wrote.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    /// One more than bytes: the last is the offset of the end.
    offsets: Vec<usize>,
}

impl Source {
    /// The whole text.
    pub(super) fn new(text: &str) -> Source {
        Source { bytes: text.as_bytes().to_vec(), offsets: (0..=text.len()).collect() }
    }

    /// Where a byte stands in the text.
    pub(super) fn offset(&self, at: usize) -> usize {
        self.offsets[at.min(self.bytes.len())]
    }

    /// As text; quoting works on bytes and never cuts a character.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(super) fn peek(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The place of the first byte that is not white space, from `at` on.
    pub(super) fn skip_space(&self, mut at: usize) -> usize {
        while self.peek(at).is_some_and(|b| b.is_ascii_whitespace()) {
            at += 1;
        }
        at
    }

    /// The word at `at`, without its quotes and backslashes, and the place after it. Quotes keep white space together; single
    /// quotes keep backslashes too. `None` at the end of the text.
    pub(super) fn word(&self, at: usize) -> Result<Option<(Source, usize)>, ExprError> {
        let start = self.skip_space(at);
        if start >= self.bytes.len() {
            return Ok(None);
        }
        let mut word = Source { bytes: Vec::new(), offsets: Vec::new() };
        let mut quote: Option<(u8, usize)> = None;
        let mut at = start;
        while let Some(byte) = self.peek(at) {
            match (byte, quote) {
                (b, None) if b.is_ascii_whitespace() => break,
                (b'"' | b'\'', None) => quote = Some((byte, at)),
                (b, Some((open, _))) if b == open => quote = None,
                (b'\\', q) if q.is_none_or(|(open, _)| open == b'"') => {
                    let (byte, used) = self.escape(at, q.is_some());
                    word.push(byte, self.offset(at));
                    at += used - 1;
                }
                (b, _) => word.push(b, self.offset(at)),
            }
            at += 1;
        }
        if let Some((_, open)) = quote {
            return Err(ExprError::at(self.offset(open), "this quote is not closed".to_owned()));
        }
        word.offsets.push(self.offset(at));
        Ok(Some((word, at)))
    }

    /// What a backslash at `at` means, and how many bytes it takes. It protects white space, quotes, itself, `#` and `$`, and writes `\n`, `\r`,
    /// `\t` and `\xNN` outside of quotes; before anything else it stays, so that regular expressions read as they are.
    fn escape(&self, at: usize, quoted: bool) -> (u8, usize) {
        match self.peek(at + 1) {
            Some(b @ (b'"' | b'\\' | b'$')) => (b, 2),
            Some(b @ (b'\'' | b' ' | b'#')) if !quoted => (b, 2),
            Some(b'n') if !quoted => (b'\n', 2),
            Some(b'r') if !quoted => (b'\r', 2),
            Some(b't') if !quoted => (b'\t', 2),
            Some(b'x') if !quoted => {
                let digit = |at| char::from(self.peek(at)?).to_digit(16);
                match (digit(at + 2), digit(at + 3)) {
                    (Some(high), Some(low)) => {
                        (u8::try_from(high << 4 | low).expect("two hexadecimal digits make a byte"), 4)
                    }
                    _ => (b'\\', 1),
                }
            }
            _ => (b'\\', 1),
        }
    }

    fn push(&mut self, byte: u8, offset: usize) {
        self.bytes.push(byte);
        self.offsets.push(offset);
    }
}

/// An argument of a fetch or a converter.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    pub(super) text: Vec<u8>,
    pub(super) offset: usize,
}

impl Source {
    /// The arguments in parentheses; `at` is the place after the opening one. Commas separate; quotes and backslashes protect commas,
    /// parentheses and spaces. Also gives the place after the closing parenthesis.
    pub(super) fn arguments(&self, mut at: usize) -> Result<(Vec<Arg>, usize), ExprError> {
        let open = self.offset(at.saturating_sub(1));
        let mut args = Vec::new();
        let mut arg = Arg { text: Vec::new(), offset: self.offset(at) };
        let mut quote: Option<u8> = None;
        loop {
            let Some(byte) = self.peek(at) else {
                let what = if quote.is_some() { "a quote" } else { "this parenthesis" };
                return Err(ExprError::at(open, format!("{what} is not closed")));
            };
            match (byte, quote) {
                (b')', None) => break,
                (b',', None) => {
                    let next = Arg { text: Vec::new(), offset: self.offset(at + 1) };
                    args.push(std::mem::replace(&mut arg, next));
                }
                (b'"' | b'\'', None) => quote = Some(byte),
                (b, Some(open)) if b == open => quote = None,
                (b'\\', q) if q != Some(b'\'') => match self.peek(at + 1) {
                    Some(b @ (b'"' | b'\\')) => {
                        arg.text.push(b);
                        at += 1;
                    }
                    Some(b @ (b'\'' | b',' | b'(' | b')' | b' ')) if q.is_none() => {
                        arg.text.push(b);
                        at += 1;
                    }
                    _ => arg.text.push(b'\\'),
                },
                (b, _) => arg.text.push(b),
            }
            at += 1;
        }
        // `f()` has one empty argument as `f('')` has: HAProxy's `str()` is an empty text.
        args.push(arg);
        Ok((args, at + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_quotes_and_keep_offsets() {
        let source = Source::new(r#"  a\ b 'c "d' "e \"f" \.g x\x41"#);
        let mut at = 0;
        let mut words = Vec::new();
        while let Some((word, after)) = source.word(at).expect("well formed") {
            words.push((word.text(), word.offset(0)));
            at = after;
        }
        let expected = [("a b", 2), ("c \"d", 8), ("e \"f", 15), (r"\.g", 22), ("xA", 26)];
        assert_eq!(words, expected.map(|(w, o)| (w.to_owned(), o)));
        assert_eq!(Source::new("a 'b").word(1).expect_err("open quote").offset, 2);
    }

    #[test]
    fn arguments_are_split_at_bare_commas() {
        let cases: &[(&str, &[&str])] = &[
            ("a,b)", &["a", "b"]),
            (")", &[""]),
            ("a,,b)", &["a", "", "b"]),
            (r"',',x')',\,)", &[",", "x)", ","]),
            (r#""a\.b","\2\1")"#, &[r"a\.b", r"\2\1"]),
            (r#"'\',"\"")"#, &[r"\", "\""]),
            ("a b)", &["a b"]),
        ];
        for (text, expected) in cases {
            let (args, after) = Source::new(text).arguments(0).expect("well formed");
            let texts: Vec<_> = args.iter().map(|a| String::from_utf8_lossy(&a.text).into_owned()).collect();
            assert_eq!(texts, *expected, "{text}");
            assert_eq!(after, text.len());
        }
        assert!(Source::new("a,'b)").arguments(0).is_err());
    }
}

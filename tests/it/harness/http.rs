//! HTTP for the tests, written without the code under test: a scripted origin, and a client that reads one response.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::origin::Shared;
use super::{Origin, Shardgate};

/// A message as it came over the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// Start line and header lines, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The start line.
    pub(crate) fn start(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start().split(' ').nth(1);
        code.and_then(|c| c.parse().ok()).unwrap_or_else(|| panic!("no status in {:?}", self.head))
    }

    /// The values of a header, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection with what was read too far.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Wire { stream, ahead: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the peer takes it");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// A GET on this connection and its response.
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response("GET")
    }

    /// The next response to a request of that method; panics when it is cut short.
    pub(crate) fn response(&mut self, method: &str) -> Message {
        self.try_response(method).expect("a whole response")
    }

    pub(crate) fn try_response(&mut self, method: &str) -> io::Result<Message> {
        let mut message = Message { head: self.head()?, ..Message::default() };
        let status = message.status();
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(message);
        }
        message.body = self.body(&message, true)?;
        Ok(message)
    }

    /// The next request; `None` when the peer closes between two.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut message = Message { head: self.head().ok()?, ..Message::default() };
        message.body = self.body(&message, false).ok()?;
        Some(message)
    }

    /// What comes next, as much as fits.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            return self.stream.read(into);
        }
        let n = self.ahead.len().min(into.len());
        into[..n].copy_from_slice(&self.ahead[..n]);
        self.ahead.drain(..n);
        Ok(n)
    }

    /// A head, its empty line taken.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.ahead[..at]).into_owned();
                self.ahead.drain(..at + 4);
                return Ok(head);
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buf = [0; 65536];
        let n = self.stream.read(&mut buf)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ahead.extend_from_slice(&buf[..n]);
        Ok(())
    }

    pub(crate) fn exactly(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < n {
            self.more()?;
        }
        Ok(self.ahead.drain(..n).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.ahead[..at]).into_owned();
                self.ahead.drain(..at + 2);
                return Ok(line);
            }
            self.more()?;
        }
    }

    fn body(&mut self, message: &Message, until_close: bool) -> io::Result<Vec<u8>> {
        if message.header("transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let size = usize::from_str_radix(self.line()?.split(';').next().unwrap_or_default(), 16)
                    .map_err(io::Error::other)?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    return Ok(body);
                }
                body.extend(self.exactly(size)?);
                assert_eq!(self.line()?, "", "CRLF behind a chunk");
            }
        }
        match message.header("content-length") {
            Some(length) => self.exactly(length.parse().expect("a number")),
            None if until_close => {
                let mut body = std::mem::take(&mut self.ahead);
                self.stream.read_to_end(&mut body)?;
                Ok(body)
            }
            None => Ok(Vec::new()),
        }
    }

    /// Whatever comes until the end; a reset is an end too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.ahead);
        let mut buf = [0; 65536];
        while let Ok(n @ 1..) = self.stream.read(&mut buf) {
            all.extend_from_slice(&buf[..n]);
        }
        all
    }

    /// Whether the peer has closed, nothing before it.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.ahead.is_empty() && !matches!(self.stream.read(&mut [0; 1]), Ok(1))
    }
}

impl Origin {
    /// Answers each request with what `answer` makes of it, on connections that stay open.
    pub(crate) fn http(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        Self::wire(move |wire, shared| {
            while let Some(request) = wire.request() {
                shared.note(format!("{}\r\n\r\n", request.head).as_bytes());
                if wire.stream.write_all(answer(&request).as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers each request with its head.
    pub(crate) fn mirror() -> Self {
        Self::http(|request| ok(&request.head))
    }

    /// Plays a script on each connection.
    pub(crate) fn wire(script: impl Fn(&mut Wire, &Shared) + Send + Sync + 'static) -> Self {
        Self::new(move |stream, shared| script(&mut Wire::new(stream), shared))
    }

    /// Says its name in each response.
    pub(crate) fn http_named(name: &'static str) -> Self {
        Self::http(move |_| ok(name))
    }
}

impl Shardgate {
    /// A client of a frontend.
    pub(crate) fn wire(&self, frontend: &str) -> Wire {
        Wire::new(self.connect(frontend))
    }
}

/// A response with a body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A proxy in HTTP mode with one server, and what more its frontend, backend and server say.
pub(crate) fn http_gate(server: &Origin, frontend: &str, backend: &str, keywords: &str) -> Shardgate {
    Shardgate::with(&sections(server, frontend, backend, keywords)).defaults("mode = \"http\"").start()
}

/// The sections of [`http_gate`].
pub(crate) fn sections(server: &Origin, frontend: &str, backend: &str, keywords: &str) -> String {
    format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "be"
{frontend}
[backend.be]
{backend}
[backend.be.server.s1]
address = "{}"
{keywords}
"#,
        server.address
    )
}

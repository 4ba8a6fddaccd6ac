//! Log formats: `%ci [%t] %{+Q}r %[src,lower]`, with names for JSON and CBOR: `%(status)ST`.

use crate::config::expr::sample;
use crate::config::expr::source::Source;
use crate::config::expr::{ExprError, Needs, Scope, closest};
use crate::policy::format::Flags;
use crate::policy::log::{Encoding, FIELDS, Field, Keep, LogFormat, Moment, Part};

/// `option tcplog`.
pub const TCPLOG: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";

/// `option httplog`.
pub const HTTPLOG: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
                           %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";

/// `option httpslog`.
pub const HTTPSLOG: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
                            %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r \
                            %[fc_err]/%[ssl_fc_err,hex]/%[ssl_c_err]/%[ssl_c_ca_err]/%[ssl_fc_is_resumed] \
                            %[ssl_fc_sni]/%sslv/%sslc";

/// What HAProxy writes of a connection whose PROXY header or handshake failed.
pub const REFUSED: &str = "%ci:%cp [%t] %f/%[so_name]: %[fc_err_str]";

/// `option httplog clf`.
pub const CLF: &str = "%{+Q}o %{-Q}ci - - [%trg] %r %ST %B \"\" \"\" %cp %ms %ft %b %s %TR %Tw %Tc %Tr %Ta \
                       %tsc %ac %fc %bc %sc %rc %sq %bq %CC %CS %hrl %hsl";

/// What a line of `log-format = "json"` has in both modes.
const JSON: &str = "%{+json}o %(time)TI %(frontend)f %(backend)b %(server)s %(client.address)ci \
                    %(client.port)cp %(server.address)si %(server.port)sp %(bytes.in)U %(bytes.out)B \
                    %(time.queue_us)Twu %(time.connect_us)Tcu %(time.response_us)Tru %(time.transfer_us)Tdu \
                    %(time.total_us)Tau %(end)EC %(end.by)EB %(end.code)tsc %(retries)rc \
                    %(tls.version)sslv %(tls.cipher)sslc %(tls.server_name)[ssl_fc_sni] \
                    %(tls.client.subject)[ssl_c_s_dn]";

/// What it has in HTTP mode besides.
const JSON_HTTP: &str = "%(status)ST %(method)HM %(protocol)HV %(time.request_us)TRu %(unique_id)ID \
                         %(trace_id)tid %(span_id)sid %(host)HH %(url.full)HUF \
                         %(user_agent)[req.hdr(user-agent)] %(request)r %(upstream.request)SR";

/// What a span says: names of OpenTelemetry's semantic conventions where there is one.
pub const SPAN: &str = "%{+json}o %(http.request.method)HM %(url.full)HUF %(http.response.status_code)ST \
                        %(server.address)HH %(client.address)ci %(client.port)cp \
                        %(network.protocol.version)HV %(tls.protocol.version)sslv %(http.request.size)U \
                        %(http.response.size)B %(shardgate.frontend)f %(shardgate.backend)b \
                        %(shardgate.server)s %(shardgate.server.address)si %(shardgate.server.port)sp \
                        %(shardgate.end)EC %(shardgate.end.by)EB %(shardgate.end.code)tsc \
                        %(shardgate.retries)rc %(shardgate.queue_us)Twu %(shardgate.connect_us)Tcu \
                        %(shardgate.response_us)Tru %(shardgate.transfer_us)Tdu";

/// The text of `log-format = "json"`.
pub fn json_preset(is_http: bool) -> String {
    if is_http { format!("{JSON} {JSON_HTTP}") } else { JSON.to_owned() }
}

/// Compiles a log format. Values that are only there while a message is are added to `keep`.
pub(super) fn parse(text: &str, keep: &mut Vec<Keep>, scope: &mut Scope<'_>) -> Result<LogFormat, ExprError> {
    let mut parser = Parser {
        source: Source::new(text),
        parts: Vec::new(),
        literal: Vec::new(),
        flags: Flags::default(),
        encoding: Encoding::Plain,
        keep,
    };
    let mut at = 0;
    while let Some(byte) = parser.source.peek(at) {
        at = match byte {
            b'%' if parser.source.peek(at + 1) == Some(b'%') => {
                parser.literal.push(b'%');
                at + 2
            }
            b'%' => parser.item(at, scope)?,
            byte if byte.is_ascii_whitespace() => {
                parser.push(Part::Space);
                at + 1
            }
            byte => {
                parser.literal.push(byte);
                at + 1
            }
        };
    }
    parser.flush();
    if parser.encoding != Encoding::Plain {
        parser.names()?;
    }
    Ok(LogFormat::new(parser.parts, parser.encoding))
}

struct Parser<'k> {
    source: Source,
    parts: Vec<Part>,
    literal: Vec<u8>,
    flags: Flags,
    encoding: Encoding,
    keep: &'k mut Vec<Keep>,
}

impl Parser<'_> {
    fn flush(&mut self) {
        if !self.literal.is_empty() {
            let text = std::mem::take(&mut self.literal);
            self.parts.push(Part::Text(text.into()));
        }
    }

    fn push(&mut self, part: Part) {
        self.flush();
        if matches!((self.parts.last(), &part), (Some(Part::Space), Part::Space)) {
            return;
        }
        self.parts.push(part);
    }

    /// An object has items with names, each of them once.
    fn names(&self) -> Result<(), ExprError> {
        let mut names: Vec<&str> = self.parts.iter().filter_map(Part::name).collect();
        if names.is_empty() {
            let error = self.error(0, "no item of this object has a name".to_owned());
            return Err(error.help("write %(client)ci, %(agent)[req.hdr(user-agent)]".to_owned()));
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(self.error(0, format!("two items of this object are named \"{}\"", pair[0]))),
            None => Ok(()),
        }
    }

    fn error(&self, at: usize, message: String) -> ExprError {
        ExprError::at(self.source.offset(at), message)
    }

    /// `%...` at a place; gives the place after it.
    fn item(&mut self, percent: usize, scope: &mut Scope<'_>) -> Result<usize, ExprError> {
        let (own, encoding, after) = self.flags(percent + 1)?;
        let (name, at) = self.name(after)?;
        if self.source.peek(at) == Some(b'[') {
            let (parsed, end) =
                sample::parse(&self.source, self.source.skip_space(at + 1), Some(b']'), scope)?;
            let end = self.source.skip_space(end);
            if self.source.peek(end) != Some(b']') {
                return Err(self.error(at, "this bracket is not closed".to_owned()));
            }
            parsed.needs.check(scope.context, &parsed.fetch).map_err(|(message, help)| ExprError {
                offset: self.source.offset(percent),
                message,
                help: Some(help),
            })?;
            let moment = match parsed.needs {
                Needs::Request => Some(Moment::Request),
                Needs::Response => Some(Moment::Response),
                _ => None,
            };
            let part = match moment {
                Some(moment) => {
                    let kind = parsed.expr.kind();
                    self.keep.push(Keep { expr: parsed.expr, moment });
                    Part::Kept(self.keep.len() - 1, kind, own, name)
                }
                None => Part::Value(parsed.expr, own, name),
            };
            self.push(part);
            return Ok(end + 1);
        }
        let rest = &self.source.bytes[at..];
        let len = rest.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
        let word = String::from_utf8_lossy(&rest[..len]).into_owned();
        if word == "o" {
            self.flags = own;
            self.encoding = encoding.unwrap_or(self.encoding);
            return Ok(at + 1);
        }
        if encoding.is_some() {
            let message = "json and cbor hold for the whole line".to_owned();
            return Err(self.error(percent, message).help("write %{+json}o at the beginning".to_owned()));
        }
        let field = self.field(percent, &word)?;
        self.push(Part::Field(field, own, name));
        Ok(at + len)
    }

    fn field(&self, percent: usize, word: &str) -> Result<Field, ExprError> {
        if let Some(info) = Field::find(word) {
            return Ok(info.field);
        }
        let help = "write %% for a percent sign, %[EXPRESSION] for a value";
        if word.is_empty() {
            let error = self.error(percent, "nothing follows the percent sign".to_owned());
            return Err(error.help(help.to_owned()));
        }
        let close = closest(word, FIELDS.iter().map(|info| info.name));
        let close = close.map(|c| format!("did you mean `%{c}`? ")).unwrap_or_default();
        Err(self.error(percent, format!("unknown variable `%{word}`")).help(format!("{close}{help}")))
    }

    /// `(name)`; a type behind a colon is accepted and not needed.
    fn name(&self, at: usize) -> Result<(Option<Box<str>>, usize), ExprError> {
        if self.source.peek(at) != Some(b'(') {
            return Ok((None, at));
        }
        let rest = &self.source.bytes[at + 1..];
        let Some(len) = rest.iter().position(|b| *b == b')') else {
            return Err(self.error(at, "this parenthesis is not closed".to_owned()));
        };
        let text = String::from_utf8_lossy(&rest[..len]).into_owned();
        let name = text.split(':').next().unwrap_or_default().trim();
        Ok(((!name.is_empty()).then(|| name.into()), at + len + 2))
    }

    /// `{+Q,-X}` if it is there.
    fn flags(&self, at: usize) -> Result<(Flags, Option<Encoding>, usize), ExprError> {
        let (mut flags, mut encoding) = (self.flags, None);
        if self.source.peek(at) != Some(b'{') {
            return Ok((flags, encoding, at));
        }
        let rest = &self.source.bytes[at + 1..];
        let Some(len) = rest.iter().position(|b| *b == b'}') else {
            return Err(self.error(at, "this brace is not closed".to_owned()));
        };
        for flag in rest[..len].split(|b| *b == b',') {
            let flag = flag.trim_ascii();
            let (on, word) = match flag {
                [b'+', word @ ..] => (true, word),
                [b'-', word @ ..] => (false, word),
                word => (true, word),
            };
            match word {
                b"Q" => flags.quote = on,
                b"X" => flags.hex = on,
                b"E" => flags.escape = on,
                // Everything is mandatory: what is missing is a dash.
                b"M" => {}
                b"json" => encoding = Some(if on { Encoding::Json } else { Encoding::Plain }),
                b"cbor" if on => {
                    let bin = encoding == Some(Encoding::Cbor { bin: true });
                    encoding = Some(Encoding::Cbor { bin });
                }
                b"cbor" => encoding = Some(Encoding::Plain),
                b"bin" => encoding = Some(Encoding::Cbor { bin: on }),
                _ => {
                    let flag = String::from_utf8_lossy(flag).into_owned();
                    let error = self.error(at + 1, format!("unknown flag `{flag}`"));
                    let help = "flags are +Q (quotes), +X (hexadecimal), +E (escapes), +json, +cbor, +bin";
                    return Err(error.help(help.to_owned()));
                }
            }
        }
        Ok((flags, encoding, at + len + 2))
    }
}

//! The kinds of tables that have keywords of their own.

/// A kind of table that has keywords of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Scope {
    /// `[global]`
    Global,
    /// `[admin]`
    Admin,
    /// An entry of `admin.socket`
    AdminSocket,
    /// `[defaults]`
    Defaults,
    /// `[frontend.NAME]`
    Frontend,
    /// `[listen.NAME]`
    Listen,
    /// `[backend.NAME]`
    Backend,
    /// `[backend.NAME.server.NAME]`
    Server,
    /// `[backend.NAME.server-template.NAME]`
    ServerTemplate,
    /// `default-server = {...}`
    DefaultServer,
    /// An entry of `bind`
    Bind,
    /// The value of `tls` in a bind
    BindTls,
    /// An entry of `certificates`
    BindCertificate,
    /// The value of `tls` in a server
    ServerTls,
    /// An entry of `connection-rules`
    ConnectionRule,
    /// An entry of `rules`
    Rule,
    /// The value of `set-var`
    SetVar,
    /// An entry of `tcp-check`
    TcpCheck,
    /// The value of `stick-table`
    StickTable,
    /// An entry of `stick`
    StickRule,
    /// The value of `track-sc0` and its kin
    TrackSc,
    /// The value of `sc-add-gpc` and its kin
    ScChange,
    /// `[http-errors.NAME]`
    HttpErrors,
    /// `[userlist.NAME]`
    Userlist,
    /// `[userlist.NAME.user.NAME]`
    User,
    /// `[userlist.NAME.group.NAME]`
    Group,
    /// An entry of `response-rules`
    ResponseRule,
    /// The value of `set-header`, `add-header` and `early-hint`
    HeaderValue,
    /// The value of `del-header`
    DelHeader,
    /// The value of `replace-header` and `replace-value`
    ReplaceHeader,
    /// The value of `replace-path` and `replace-uri`
    ReplaceUri,
    /// The value of `deny`, `return` and `tarpit`
    Reply,
    /// The value of `redirect`
    Redirect,
    /// The value of `auth`
    Auth,
    /// The value of `capture`
    Capture,
    /// The value of `wait-for-body`
    WaitForBody,
    /// The value of `set-timeout`
    SetTimeout,
    /// The value of `set-status`
    SetStatus,
    /// The value of `forwardfor` and `originalto`
    AddressHeader,
    /// The value of `cookie` in a backend
    Cookie,
    /// The value of `httpchk`
    HttpChk,
    /// An entry of `http-check`
    HttpCheck,
    /// The value of `send` in `http-check`
    HttpCheckSend,
    /// The value of `connect` in `http-check` and `tcp-check`
    CheckConnect,
    /// An entry of `log`
    LogTarget,
    /// An entry of `capture.request-header`
    CaptureHeader,
    /// `[ring.NAME]`
    Ring,
    /// `[vip.NAME]`
    Vip,
    /// `[gateway.INTERFACE]`
    Gateway,
    /// `[bgp]`
    Bgp,
}

impl Scope {
    /// All of them, in the order of the documentation.
    pub const ALL: &[Scope] = &[
        Scope::Global,
        Scope::Admin,
        Scope::AdminSocket,
        Scope::Defaults,
        Scope::Frontend,
        Scope::Listen,
        Scope::Backend,
        Scope::Bind,
        Scope::BindTls,
        Scope::BindCertificate,
        Scope::ServerTls,
        Scope::ConnectionRule,
        Scope::Rule,
        Scope::SetVar,
        Scope::Server,
        Scope::ServerTemplate,
        Scope::DefaultServer,
        Scope::TcpCheck,
        Scope::StickTable,
        Scope::StickRule,
        Scope::TrackSc,
        Scope::ScChange,
        Scope::HttpErrors,
        Scope::Userlist,
        Scope::User,
        Scope::Group,
        Scope::ResponseRule,
        Scope::HeaderValue,
        Scope::DelHeader,
        Scope::ReplaceHeader,
        Scope::ReplaceUri,
        Scope::Reply,
        Scope::Redirect,
        Scope::Auth,
        Scope::Capture,
        Scope::WaitForBody,
        Scope::SetTimeout,
        Scope::SetStatus,
        Scope::AddressHeader,
        Scope::Cookie,
        Scope::HttpChk,
        Scope::HttpCheck,
        Scope::HttpCheckSend,
        Scope::CheckConnect,
        Scope::LogTarget,
        Scope::CaptureHeader,
        Scope::Ring,
        Scope::Vip,
        Scope::Gateway,
        Scope::Bgp,
    ];

    /// How the operator writes it.
    pub fn title(self) -> &'static str {
        match self {
            Scope::Global => "[global]",
            Scope::Admin => "[admin]",
            Scope::AdminSocket => "admin socket",
            Scope::Defaults => "[defaults]",
            Scope::Frontend => "[frontend.NAME]",
            Scope::Listen => "[listen.NAME]",
            Scope::Backend => "[backend.NAME]",
            Scope::Server => "[backend.NAME.server.NAME]",
            Scope::ServerTemplate => "[backend.NAME.server-template.NAME]",
            Scope::DefaultServer => "default-server",
            Scope::Bind => "bind",
            Scope::BindTls => "tls of a bind",
            Scope::BindCertificate => "certificates",
            Scope::ServerTls => "tls of a server",
            Scope::ConnectionRule => "connection-rules",
            Scope::Rule => "rules",
            Scope::SetVar => "set-var",
            Scope::TcpCheck => "tcp-check",
            Scope::StickTable => "stick-table",
            Scope::StickRule => "stick",
            Scope::TrackSc => "track-sc0",
            Scope::ScChange => "sc-add-gpc",
            Scope::HttpErrors => "[http-errors.NAME]",
            Scope::Userlist => "[userlist.NAME]",
            Scope::User => "[userlist.NAME.user.NAME]",
            Scope::Group => "[userlist.NAME.group.NAME]",
            Scope::ResponseRule => "response-rules",
            Scope::HeaderValue => "set-header",
            Scope::DelHeader => "del-header",
            Scope::ReplaceHeader => "replace-header",
            Scope::ReplaceUri => "replace-path",
            Scope::Reply => "deny, return, tarpit",
            Scope::Redirect => "redirect",
            Scope::Auth => "auth",
            Scope::Capture => "capture",
            Scope::WaitForBody => "wait-for-body",
            Scope::SetTimeout => "set-timeout",
            Scope::SetStatus => "set-status",
            Scope::AddressHeader => "forwardfor",
            Scope::Cookie => "cookie",
            Scope::HttpChk => "httpchk",
            Scope::HttpCheck => "http-check",
            Scope::HttpCheckSend => "http-check send",
            Scope::CheckConnect => "check connect",
            Scope::LogTarget => "log",
            Scope::CaptureHeader => "capture.request-header",
            Scope::Ring => "[ring.NAME]",
            Scope::Vip => "[vip.NAME]",
            Scope::Gateway => "[gateway.INTERFACE]",
            Scope::Bgp => "[bgp]",
        }
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scopes(u64);

impl Scopes {
    /// These scopes.
    pub const fn of(scopes: &[Scope]) -> Scopes {
        let mut bits = 0;
        let mut at = 0;
        while at < scopes.len() {
            bits |= scopes[at].bit();
            at += 1;
        }
        Scopes(bits)
    }
    /// Whether the scope is among them.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}

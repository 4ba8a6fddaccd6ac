//! Sample fetches and the expressions made of them: `src`, `req.ssl_sni,lower`.

/// A compiled expression: one fetch and its converters.
#[derive(Clone, Debug)]
pub struct Expr;

//! Settings that give away what TLS is for.

use crate::config::resolve::layout::{Layout, Proxy};
use crate::config::section::Context;
use crate::model::tls::ClientAuth;
use crate::model::{Model, ServerAddress};

use super::strings;

/// Certificates that nobody verifies.
pub(super) fn servers(context: &Context<'_>, layout: &Layout<'_>, model: &Model) {
    for (_, backend) in model.backends.iter() {
        let first = backend.servers.iter().find(|id| {
            let server = &model.servers[*id];
            let is_near = match &server.address {
                ServerAddress::Ip(address) => address.ip().is_loopback(),
                ServerAddress::Name { .. } => false,
                _ => true,
            };
            server.tls.as_deref().is_some_and(|tls| !tls.verify) && !is_near
        });
        if let Some(id) = first {
            let message = format!(
                "the certificate of {} is not verified: whoever gets in between can answer in its place and read along",
                model.servers[id].name
            );
            let help = "name who signed it with ca-file and write verify = \"required\"".to_owned();
            context.warning(layout.servers[id].at, message, Some(help));
        }
    }
}

/// What binds give away.
pub(super) fn proxy(context: &Context<'_>, proxy: &Proxy<'_>, model: &Model) {
    let Some(frontend) = proxy.frontend else { return };
    let mut texts = Vec::new();
    for entry in proxy.section.own().into_iter().flat_map(|own| &own.entries) {
        strings(&entry.value, &mut texts);
    }
    let looks = texts.iter().any(|text| text.contains("ssl_c_") || text.contains("ssl_fc_has_crt"));
    for (_, bind) in model.binds.iter().filter(|(_, bind)| bind.frontend == frontend) {
        let Some(tls) = bind.tls.as_deref() else { continue };
        if tls.handshake.verify == ClientAuth::Optional && !looks {
            let message =
                "clients without a certificate come in as well, and no rule of this section tells them apart";
            let help = "write verify = \"required\", or a rule with ssl_c_used".to_owned();
            context.warning(proxy.section.value_at("bind"), message, Some(help));
        }
        if tls.key_log.is_some() {
            let message = "secrets of connections are written to a file: whoever reads it reads the traffic";
            let help = "remove tls-keylog once the problem is found".to_owned();
            context.warning(proxy.section.value_at("bind"), message, Some(help));
        }
    }
}

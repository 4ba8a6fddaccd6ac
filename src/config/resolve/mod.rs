//! The parsed file -> Model: defaults, names -> ids, conditions compiled, everything cross-checked. Goes on after an error,
//! so that the operator sees all of them; there is a model only if there is none.
//!
//! Order: `layout` finds the sections and gives out ids, backends are built (frontends refer to them), then frontends with
//! their rules, then what only shows when all is known (`crosscheck`).

mod again;
mod backend;
mod balance;
mod bind;
mod check;
mod crosscheck;
mod frontend;
mod gateway;
mod global;
mod http;
mod language;
mod layout;
mod lint;
mod log;
mod rules;
mod server;
mod stick;
mod tls;
mod track;
mod vip;

use std::sync::Arc;

use crate::base::id::IdVec;
use crate::config::Env;
use crate::config::diag::Diagnostic;
use crate::config::file::File;
use crate::config::kept::Backends;
use crate::config::section::Context;
use crate::model::Model;
use crate::policy::sample::VariableTable;

pub(in crate::config) use again::Again;
use layout::Layout;
pub(crate) use tls::SUITES;

/// Resolves a parsed file, with what is there of another one. There is a model exactly if no diagnostic is an error.
pub(in crate::config) fn resolve(
    file: &File,
    env: &Env,
    mut again: Again,
) -> (Option<Model>, Vec<Diagnostic>, Backends) {
    let context = Context::new(file, env);
    let layout = Layout::find(&context, &again);
    let mut model = build(&context, &layout, &mut again);
    let kept = again.keep(&layout, &model);
    if !context.has_errors() {
        lint::lint(&context, &layout, &model);
    }
    http::add_internal(&mut model);
    let diagnostics = context.finish();
    let wrong = diagnostics.iter().any(Diagnostic::is_error);
    ((!wrong).then_some(model), diagnostics, kept)
}

fn build(context: &Context<'_>, layout: &Layout<'_>, again: &mut Again) -> Model {
    let mut variables = VariableTable::default();
    let backends: IdVec<_, _> =
        layout.backends().map(|place| again.backend(layout, place, &mut variables)).collect();
    let servers = server::servers(layout, &backends, again, &mut variables);
    let userlists = http::userlists(context, layout);
    let mut binds = bind::Binds::default();
    let mut logs = log::Logs::new(layout);
    let frontends: IdVec<_, _> = layout
        .frontends()
        .map(|(proxy, id)| frontend::frontend(layout, proxy, id, (&mut binds, &mut logs), &mut variables))
        .collect();
    let global = global::global(
        &layout.global,
        &layout.admin,
        &context.env.cpus,
        &context.env.hostname,
        logs.events(),
    );
    let bind::Binds { table: binds, at } = binds;
    let patterns = layout.patterns.files();
    let logging = logs.logging;
    let tables = layout.tables.clone();
    let vips = vip::vips(context, layout);
    let bgp = vip::bgp(context, &vips);
    let gateways = gateway::gateways(context);
    let mut model = Model {
        global,
        frontends,
        binds,
        backends: Arc::new(backends),
        servers: Arc::new(servers),
        variables,
        tables,
        patterns,
        files: context.files(),
        logging,
        userlists,
        vips,
        bgp,
        gateways,
    };
    model.number_rules();
    crosscheck::crosscheck(context, layout, &model, &at);
    model
}

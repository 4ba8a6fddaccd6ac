//! Commands about certificates: HAProxy's `ssl cert` and `ssl crt-list`. What they mean is `tls::Desk`, what stands in a line of a list `import::crt_list`.

use crate::control::cli::session::{Answer, Call, Reply, done};
use crate::control::cli::target::Job;
use crate::import::crt_list;
use crate::model::tls::BindTls;
use crate::tls::{NewLine, Order};

/// Does it; the answer to a change comes when all cores have made it.
fn perform(call: &mut Call<'_>, order: &Order<'_>) -> Answer {
    let (text, changed) = call.target.certificates(order)?;
    Ok(if changed { Reply::Job(Job::Settle, Box::new(move |_| text)) } else { Reply::Text(text) })
}

fn name<'a>(call: &Call<'a>, at: usize) -> Result<&'a str, String> {
    call.args.get(at).map(String::as_str).ok_or_else(|| "The name of a certificate is missing.".to_owned())
}

pub(super) fn show(call: &mut Call<'_>) -> Answer {
    let name = call.args.first().map(String::as_str);
    perform(call, &Order::Show(name))
}

pub(super) fn dump(call: &mut Call<'_>) -> Answer {
    let name = name(call, 0)?;
    perform(call, &Order::Dump(name))
}

pub(super) fn new(call: &mut Call<'_>) -> Answer {
    let name = name(call, 0)?;
    perform(call, &Order::New(name))
}

pub(super) fn set(call: &mut Call<'_>) -> Answer {
    let name = name(call, 0)?;
    let Some(payload) = call.payload else {
        return Err(
            "The certificate is missing: 'set ssl cert <name> <<', then PEM, then an empty line.".to_owned()
        );
    };
    perform(call, &Order::Set(name, payload))
}

pub(super) fn commit(call: &mut Call<'_>) -> Answer {
    let name = name(call, 0)?;
    perform(call, &Order::Commit(name))
}

pub(super) fn abort(call: &mut Call<'_>) -> Answer {
    let name = name(call, 0)?;
    perform(call, &Order::Abort(name))
}

pub(super) fn del(call: &mut Call<'_>) -> Answer {
    let name = name(call, 0)?;
    perform(call, &Order::Del(name))
}

pub(super) fn show_list(call: &mut Call<'_>) -> Answer {
    let numbered = call.args.iter().any(|arg| arg == "-n");
    let name = call.args.iter().map(String::as_str).find(|arg| *arg != "-n");
    perform(call, &Order::ShowList(name, numbered))
}

/// `add ssl crt-list LIST NAME`, or with a line `NAME [OPTIONS] HOST...` as payload.
pub(super) fn add_to_list(call: &mut Call<'_>) -> Answer {
    let list = call.args.first().map(String::as_str);
    let list = list.ok_or_else(|| "The name of a list is missing (see show ssl crt-list).".to_owned())?;
    let payload = call.payload.and_then(|payload| payload.lines().find(|line| !line.trim().is_empty()));
    let text = payload.map_or_else(|| call.args[1..].join(" "), str::to_owned);
    let line = crt_list::line(&text).map_err(|why| format!("This is no line of a crt-list: {why}."))?;
    let line = line.ok_or_else(|| "The name of a certificate is missing.".to_owned())?;
    let settings = |tls: &BindTls| {
        crt_list::settings(&line, tls).map_err(|why| format!("These options cannot be had: {why}"))
    };
    let order = Order::AddToList(NewLine {
        list,
        certificate: line.certificate,
        names: line.names.clone(),
        settings: if line.options.is_empty() { None } else { Some(&settings) },
    });
    perform(call, &order)
}

pub(super) fn del_from_list(call: &mut Call<'_>) -> Answer {
    let (Some(list), Some(name)) = (call.args.first(), call.args.get(1)) else {
        return Err("This command takes a list and a certificate.".to_owned());
    };
    perform(call, &Order::DelFromList(list, name))
}

pub(super) fn update_ocsp(call: &mut Call<'_>) -> Answer {
    call.target.update_ocsp();
    done()
}

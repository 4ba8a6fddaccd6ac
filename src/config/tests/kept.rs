//! A load that uses what the last one left comes to the same as one from nothing, whatever changed in between.

use std::sync::Arc;

use super::*;
use crate::base::rng::Rng;
use crate::config::pieces;

/// Sections, each with its header, that lean on each other in every way there is: names, ids, variables, files, tables, places.
const SECTIONS: &[&str] = &[
    "[global]\nmaxconn = 100\n",
    "[global]\nnode = \"n1\"\n",
    "[defaults]\nmode = \"http\"\ntimeout = { client = \"1s\", connect = \"1s\", server = \"1s\" }\n",
    "[defaults]\nmode = \"http\"\nretries = 2\n[defaults.timeout]\nclient = 1\nconnect = 2\nserver = 3\n",
    "[defaults]\nmode = \"http\"\ntimeout = { client = 1, connect = 1, server = 1 }\ndefault-server = { check = true, weight = 7 }\n",
    "[frontend.web]\nbind = \":8080\"\ndefault-backend = \"a\"\nrules = [{ use-backend = \"b\", if = \"{ path /b }\" }]\n",
    "[frontend.web]\nbind = \":8081\"\ndefault-backend = \"b\"\nrules = [{ set-var = { name = \"txn.x\", value = \"src\" } }]\n",
    "[listen.l]\nbind = \":9000\"\nserver.s.address = \"10.0.0.1:1\"\n",
    "[listen.a]\nbind = \":9001\"\nserver.s.address = \"10.0.0.1:1\"\n",
    "[userlist.users]\nuser.u = { insecure-password = \"p\" }\n",
    "[http-errors.pages]\nerrorfile = { 503 = \"/etc/503.http\" }\n",
    "[backend.a]\nserver.s1 = { address = \"10.0.0.1:80\", weight = 3 }\nserver.s2.address = \"10.0.0.2:80\"\n",
    "[backend.a]\nbalance = \"leastconn\"\n[backend.a.server.s1]\naddress = \"10.0.0.1:81\"\n# a comment\n",
    "[backend.b]\nserver.s1 = { address = \"name.test:80\", check = true, inter = \"5s\" }\n",
    "[backend.b]\nserver.s1 = { address = \"10.0.0.9:80\", track = \"a/s1\" }\n",
    "[backend.c]\nrules = [{ set-header = { name = \"x\", value = \"%[src]\" } }]\nserver.s.address = \"10.0.0.3:80\"\n",
    "[backend.c]\nrules = [{ set-header = { name = \"x\", value = \"%[var(txn.x)]\" } }]\nserver.s.address = \"10.0.0.3:80\"\n",
    "[backend.c]\nrules = [{ set-var = { name = \"txn.y\", value = \"src\" } }]\nserver.s.address = \"10.0.0.3:80\"\n",
    "[backend.d]\nerrorfiles = \"pages\"\nserver.s.address = \"10.0.0.4:80\"\n",
    "[backend.d]\nerrorfile = { 503 = \"/etc/503.http\" }\nserver.s.address = \"10.0.0.4:80\"\n",
    "[backend.e]\nstick-table = { type = \"ip\", size = \"1k\" }\nstick = [{ on = \"src\", table = \"f\" }]\nserver.s.address = \"10.0.0.5:80\"\n",
    "[backend.f]\nstick-table = { type = \"ip\", size = \"1k\", store = \"conn_cur\" }\nserver.s.address = \"10.0.0.5:80\"\n",
    "[backend.g]\nbalance = \"hash path\"\nacl.x = \"path -f /etc/ips\"\nrules = [{ deny = true, if = \"x\" }]\nserver.s.address = \"10.0.0.6:80\"\n",
    "[backend.h]\nid = 3\nserver.s = { address = \"10.0.0.7:80\", id = 9 }\nserver.t = { address = \"${BACKEND}:80\" }\n",
    "[backend.i]\nhttpchk = { uri = \"/up\" }\ncookie = { name = \"SRV\" }\nserver.s = { address = \"10.0.0.8:80\", check = true, cookie = \"c\" }\n",
    "[backend.j]\nrules = [{ auth = { realm = \"r\" }, unless = \"{ http_auth(users) }\" }]\nserver.s = { address = \"10.0.0.8:443\", tls = { verify = \"none\" } }\n",
    "[backend.k]\nstats = { enable = true, auth = \"u:p\" }\nserver.s.address = \"10.0.0.8:80\"\n",
    "[backend.l-1]\nuse-server = [{ server = \"s\", if = \"{ nbsrv(a) gt 1 }\" }]\nserver.s.address = \"10.0.0.8:80\"\n",
    "[backend.\"m.n\"]\nmode = \"tcp\"\nserver.s = { address = \"10.0.0.8:80\", send-proxy = true }\n",
    // Wrong, each in its own way.
    "[backend.w]\nserver.s = { weight = 3 }\n",
    "[backend.x]\nnonsense = 1\nserver.s.address = \"10.0.0.8:80\"\n",
    "[backend.\"y y\"]\nserver.s.address = \"10.0.0.8:80\"\n",
    "[backend.z]\nserver.s.address = \n",
    "[backend]\nb.server.s.address = \"10.0.0.8:80\"\n",
    "[node.host1.backend.a]\nretries = 1\n",
    "[nothing]\n",
    "# only a comment\n",
    "text = \"\"\"\n[backend.a]\n\"\"\"\n",
    "[frontend.v]\nrules = [\n[1],\n]\n",
];

fn whole(picked: &[usize]) -> String {
    picked.iter().map(|at| SECTIONS[*at]).collect()
}

/// One edit, as an operator makes them.
fn edit(picked: &mut Vec<usize>, rng: &mut Rng) {
    let pick = |rng: &mut Rng, n: usize| usize::try_from(rng.bits() % n.max(1) as u64).expect("small");
    match pick(rng, 6) {
        0 if picked.len() > 1 => drop(picked.remove(pick(rng, picked.len()))),
        1 if picked.len() > 1 => {
            let (a, b) = (pick(rng, picked.len()), pick(rng, picked.len()));
            picked.swap(a, b);
        }
        2 => {}
        _ => {
            let section = pick(rng, SECTIONS.len());
            let header = |at: usize| SECTIONS[at].lines().next();
            // Mostly the same section in another form.
            match picked.iter().position(|at| header(*at) == header(section)) {
                Some(at) if pick(rng, 20) > 0 => picked[at] = section,
                _ => picked.insert(pick(rng, picked.len() + 1), section),
            }
        }
    }
}

#[test]
fn what_is_kept_comes_to_the_same_as_a_load_from_nothing() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..12).collect::<Vec<u64>>(),
    };
    let (mut models, mut reused) = (0, 0);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let mut kept = Kept::default();
        let mut picked: Vec<usize> = vec![2, 5, 7, 11, 13];
        let mut before: Option<Model> = None;
        for step in 0..40 {
            // What is wrong gathers; now and then somebody puts it right.
            if step % 8 == 0 {
                picked = vec![2, 5, 7, 11, 13, 15, 24];
            }
            edit(&mut picked, &mut rng);
            let text = whole(&picked);
            let (expected, said) = load("t.toml", &text, &env());
            let (model, also) = kept.load("t.toml", &text, &env());
            let place = format!("SEED={seed} step {step}:\n{text}");
            assert_eq!(shown(&also), shown(&said), "{place}");
            assert_eq!(format!("{model:#?}"), format!("{expected:#?}"), "{place}");
            models += usize::from(model.is_some());
            if let (Some(before), Some(model)) = (&before, &model) {
                let is_old = |server| before.servers.values().any(|old| Arc::ptr_eq(old, server));
                reused += model.servers.values().filter(|server| is_old(server)).count();
            }
            before = model.or(before);
        }
    }
    assert!(models > 50 && reused > 50 || std::env::var_os("SEED").is_some(), "{models} {reused}");
}

#[test]
fn a_tree_of_pieces_is_that_of_the_whole() {
    let mut rows = 0;
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut picked: Vec<usize> = vec![2, 5, 11];
        let mut before = None;
        for step in 0..20 {
            edit(&mut picked, &mut rng);
            let text = whole(&picked);
            match pieces::parse("t.toml", &text, before.take()) {
                Ok(found) => {
                    let (whole, _) = file::parse("t.toml", &text);
                    assert_eq!(Some(&found.file), whole.as_ref(), "SEED={seed} step {step}:\n{text}");
                    before = Some((found.file, found.pieces));
                    rows += 1;
                }
                Err(back) => before = back,
            }
        }
    }
    assert!(rows > 300, "{rows}");
}

#[test]
fn a_change_of_one_server_leaves_all_others_as_they_are() {
    let text = |weight: u32| {
        let mut text = "[frontend.web]\nbind = \":80\"\ndefault-backend = \"b0\"\n".to_owned();
        for number in 0..50 {
            let weight = if number == 20 { weight } else { 1 };
            text += &format!(
                "[backend.b{number}]\nserver.s = {{ address = \"10.0.0.1:80\", weight = {weight} }}\n"
            );
        }
        text
    };
    let whole =
        |text: &str| format!("[defaults]\ntimeout = {{ client = 1, connect = 1, server = 1 }}\n{text}");
    let mut kept = Kept::default();
    let mut load = |weight| kept.load("t.toml", &whole(&text(weight)), &env()).0.expect("it is good");
    let (first, second) = (load(1), load(100));
    let differs = |(a, b): &(&Arc<Server>, &Arc<Server>)| !Arc::ptr_eq(a, b);
    assert_eq!(first.servers.values().zip(second.servers.values()).filter(differs).count(), 1);
    let backends = first.backends.values().zip(second.backends.values());
    assert_eq!(backends.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
}

//! `shardgate demo` from outside: what it prints can be used.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::harness::http::Wire;
use crate::harness::{connect, gate, until};

/// Killed when dropped, so that a failed test leaves nothing behind.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn its_proxy_spreads_requests_denies_and_notices_an_origin_that_stops() {
    let child = Command::new(gate::binary()).arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut demo = Demo(child.expect("our binary runs"));
    let mut lines = BufReader::new(demo.0.stdout.take().expect("piped above")).lines().map_while(Result::ok);
    let proxy: SocketAddr = lines
        .find_map(|line| {
            line.trim().strip_prefix("proxy ")?.trim().strip_prefix("http://").map(str::to_owned)
        })
        .and_then(|rest| rest.trim_end_matches('/').parse().ok())
        .expect("it prints where the proxy listens");
    let mut client = Wire::new(connect(proxy));
    let names: std::collections::BTreeSet<String> = (0..12).map(|_| client.get("/").text()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(client.get("/private/x").status(), 403);
    let stopped = client.get("/stop").text();
    let name = stopped.split(' ').nth(1).expect("its name").to_owned();
    // Its check finds out within a second; nobody is answered by it, and none of the requests fails after that.
    until("the others answer alone", || {
        let mut client = Wire::new(connect(proxy));
        (0..6).all(|_| {
            let answer = client.get("/");
            answer.status() == 200 && !answer.text().contains(&name)
        })
    });
    assert_eq!(client.get("/start").text(), "all origins run\n");
    drop(client);
    let id = demo.0.id().to_string();
    assert!(Command::new("sh").args(["-c", &format!("kill -INT {id}")]).status().expect("sh runs").success());
    assert!(demo.0.wait().expect("our own child").success());
}

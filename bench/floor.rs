//! The floor of the comparisons: a relay on the ring of `shardgate::rt` that looks at nothing, with a connection to the
//! origin for each connection that it accepts. What it costs, the kernel and the ring cost.
//!
//! `bench-floor CORES LISTEN ORIGIN`

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use shardgate::rt::{self, Conn, ConnectOptions, CoreSpec, Cores, Endpoint, ListenOptions, Listener, Target};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, cores, listen, origin] = args.as_slice() else {
        return Err(io::Error::other("bench-floor CORES LISTEN ORIGIN"));
    };
    let cores: usize = cores.parse().map_err(io::Error::other)?;
    let listen: SocketAddr = listen.parse().map_err(io::Error::other)?;
    let origin: SocketAddr = origin.parse().map_err(io::Error::other)?;
    rt::limits::raise_open_files()?;
    let specs = (0..cores)
        .map(|cpu| CoreSpec { name: format!("floor-{cpu}"), cpu, buffers: 4096, narrow: false })
        .collect();
    let mut running = Cores::new();
    for booted in rt::boot(specs).map_err(io::Error::other)? {
        let options = ListenOptions { backlog: 4096, ..ListenOptions::default() };
        let socket = rt::listen(Endpoint::Ip(listen), options)?;
        running.start(booted, move || accept(Listener::new(socket), origin)).map_err(io::Error::other)?;
    }
    running.join().map_err(io::Error::other)
}

async fn accept(mut listener: Listener, origin: SocketAddr) {
    while let Ok(client) = listener.accept().await {
        rt::spawn(async move {
            // A connection that breaks is the generator's to notice.
            let _ = serve(client, origin).await;
        });
    }
}

async fn serve(client: Conn, origin: SocketAddr) -> io::Result<()> {
    let server = Rc::new(rt::connect(Target::Ip(origin), ConnectOptions::default()).await?);
    let client = Rc::new(client);
    let (from, to) = (client.clone(), server.clone());
    rt::spawn(async move {
        let _ = relay(&from, &to).await;
    });
    relay(&server, &client).await
}

async fn relay(from: &Conn, to: &Conn) -> io::Result<()> {
    while let Some(data) = from.recv().await? {
        to.send_all(data).await?;
    }
    to.shutdown_write()
}

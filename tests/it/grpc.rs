//! gRPC end to end with the real library (grpcio of PyPI, in an environment below target/): calls of all four kinds, errors,
//! deadlines and metadata.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::frames::*;
use crate::harness::http::http_gate;
use crate::harness::peers::{free_address, output};
use crate::harness::{Origin, Shardgate};

/// A server and a client of it; messages are plain bytes, so that no compiler of protocols is needed.
const SCRIPT: &str = r#"
import sys, threading
from concurrent import futures
import grpc

raw = lambda b: b

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        def unary(request, context):
            context.set_trailing_metadata((("x-trailer", "t"),))
            return request.upper()
        def upload(requests, context):
            return str(sum(len(r) for r in requests)).encode()
        def download(request, context):
            for n in range(int(request)):
                yield b"%d" % n
        def chat(requests, context):
            for r in requests:
                yield r + b"!"
        def fails(request, context):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        def hangs(request, context):
            threading.Event().wait(1)
        return {
            "/t.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary, raw, raw),
            "/t.Echo/Upload": grpc.stream_unary_rpc_method_handler(upload, raw, raw),
            "/t.Echo/Download": grpc.unary_stream_rpc_method_handler(download, raw, raw),
            "/t.Echo/Chat": grpc.stream_stream_rpc_method_handler(chat, raw, raw),
            "/t.Echo/Fails": grpc.unary_unary_rpc_method_handler(fails, raw, raw),
            "/t.Echo/Hangs": grpc.unary_unary_rpc_method_handler(hangs, raw, raw),
        }.get(details.method)

big = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(Echo(),), options=big)
assert server.add_insecure_port(sys.argv[1]) > 0
server.start()
channel = grpc.insecure_channel(sys.argv[2], options=big)
grpc.channel_ready_future(channel).result(10)

unary = channel.unary_unary("/t.Echo/Unary", raw, raw)
answer, call = unary.with_call(b"hello", metadata=(("x-meta", "m"),))
assert answer == b"HELLO", answer
assert ("x-trailer", "t") in [tuple(m) for m in call.trailing_metadata()]
large = bytes(range(256)) * 8000
assert unary(large) == large.upper()
upload = channel.stream_unary("/t.Echo/Upload", raw, raw)
assert upload(iter([b"x" * 10000] * 100)) == b"1000000"
download = channel.unary_stream("/t.Echo/Download", raw, raw)
assert list(download(b"1000")) == [b"%d" % n for n in range(1000)]
# Each answer is waited for before the next message: both directions move at once.
gate = threading.Semaphore(1)
def questions():
    for n in range(100):
        gate.acquire()
        yield b"%d" % n
chat = channel.stream_stream("/t.Echo/Chat", raw, raw)
for n, said in enumerate(chat(questions())):
    assert said == b"%d!" % n, said
    gate.release()
assert n == 99
for method, code, timeout in (("Fails", "NOT_FOUND", 5), ("Missing", "UNIMPLEMENTED", 5), ("Hangs", "DEADLINE_EXCEEDED", 0.3)):
    try:
        channel.unary_unary("/t.Echo/" + method, raw, raw)(b"", timeout=timeout)
        assert False, method
    except grpc.RpcError as e:
        assert e.code().name == code, (method, e)
channel.close()
server.stop(0)
print("all good")
"#;

/// An interpreter with grpcio, made once.
fn python() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("grpc-venv");
    let python = dir.join("bin/python");
    let works = |python: &PathBuf| {
        Command::new(python).args(["-c", "import grpc"]).output().is_ok_and(|out| out.status.success())
    };
    if !works(&python) {
        output(Command::new("python3").args(["-m", "venv"]).arg(&dir));
        let pip = dir.join("bin/pip");
        output(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", "grpcio"]));
        assert!(works(&python), "grpcio is installed");
    }
    python
}

#[test]
fn calls_of_all_kinds_pass() {
    let server = free_address();
    let gate = Shardgate::with(&format!(
        r#"
[frontend.fe]
bind = "127.0.0.1:0"
default-backend = "grpc"
[backend.grpc.server.s1]
address = "{server}"
proto = "h2"
"#
    ))
    .defaults("mode = \"http\"")
    .start();
    let mut command = Command::new(python());
    command.args(["-c", SCRIPT, &server.to_string(), &gate.address("fe").to_string()]);
    assert_eq!(output(&mut command).trim(), "all good");
    assert!(gate.count("grpc/s1", "hrsp_2xx") >= 6);
    gate.finish();
}

#[test]
fn health_checks_call_the_server() {
    let serving = Arc::new(AtomicBool::new(true));
    let is_serving = serving.clone();
    let origin = Origin::new(move |stream, _| {
        let mut server = Frames::server(stream, &[]);
        while let Some((stream, message)) = server.request() {
            let status = match (message.ends_with(b"shop.Cart"), is_serving.load(Ordering::Relaxed)) {
                (false, _) => 3,
                (true, true) => 1,
                (true, false) => 2,
            };
            let head = block(&[(":status", "200"), ("content-type", "application/grpc")]);
            server.send(HEADERS, END_HEADERS, stream, &head);
            server.send(DATA, 0, stream, &[0, 0, 0, 0, 2, 8, status]);
            server.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("grpc-status", "0")]));
        }
    });
    let fast = "proto = \"h2\"\ncheck = true\ninter = \"50ms\"\nrise = 1\nfall = 1";
    // A busy machine may take longer than the interval.
    let backend = |service: &str| format!("grpc-check = \"{service}\"\ntimeout.check = \"10s\"");
    let gate = http_gate(&origin, "", &backend("shop.Cart"), fast);
    gate.wait_stat("be/s1", "check_status", "L7OK");
    gate.wait_stat("be/s1", "status", "UP");
    serving.store(false, Ordering::Relaxed);
    gate.wait_stat("be/s1", "status", "DOWN");
    assert!(gate.stat("be/s1", "last_chk").contains("NOT_SERVING"), "{}", gate.stat("be/s1", "last_chk"));
    serving.store(true, Ordering::Relaxed);
    gate.wait_stat("be/s1", "status", "UP");
    gate.finish();
    // A name that the server does not know, and a server that knows no HTTP/2.
    let gate = http_gate(&origin, "", &backend("shop.Basket"), fast);
    gate.wait_stat("be/s1", "status", "DOWN");
    assert!(gate.stat("be/s1", "last_chk").contains("SERVICE_UNKNOWN"));
    gate.finish();
    let origin = Origin::http(|_| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
    let gate = http_gate(&origin, "", &backend(""), fast);
    gate.wait_stat("be/s1", "check_status", "L7RSP");
    gate.finish();
}

//! Conditions, expressions and formats allocate nothing once their memory has grown: a counting allocator looks on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use shardgate::config::expr::{Acls, Context, Scope, parse_condition, parse_expr, parse_format};
use shardgate::policy::acl::Truth;
use shardgate::policy::sample::{Scratch, Value, VariableId, VariableTable};
use shardgate::proto::h1::head::{HeadOptions, parse_request};
use world::{Request, World};

#[path = "../bench/world.rs"]
mod world;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise about the layout is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn evaluation_allocates_nothing_in_the_steady_state() {
    let world = World::default();
    let acls = Acls::default();
    let mut variables = VariableTable::default();
    let mut scope =
        Scope { acls: &acls, resolver: &world, variables: &mut variables, context: Context::Request };
    let condition = "{ path_beg -i /APP/77 } { hdr(host) -m reg ^www[.] } { hdr_dom(host) -i Example.com } \
        !{ path_end .png .gif } { src 10.0.0.0/8 192.0.2.0/24 } { hdr_sub(user-agent) -i CURL wget } \
        { path,map_beg(apps) -m str backend-77 } { path,field(2,/),upper APP } { cook(a) 1 } { path_dir 77 }";
    let condition = parse_condition(condition, &mut scope).expect("compiles");
    let expr = "hdr(host),lower,regsub([.],-,g),concat(:,txn.v),base64,sha2,hex";
    let expr = parse_expr(expr, &mut scope).expect("compiles");
    let format = parse_format("%[src]:%cp %{+Q}[path,url_enc] %[date,http_date] %[uuid]", &mut scope);
    let format = format.expect("compiles");

    let text =
        b"GET /app/77/x HTTP/1.1\r\nHost: www.Example.com\r\nUser-Agent: curl/8\r\nCookie: a=2; a=1\r\n\r\n";
    let mut request = Request { bytes: text.to_vec(), ..Request::default() };
    request.conn.src = "192.0.2.1:5".parse::<std::net::SocketAddr>().expect("an address").into();
    assert!(parse_request(text, &HeadOptions::default(), &mut request.head).is_ok());
    request.variables.set(VariableId(0), Value::Int(5));

    let mut scratch = Scratch::default();
    let mut out = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..4 {
        let before = COUNT.with(Cell::get);
        out.clear();
        assert_eq!(condition.eval(&request, &mut scratch), Truth::True);
        assert!(expr.eval(&request, &mut scratch).value.is_some());
        format.write(&request, &mut scratch, b"", &mut out);
        let after = COUNT.with(Cell::get);
        counts.push(after - before);
    }
    assert!(counts[0] > 0, "the counter counts: the first round grows the memory");
    assert_eq!(counts[1..], [0, 0, 0], "later rounds allocate nothing");
}

/// Prints what routing by 10,000 map entries costs a request. Run it optimised:
/// `cargo test --release --test allocations -- --ignored --nocapture`
#[test]
#[ignore = "prints a time, which says nothing without optimisation"]
#[allow(clippy::disallowed_methods, reason = "it measures real time, and stands outside the product")]
fn ten_thousand_routes_cost() {
    const ROUNDS: u32 = 200_000;
    let world = World::default();
    let acls = Acls::default();
    let mut variables = VariableTable::default();
    let mut scope =
        Scope { acls: &acls, resolver: &world, variables: &mut variables, context: Context::Request };
    for (name, text) in [
        ("base,lower,map_beg", "base,lower,map_beg(routes,none)"),
        ("base,lower,map_str", "base,lower,map_str(routes,none)"),
        ("base,lower,map_sub", "base,lower,map_sub(routes,none)"),
    ] {
        let expr = parse_expr(text, &mut scope).expect("compiles");
        for (kind, n) in [("hit", 7777), ("miss", 10_001)] {
            let text = format!(
                "GET /app{n}/index.html?x=1 HTTP/1.1\r\nHost: Host{n}.example.com\r\nUser-Agent: curl/8\r\n\r\n"
            );
            let mut request = Request { bytes: text.into_bytes(), ..Request::default() };
            assert!(parse_request(&request.bytes, &HeadOptions::default(), &mut request.head).is_ok());
            let mut scratch = Scratch::default();
            let started = std::time::Instant::now();
            for _ in 0..ROUNDS {
                let sample = std::hint::black_box(&expr).eval(std::hint::black_box(&request), &mut scratch);
                assert!(sample.value.is_some());
            }
            println!(
                "{name} {kind}: {:.0} ns a request",
                started.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
            );
        }
    }
}

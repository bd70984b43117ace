//! What the hot path allocates: nothing. A plan-cache hit (fingerprint and look-up, over every shape of the corpus), and a whole
//! command of a session, text or prepared, from the client's bytes to the store's answer (a scripted store, on real sockets).

#![allow(unsafe_code, reason = "a counting allocator is unsafe by its trait")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use switchover::backend::Fleet;
use switchover::net::{PacketStream, Peer, Socket, Stream};
use switchover::routing::Snapshot;
use switchover::session::{Core, Live, serve};
use switchover::wire::handshake::{Greeting, HandshakeResponse};
use switchover::wire::{Capabilities, OkPacket, Status, packet};

use switchover::sql::{CharsetClass, Dialect, PlanCache, analyze, fingerprint};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread is the core whose allocations other threads ask for.
    static CORE: Cell<bool> = const { Cell::new(false) };
}

static ON_CORE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        if CORE.try_with(Cell::get).unwrap_or(false) {
            ON_CORE.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() -> usize {
    COUNT.with(Cell::get)
}

#[test]
fn a_hit_allocates_nothing() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/statements.txt")).unwrap();
    let statements: Vec<String> = text
        .split("\n\n")
        .map(|block| {
            let lines = block.lines().filter(|l| !l.starts_with("# ") && !l.starts_with("@ ") && !l.starts_with("=> "));
            lines.collect::<Vec<_>>().join("\n")
        })
        .collect();
    for charset in [CharsetClass::Safe, CharsetClass::Gbk] {
        let dialect = Dialect { charset, ..Dialect::default() };
        let mut cache = PlanCache::new(16 << 20);
        let mut kept = 0;
        for sql in &statements {
            let analysis = analyze(sql.as_bytes(), &dialect);
            if analysis.cacheable() {
                let weight = analysis.weight();
                cache.insert(fingerprint(sql.as_bytes(), &dialect), analysis, weight);
                kept += 1;
            }
        }
        let before = count();
        let mut hits = 0;
        for sql in &statements {
            hits += usize::from(cache.get(fingerprint(sql.as_bytes(), &dialect)).is_some());
        }
        assert_eq!(count() - before, 0);
        assert_eq!(hits, kept);
        assert!(hits > 250);
    }
    let before = count();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(count() - before, 1, "the counter counts");
}

fn read_packet(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    socket.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    socket.read_exact(&mut payload).ok()?;
    Some(payload)
}

fn write_packet(socket: &mut TcpStream, sequence: u8, payload: &[u8]) {
    let mut out = Vec::new();
    packet::put(&mut out, sequence, payload);
    socket.write_all(&out).unwrap();
}

/// `SELECT 1` as MariaDB answers it; the column is of any type.
fn result_set() -> Vec<u8> {
    let column = b"\x03def\x00\x00\x00\x011\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";
    let mut out = Vec::new();
    let mut sequence = 1;
    for payload in [&[1u8][..], column, &[0xFE, 0, 0, 2, 0], b"\x011", &[0xFE, 0, 0, 2, 0]] {
        sequence = packet::put(&mut out, sequence, payload);
    }
    out
}

const FLAGS: Capabilities = Capabilities::PROTOCOL_41
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::LONG_PASSWORD)
    .union(Capabilities::TRANSACTIONS);

/// Greets, lets everybody in, and answers every query and every prepared statement with one row.
fn store(listener: &TcpListener) {
    let (mut socket, _) = listener.accept().unwrap();
    let greeting = Greeting {
        version: b"10.11.6-MariaDB".to_vec(),
        thread_id: 1,
        scramble: b"abcdefghijklmnopqrst".to_vec(),
        capabilities: FLAGS,
        collation: 45,
        status: Status::AUTOCOMMIT,
        plugin: b"mysql_native_password".to_vec(),
    };
    write_packet(&mut socket, 0, &greeting.write());
    read_packet(&mut socket).unwrap();
    let mut ok = Vec::new();
    OkPacket { status: Status::AUTOCOMMIT, ..OkPacket::default() }.put(&mut ok, 2);
    socket.write_all(&ok).unwrap();
    let answer = result_set();
    while let Some(command) = read_packet(&mut socket) {
        match command.first() {
            Some(0x16) => {
                // the id that an execute must bring is 77: one column, one parameter
                let column = b"\x03def\x00\x00\x00\x01?\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";
                let parts: [&[u8]; 5] =
                    [&[0, 77, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], column, &[0xFE, 0, 0, 2, 0], column, &[0xFE, 0, 0, 2, 0]];
                let mut out = Vec::new();
                let mut sequence = 1;
                for part in parts {
                    sequence = packet::put(&mut out, sequence, part);
                }
                socket.write_all(&out).unwrap();
            }
            Some(0x17) => {
                assert_eq!(command[1..5], [77, 0, 0, 0]);
                socket.write_all(&answer).unwrap();
            }
            Some(0x03) => socket.write_all(&answer).unwrap(),
            _ => return,
        }
    }
}

/// A core with one session, as `serve` runs it.
fn core(client: TcpStream, store_port: u16) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    let text = format!(
        "listen: 127.0.0.1:3307\nstores:\n  legacy: {{ address: 127.0.0.1:{store_port} }}\ndefault: legacy\n\
         groups:\n  g:\n    tables: [sbtest1, other]\n    connection: legacy\n"
    );
    std::fs::write(&path, text).unwrap();
    let config = switchover::config::load(&path).unwrap();
    let fleet = Fleet::build(&config.stores, &Fleet::default()).unwrap();
    let live =
        Live { snapshot: Snapshot::compile(Arc::new(config), 1, 0), fleet, acceptor: None, gates: Default::default() };
    let (_drain, draining) = tokio::sync::watch::channel(false);
    let core = Rc::new(Core::new(
        Arc::new(ArcSwap::from_pointee(live)),
        Rc::default(),
        Arc::default(),
        Arc::default(),
        draining,
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    CORE.set(true);
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        client.set_nonblocking(true).unwrap();
        let peer = Peer::Tcp(client.peer_addr().unwrap());
        let socket = tokio::net::TcpStream::from_std(client).unwrap();
        let stream =
            PacketStream::new(Stream::Plain(Socket::connected_tcp(socket, &core.buffers)), Rc::clone(&core.buffers));
        serve(core, stream, peer).await;
    });
    CORE.set(false);
}

/// Sends one command and reads its answer, which is as long as `answer`.
fn ask(client: &mut TcpStream, framed: &[u8], answer: &mut [u8]) {
    client.write_all(framed).unwrap();
    client.read_exact(answer).unwrap();
}

#[test]
fn a_command_of_a_session_allocates_nothing() {
    let store_listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let store_port = store_listener.local_addr().unwrap().port();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let at_store = std::thread::spawn(move || store(&store_listener));
    let at_core = std::thread::spawn(move || core(accepted, store_port));
    read_packet(&mut client).unwrap();
    let login = HandshakeResponse {
        capabilities: FLAGS,
        max_packet: 1 << 24,
        collation: 45,
        user: b"app".to_vec(),
        auth: Vec::new(),
        database: None,
        plugin: Some(b"mysql_native_password".to_vec()),
        attributes: Vec::new(),
    };
    write_packet(&mut client, 1, &login.write());
    assert_eq!(read_packet(&mut client).unwrap()[0], 0);

    let mut answer = vec![0; result_set().len()];
    let mut query = Vec::new();
    packet::put(&mut query, 0, b"\x03SELECT c FROM sbtest1 WHERE id=5017");
    write_packet(&mut client, 0, b"\x16SELECT c FROM sbtest1 WHERE id=?");
    let id = read_packet(&mut client).unwrap()[1..5].to_vec();
    for _ in 0..4 {
        read_packet(&mut client).unwrap();
    }
    // no cursor, one iteration, one parameter of type LONGLONG; its types are sent each time, as some drivers do
    let mut execute = Vec::new();
    let payload = [&[0x17], id.as_slice(), &[0, 1, 0, 0, 0, 0, 1, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0]].concat();
    packet::put(&mut execute, 0, &payload);

    for (what, command) in [("COM_QUERY", &query), ("COM_STMT_EXECUTE", &execute)] {
        // the first of its kind makes the plan
        ask(&mut client, command, &mut answer);
        assert_eq!(answer, result_set());
        ask(&mut client, command, &mut answer);
        let before = ON_CORE.load(Ordering::SeqCst);
        for _ in 0..500 {
            ask(&mut client, command, &mut answer);
        }
        assert_eq!(ON_CORE.load(Ordering::SeqCst) - before, 0, "{what}");
        assert_eq!(answer, result_set());
    }
    write_packet(&mut client, 0, &[1]);
    at_core.join().unwrap();
    at_store.join().unwrap();
    assert!(ON_CORE.load(Ordering::SeqCst) > 0, "the core's allocations are counted");
}

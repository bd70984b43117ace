//! A cable between a proxy and a store (or a client and a proxy) that a test can cut or hold: a TCP forwarder.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ports;

/// Forwards connections to `127.0.0.1:port` to another port, as long as it is whole.
pub struct Cable {
    /// Where to connect.
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    held: AtomicBool,
    over: AtomicBool,
    ends: Mutex<Vec<TcpStream>>,
}

impl Cable {
    /// A whole cable to a port of 127.0.0.1.
    pub fn to(target: u16) -> Cable {
        let port = ports::free();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                if !shared.cut.load(Ordering::SeqCst)
                    && let Ok(server) = TcpStream::connect(("127.0.0.1", target))
                {
                    join(&shared, client, server);
                }
            }
        });
        Cable { port, state }
    }

    /// Closes every connection, and each new one at once, until [`Cable::mend`].
    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
        for end in self.state.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Holds every byte back, without closing anything, until [`Cable::mend`].
    pub fn hold(&self) {
        self.state.held.store(true, Ordering::SeqCst);
    }

    /// Makes it whole again.
    pub fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
        self.state.held.store(false, Ordering::SeqCst);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn join(state: &Arc<State>, client: TcpStream, server: TcpStream) {
    let mut ends = state.ends.lock().unwrap();
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        to.set_nodelay(true).unwrap();
        ends.push(from.try_clone().unwrap());
        let state = state.clone();
        std::thread::spawn(move || forward(&state, from, to));
    }
}

fn forward(state: &State, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        while state.held.load(Ordering::SeqCst) && !state.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

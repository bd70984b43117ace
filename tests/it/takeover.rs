//! Restart without downtime: under load, over and over, and with successors that fail or die at any moment.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, clients, eventually, long, spawn, stores};

const BINARY: &str = env!("CARGO_BIN_EXE_switchover");

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, n INT)");
    let proxy = Proxy::start(|port| {
        let text = pair_config(port, &stores().legacy, &stores().new, &["hits"])
            .replace("connection: legacy", "connection: new");
        text.replace(&format!("listen: 127.0.0.1:{port}"), &format!("listen: [127.0.0.1:{port}, ./p.sock]"))
    });
    (database, proxy)
}

/// A process of a test's own that serves a proxy's file; killed with the value.
struct Process(Child);

impl Process {
    fn takes_over(proxy: &Proxy) -> Process {
        let mut command = spawn::tied(BINARY);
        command.args(["serve", "--takeover", "--config"]).arg(&proxy.config_path).current_dir(&proxy.folder);
        Process(spawn::start(command, &proxy.folder.join("log")))
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The process that answers the control socket.
fn serving_pid(proxy: &Proxy) -> Option<u64> {
    let output = proxy.cli(&["status", "--json"]);
    serde_json::from_str::<serde_json::Value>(&output.stdout).ok()?["pid"].as_u64().filter(|_| output.ok)
}

fn by_socket(proxy: &Proxy) -> String {
    let socket = format!("-S{}", proxy.folder.join("p.sock").display());
    clients::run(&["mariadb", "--no-defaults", &socket, "-uapp", "-papp", "-N", "-e", "SELECT 7"]).text()
}

/// Clients that log in, work and leave, over and over; what failed.
struct Load {
    over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(port: u16, database: &str) -> Load {
        let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..4).map(|n| {
            let (over, done, database) = (over.clone(), done.clone(), database.to_owned());
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let work = std::panic::catch_unwind(|| {
                        let mut raw = Raw::login(port, ORDINARY, "app", "app", &database).map_err(|e| e.to_string())?;
                        for sql in ["BEGIN", "INSERT INTO hits (n) VALUES (1)", "SELECT COUNT(*) FROM hits", "COMMIT"] {
                            let answer = raw.query(sql);
                            match Raw::error(&answer) {
                                Some(e) => return Err(format!("{sql}: {e}")),
                                None if answer.is_empty() => return Err(format!("{sql}: the connection is lost")),
                                None => {}
                            }
                        }
                        raw.send(1, b"");
                        Ok(())
                    });
                    match work {
                        Ok(Ok(())) => _ = done.fetch_add(1, Ordering::Relaxed),
                        Ok(Err(e)) => failures.push(format!("client {n}: {e}")),
                        Err(_) => failures.push(format!("client {n}: no connection")),
                    }
                }
                failures
            })
        });
        let threads = threads.collect();
        Load { over, done, threads }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How many connections did their work; panics if any failed.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let failures: Vec<String> = self.threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        let done = self.done.load(Ordering::Relaxed);
        assert!(failures.is_empty(), "{} of {} failed: {:?}", failures.len(), done, &failures[..failures.len().min(5)]);
        done
    }
}

#[test]
fn twenty_takeovers_under_load_fail_no_connect_and_no_statement() {
    let (database, mut proxy) = ground();
    let load = Load::start(proxy.port, &database.name);
    eventually("clients come", || load.done() > 20);
    let mut former: Option<Process> = None;
    for round in 0..20 {
        let (before, pid) = (load.done(), serving_pid(&proxy));
        let mut next = Process::takes_over(&proxy);
        eventually("the new process answers", || {
            assert!(next.0.try_wait().unwrap().is_none(), "round {round}: {}", proxy.log());
            serving_pid(&proxy).is_some_and(|p| Some(p) != pid)
        });
        eventually("clients come to it", || load.done() > before + 10);
        match former.replace(next) {
            Some(mut old) => eventually("the former process ends by itself", || old.0.try_wait().unwrap().is_some()),
            None => eventually("the first process ends by itself", || proxy.ended().is_some()),
        }
    }
    assert_eq!(by_socket(&proxy), "7");
    let done = load.end();
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits"), [[done.to_string()]]);
}

/// A successor that asks for the listeners, says `words` one by one where the old process waits for them, and leaves.
fn half_a_takeover(proxy: &Proxy, words: &[u8]) {
    let mut path = proxy.control_socket.clone().into_os_string();
    path.push(".takeover");
    let mut stream = UnixStream::connect(PathBuf::from(path)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // the count of the descriptors, which are closed as soon as they come
    stream.read_exact(&mut [0]).unwrap();
    for word in words {
        stream.write_all(&[*word]).unwrap();
        let _ = stream.read(&mut [0]);
    }
}

#[test]
fn a_successor_that_fails_after_it_has_the_sockets_changes_nothing() {
    let (database, mut proxy) = ground();
    let load = Load::start(proxy.port, &database.name);
    let pid = serving_pid(&proxy).unwrap();
    for words in [&b""[..], b"R", b"x", b"Rx"] {
        half_a_takeover(&proxy, words);
        eventually("the old process has its control socket again", || serving_pid(&proxy) == Some(pid));
        let before = load.done();
        eventually("it takes clients", || load.done() > before + 10);
        assert_eq!(by_socket(&proxy), "7", "{words:?}");
    }
    // one that finds after it has the sockets that it cannot serve
    let good = std::fs::read_to_string(&proxy.config_path).unwrap();
    let moved = good.replace(&format!("127.0.0.1:{}", proxy.port), "127.0.0.1:1");
    let other = proxy.folder.join("other.yaml");
    std::fs::write(&other, format!("{moved}control_socket: {}\n", proxy.control_socket.display())).unwrap();
    let output = clients::run(&[BINARY, "serve", "--takeover", "--config", other.to_str().unwrap()]);
    assert!(!output.ok && output.stderr.contains("without --takeover"), "{output:?}");
    assert_eq!(serving_pid(&proxy), Some(pid));
    assert_eq!(by_socket(&proxy), "7");
    // flags go through it as before
    proxy.flag("analytics", "legacy");
    proxy.flag("analytics", "new");
    load.end();
    assert!(proxy.ended().is_none());
    // and a good one still takes over
    let mut next = Process::takes_over(&proxy);
    eventually("the new process answers", || serving_pid(&proxy).is_some_and(|p| p != pid));
    eventually("the old process ends", || proxy.ended().is_some());
    assert_eq!(by_socket(&proxy), "7");
    next.kill();
}

#[test]
fn a_successor_killed_at_any_moment_before_it_serves_changes_nothing() {
    let (_database, mut proxy) = ground();
    let rounds: u32 = if long() { 300 } else { 16 };
    // how long a whole takeover takes on this machine: kills fall into that time
    let (begun, first) = (Instant::now(), serving_pid(&proxy));
    let mut next = Process::takes_over(&proxy);
    eventually("the new process answers", || serving_pid(&proxy).is_some_and(|p| Some(p) != first));
    let whole = begun.elapsed();
    next.kill();
    let (mut kept, mut taken) = (0, 0);
    for round in 0..rounds {
        if round == 0 || proxy.ended().is_some() || proxy.log().ends_with("stopped\n") {
            proxy.restart();
        }
        let pid = serving_pid(&proxy).unwrap();
        let told = proxy.log().matches("a new process has taken over").count();
        let mut next = Process::takes_over(&proxy);
        // most of them early: how long the whole takes was seen through a command, which takes its time too
        let part = f64::from(round) / f64::from(rounds);
        std::thread::sleep(whole.mul_f64(0.6 * part * part));
        next.kill();
        // the old process hears of it within a moment, or has heard before that the new one serves
        eventually("the old process serves, or had been told that the new one does", || {
            let over = proxy.log().matches("a new process has taken over").count() > told;
            over || serving_pid(&proxy) == Some(pid)
        });
        if proxy.log().matches("a new process has taken over").count() > told {
            taken += 1;
            proxy.restart();
            continue;
        }
        kept += 1;
        assert!(Raw::error(&Raw::app(proxy.port, ORDINARY, "").query("SELECT 1")).is_none());
        assert_eq!(by_socket(&proxy), "7");
    }
    assert!(kept > 0, "{kept} of {rounds} kills came before the new process served, {taken} after");
}

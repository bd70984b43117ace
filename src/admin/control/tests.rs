//! The control socket against honest, hostile and rival peers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream as Client;

use super::super::client::{ClientError, ask};
use super::super::protocol::{DrainRequest, ExplainRequest, FlagRequest};
use super::super::testing::Fake;
use super::*;

const CONFIG: &str = "listen: 127.0.0.1:1\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}
groups: {a: {tables: t, connection: legacy}}\n";

/// A served socket in a folder of its own; gone with the value.
struct Served {
    folder: tempfile::TempDir,
    socket: PathBuf,
    fake: Arc<Fake>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn start() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routing.yaml");
        fs::write(&path, CONFIG).unwrap();
        let socket = folder.path().join("routing.yaml.sock");
        let fake = Arc::new(Fake::new(path));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let bound = ControlSocket::bind(&socket).unwrap();
        let running: Arc<dyn Running> = fake.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    outcome = bound.serve(Actions::new(running)) => outcome.unwrap(),
                }
            });
        });
        Served { folder, socket, fake, stop: Some(stop), thread: Some(thread) }
    }

    fn raw(&self, bytes: &[u8]) -> String {
        let mut client = Client::connect(&self.socket).unwrap();
        // The server may have answered and closed before all is written.
        let _ = client.write_all(bytes);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut line = String::new();
        let _ = BufReader::new(client).read_line(&mut line);
        line
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
        assert!(!self.socket.exists(), "the socket is removed");
    }
}

#[test]
fn requests_are_answered() {
    let served = Served::start();
    let explain = Request::Explain(ExplainRequest { sql: "SELECT 1".into(), ..ExplainRequest::default() });
    assert!(matches!(ask(&served.socket, &explain), Ok(Reply::Explained(explained)) if explained.text == "SELECT 1"));
    assert!(matches!(ask(&served.socket, &Request::Status), Ok(Reply::Status(status)) if status.epoch == 1));
    assert!(
        matches!(ask(&served.socket, &Request::Sessions), Ok(Reply::Sessions(sessions)) if sessions.len() == 20_000)
    );
    assert!(matches!(ask(&served.socket, &Request::Drain(DrainRequest::default())), Ok(Reply::Draining)));
    assert_eq!(fs::metadata(&served.socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_flag_is_edited_announced_and_in_force() {
    let served = Served::start();
    let cause = Cause { by: "alice".into(), why: Some("tests".into()), ..Cause::default() };
    let request =
        Request::Flag(FlagRequest { group: "a".into(), store: "new".into(), cause: cause.clone(), dry_run: false });
    let Ok(Reply::Flagged(flagged)) = ask(&served.socket, &request) else { panic!() };
    assert_eq!((flagged.from.as_str(), flagged.to.as_str(), flagged.epoch), ("legacy", "new", 2));
    let peer = format!("uid {}", rustix::process::getuid().as_raw());
    let signed = Cause { surface: "cli".into(), peer, ..cause };
    assert_eq!(*served.fake.causes.lock().unwrap(), [signed.clone(), signed]);
    assert!(fs::read_to_string(&served.fake.path).unwrap().contains("connection: new"));
    let request =
        Request::Flag(FlagRequest { group: "b".into(), store: "new".into(), cause: Cause::default(), dry_run: false });
    let Err(ClientError::Failed(failure)) = ask(&served.socket, &request) else { panic!() };
    assert_eq!(failure.kind, FailureKind::Request);
    let causes = served.fake.causes.lock().unwrap();
    assert!(causes[causes.len() - 2].by.starts_with("uid "));
    assert_eq!(causes.last(), Some(&Cause::default()), "a failed edit takes its announcement back");
}

#[test]
fn nonsense_is_answered_and_bounded() {
    let served = Served::start();
    for bytes in [&b"hello\n"[..], b"{}\n", b"{\"request\":\"dance\"}\n", b"\xff\xfe\n", b"\n", b"[[[[\n"] {
        assert!(served.raw(bytes).contains("not a request"), "{bytes:?}");
    }
    assert!(served.raw(&vec![b' '; MAX_LINE + 10]).contains("at most"));
    assert_eq!(served.raw(b"{\"request\":\"reload\"}"), "", "half a line is no request");
    assert!(served.fake.causes.lock().unwrap().is_empty());
    let idle: Vec<Client> = (0..CONNECTIONS - 1).map(|_| Client::connect(&served.socket).unwrap()).collect();
    assert!(ask(&served.socket, &Request::Status).is_ok());
    drop(idle);
}

#[test]
fn a_second_proxy_is_refused_and_a_dead_one_is_not() {
    let served = Served::start();
    let error = ControlSocket::bind(&served.socket).unwrap_err();
    assert!(matches!(&error, ControlError::Taken { pid: Some(pid), .. } if *pid == std::process::id()));
    assert!(error.to_string().contains("another switchover (pid "), "{error}");
    let left = served.folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    assert!(matches!(ask(&left, &Request::Status), Err(ClientError::NotRunning(_))));
    drop(ControlSocket::bind(&left).unwrap());
    assert!(matches!(ask(&left, &Request::Status), Err(ClientError::NotRunning(_))));
    let nowhere = served.folder.path().join("no/such.sock");
    assert!(ControlSocket::bind(&nowhere).unwrap_err().to_string().contains("control_socket"));
}

#[tokio::test]
async fn a_successor_waits_for_the_one_that_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let first = ControlSocket::bind(&path).unwrap();
    assert!(ControlSocket::bind_after(&path, Duration::from_millis(120)).await.is_err());
    let (second, ()) = tokio::join!(ControlSocket::bind_after(&path, Duration::from_secs(5)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(first);
    });
    assert_eq!(second.unwrap().path(), path);
}

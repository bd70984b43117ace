//! Children that cannot outlive the process that started them, not even if it is killed: `setpriv` asks the kernel to
//! kill them with their parent. The kernel means the parent *thread*, so all are started by one that never ends.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};

use rustix::process::Signal;

type Order = (Command, mpsc::Sender<io::Result<Child>>);

static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, queue) = mpsc::channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in queue {
            let _ = reply.send(command.spawn());
        }
    });
    Mutex::new(orders)
});

/// `program`, to be given arguments and started by [`start`].
pub fn tied(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref()).stdin(Stdio::null());
    command
}

/// Starts a command made by [`tied`], with what it prints going to the end of `log`.
pub fn start(mut command: Command, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let name = format!("{command:?}");
    let (reply, answer) = mpsc::channel();
    STARTER.lock().unwrap().send((command, reply)).unwrap();
    answer.recv().unwrap().unwrap_or_else(|error| panic!("cannot start {name}: {error}"))
}

/// Sends a signal to a child that has not been waited for; one that is to stop has, when this returns.
pub fn signal(child: &Child, signal: Signal) {
    let pid = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(pid, signal);
    if signal == Signal::STOP {
        // (a thread on another CPU goes on until that has heard of it)
        let tasks = format!("/proc/{}/task", child.id());
        let stopped = |stat: &str| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        super::eventually("every thread is stopped", || {
            let tasks = std::fs::read_dir(&tasks).unwrap().flatten();
            tasks.filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok()).all(|stat| stopped(&stat))
        });
    }
}

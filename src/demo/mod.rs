//! `switchover demo`: two private MariaDB servers, the proxy, and an application that never notices (layer L4).
//!
//! ```text
//! application ─► switchover serve (a child) ─► legacy │ new (children)
//!                      ▲ routing.yaml
//!       you, or --flip-every, with `switchover flag`
//! ```
//!
//! Everything lives in one temporary folder. Whatever ends the demo, the children end with it (`ground`).
//! What is shown and judged is measured on the servers themselves (`meter`), never taken from the proxy's word.

mod application;
mod chaos;
mod flag;
mod ground;
mod meter;
mod schema;
mod screen;
mod store;
mod surfaces;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use application::Application;
use flag::Flag;
use ground::Ground;
use meter::Meter;
use screen::{Closed, say};
use store::Store;
use surfaces::Surfaces;

/// Where the demo's proxy listens if it can.
const USUAL_PORT: u16 = 3307;
/// The application's database.
const DATABASE: &str = "fathom";
/// The application's account and its password.
const ACCOUNT: &str = "app";
/// The proxy's control account and its password.
const CONTROL: &str = "switchover";
/// What the proxy says of a port that somebody else has (EADDRINUSE).
const IN_USE: &str = "Address already in use";
/// How often the servers' counters are read.
const TICK: Duration = Duration::from_millis(500);

/// What the command line asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// End by itself after so many seconds of traffic.
    pub seconds: Option<u64>,
    /// Flip the flag so often, in seconds; never if absent.
    pub flip_every: Option<u64>,
    /// Kill the store that serves the group under traffic, again and again; the last line is the ledger then.
    pub chaos: bool,
}

/// Runs the demo to its end: `--seconds`, SIGINT or SIGTERM, or nobody who reads what it shows. The last line on stdout is
/// `queries <n>, client errors <n>, flips <n>, legacy <n>, new <n>`: what the application asked, and how much of it each server
/// counted. The exit code is a failure if the application saw an error, if a flip by `--flip-every` did not move its group's
/// traffic, or if nobody read it to its end.
///
/// # Errors
/// If the servers or the proxy do not start; the text says what to do.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // One thread: the kernel ends children when the thread that started them does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(demo(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn demo(options: &Options) -> anyhow::Result<ExitCode> {
    for name in ["mariadbd", "mariadb-install-db"] {
        store::program(name)?;
    }
    let mut signals = Signals::new()?;
    let mut ground = Ground::new()?;
    let outcome = if options.chaos {
        tokio::select! {
            scored = chaos::play(&mut ground, options) => scored,
            () = signals.any() => Ok(ExitCode::FAILURE),
        }
    } else {
        tokio::select! {
            scene = raise(&mut ground, options) => match scene {
                Ok(scene) => play(&scene, options, &mut signals).await,
                Err(error) => Err(error),
            },
            () = signals.any() => Ok(ExitCode::FAILURE),
        }
    };
    ground.clear().await;
    match outcome {
        // nobody is left who could be told
        Err(error) if error.is::<Closed>() => Ok(ExitCode::FAILURE),
        outcome => outcome,
    }
}

/// What ends the demo from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// All that runs before the first query.
struct Scene {
    legacy: Store,
    new: Store,
    flag: Flag,
    port: u16,
}

/// From an empty folder to a proxy that accepts.
async fn raise(ground: &mut Ground, options: &Options) -> anyhow::Result<Scene> {
    say(format_args!("switchover demo: starting two MariaDB servers in {}", ground.path().display()))?;
    let (legacy, new) =
        tokio::try_join!(store::install(ground.path(), "legacy"), store::install(ground.path(), "new"))?;
    let legacy = Store::start(ground, legacy, 1, &[]).await?;
    let new = Store::start(ground, new, 2, &[]).await?;
    tokio::try_join!(schema::create(&legacy), schema::create(&new))?;

    let config = ground.path().join("routing.yaml");
    let (port, surfaces) = serve_somewhere(ground, &config, &legacy, &new, "").await?;
    introduce((port, &surfaces), &config, &legacy, &new, options)?;
    Ok(Scene { legacy, new, flag: Flag::new(config)?, port })
}

/// The traffic, from its first query to the closing line.
async fn play(scene: &Scene, options: &Options, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let application = Application::start(scene.port);
    let outcome = watch(scene, options, signals, &application).await;
    application.stop().await;
    let good = outcome?.close(&application, &scene.legacy, &scene.new).await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows what the servers count, and flips the flag if asked to, until the time is over or a signal comes.
async fn watch(
    scene: &Scene,
    options: &Options,
    signals: &mut Signals,
    application: &Application,
) -> anyhow::Result<Meter> {
    let Scene { legacy, new, flag, .. } = scene;
    let mut meter = Meter::new(flag, legacy, new, options.flip_every.is_some()).await?;
    let start = Instant::now();
    let end = options.seconds.map(|seconds| start + Duration::from_secs(seconds));
    let every = options.flip_every.map(|seconds| Duration::from_secs(seconds.max(1)));
    let mut next_flip = every.map(|every| start + every);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = signals.any() => break,
        }
        meter.read(flag, application, legacy, new).await?;
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        if let (Some(at), Some(every)) = (next_flip, every)
            && Instant::now() >= at
        {
            flag.flip().await?;
            meter.flipped(flag)?;
            next_flip = Some(at + every);
        }
    }
    Ok(meter)
}

/// Starts the proxy on the usual port or, where that is taken, on a free one; a free one too may be taken in between.
async fn serve_somewhere(
    ground: &mut Ground,
    config: &Path,
    legacy: &Store,
    new: &Store,
    keys: &str,
) -> anyhow::Result<(u16, Surfaces)> {
    for wanted in [USUAL_PORT, 0, 0] {
        let Ok(port) = free_port(wanted) else { continue };
        let surfaces = Surfaces::new()?;
        std::fs::write(config, routing_yaml(port, legacy, new) + keys + &surfaces.yaml())?;
        if serve(ground, config).await? {
            return Ok((port, surfaces));
        }
    }
    anyhow::bail!("the proxy found no free port:\n{}", ground.log("proxy"));
}

/// Starts the proxy and waits until it serves: it says so itself, for the port may be somebody else's. `false`: the port is in use.
async fn serve(ground: &mut Ground, config: &Path) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("which program am I?")?;
    let mut command = ground::tied(&program);
    command.arg("serve").arg("--config").arg(config);
    let proxy = ground.start("proxy", command)?;
    let deadline = Instant::now() + Duration::from_secs(15);
    let serves = async || {
        let mut status = Command::new(&program);
        status.arg("status").arg("--config").arg(config).kill_on_drop(true);
        status.output().await.is_ok_and(|o| o.status.success())
    };
    while !serves().await {
        if Instant::now() > deadline || ground.ended(proxy) {
            let log = ground.log("proxy");
            anyhow::ensure!(log.contains(IN_USE), "the proxy did not start:\n{log}");
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(true)
}

fn routing_yaml(port: u16, legacy: &Store, new: &Store) -> String {
    let tables = schema::GROUPED.join(", ");
    format!(
        "# The demo's routing.yaml. Save a change, and it is live.
listen: 127.0.0.1:{port}

stores:
  legacy:
    address: 127.0.0.1:{}
    control: {{ user: {CONTROL}, password: {CONTROL} }}
  new:
    address: 127.0.0.1:{}
    control: {{ user: {CONTROL}, password: {CONTROL} }}

default: legacy                     # sites, goals, goal_stats: every table that no group names

groups:
  analytics:
    tables: [{tables}]
    connection: legacy              # THE FLAG: legacy | new
",
        legacy.port(),
        new.port(),
    )
}

fn introduce(
    (port, surfaces): (u16, &Surfaces),
    config: &Path,
    legacy: &Store,
    new: &Store,
    options: &Options,
) -> Result<(), Closed> {
    let program = short_path();
    let (program, config) = (program.display(), config.display());
    say(format_args!(
        "
{}

  application ─► proxy 127.0.0.1:{port} ─► legacy 127.0.0.1:{} (@@server_id 1)
                                  └► new    127.0.0.1:{} (@@server_id 2)

Try, in another terminal:

  flip the flag   {program} flag analytics new --wait --config {config}
  and back        {program} flag analytics legacy --wait --config {config}
  look inside     {program} status --config {config}
  be a client     mariadb -h 127.0.0.1 -P {port} -u {ACCOUNT} -p{ACCOUNT} {DATABASE}
                  SELECT @@server_id, COUNT(*) FROM pageviews;
",
        surfaces.introduction(),
        legacy.port(),
        new.port(),
    ))?;
    match options.seconds {
        Some(seconds) => say(format_args!("It ends after {seconds} s, or with Ctrl-C, and leaves nothing behind.\n")),
        None => say("Ctrl-C ends it and leaves nothing behind.\n"),
    }
}

/// This program as it would be typed here.
fn short_path() -> PathBuf {
    let Ok(program) = std::env::current_exe() else { return PathBuf::from("switchover") };
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).map(Path::to_path_buf).unwrap_or(program)
}

/// That port on loopback if it is free; any free one for 0.
fn free_port(port: u16) -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr()?.port())
}

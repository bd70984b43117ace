//! The command line. Every command but `serve` and `demo` runs here, and ends with an [`Outcome`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::client::{ClientError, ask};
use super::digest::{DEFAULT_LIMIT, DigestOrder, DigestRequest};
use super::log::LogRequest;
use super::outcome::{Code, Outcome};
use super::protocol::{
    AbortRequest, Cause, DrainRequest, EventQuery, ExplainRequest, Explained, FlagRequest, KillRequest, Reply, Request,
    StandbyAction,
};
use super::readiness::{self, ReadinessRequest};
use super::shadow::ShadowRequest;
use super::{check, digest, flag, left_behind, log, shadow, show, standby, steer};
use crate::config::{self, Config, load};

/// A MySQL proxy that routes groups of tables to the legacy or the new store, by a flag that changes while traffic flows.
#[derive(Debug, Parser)]
#[command(name = "switchover", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused or something is wrong, 2 wrong usage, 3 no proxy runs, 4 timed out, 5 failed; `readiness` has 6 and 7."
)]
struct Cli {
    /// The configuration file.
    #[arg(long, short, global = true, default_value = "routing.yaml", value_name = "FILE")]
    config: PathBuf,
    /// Answer in JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Serve(ServeOptions),
    /// Say all that is wrong with the configuration file, then try the stores.
    Check {
        /// The file only.
        #[arg(long)]
        offline: bool,
    },
    /// Show the running proxy: stores, groups, flags, sessions.
    Status,
    /// Move a group of tables to a store, by editing the configuration file.
    Flag {
        /// The group.
        group: String,
        /// The store that is to serve it.
        store: String,
        /// Wait until no transaction runs where it began before; seconds at most.
        #[arg(long, value_name = "SECS", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
        wait: Option<u64>,
        /// For the log and the history.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
        /// Even where views, triggers, routines, events or foreign keys tie the group to other tables.
        #[arg(long)]
        force: bool,
        /// Only say what would be done, and what is in the way: of a group with a standby.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make the running proxy read the configuration file again.
    Reload {
        /// For the log and the history.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Make the running proxy leave: no new clients, sessions end at a clean point.
    Drain {
        /// Seconds until busy sessions are closed.
        #[arg(long, value_name = "SECS")]
        timeout: Option<u64>,
        /// For the log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Show where a statement would go, and why.
    Explain {
        /// The statement.
        sql: String,
        /// As this account.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// In this database.
        #[arg(long, value_name = "NAME")]
        db: Option<String>,
    },
    /// Show every session of the running proxy.
    Sessions,
    /// Show the statements that the running proxy has seen: executions, time, latencies, rows, errors.
    Digests {
        /// Only those that name a table of this group.
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Only those that this store has answered.
        #[arg(long, value_name = "NAME")]
        store: Option<String>,
        /// Only those whose text, id, database or tables contain this.
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// What comes first.
        #[arg(long, value_enum, default_value_t = DigestOrder::Time)]
        sort: DigestOrder,
        /// So many at most; 0 is all.
        #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT)]
        limit: u32,
        /// Show statements whole.
        #[arg(long)]
        full: bool,
        /// Let all figures begin anew after this.
        #[arg(long)]
        reset: bool,
    },
    /// Show what would become of the statements seen so far, if the flag of a group moved now.
    #[command(
        after_help = "Exit codes: 0 all run as now, or the other store has prepared them; 6 some would be refused or fail; 7 else, \
                      some could not be tried out. Nothing is executed on any store."
    )]
    Readiness {
        /// The group.
        group: String,
        /// The store; without it, the other one.
        #[arg(long, value_name = "STORE")]
        to: Option<String>,
        /// Show statements whole.
        #[arg(long)]
        full: bool,
    },
    /// Show or change what the running proxy logs.
    Log {
        /// error, warn, info, debug, trace, off, or a filter as RUST_LOG takes it.
        level: Option<String>,
        /// For the log.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Make what would write to a group wait, at this proxy; each statement waits `hold_max` at most. Reads go on.
    Pause {
        /// The group.
        group: String,
        /// For the log of changes.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Let a paused group go on.
    Resume {
        /// The group.
        group: String,
        /// For the log of changes.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// End a session of the running proxy.
    Kill {
        /// Its id, as `sessions` shows it.
        session: u64,
        /// Only its statement.
        #[arg(long)]
        query: bool,
        /// For the log of changes.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Give up a cutover that is under way, unless it has been decided: both stores are as they were.
    Abort {
        /// Its group, or its id.
        job: String,
        /// For the log of changes.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Show what was changed, by whom, and what happened.
    Events {
        /// How many, the newest first.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Only these: action, flip, step, config, health, standby, shadow.
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
    },
    /// Show the configuration in force, or what the file says otherwise.
    Config {
        /// Only what the file says otherwise.
        #[arg(long)]
        diff: bool,
    },
    /// Show what shadow reads have found: how the other store answers what clients read.
    Shadow {
        /// Only of this group.
        group: Option<String>,
        /// How many statements, those that differ first.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Prepare both stores of a group for a standby, and write down where its copy begins.
    Init {
        /// The group; without it, every group with a standby.
        group: Option<String>,
        /// Only print the SQL that root runs on both stores.
        #[arg(long)]
        print: bool,
        /// Where in the authority's log the standby's copy was taken, as the dump says it.
        #[arg(long, value_name = "POSITION")]
        from: Option<String>,
        /// For the log of changes.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Show the standbys of the running proxy, and let a stopped one go on.
    #[command(subcommand)]
    Standby(StandbyCommand),
    /// Try it all: two private stores, a proxy, and traffic.
    Demo(DemoOptions),
}

#[derive(Debug, Subcommand)]
enum StandbyCommand {
    /// Where it is, and what it is stopped by.
    Show {
        /// The group.
        group: Option<String>,
    },
    /// Try again what it is stopped by.
    Retry {
        /// The group.
        group: String,
    },
    /// Pass the transaction over that it is stopped by: its rows are not applied.
    Skip {
        /// The group.
        group: String,
        /// The transaction, as `show` names it.
        transaction: String,
        /// Why; it is kept in `switchover.skipped` on the standby.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// What an authority that failed had alone, and what became of it since it is back.
    LeftBehind {
        /// The group.
        group: String,
        /// What was applied too.
        #[arg(long)]
        all: bool,
    },
    /// Give it up: both stores take writes. Then remove `standby:` from the group.
    End {
        /// The group.
        group: String,
        /// For the log of changes.
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
}

/// Options of `switchover serve`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Take the listening sockets over from the proxy that serves this file; it drains. No client is turned away.
    #[arg(long)]
    pub takeover: bool,
}

/// Options of `switchover demo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[non_exhaustive]
pub struct DemoOptions {
    /// End by itself after so many seconds.
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Flip the flag every N seconds.
    #[arg(long, value_name = "N")]
    pub flip_every: Option<u64>,
    /// Kill the new store under traffic, fall back, bring it back, go forward again; the last line is the ledger.
    #[arg(long, conflicts_with = "flip_every")]
    pub chaos: bool,
}

/// What the binary does next.
#[derive(Debug)]
pub enum Next {
    /// Nothing: the command has run.
    Exit(ExitCode),
    /// Serve this file.
    Serve(PathBuf, ServeOptions),
    /// Run the demo.
    Demo(DemoOptions),
}

/// `explain` without a proxy, as the routing layer answers it.
pub type Explain = dyn Fn(&Config, &ExplainRequest) -> Result<Explained, String>;

/// Parses the command line and runs what is not for the server. Blocks.
pub fn run(arguments: impl IntoIterator<Item = OsString>, explain: Option<&Explain>) -> Next {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return Next::Exit(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    match cli.command {
        Command::Serve(options) => Next::Serve(cli.config, options),
        Command::Demo(options) => Next::Demo(options),
        command => Next::Exit(outcome(&cli.config, cli.json, command, explain).finish()),
    }
}

fn outcome(config: &std::path::Path, json: bool, command: Command, explain: Option<&Explain>) -> Outcome {
    let socket = load::control_socket(config);
    match command {
        Command::Check { offline } => check::check(config, offline, json),
        Command::Status => show::status(&socket, json),
        Command::Sessions => show::sessions(&socket, json),
        Command::Digests { group, store, filter, sort, limit, full, reset } => {
            let cause = flag::cause(None);
            let request = DigestRequest { order: sort, limit, group, store, filter, reset, cause };
            digest::digests(&socket, request, full, json)
        }
        Command::Readiness { group, to, full } => {
            readiness::readiness(&socket, ReadinessRequest { group, to }, full, json)
        }
        Command::Log { level, why } => log::log(&socket, LogRequest { level, cause: flag::cause(why) }, json),
        Command::Pause { group, why } => steer::pause(&socket, group, true, flag::cause(why), json),
        Command::Resume { group, why } => steer::pause(&socket, group, false, flag::cause(why), json),
        Command::Kill { session, query, why } => {
            let request = KillRequest { session, query, cause: flag::cause(why) };
            steer::kill(&socket, request, json)
        }
        Command::Abort { job, why } => steer::abort(&socket, AbortRequest { job, cause: flag::cause(why) }, json),
        Command::Events { limit, kind } => steer::events(&socket, EventQuery { after: 0, limit, kind }, json),
        Command::Config { diff } => steer::config(&socket, diff, json),
        Command::Reload { why } => show::reload(&socket, flag::cause(why), json),
        Command::Drain { timeout, why } => {
            let timeout_ms = timeout.map(|seconds| seconds.saturating_mul(1_000));
            show::drain(&socket, DrainRequest { cause: flag::cause(why), timeout_ms }, json)
        }
        Command::Flag { group, store, wait, why, force, dry_run } => {
            let cause = Cause { force, ..flag::cause(why) };
            let request = FlagRequest { group, store, cause, dry_run };
            let wait = wait.map(Duration::from_secs);
            flag::flag(&flag::Flag { config, socket: &socket, request, wait, json })
        }
        Command::Explain { sql, user, db } => {
            let request = ExplainRequest { sql, user, db };
            explained(config, &socket, request, explain, json)
        }
        Command::Shadow { group, limit } => shadow::shadow(&socket, ShadowRequest { group, limit }, json),
        Command::Init { group, print, from, why } => {
            standby::init(&standby::Init { config, group, print, from, cause: flag::cause(why), json })
        }
        Command::Standby(command) => match command {
            StandbyCommand::Show { group } => standby::show(&socket, group.as_deref(), json),
            StandbyCommand::Retry { group } => {
                standby::tell(&socket, group, StandbyAction::Retry, flag::cause(None), json)
            }
            StandbyCommand::Skip { group, transaction, reason } => {
                let action = StandbyAction::Skip { transaction, reason };
                standby::tell(&socket, group, action, flag::cause(None), json)
            }
            StandbyCommand::LeftBehind { group, all } => left_behind::left_behind(config, &group, all, json),
            StandbyCommand::End { group, why } => standby::end(config, &group, &flag::cause(why), json),
        },
        Command::Serve(_) | Command::Demo(_) => Outcome::failed(Code::Failed, json, "not a command of its own"),
    }
}

/// The running proxy knows best: temporary tables aside, it answers with the snapshot in force.
fn explained(
    path: &std::path::Path,
    socket: &std::path::Path,
    request: ExplainRequest,
    offline: Option<&Explain>,
    json: bool,
) -> Outcome {
    let explained = match (ask(socket, &Request::Explain(request.clone())), offline) {
        (Ok(Reply::Explained(explained)), _) => explained,
        (Err(ClientError::NotRunning(_) | ClientError::Denied(_)), Some(explain)) => {
            let config = match config::load(path) {
                Ok(config) => config,
                Err(problems) => return check::refused(&problems, json),
            };
            match explain(&config, &request) {
                Ok(explained) => explained,
                Err(message) => return Outcome::failed(Code::Refused, json, &message),
            }
        }
        (other, _) => return show::unexpected(other, json),
    };
    Outcome::new(Code::Done, json, &explained, || format!("{}\n", explained.text.trim_end()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn waits_have_a_default_and_take_no_positional() {
        let wait = |line| match parse(line).unwrap().command {
            Command::Flag { group, wait, .. } => (group, wait),
            _ => panic!("not a flag"),
        };
        assert_eq!(wait("switchover flag a new"), ("a".into(), None));
        assert_eq!(wait("switchover flag --wait a new"), ("a".into(), Some(10)));
        assert_eq!(wait("switchover flag a new --wait=3 --config x --json"), ("a".into(), Some(3)));
        assert!(parse("switchover flag a").is_err());
        assert!(parse("switchover").is_err());
    }

    #[test]
    fn the_demo_takes_its_options() {
        let Next::Demo(options) =
            run("switchover demo --seconds 5 --flip-every 2".split(' ').map(OsString::from), None)
        else {
            panic!("not the demo")
        };
        assert_eq!(options, DemoOptions { seconds: Some(5), flip_every: Some(2), chaos: false });
    }
}

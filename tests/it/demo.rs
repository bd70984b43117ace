//! The demo as CI sees it: flips move the traffic, no client notices, and nothing is left behind.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{clients, eventually, place};

/// A demo of this test alone: its temporary folder is under `ground`.
fn demo(ground: &place::Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchover"));
    command.arg("demo").args(arguments).env("TMPDIR", ground.path());
    command
}

fn is_empty(ground: &place::Folder) -> bool {
    fs::read_dir(ground.path()).unwrap().next().is_none()
}

/// Processes whose command line names that folder.
fn processes_in(ground: &place::Folder) -> HashSet<String> {
    let folder = ground.path().to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(&folder)).collect()
}

fn serves(ground: &place::Folder) -> bool {
    processes_in(ground).iter().any(|line| line.contains("\0serve\0"))
}

#[test]
fn flips_move_the_traffic_and_no_query_fails() {
    let ground = place::Folder::new("d");
    let output = clients::output(demo(&ground, &["--seconds", "9", "--flip-every", "2"]));
    assert!(output.ok, "{}{}", output.stdout, output.stderr);
    let last = output.stdout.lines().last().unwrap();
    let numbers: Vec<u64> = last.split(", ").map(|part| part.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    let [queries, errors, flips, legacy, new] = numbers[..] else { panic!("{last}") };
    assert_eq!(last, format!("queries {queries}, client errors {errors}, flips {flips}, legacy {legacy}, new {new}"));
    assert_eq!(errors, 0);
    assert!((3..=5).contains(&flips), "{last}");
    assert!(queries > 500 && legacy > 100 && new > 100, "{last}");
    // each query of the application is counted on one store; what the proxy asks after a SET is on top
    assert!((queries..=queries + queries / 200).contains(&(legacy + new)), "{last}");
    assert!(is_empty(&ground));
    assert!(processes_in(&ground).is_empty());
}

#[test]
fn interrupted_it_closes_in_order() {
    let ground = place::Folder::new("d");
    let child = demo(&ground, &[]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the proxy", || serves(&ground));
    std::thread::sleep(Duration::from_secs(2));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.lines().last().unwrap().starts_with("queries "), "{stdout}");
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(is_empty(&ground));
    assert!(processes_in(&ground).is_empty());
}

#[test]
fn it_closes_in_order_when_its_reader_leaves() {
    let ground = place::Folder::new("d");
    let mut child =
        demo(&ground, &[]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the proxy", || serves(&ground));
    drop((child.stdout.take(), child.stderr.take()));
    // 101 would be a panic
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(is_empty(&ground));
    assert!(processes_in(&ground).is_empty());
}

#[test]
fn killed_it_leaves_nothing_behind() {
    let ground = place::Folder::new("d");
    let mut child =
        demo(&ground, &[]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the proxy", || serves(&ground));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("no process is left", || processes_in(&ground).is_empty());
    eventually("no file is left", || is_empty(&ground));
}

/// The store that serves is killed under traffic: what was acknowledged is there, and both stores end the same.
#[test]
fn chaos_loses_nothing() {
    let ground = place::Folder::new("d");
    let output = clients::output(demo(&ground, &["--chaos", "--seconds", "1"]));
    assert!(output.ok, "{}{}", output.stdout, output.stderr);
    let last = output.stdout.lines().last().unwrap();
    let numbers: Vec<u64> = last.split(", ").map(|part| part.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    let [acknowledged, lost, errors, fallbacks, differing] = numbers[..] else { panic!("{last}") };
    assert_eq!(
        last,
        format!(
            "acknowledged {acknowledged}, lost {lost}, client errors {errors}, fallbacks {fallbacks}, differing rows {differing}"
        )
    );
    assert_eq!((lost, fallbacks, differing), (0, 1, 0), "{}", output.stdout);
    // no more than a write under way of each writer, and no read
    assert!(acknowledged > 100 && errors <= 4, "{}{}", output.stdout, output.stderr);
    assert!(is_empty(&ground));
    assert!(processes_in(&ground).is_empty());
}

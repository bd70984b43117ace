//! A whole `routing.yaml` → `Config`: every key lands where it belongs, and nothing in a file can break the loader.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use switchover::config::model::{Ack, Address, AdminUser, Fallback, LogFormat, PoolMode, Role, Secret, TlsMode};
use switchover::config::{self, Config, Problem, ProblemKind, StoreId};

fn load(text: &str) -> Result<Config, Vec<Problem>> {
    config::parse(text, Path::new("/etc/switchover/routing.yaml"), &|name| match name {
        "FLAG" => Some("new".to_owned()),
        "PASSWORD" => Some("from env".to_owned()),
        _ => None,
    })
}

fn good(text: &str) -> Config {
    load(text).unwrap_or_else(|problems| panic!("{}", config::problem::render(&problems)))
}

const MINIMAL: &str =
    "listen: 127.0.0.1:3307\nstores: { legacy: { address: h:3306 }, new: { address: h:3316 } }\ndefault: legacy\n";

fn with(more: &str) -> Config {
    good(&format!("{MINIMAL}{more}"))
}

fn problems(more: &str) -> String {
    config::problem::render(&load(&format!("{MINIMAL}{more}")).expect_err("is refused"))
}

#[test]
fn the_example_of_the_repository_checks_without_environment() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("routing.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let config = config::parse(&text, &path, &|_| None).unwrap_or_else(|p| panic!("{}", config::problem::render(&p)));
    assert_eq!(config.groups[0].tables.len(), 7);
    assert_eq!(config.groups[0].connection, StoreId(0));
    assert_eq!(config.stores[1].name, "new");
    let flipped = config::parse(&text, &path, &|name| (name == "ANALYTICS_CONNECTION").then(|| "new".to_owned()));
    assert_eq!(flipped.unwrap().groups[0].connection, StoreId(1));
}

#[test]
fn what_the_example_has_commented_out_works_too() {
    let text = include_str!("../routing.yaml");
    let uncomment = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        let body = line.trim_start().strip_prefix("# ")?;
        let key = body.split_once(": ")?.0;
        let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && key != "tls";
        is_key.then(|| format!("{}{body}", &line[..indent]))
    };
    let open: Vec<String> = text.lines().map(|line| uncomment(line).unwrap_or_else(|| line.to_owned())).collect();
    let config = good(&open.join("\n"));
    assert_eq!(config.groups[0].databases, ["fathom"]);
    assert_eq!(config.proxy_protocol_from, ["10.0.0.0/8"]);
    assert_eq!(config.limits.max_allowed_packet, 64 << 20);
    assert_eq!(config.log.slow_query, Some(Duration::from_secs(1)));
}

#[test]
fn defaults() {
    let config = good(MINIMAL);
    assert_eq!(config.listen, [Address::Tcp("127.0.0.1".into(), 3307)]);
    assert_eq!(config.control_socket, Path::new("/etc/switchover/routing.yaml.sock"));
    assert_eq!((config.pool, config.hints, config.workers), (PoolMode::Session, true, 0));
    assert_eq!(config.limits, Default::default());
    assert_eq!(config.log, Default::default());
    assert_eq!((config.insight.statements, config.insight.examples), (2_000, false));
    assert_eq!(config.tls, Default::default());
    assert_eq!(config.stores[0].tls.mode, TlsMode::FollowClient);
    assert!(config.groups.is_empty() && config.users.is_empty());
}

#[test]
fn sections_whose_keys_are_all_commented_out_are_absent() {
    let config = with("limits:\n  # max_connections: 1\nlog: ~\nusers:\ngroups:\n");
    assert_eq!(config.limits, Default::default());
}

#[test]
fn listen_takes_one_or_many() {
    let config = good(&MINIMAL.replace("127.0.0.1:3307", "[\"[::1]:3307\", /run/s.sock, \"0.0.0.0:3308\"]"));
    assert_eq!(config.listen[0], Address::Tcp("::1".into(), 3307));
    assert_eq!(config.listen[1], Address::Unix("/run/s.sock".into()));
    assert_eq!(config.listen.len(), 3);
}

#[test]
fn a_store_in_full() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    std::fs::write(folder.path().join("pw"), "p$ss\n").unwrap();
    let text = "
listen: 127.0.0.1:0
default: a
stores:
  a:
    address: [db1:3306, /run/mysqld.sock]
    control: {user: ctl, password: 12345}
    account: {user: svc, hash: 0123456789abcdef0123456789ABCDEF01234567}
    tls: {mode: preferred, ca: ca.pem}
    proxy_protocol: true
  b:
    address: db2:3306
    control: {user: ctl, password_file: pw}
    tls: required
  c: {address: \"db3:1\", control: {user: ctl, password: \"$${x}${PASSWORD}\"}, tls: {ca: ca.pem}}
  d: {address: \"db4:1\", tls: off}
";
    let env = |name: &str| (name == "PASSWORD").then(|| "pw: [not yaml".to_owned());
    let config = config::parse(text, &folder.path().join("routing.yaml"), &env).unwrap();
    let a = &config.stores[0];
    assert_eq!(a.addresses, [Address::Tcp("db1".into(), 3306), Address::Unix("/run/mysqld.sock".into())]);
    assert_eq!(a.control.as_ref().unwrap().secret, Secret::Password("12345".into()));
    assert!(matches!(a.account.as_ref().unwrap().secret, Secret::NativeStage1([0x01, 0x23, ..])));
    assert_eq!((a.tls.mode, a.proxy_protocol), (TlsMode::Preferred, true));
    assert_eq!(a.tls.ca.as_deref(), Some(folder.path().join("ca.pem").as_path()));
    assert_eq!(config.stores[1].control.as_ref().unwrap().secret, Secret::Password("p$ss".into()));
    assert_eq!(config.stores[2].control.as_ref().unwrap().secret, Secret::Password("${x}pw: [not yaml".into()));
    let modes: Vec<TlsMode> = config.stores.iter().map(|store| store.tls.mode).collect();
    assert_eq!(modes, [TlsMode::Preferred, TlsMode::Required, TlsMode::Required, TlsMode::Off]);
    assert!(!format!("{config:?}").contains("12345"));
}

#[test]
fn groups_in_full() {
    let config = with(
        "groups:
  one: {tables: [a, db.b, stats_*], connection: new, databases: [x, y], references: [r], cross_store_transactions: refuse}
  two: {tables: c, connection: \"${FLAG}\"}
  three: {tables: [a], connection: legacy, databases: z}
",
    );
    let one = &config.groups[0];
    assert_eq!(one.tables.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a", "db.b", "stats_*"]);
    assert_eq!((one.connection, one.cross_store_transactions), (StoreId(1), false));
    assert_eq!(one.references[0].name, "r");
    assert_eq!((config.groups[1].connection, config.groups[1].cross_store_transactions), (StoreId(1), true));
}

#[test]
fn users_have_a_secret_per_store() {
    let config = with(
        "users:
  app:
    legacy: {hash: \"*0000000000000000000000000000000000000001\"}
    new: {user: app2, password: \"${PASSWORD}\"}
",
    );
    let app = &config.users["app"];
    assert!(matches!(app[&StoreId(0)].secret, Secret::NativeHash([0, .., 1])));
    assert_eq!((app[&StoreId(0)].user.as_str(), app[&StoreId(1)].user.as_str()), ("app", "app2"));
    assert_eq!(app[&StoreId(1)].secret, Secret::Password("from env".into()));
}

#[test]
fn surfaces_limits_and_logs() {
    let config = with(
        "admin: {sql: 127.0.0.1:6032, http: 127.0.0.1:6080, audit: /var/log/switchover.audit,
  users: {ops: {password: \"${PASSWORD}\"}, look: {password: x, role: reader}}}
proxy_protocol: {from: [10.0.0.0/8, \"::1\"]}
pool: transaction
hints: false
workers: 4
control_socket: /run/sw.ctl
limits: {max_connections: 10_000, max_allowed_packet: 64MiB, connect_timeout: 500ms, idle_timeout: 8h, max_pending_logins: 5,
  max_prepared_statements: 0, drain_timeout: 2m, plan_cache: 1MiB, login_attempts: 3}
log: {format: json, level: debug, slow_query: 250ms, literals: true}
insight: {statements: 5_000, examples: true}
",
    );
    assert_eq!((config.insight.statements, config.insight.examples), (5_000, true));
    assert_eq!(config.admin.users["ops"], AdminUser { password: "from env".into(), role: Role::Operator });
    assert_eq!(config.admin.users["look"].role, Role::Reader);
    assert_eq!(config.audit, Path::new("/var/log/switchover.audit"));
    assert!(!format!("{:?}", config.admin).contains("from env"));
    assert_eq!(config.proxy_protocol_from, ["10.0.0.0/8", "::1/128"]);
    assert_eq!((config.pool, config.hints, config.workers), (PoolMode::Transaction, false, 4));
    assert_eq!(config.control_socket, Path::new("/run/sw.ctl"));
    assert_eq!(config.limits.idle_timeout, Some(Duration::from_secs(8 * 3600)));
    assert_eq!(config.limits.connect_timeout, Duration::from_millis(500));
    assert_eq!((config.log.format, config.log.literals), (LogFormat::Json, true));
}

#[test]
fn the_pool_has_bounds() {
    let config = with("pool: {mode: transaction, max_per_store: 7, idle_timeout: 5s, wait_timeout: 500ms}\n");
    assert_eq!(config.pool, PoolMode::Transaction);
    assert_eq!((config.pooling.max_per_store, config.pooling.idle_timeout.as_secs()), (7, 5));
    assert_eq!(config.pooling.wait_timeout, Duration::from_millis(500));
    let config = with("pool: {mode: session}\n");
    assert_eq!((config.pool, config.pooling.max_per_store), (PoolMode::Session, 100));
}

#[test]
fn anchors_and_aliases_work() {
    let config =
        with("groups: {a: {tables: &t [x], connection: &c new}, b: {tables: [y], references: *t, connection: *c}}\n");
    assert_eq!(config.groups[1].references[0].name, "x");
    assert_eq!(config.groups[1].connection, StoreId(1));
}

#[test]
fn byte_order_marks_and_windows_line_breaks_are_fine() {
    good(&format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n")));
}

#[test]
fn later_keys_are_refused_not_ignored() {
    for key in ["tenant: site_id", "tenants: {}"] {
        let text = problems(&format!("groups: {{a: {{tables: [x], connection: new, {key}}}}}\n"));
        assert!(text.contains("is not available yet in this version"), "{text}");
    }
    assert!(problems("standby: new\n").contains("not available yet"));
}

#[test]
fn shadow_reads_go_to_the_other_store() {
    let accounts = "listen: 127.0.0.1:1\nstores: {a: {address: h:1, control: {user: c, password: p}}, b: {address: h:2, control: {user: c, password: p}}}\ndefault: a\n";
    let with =
        |text: &str| load(&format!("{accounts}groups: {{g: {{tables: [x], connection: a, shadow: {{{text}}}}}}}\n"));
    for text in ["sample: 0.05", "sample: 0.050, store: b", "sample: 0.05, store: a"] {
        let config = with(text).unwrap();
        let group = &config.groups[0];
        assert_eq!(group.shadow.map(|s| (s.sample, s.share())), Some((50_000, "0.05".to_owned())), "{text}");
        assert_eq!(config.shadow_of(group), Some(StoreId(1)), "{text}");
    }
    assert_eq!(with("sample: 1").unwrap().groups[0].shadow.map(|s| s.share()).as_deref(), Some("1"));
    for text in ["sample: 0", "sample: 1.5", "sample: 5%", "sample: -1", "{}", "sample: 1, store: c", "sample: 1, x: 1"]
    {
        assert!(with(text).is_err(), "{text}");
    }
    let text = problems("groups: {a: {tables: [x], connection: new, shadow: {sample: 1}}}\n");
    assert!(text.contains("`groups.a.shadow` needs the control account of new"), "{text}");
    let three = accounts.replace("b: {", "c: {address: h:3}, b: {");
    let group = "groups: {g: {tables: [x], connection: a, shadow: {sample: 1}}}\n";
    assert!(load(&format!("{three}{group}")).is_err(), "one of two");
    let standby = group.replace("shadow", "standby: b, shadow");
    let config = load(&format!("{three}{standby}")).unwrap();
    assert_eq!(config.shadow_of(&config.groups[0]), config.store_by_name("b"));
}

#[test]
fn a_standby_is_the_other_store() {
    let accounts = "listen: 127.0.0.1:1\nstores: {a: {address: h:1, control: {user: c, password: p}}, b: {address: h:2, control: {user: c, password: p}}}\ndefault: a\n";
    let config = load(&format!("{accounts}groups: {{g: {{tables: [x], connection: a, standby: b}}}}\n")).unwrap();
    assert_eq!(config.groups[0].standby, Some(StoreId(1)));
    let text = problems("groups: {a: {tables: [x], connection: new, standby: new}}\n");
    assert!(text.contains("`groups.a.standby` is the store that serves the group"), "{text}");
    let text = problems("groups: {a: {tables: [x], connection: new, standby: legacy}}\n");
    assert!(text.contains("needs the control account of new"), "{text}");
    let text = problems("groups: {a: {tables: [x], connection: new, standby: lagacy}}\n");
    assert!(text.contains("did you mean `legacy`?"), "{text}");
    let text = problems("groups: {a: {tables: [x], connection: new, fallback: auto, ack: standby}}\n");
    assert!(text.contains("`groups.a.ack` is of a group with a standby"), "{text}");
    assert!(text.contains("`groups.a.fallback` is of a group with a standby"), "{text}");
    let keys = "standby: b, ack: standby, ack_timeout: 2s, fallback: auto, fallback_after: 5s, hold_max: 3s, drain_timeout: 1s";
    let kept =
        load(&format!("{accounts}groups: {{g: {{tables: [x], connection: a, {keys}}}}}\n")).unwrap().groups[0].keeping;
    assert_eq!((kept.ack, kept.fallback), (Ack::Standby, Fallback::Auto));
    let seconds = [kept.ack_timeout, kept.fallback_after, kept.hold_max, kept.drain_timeout].map(|t| t.as_secs());
    assert_eq!(seconds, [2, 5, 3, 1]);
}

#[test]
fn every_problem_is_reported_at_once() {
    let found = load(
        "listn: x\nstores:\n  legacy: {adress: h:1}\ndefault: legcy\ngroups:\n  a: {tables: [], connection: nwe}\n",
    )
    .unwrap_err();
    let kinds: Vec<ProblemKind> = found.iter().map(|problem| problem.kind).collect();
    use ProblemKind::{Missing, UnknownKey, UnknownName};
    assert_eq!(kinds, [Missing, UnknownKey, Missing, UnknownKey, UnknownName, Missing, UnknownName]);
    assert!(found.windows(2).all(|pair| pair[0].line <= pair[1].line));
}

#[test]
fn secrets_never_show() {
    let secret = "hunter2";
    let files = [
        format!("users: {{app: {{new: {{pasword: {secret}}}}}}}\n"),
        format!("users: {{app: {{new: {secret}}}}}\n"),
        format!("users: {{app: {{nwe: {{password: {secret}}}}}}}\n"),
        format!("users: {{app: {{new: [{secret}], nwe: {secret}}}}}\n"),
        format!("users: {{app: {{new: {{password: {secret}, password: {secret}, hash: x}}}}}}\n"),
        format!("users: {{app: {{new: {{hash: {secret}}}}}}}\n"),
        format!("users: {{app: {{password: {secret}}}}}\n"),
        format!("users: {{app: {{new: {{password: \"${{NO:{secret}}}\"}}}}}}\n"),
        format!("users: {{app: {{new: {{password: \"${{{secret}\"}}}}}}\n"),
        format!("users: {{app: {{new: {{password: {secret}\n"),
        format!("users:\n  app:\n    new: {{password: {secret}]\n"),
        format!("users:\n  app:\n    new: {{'password': '{secret}\n"),
        format!("users:\n  app:\n    new:\n      password: {secret}: x\n"),
        format!("users:\n  app:\n    new: @{secret}\n"),
        format!("x: &p {secret}\nusers: {{app: {{new: {{password: *p}}}}}}\n"),
        format!("tls: {{password: {secret}, mode: x}}\n"),
        format!("admin: {{users: {{ops: {secret}}}}}\n"),
        format!("admin: {{users: {{ops: {{pass: {secret}}}}}}}\n"),
        format!("proxy_protocol: {{from: [\"root:{secret}@h\"], passwrd: {secret}}}\n"),
    ];
    for file in &files[..files.len() - 1] {
        let text = problems(file);
        assert!(!text.contains(secret), "{file}\n{text}");
    }
    let store = MINIMAL.replace("h:3316", &format!("\"root:{secret}@h:3316\", control: {secret}, account: [{secret}]"));
    let text = config::problem::render(&load(&store).unwrap_err());
    assert!(!text.contains(secret), "{text}");
}

fn many(count: usize) -> String {
    (0..count).map(|i| format!("t{i}, ")).collect()
}

/// Of this thread: a busy machine makes nobody slow.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(text.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

#[test]
fn hostile_files_are_refused_quickly() {
    let bomb: String =
        (1..40).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","))).collect();
    let chain: String = (1..100_000).map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1)).collect();
    let files = [
        String::new(),
        "# nothing\n".to_owned(),
        "\u{feff}".to_owned(),
        "~".to_owned(),
        "- a\n- b\n".to_owned(),
        "just words".to_owned(),
        "a: b\n---\nc: d\n".to_owned(),
        "listen:\n\t- 127.0.0.1:1\n".to_owned(),
        "\0".to_owned(),
        "? [a]\n: b\n".to_owned(),
        "a: &a [*a]\n".to_owned(),
        "a: *b\n".to_owned(),
        "a: !custom b\n".to_owned(),
        "<<: {a: b}\n".to_owned(),
        format!("a0: &a0 x\n{bomb}"),
        format!("a0: &a0 x\n{chain}"),
        "[".repeat(1 << 20),
        "{a: ".repeat(1 << 18),
        "- ".repeat(1 << 20),
        "? ".repeat(1 << 20),
        "a:\n  ".repeat(1 << 18),
        "x".repeat(10 << 20),
        format!("[{}]", "a, ".repeat(1 << 17)),
        (0..100_000).map(|i| format!("k{i}: v\n")).collect(),
        "a: 1\n".repeat(100_000),
        format!("listen: [{}]", "\"h:1\", ".repeat(100_000)),
        format!(
            "{MINIMAL}groups: {{a: {{connection: new, tables: [{0}], databases: [{0}], references: [{0}]}}}}",
            many(100_000)
        ),
        format!("users: {{{}}}", (0..100_000).map(|i| format!("u{i}: {{password: x}}, ")).collect::<String>()),
    ];
    for file in files {
        let before = cpu_time();
        let found = load(&file).expect_err("is refused");
        assert!(!config::problem::render(&found[..found.len().min(50)]).is_empty());
        let took = cpu_time() - before;
        assert!(took < Duration::from_secs(5), "{took:?} for {:?}", file.get(..40));
    }
}

#[test]
fn files_that_are_no_text_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    let message = |path: &Path| config::load(path).unwrap_err()[0].to_string();
    assert!(message(&path).contains("cannot be read"));
    assert!(message(folder.path()).contains("it is a folder"));
    std::fs::write(&path, b"a: b\nc: \xff\n").unwrap();
    assert!(message(&path).contains("is not UTF-8 text (line 2)"));
    std::fs::write(&path, vec![b'x'; 10 << 20]).unwrap();
    assert!(message(&path).contains("is larger than"));
}

/// YAML's own characters, the schema's words, and whatever else: far likelier to reach deep than random bytes.
fn yamlish() -> impl Strategy<Value = String> {
    let words = [
        "listen",
        "stores",
        "groups",
        "users",
        "default",
        "tables",
        "connection",
        "legacy",
        "new",
        "a",
        "address",
        "h:1",
        "password",
        "limits",
        "tls",
        "control",
        "user",
        "log",
        "admin",
        "${A}",
        "${A:-b}",
        "${",
        "$$",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "\r\n",
        "\t",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "'",
        "\"",
        "\\",
        "&x ",
        "*x",
        "!t ",
        "!!str ",
        "|\n",
        ">-\n",
        "#",
        " # ",
        "? ",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "<<",
        "~",
        "null",
        "é",
        "\u{feff}",
        "\u{2028}",
        "\0",
        "\u{1b}",
        "0",
        "-1",
        "99999999999",
        "64MiB",
    ];
    let piece = prop_oneof![4 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_breaks_the_loader(text in yamlish()) {
        let env = |name: &str| (name == "A").then(|| "x".to_owned());
        if let Err(problems) = config::parse(&text, Path::new("r"), &env) {
            prop_assert!(!problems.is_empty());
            prop_assert!(config::problem::render(&problems).len() < 200_000);
        }
        let _ = config::parse(&format!("{MINIMAL}{text}"), Path::new("r"), &env);
        let _ = config::parse(&MINIMAL.replace("h:3316", &text), Path::new("r"), &env);
    }

    #[test]
    fn no_mutation_of_a_good_file_breaks_the_loader(at in 0usize..2_000, cut in 0usize..40, put in yamlish()) {
        let text = include_str!("../routing.yaml");
        let at = text.floor_char_boundary(at.min(text.len()));
        let end = text.floor_char_boundary((at + cut).min(text.len()));
        let _ = config::parse(&format!("{}{put}{}", &text[..at], &text[end..]), Path::new("r"), &|_| None);
    }
}

#[test]
fn the_documentation_has_every_key() {
    let text = include_str!("../docs/config.md");
    let message = problems(
        "?: x\ntls: {'?': x}\nlimits: {'?': x}\nlog: {'?': x}\ninsight: {'?': x}\nadmin: {'?': x}\nproxy_protocol: {'?': x}\ngroups: {g: {'?': x}}\n",
    );
    let lists = message.lines().filter_map(|line| line.split_once("the keys here are ")).map(|(_, keys)| keys);
    let keys: Vec<&str> = lists.flat_map(|keys| keys.split(", ")).collect();
    assert!(keys.len() > 35, "{message}");
    for key in keys {
        assert!(
            text.contains(&format!("`{key}`"))
                || text.contains(&format!("{key}: [network"))
                || text.contains(&format!(".{key}`")),
            "docs/config.md lacks `{key}`"
        );
    }
}

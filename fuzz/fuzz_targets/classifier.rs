//! Facts and decisions over any text: they come, are of bounded size, and a text that has no table of a group is never sent
//! away from the default store.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use switchover::config::parse;
use switchover::routing::{Decision, SessionView, Snapshot, TempTables, decide};
use switchover::sql::{CharsetClass, Dialect, Flags, analyze};

const CONFIG: &str = "listen: 127.0.0.1:3307
stores:
  legacy: { address: 127.0.0.1:3306 }
  new: { address: 127.0.0.1:3316 }
default: legacy
groups:
  analytics: { tables: [hits, pageviews, 'stats_*'], connection: new, references: [sites] }
";

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let config = parse(CONFIG, Path::new("routing.yaml"), &|_| None).expect("a good configuration");
    Snapshot::compile(Arc::new(config), 1, 1)
});

fuzz_target!(|data: &[u8]| {
    let [first, sql @ ..] = data else { return };
    let dialect = Dialect {
        charset: if first & 1 != 0 { CharsetClass::Gbk } else { CharsetClass::Safe },
        ansi_quotes: first & 2 != 0,
        no_backslash_escapes: first & 4 != 0,
        ..Dialect::default()
    };
    let analysis = analyze(sql, &dialect);
    assert!(!analysis.statements.is_empty());
    assert_eq!(analysis, analyze(sql, &dialect));
    let snapshot = &*SNAPSHOT;
    let temporary = TempTables::default();
    let view = SessionView { database: Some("app"), temporary: &temporary, written: &[] };
    // case-insensitively, and in any encoding that keeps ASCII: the group's names are ASCII
    let lower = sql.to_ascii_lowercase();
    let names = [&b"hits"[..], b"pageviews", b"stats_", b"switchover"];
    let named = names.iter().any(|name| lower.windows(name.len()).any(|window| window == *name));
    for facts in &analysis.statements {
        assert!(facts.tables.iter().all(|t| t.span.end as usize <= sql.len()));
        let decision = decide(facts, snapshot, &view);
        assert_eq!(decision, decide(facts, snapshot, &view));
        match decision {
            Decision::Store { store, .. } => {
                // an escape may spell a name; without one, the bytes must be there
                assert!(
                    named || facts.flags.contains(Flags::LITERALS_MATTER) || store == snapshot.config.default,
                    "sent away: {:?}",
                    String::from_utf8_lossy(sql)
                );
            }
            Decision::Refuse(refusal) => assert!(refusal.message.starts_with("switchover:")),
        }
    }
});

//! Who may do what, and what is written down of it.

use super::super::protocol::{EventQuery, ExplainRequest, FlagRequest, KillRequest, PauseRequest};
use super::super::testing::Fake;
use super::*;

fn actions() -> (Actions, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    std::fs::write(
        &path,
        "listen: 127.0.0.1:1\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}\ngroups: {a: {tables: t, connection: legacy}}\n",
    )
    .unwrap();
    (Actions::new(Arc::new(Fake::new(path))), folder)
}

fn actor(role: Role, surface: Surface) -> Actor {
    Actor { name: "ops".into(), surface, from: "127.0.0.1:5".into(), role }
}

fn events(actions: &Actions) -> Vec<Event> {
    actions.running().events().newest(&EventQuery::default())
}

fn flag(group: &str, by: &str) -> Request {
    let cause = Cause { by: by.into(), why: Some("tests".into()), ..Cause::default() };
    Request::Flag(FlagRequest { group: group.into(), store: "new".into(), cause, dry_run: false })
}

#[tokio::test]
async fn changes_are_written_down_with_who_and_how_it_was() {
    let (actions, _folder) = actions();
    let ops = actor(Role::Operator, Surface::Http);
    assert!(matches!(actions.perform(&ops, flag("a", "somebody else")).await, Ok(Reply::Flagged(_))));
    let event = events(&actions).remove(0);
    let found = (event.subject.as_str(), event.what.as_str(), event.by.as_str(), event.surface.as_str());
    assert_eq!(found, ("a", "flag to new", "ops", "http"), "a surface with accounts takes nobody's word for it");
    assert_eq!((event.before.as_deref(), event.after.as_deref()), (Some("legacy"), Some("new")));
    assert_eq!((event.why.as_deref(), event.outcome.as_deref()), (Some("tests"), Some("done")));
    assert!(actions.perform(&ops, flag("nope", "")).await.is_err());
    let event = events(&actions).remove(0);
    assert_eq!((event.subject.as_str(), event.outcome.as_deref()), ("nope", Some("refused")));
    let pause = Request::Pause(PauseRequest { group: "a".into(), pause: true, cause: Cause::default() });
    assert!(matches!(actions.perform(&ops, pause).await, Ok(Reply::Group(g)) if g.paused));
    let event = events(&actions).remove(0);
    assert_eq!((event.before.as_deref(), event.after.as_deref()), (Some("running"), Some("paused")));
}

#[tokio::test]
async fn a_reader_looks_and_changes_nothing() {
    let (actions, folder) = actions();
    let reader = actor(Role::Reader, Surface::Console);
    let file = || std::fs::read_to_string(folder.path().join("routing.yaml")).unwrap();
    let before = file();
    let cause = Cause::default;
    let changes = [
        flag("a", ""),
        Request::Reload(cause()),
        Request::Pause(PauseRequest { group: "a".into(), pause: true, cause: cause() }),
        Request::Kill(KillRequest { session: 7, query: false, cause: cause() }),
        Request::Drain(super::super::protocol::DrainRequest::default()),
        Request::Standby(super::super::protocol::StandbyRequest {
            group: "a".into(),
            action: StandbyAction::Retry,
            cause: cause(),
        }),
    ];
    for change in changes {
        let Err(failure) = actions.perform(&reader, change.clone()).await else { panic!("{change:?} was done") };
        assert_eq!(failure.kind, FailureKind::Forbidden, "{change:?}");
    }
    assert_eq!(file(), before);
    assert_eq!(events(&actions).len(), 6, "attempts are written down too");
    let explain = Request::Explain(ExplainRequest { sql: "SELECT 1".into(), ..ExplainRequest::default() });
    for look in [Request::Status, Request::Sessions, Request::Config, Request::Events(EventQuery::default()), explain] {
        assert!(actions.perform(&reader, look.clone()).await.is_ok(), "{look:?}");
    }
    assert_eq!(events(&actions).len(), 6, "looking is no event");
}

#[tokio::test]
async fn the_command_line_says_itself_who_it_is() {
    let (actions, _folder) = actions();
    let cli = Actor { name: "uid 7".into(), from: "uid 7".into(), ..actor(Role::Operator, Surface::Cli) };
    actions.perform(&cli, flag("a", "")).await.unwrap();
    let event = events(&actions).remove(0);
    assert_eq!((event.by.as_str(), event.from.as_str()), ("uid 7", "uid 7"));
}

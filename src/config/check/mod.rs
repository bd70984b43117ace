//! Raw tree → [`Config`]: one file per part of the schema. Everything is read to its end, whatever was wrong before.

mod accounts;
mod files;
mod groups;
mod listen;
mod settings;
mod stores;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::address::MAX_SOCKET_PATH;
use super::model::{Config, StoreId};
use super::problem::ProblemKind;
use super::raw::Node;
use super::reader::{Fields, Reader, did_you_mean, shown};
use super::source::Finding;

/// Top-level keys of later versions.
const LATER: [&str; 3] = ["standby", "ack", "fallback"];

/// Checks a whole file. The result counts only if `reader` has no findings.
pub(super) fn check(reader: &mut Reader<'_>, root: &Node, path: &Path) -> Option<Config> {
    let mut top = reader.fields(root, "", &root.span)?;
    let listen = listen::addresses(reader, &mut top);
    let tls = listen::tls(reader, &mut top);
    let proxy_protocol_from = listen::proxy_protocol(reader, &mut top);
    let admin = listen::admin(reader, &mut top, &listen);
    let (stores, names) = stores::stores(reader, &mut top, &listen);
    let default = default(reader, &mut top, &names);
    let groups = groups::groups(reader, &mut top, &names);
    standbys_have_accounts(reader, &stores, &groups, &top.span);
    let users = accounts::users(reader, &mut top, &names);
    let settings = settings::settings(reader, &mut top);
    let control_socket = control_socket(reader, &mut top, path);
    let span = top.span.clone();
    let audit = admin.audit.clone().unwrap_or_else(|| beside(path, ".audit"));
    top.refuse_later(reader, &LATER);
    top.close(reader);
    let config = Config {
        listen: listen.into_iter().map(|(address, _)| address).collect(),
        proxy_protocol_from,
        tls,
        control_socket,
        audit,
        admin,
        stores,
        default: default.unwrap_or(StoreId(0)),
        groups,
        users,
        pool: settings.pool,
        pooling: settings.pooling,
        hints: settings.hints,
        limits: settings.limits,
        log: settings.log,
        insight: settings.insight,
        workers: settings.workers,
        io: settings.io,
    };
    shadows_have_stores(reader, &config, &span);
    Some(config)
}

/// Reads are compared by the control accounts of two stores.
fn shadows_have_stores(reader: &mut Reader<'_>, config: &Config, span: &std::ops::Range<usize>) {
    for group in config.groups.iter().filter(|group| group.shadow.is_some()) {
        let key = format!("groups.{}.shadow", group.name);
        let Some(other) = config.shadow_of(group) else {
            let message = format!("`{key}` does not say which store the reads are compared with");
            let finding = Finding::new(ProblemKind::Missing, span.clone(), message);
            reader.report(
                finding.help("write `shadow: { sample: 0.05, store: NAME }`, another than the one that serves"),
            );
            continue;
        };
        for id in [group.connection, other] {
            let store = config.stores.get(usize::from(id.0));
            let Some(store) = store.filter(|store| store.control.is_none()) else { continue };
            let message = format!("`{key}` needs the control account of {}", store.name);
            let help = format!("write `control: {{ user: switchover, password: … }}` in stores.{}", store.name);
            reader.report(Finding::new(ProblemKind::Missing, span.clone(), message).help(help));
        }
    }
}

/// The log is read, and the standby written, with the control accounts of both stores.
fn standbys_have_accounts(
    reader: &mut Reader<'_>,
    stores: &[super::model::Store],
    groups: &[super::model::Group],
    span: &std::ops::Range<usize>,
) {
    for group in groups {
        let Some(standby) = group.standby else { continue };
        for id in [group.connection, standby] {
            let Some(store) = stores.get(usize::from(id.0)).filter(|store| store.control.is_none()) else { continue };
            let message = format!("`groups.{}.standby` needs the control account of {}", group.name, store.name);
            let help = format!("write `control: {{ user: switchover, password: … }}` in stores.{}", store.name);
            reader.report(Finding::new(ProblemKind::Missing, span.clone(), message).help(help));
        }
    }
}

/// The names of the stores in order, whether or not their own keys were right.
pub(super) struct StoreNames(BTreeMap<String, StoreId>);

impl StoreNames {
    /// The store that a value names; reports what is wrong with it.
    fn resolve(&self, reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<StoreId> {
        let text = reader.text(node, what)?;
        let found = self.0.get(&text.value).copied();
        if found.is_none() {
            let source =
                text.expression.map(|expression| format!(" (from {})", shown(&expression))).unwrap_or_default();
            let message = format!("`{what}` names the store {}{source}, and there is none", shown(&text.value));
            let finding = Finding::new(ProblemKind::UnknownName, text.span, message).help(self.suggest(&text.value));
            reader.report(finding);
        }
        found
    }

    /// What to write instead of `name`.
    fn suggest(&self, name: &str) -> String {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let all = format!("the stores are {}", names.join(", "));
        match did_you_mean(name, &names) {
            _ if names.is_empty() => "`stores` has none yet".to_owned(),
            Some(guess) => format!("{guess} {all}"),
            None => all,
        }
    }
}

fn default(reader: &mut Reader<'_>, top: &mut Fields<'_>, names: &StoreNames) -> Option<StoreId> {
    let example = "`default: NAME`, the store of every table that no group names";
    let node = top.require(reader, "default", example)?;
    names.resolve(reader, node, "default")
}

/// Names of stores and groups: they appear in commands, in SET statements and unquoted in YAML.
fn check_name(reader: &mut Reader<'_>, span: &std::ops::Range<usize>, name: &str, kind: &str) -> bool {
    let form = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let reserved = matches!(name.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "default" | "all" | "none");
    let good = form && !reserved && name.len() <= 64;
    if !good {
        let help = "a letter, then letters, digits, _ and -, 64 at most; not null, true, false, default, all, none";
        reader.invalid(span, format!("{} cannot be the name of a {kind}", shown(name)), help);
    }
    good
}

/// Where the proxy listens for operators when the file does not say.
pub(super) fn default_control_socket(path: &Path) -> PathBuf {
    beside(path, ".sock")
}

/// The configuration file's path with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn control_socket(reader: &mut Reader<'_>, top: &mut Fields<'_>, path: &Path) -> PathBuf {
    let node = top.take("control_socket");
    let text = node.and_then(|node| reader.text(node, "control_socket"));
    let (socket, span) = match text {
        Some(text) => (reader.base().join(&text.value), text.span),
        None => (default_control_socket(path), top.span.clone()),
    };
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let message =
            format!("the control socket's path has {length} bytes, a socket's path may have {MAX_SOCKET_PATH}");
        reader.invalid(&span, message, "set `control_socket:` to a shorter path, as /run/switchover.sock");
    }
    socket
}

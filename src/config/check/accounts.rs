//! Accounts and their secrets: `control`, `account`, and `users` with a secret per store. No message here shows a value.

use std::collections::BTreeMap;

use super::super::model::{AdminUser, Credentials, Role, Secret, StoreId};
use super::super::problem::ProblemKind;
use super::super::raw::Node;
use super::super::reader::{Fields, Reader, shown};
use super::super::source::Finding;
use super::{StoreNames, files};

/// What an operator may do, as it is written.
const ROLES: [(&str, Role); 2] = [("operator", Role::Operator), ("reader", Role::Reader)];

/// What a secret is needed for decides which forms of it do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The proxy's own connections speak every plugin: the password itself.
    Control,
    /// Logging in at a store: a password, or SHA1 of it.
    Login,
    /// The same, or SHA1(SHA1()) of it to check a client only.
    Client,
}

/// `{user, password | password_file | hash}`; `user` may be left out where `name` stands for it.
pub(super) fn credentials(
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
    name: Option<&str>,
    purpose: Use,
) -> Option<Credentials> {
    reader.mask_secrets(node);
    let mut fields = reader.fields(node, path, &node.span)?;
    let found = account(reader, &mut fields, name, purpose);
    fields.close(reader);
    found
}

/// The fields of an account, among others.
fn account(reader: &mut Reader<'_>, fields: &mut Fields<'_>, name: Option<&str>, purpose: Use) -> Option<Credentials> {
    let user = match (fields.take("user"), name) {
        (Some(user), _) => reader.text(user, &fields.name("user")).map(|text| text.value),
        (None, Some(name)) => Some(name.to_owned()),
        (None, None) => {
            fields.require(reader, "user", "`user: NAME`");
            None
        }
    };
    let secret = secret(reader, fields, purpose);
    Some(Credentials { user: user?, secret: secret? })
}

/// `admin.users: {name: {password | password_file, role}}`.
pub(super) fn admin_users(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, AdminUser> {
    reader.mask_secrets(node);
    let mut users = BTreeMap::new();
    for entry in reader.entries(node, "admin.users") {
        let path = format!("admin.users.{}", entry.key);
        let Some(mut fields) = reader.fields(&entry.value, &path, &entry.value.span) else { continue };
        let found = secret(reader, &mut fields, Use::Control);
        let role = fields.take("role").and_then(|role| reader.choice(role, &fields.name("role"), &ROLES));
        fields.close(reader);
        match found {
            Some(Secret::Password(password)) if !password.is_empty() => {
                users.insert(entry.key.clone(), AdminUser { password, role: role.unwrap_or_default() });
            }
            Some(_) => {
                reader.invalid(&entry.key_span, format!("`{path}` has an empty password"), "give operators a password");
            }
            None => {}
        }
    }
    users
}

fn secret(reader: &mut Reader<'_>, fields: &mut Fields<'_>, purpose: Use) -> Option<Secret> {
    let password = fields.take_entry("password");
    let file = fields.take_entry("password_file");
    let hash = if purpose == Use::Control { None } else { fields.take_entry("hash") };
    let given: Vec<_> = [password, file, hash].into_iter().flatten().collect();
    let [entry] = given.as_slice() else {
        let ways = if purpose == Use::Control {
            "`password` or `password_file`"
        } else {
            "`password`, `password_file` or `hash`"
        };
        let finding = match given.get(1) {
            None => Finding::new(
                ProblemKind::Missing,
                fields.span.clone(),
                format!("`{}` needs one of {ways}", fields.path),
            )
            .help("for an empty password write `password: \"\"`"),
            Some(second) => {
                let message = format!("`{}` has more than one of {ways}", fields.path);
                Finding::new(ProblemKind::Duplicate, second.key_span.clone(), message).help("keep one of them")
            }
        };
        reader.report(finding);
        return None;
    };
    let what = fields.name(&entry.key);
    match entry.key.as_str() {
        "password" => reader.text(&entry.value, &what).map(|text| Secret::Password(text.value)),
        "password_file" => files::password(reader, &entry.value, &what).map(Secret::Password),
        _ => hash_of(reader, &entry.value, &what, purpose),
    }
}

fn hash_of(reader: &mut Reader<'_>, node: &Node, what: &str, purpose: Use) -> Option<Secret> {
    let text = reader.text(node, what)?;
    let (digits, doubled) = text.value.strip_prefix('*').map_or((text.value.as_str(), false), |digits| (digits, true));
    let Some(bytes) = hex20(digits) else {
        let help =
            "40 hex digits are SHA1(password); * and 40 hex digits, as in the account table, are SHA1(SHA1(password))";
        reader.invalid(&text.span, format!("`{what}` is no hash"), help);
        return None;
    };
    if doubled && purpose != Use::Client {
        let help = "give SHA1(password) as 40 hex digits: SELECT SHA1('password')";
        reader.invalid(&text.span, format!("`{what}` can check a client, but not log in at a store"), help);
        return None;
    }
    Some(if doubled { Secret::NativeHash(bytes) } else { Secret::NativeStage1(bytes) })
}

fn hex20(digits: &str) -> Option<[u8; 20]> {
    if digits.len() != 40 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 20];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// `users: {account: {store: {…}}}`.
pub(super) fn users(
    reader: &mut Reader<'_>,
    top: &mut Fields<'_>,
    names: &StoreNames,
) -> BTreeMap<String, BTreeMap<StoreId, Credentials>> {
    let mut users = BTreeMap::new();
    let Some(node) = top.take("users") else { return users };
    reader.mask_secrets(node);
    for user in reader.entries(node, "users") {
        let path = format!("users.{}", user.key);
        let mut secrets = BTreeMap::new();
        for store in reader.entries(&user.value, &path) {
            let Some(id) = names.0.get(&store.key) else {
                unknown_store(reader, names, &path, &store.key, &store.key_span);
                continue;
            };
            let path = format!("{path}.{}", store.key);
            if let Some(found) = credentials(reader, &store.value, &path, Some(&user.key), Use::Client) {
                secrets.insert(*id, found);
            }
        }
        users.insert(user.key.clone(), secrets);
    }
    users
}

fn unknown_store(reader: &mut Reader<'_>, names: &StoreNames, path: &str, key: &str, span: &std::ops::Range<usize>) {
    let message = format!("`{path}` names the store {}, and there is none", shown(key));
    let help = match key {
        "password" | "password_file" | "hash" | "user" => {
            format!("a secret is for one store: `{{ STORE: {{ {key}: … }} }}`; {}", names.suggest(""))
        }
        _ => names.suggest(key),
    };
    reader.report(Finding::new(ProblemKind::UnknownName, span.clone(), message).help(help));
}

#[cfg(test)]
mod tests {
    use super::hex20;

    #[test]
    fn hashes_are_forty_digits() {
        assert_eq!(hex20(&"0f".repeat(20)), Some([15; 20]));
        for text in ["", "0f", &"0g".repeat(20), &"é".repeat(20)] {
            assert_eq!(hex20(text), None, "{text}");
        }
    }
}

//! Keeps the ids of stores over a reload: sessions and cached decisions refer to stores by index.
//!
//! A store that stays keeps its index; a new one takes a free or a further one. Only when stores were removed and the list is
//! shorter than an old index does an index move; sessions notice by name, outside transactions.

use std::collections::BTreeMap;

use crate::config::{Config, StoreId};

/// Reorders the stores of `new` so that those that `old` has too keep their ids.
pub(super) fn keep_ids(old: &Config, new: &mut Config) {
    let n = new.stores.len();
    let mut place: Vec<Option<usize>> = vec![None; n];
    let mut taken: Vec<bool> = vec![false; n];
    for (i, store) in new.stores.iter().enumerate() {
        let before = old.stores.iter().position(|s| s.name == store.name);
        if let (Some(at), Some(slot)) = (before.filter(|at| *at < n), place.get_mut(i)) {
            *slot = Some(at);
            if let Some(t) = taken.get_mut(at) {
                *t = true;
            }
        }
    }
    let mut free = (0..n).filter(|i| taken.get(*i) == Some(&false));
    let place: Vec<usize> = place.into_iter().map(|p| p.or_else(|| free.next()).unwrap_or(0)).collect();
    let moved = |id: StoreId| {
        let at = place.get(usize::from(id.0)).copied().unwrap_or(usize::from(id.0));
        StoreId(u16::try_from(at).unwrap_or(id.0))
    };
    let mut stores: Vec<_> = place.iter().copied().zip(std::mem::take(&mut new.stores)).collect();
    stores.sort_by_key(|(at, _)| *at);
    new.stores = stores.into_iter().map(|(_, s)| s).collect();
    new.default = moved(new.default);
    for group in &mut new.groups {
        group.connection = moved(group.connection);
        group.standby = group.standby.map(moved);
        if let Some(shadow) = &mut group.shadow {
            shadow.store = shadow.store.map(moved);
        }
    }
    for accounts in new.users.values_mut() {
        *accounts = std::mem::take(accounts).into_iter().map(|(id, c)| (moved(id), c)).collect::<BTreeMap<_, _>>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Config {
        crate::config::load::parse(yaml, std::path::Path::new("routing.yaml"), &|_| None).unwrap()
    }

    #[test]
    fn stores_keep_their_ids() {
        let head = "listen: 127.0.0.1:3307\n";
        let old = config(&format!(
            "{head}stores: {{a: {{address: h:1}}, b: {{address: h:2}}}}\ndefault: a\ngroups: {{g: {{tables: [t], connection: b}}}}\n"
        ));
        let mut new = config(&format!(
            "{head}stores: {{c: {{address: h:3}}, b: {{address: h:2}}, a: {{address: h:1}}}}\ndefault: a\ngroups: {{g: {{tables: [t], connection: c}}}}\nusers: {{u: {{b: {{password: x}}}}}}\n"
        ));
        keep_ids(&old, &mut new);
        let names: Vec<&str> = new.stores.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(new.default, StoreId(0));
        assert_eq!(new.groups[0].connection, StoreId(2));
        assert!(new.users["u"].contains_key(&StoreId(1)));
    }
}

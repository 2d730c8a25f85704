//! Which leases to take: every host gets its fair share, greedily.
//!
//! Modelled on `EqualPartitionsBalancingStrategy` of the .NET change feed processor. A host takes
//! what nobody holds at once, and from the host that has most only one lease per round, so that
//! several hosts that start together do not strip a third one.

use std::collections::BTreeMap;

/// A lease, as far as balancing goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    /// Who holds it; `None` when it is free or expired.
    pub(super) holder: Option<&'a str>,
}

/// Indices of the leases that `me` should take now.
pub(super) fn wanted(claims: &[Claim<'_>], me: &str) -> Vec<usize> {
    let mut held: BTreeMap<&str, Vec<usize>> = BTreeMap::from([(me, Vec::new())]);
    let mut free = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        match claim.holder {
            Some(holder) => held.entry(holder).or_default().push(index),
            None => free.push(index),
        }
    }
    let share = claims.len().div_ceil(held.len());
    let mine = held.get(me).map_or(0, Vec::len);
    let missing = share.saturating_sub(mine);
    if missing == 0 {
        return Vec::new();
    }
    if !free.is_empty() {
        free.truncate(missing);
        return free;
    }
    // The richest gives one, unless that only moved the shortage from one host to another.
    let richest = held.values().max_by_key(|leases| leases.len());
    let enough = if missing > 1 { share } else { share + 1 };
    richest
        .filter(|leases| leases.len() >= enough)
        .and_then(|leases| leases.first().copied())
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims<'a>(holders: &[&'a str]) -> Vec<Claim<'a>> {
        let some = |holder: &&'a str| Some(*holder).filter(|holder| !holder.is_empty());
        holders.iter().map(|holder| Claim { holder: some(holder) }).collect()
    }

    #[test]
    fn what_is_free_is_taken_and_only_the_rich_give() {
        for (holders, wants) in [
            (&[""][..], &[0][..]),
            (&["a"], &[]),
            (&["me"], &[]),
            (&["", "", ""], &[0, 1, 2]),
            (&["a", "", ""], &[1, 2]),
            (&["a", "a"], &[0]),
            (&["a", "a", "a"], &[0]),
            (&["a", "a", "me"], &[]),
            (&["a", "b", ""], &[2]),
            (&["a", "b"], &[]),
            (&[], &[]),
        ] {
            assert_eq!(wanted(&claims(holders), "me"), wants, "{holders:?}");
        }
    }

    proptest! {
        /// Hosts that take turns end with shares that differ by one at most, and stay there.
        #[test]
        fn shares_become_even(leases in 0_usize..20, hosts in 1_usize..6, start in any::<[u8; 20]>()) {
            let names: Vec<String> = (0..hosts).map(|host| format!("host-{host}")).collect();
            // At the start some are free, and some are held by any of them.
            let mut holders: Vec<Option<&str>> = (0..leases)
                .map(|lease| names.get(usize::from(start[lease]) % (hosts + 1)).map(String::as_str))
                .collect();
            for round in 0.. {
                let before = holders.clone();
                for name in &names {
                    let claims: Vec<_> = holders.iter().map(|h| Claim { holder: *h }).collect();
                    for index in wanted(&claims, name) {
                        prop_assert_ne!(holders[index], Some(name.as_str()), "taken from itself");
                        holders[index] = Some(name);
                    }
                }
                if holders == before {
                    break;
                }
                prop_assert!(round < 100, "no end: {:?}", holders);
            }
            let count = |name: &String| holders.iter().filter(|h| **h == Some(name)).count();
            let counts: Vec<usize> = names.iter().map(count).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), leases);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            // A host that has nothing is not seen by the others until it takes its first one.
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }
}

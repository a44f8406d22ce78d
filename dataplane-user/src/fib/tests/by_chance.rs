//! Any rules and routes, against a lookup as the kernel does it, address by address.

use super::*;

/// The rules of a kernel, and its routes in the order in which they were added.
#[derive(Default)]
struct Naive {
    rules: Vec<Rule>,
    routes: Vec<FibRoute>,
}

impl Naive {
    /// What a packet to `address` meets: `fib_rules_lookup`, and `fib_table_lookup` in each table.
    fn lookup(&self, address: Ipv4Addr) -> Option<&FibRoute> {
        for rule in &self.rules {
            if rule.to.is_some_and(|to| !to.contains(&address)) {
                continue;
            }
            let Action::Lookup(table) = rule.action else {
                continue;
            };
            let of_table = self.routes.iter().filter(|route| route.table == table);
            let mut matching: Vec<_> = of_table
                .filter(|route| route.prefix.contains(&address))
                .collect();
            // Of one prefix and metric, what was added last comes first.
            matching.reverse();
            matching.sort_by_key(|route| (32 - route.prefix.prefix_len(), route.info.metric));
            match matching.first() {
                None => {}
                Some(route)
                    if rule
                        .suppress_prefix_len
                        .is_some_and(|length| route.prefix.prefix_len() <= length) => {}
                Some(route) if route.info.kind == RouteKind::Throw => {}
                Some(route) => return Some(route),
            }
        }
        None
    }
}

/// Of few prefixes, so that they often lie in one another.
fn any_prefix() -> Ipv4Net {
    let length = fastrand::u8(8..=32);
    let address = Ipv4Addr::new(
        10,
        fastrand::u8(0..2) * 128,
        fastrand::u8(0..2),
        fastrand::u8(0..4),
    );
    Ipv4Net::new(address, length).unwrap().trunc()
}

fn any_route() -> FibRoute {
    let prefix = any_prefix();
    let mut route = if fastrand::u8(0..5) == 0 {
        of_kind(
            &prefix.to_string(),
            [RouteKind::Throw, RouteKind::Blackhole][fastrand::usize(0..2)],
        )
    } else {
        let gateway = format!("192.168.1.{}", fastrand::u8(2..9));
        via(&prefix.to_string(), ETH0, &gateway)
    };
    route.table = [MAIN, 77, 78][fastrand::usize(0..3)];
    route.info.metric = fastrand::u32(0..2);
    route
}

/// What the programs would find: the longest of all prefixes that have an answer.
fn by_longest(fib: &Fib, address: Ipv4Addr) -> Option<Destination> {
    let covering = fib.prefixes().filter(|prefix| prefix.contains(&address));
    let longest = covering
        .filter(|prefix| fib.destination(*prefix).is_some())
        .max_by_key(Ipv4Net::prefix_len)?;
    fib.destination(longest)
}

fn expected(route: &FibRoute) -> Destination {
    match (&route.info.kind, route.info.hops()) {
        (RouteKind::Blackhole, _) => Destination::Blackhole,
        (_, [hop]) => Destination::Via(Via {
            oif: hop.oif,
            gateway: hop.gateway,
            mtu: None,
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_answer_a_prefix_is_what_the_kernel_would_answer_for_every_address() {
    for round in 0..300 {
        let seed = fastrand::u64(..);
        fastrand::seed(seed);
        let mut fib = node();
        let mut naive = Naive {
            rules: fib.rules.clone(),
            ..Naive::default()
        };
        for table in [77, 78] {
            let rule = Rule {
                to: fastrand::bool().then(any_prefix),
                suppress_prefix_len: (fastrand::u8(0..3) == 0).then(|| fastrand::u8(8..20)),
                ..Rule::lookup(table * 10, table)
            };
            fib.apply(Change::Rule(rule.clone()));
            naive.rules.push(rule);
        }
        naive.rules.sort_by_key(|rule| rule.priority);
        fib.set_pods(&[]);

        // What the maps hold, kept by what is said to be dirty alone.
        let mut kept: BTreeMap<Ipv4Net, Destination> = BTreeMap::new();
        for _ in 0..fastrand::usize(1..40) {
            change(&mut fib, &mut naive);
            refresh(&mut fib, &mut kept);
        }
        for _ in 0..200 {
            let address =
                Ipv4Addr::new(10, fastrand::u8(..), fastrand::u8(0..3), fastrand::u8(0..6));
            let kernel = naive.lookup(address).map_or(Destination::Stack, expected);
            let context = format!("round {round}, seed {seed}: {address}");
            let found = by_longest(&fib, address).unwrap_or(Destination::Stack);
            assert_eq!(found, kernel, "{context}");
            let covering = kept.iter().filter(|(prefix, _)| prefix.contains(&address));
            let found = covering.max_by_key(|(prefix, _)| prefix.prefix_len());
            let found = found.map_or(Destination::Stack, |(_, to)| to.clone());
            assert_eq!(found, kernel, "kept, {context}");
        }
    }
}

fn change(fib: &mut Fib, naive: &mut Naive) {
    if !naive.routes.is_empty() && fastrand::u8(0..3) == 0 {
        let route = naive.routes.remove(fastrand::usize(0..naive.routes.len()));
        fib.apply(Change::RouteGone(route));
        return;
    }
    let route = any_route();
    // The kernel refuses what is there already.
    if !naive.routes.contains(&route) {
        naive.routes.push(route.clone());
        fib.apply(Change::Route(route));
    }
}

fn refresh(fib: &mut Fib, kept: &mut BTreeMap<Ipv4Net, Destination>) {
    let dirty = fib.take_dirty();
    let prefixes: Vec<Ipv4Net> = if dirty.every_prefix {
        fib.prefixes().chain(kept.keys().copied()).collect()
    } else {
        dirty.prefixes.into_iter().collect()
    };
    for prefix in prefixes {
        match fib.destination(prefix) {
            Some(destination) => kept.insert(prefix, destination),
            None => kept.remove(&prefix),
        };
    }
}

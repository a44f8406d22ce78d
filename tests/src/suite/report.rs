//! What was measured, as text.

use std::fmt::Write as _;

use crate::statistics::{Spread, ratio};

use super::{About, Path, Results, Way, results::Quantity};

/// The parts of the wire that headers take of packets of 1500 bytes.
pub(crate) const FLOORS: [(&str, f64); 2] = [("VXLAN", 0.0345), ("IPIP", 0.0138)];

const PATHS: [Path; 4] = [
    Path::HostToHost,
    Path::PodToPod,
    Path::HostToPod,
    Path::OnOneNode,
];

/// What has to be known to read the numbers.
const NOTES: &str = r#"Medians of the rounds, with the quartiles; the rounds take turns. "to host" is the ratio to host to
host, "to kernel" that to what the kernel does in the same way, "to floor" that to the least that
carries a packet over the same devices: programs that look up, check and count nothing. Of
underpass, "none", "IPIP" and "VXLAN" say how packets cross between nodes, "all" and "established"
which are accelerated. Where only established flows are, the nodes have kube-proxy's rules and track
connections; elsewhere they have no rules, and do not. That underpass carried what it was to carry
was checked by its counters; what hosts send to pods without encapsulation is the stack's by design.
The wire has an MTU of 1500, pods have what the encapsulation leaves of it.
Ends of streams (but for those unpinned and the eight), of requests and responses and of floods keep
to a processor each. HTTP is one nginx process under ab -c 50, neither pinned. Host to pod and on
one node there are no floods and no unpinned streams; on one node encapsulation has no part.
"#;

/// Everything, in tables.
pub(crate) fn text(about: &About, results: &Results) -> String {
    let mut text = format!(
        "{}\n{}\n{} rounds\n\n{NOTES}",
        about.machine, about.command, about.rounds
    );
    for (what, reason) in &about.not_run {
        add(&mut text, format_args!("Not run: {what}: {reason}."));
    }
    for (name, part) in FLOORS {
        let percent = part * 100.0;
        add(
            &mut text,
            format_args!(
                "The headers of {name} alone take {percent:.2} % of the wire at MTU 1500."
            ),
        );
    }
    for path in PATHS {
        for quantity in Quantity::ALL {
            add_table(&mut text, results, path, quantity);
        }
    }
    add_costs(&mut text, results);
    add_routes(&mut text, results);
    text
}

fn add_table(text: &mut String, results: &Results, path: Path, quantity: Quantity) {
    let (name, unit) = quantity.name();
    let digits = quantity.digits();
    let measured = Way::all().filter_map(|way| {
        let values = results.values(way, path, quantity);
        Some((way, values, Spread::of(values)?))
    });
    for (number, (way, values, spread)) in measured.enumerate() {
        if number == 0 {
            add(text, format_args!("\n{path}: {name}, {unit}"));
        }
        let host = in_words(ratio(values, results.of_hosts(quantity)));
        let kernel = in_words(ratio(values, results.of_kernel(way, path, quantity)));
        let floor = in_words(ratio(values, results.of_floor(way, path, quantity)));
        add(
            text,
            format_args!(
                "  {way:<20} {:>28}   to host {host:>6}   to kernel {kernel:>6}   to floor {floor:>6}",
                format!("{spread:.digits$}")
            ),
        );
    }
}

/// What floods say of a node.
fn add_costs(text: &mut String, results: &Results) {
    add(
        text,
        "\n64-byte packets from pod to pod: nanoseconds beyond the generator, on one core",
    );
    for way in Way::all() {
        let cost = |quantity| {
            Spread::of(&results.beyond_generator(way, Path::PodToPod, quantity))
                .map(|spread| format!("{spread:.0}"))
        };
        if let (Some(sent), Some(arrived)) = (cost(Quantity::Sent), cost(Quantity::Arrived)) {
            add(
                text,
                format_args!("  {way:<20} to the wire {sent:>20}   to the far pod {arrived:>20}"),
            );
        }
    }
}

fn add_routes(text: &mut String, results: &Results) {
    add(
        text,
        "\n64-byte packets to destinations of random routes, by VXLAN: nanoseconds to the wire beyond \
         the generator",
    );
    for by_routes in &results.by_routes {
        if let Some(spread) = Spread::of(&by_routes.values) {
            let (way, routes) = (by_routes.way, by_routes.routes);
            add(
                text,
                format_args!(
                    "  routes: {routes:>9}   {way:<20} {:>20}",
                    format!("{spread:.0}")
                ),
            );
        }
    }
}

fn in_words(ratio: Option<f64>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"))
}

fn add(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("write into a string");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Carriage;

    #[test]
    fn numbers_stand_beside_their_baselines_and_what_was_not_run_is_said() {
        let mut results = Results::default();
        let kernels = Way::Kernel(Carriage::Direct);
        results.add(Way::Bare, Path::HostToHost, Quantity::Tcp, 16.0);
        results.add(kernels, Path::PodToPod, Quantity::Tcp, 12.0);
        let about = About {
            machine: "a machine".to_owned(),
            command: "cargo xtask bench".to_owned(),
            rounds: 1,
            not_run: vec![("kernel, IPIP device".to_owned(), "there is none")],
        };
        let text = text(&about, &results);
        let line = text
            .lines()
            .find(|line| line.starts_with("  kernel, routing"));
        let line = line.expect("a line of the kernel's");
        assert!(line.contains("12.00 (12.00..12.00)"), "{line}");
        assert!(
            line.ends_with("to host  0.750   to kernel      -   to floor      -"),
            "{line}"
        );
        assert!(text.contains("Not run: kernel, IPIP device: there is none."));
    }
}

//! What is printed: plain text, a hundred columns wide.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Write as _},
    process,
    time::Duration,
};

use dataplane_common::reason::{Action, Reason};
use dataplane_tests::{Lab, Node};

use crate::{counts::Counts, measure::Measurement, path::Path, scenario::Scenario};

/// As `println!`, see [`print_line`].
macro_rules! say {
    ($($line:tt)+) => {
        print_line(format_args!($($line)+))
    };
}

/// Says what is about to be shown.
pub(crate) fn introduction() {
    say!(
        "underpass: pods on two nodes talk through BPF, on paths measured beside host to host.\n\n\
         Below each path, by node: the IP packets that programs carried and those they left to \
         the\nhost's stack, from `underpass counters`; and those that entered that stack, as the \
         kernel itself\ncounts. A packet that TCP or GRO made of many segments counts once."
    );
}

/// Says which scenario follows.
pub(crate) fn scenario(scenario: Scenario, lab: &Lab, lab_time: Duration, agents_time: Duration) {
    say!("\n== {}: {}\n", scenario.mode(), scenario.description());
    topology(lab);
    say!(
        "   lab up in {} ms, agents in sync in {} ms",
        lab_time.as_millis(),
        agents_time.as_millis()
    );
}

fn topology(lab: &Lab) {
    let [left, right] = lab.nodes() else {
        return;
    };
    let between = if lab.router().is_some() {
        "------ router ------"
    } else {
        "--------------------"
    };
    say!("   {:<28} {between} {}", host(left), host(right));
    say!("   {:<28} {:20} {}", pods(left), "", pods(right));
}

fn host(node: &Node) -> String {
    format!("{} {}", node.name(), node.address())
}

fn pods(node: &Node) -> String {
    let addresses = node.pods().iter().map(|pod| pod.address().to_string());
    format!("pods {}", addresses.collect::<Vec<_>>().join(", "))
}

/// Says how to enter the first node.
pub(crate) fn how_to_look_inside(lab: &Lab) {
    if let Some(node) = lab.nodes().first() {
        say!("   inside {}: {}", node.name(), lab.nsenter(node.ns()));
    }
}

/// Prints what the columns of the measurements are.
pub(crate) fn columns() {
    say!(
        "\n   {:<38}{:>6}{:>12}{:>15}{:>10}{:>12}",
        "path",
        "loss",
        "latency",
        "TCP",
        "of host",
        "by BPF"
    );
    say!(
        "     {:<8}{:<42}{:<32}{:>9}",
        "node",
        "carried by programs",
        "left to the stack",
        "entered"
    );
}

/// Prints a path's measurement, and the counts below it.
pub(crate) fn measurement(path: &Path, measurement: &Measurement, host_to_host: Option<f64>) {
    let row = format!(
        "   {path:<38}{:>6}{:>12}{:>15}{:>10}{:>12}",
        format!("{:.0} %", measurement.loss),
        or_dash(measurement.latency, |time| format!("{:.3} ms", time / 1e3)),
        or_dash(measurement.bits_per_second, throughput),
        or_dash(ratio(measurement.bits_per_second, host_to_host), percent),
        measurement.carried.map_or(String::new(), precise_percent),
    );
    say!("{}", row.trim_end());
    for (node, counts) in &measurement.counts {
        say!("     {node:<8}{}", witnesses(counts));
    }
    for fault in &measurement.faults {
        say!("     FAILED  {fault}");
    }
}

fn throughput(bits_per_second: f64) -> String {
    if bits_per_second >= 1e9 {
        format!("{:.1} Gbit/s", bits_per_second / 1e9)
    } else {
        format!("{:.1} Mbit/s", bits_per_second / 1e6)
    }
}

fn ratio(rate: Option<f64>, reference: Option<f64>) -> Option<f64> {
    let reference = reference.filter(|reference| *reference > 0.0);
    Some(rate? / reference?)
}

fn percent(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}

fn precise_percent(part: f64) -> String {
    // Only what is all of it may look like it.
    let percent = (1e4 * part).floor() / 1e2;
    format!("{percent:.2} %")
}

fn or_dash(value: Option<f64>, print: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), print)
}

fn witnesses(counts: &Counts) -> String {
    let mut text = format!(
        "{:<42}{:<32}{:>9}",
        sum_and_reasons(&counts.with(Action::Forward)),
        sum_and_reasons(&counts.with(Action::Stack)),
        thousands(counts.stack_input()),
    );
    let dropped = counts.with(Action::Drop);
    if !dropped.is_empty() {
        text += "  dropped ";
        text += &sum_and_reasons(&dropped);
    }
    text
}

/// `12,345 sent-vxlan, received-vxlan`.
fn sum_and_reasons(counts: &[(Reason, u64)]) -> String {
    let sum = counts.iter().map(|(_, packets)| packets).sum();
    let names: Vec<_> = counts.iter().map(|(reason, _)| reason.name()).collect();
    format!("{} {}", thousands(sum), names.join(", "))
}

/// `12345678` as `12,345,678`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints the proof that nobody but programs answers pods for their gateway.
pub(crate) fn arp_answered(questions: u64) {
    say!("   programs answered ARP for the pods' gateway, 169.254.1.1, {questions} times");
}

/// Says what the reasons mean for which packets were not carried by programs.
pub(crate) fn meaning(reasons: &BTreeSet<Reason>) {
    if reasons.is_empty() {
        return;
    }
    say!(
        "\nWhere a host is an end of the path, its stack has a part in it: it sends by itself what \
         needs no\ntunnel, and receives what is for the host. The reasons above:"
    );
    for reason in reasons {
        say!("   {:<16}{}", reason.name(), reason.description());
    }
}

/// Says how it went.
pub(crate) fn conclusion(paths: usize, failures: &[String], time: Duration) {
    let seconds = time.as_secs_f64();
    if failures.is_empty() {
        say!("\nall {paths} paths work ({seconds:.1} s)");
        return;
    }
    say!("\nnot everything works ({seconds:.1} s):");
    for failure in failures {
        say!("   FAILED  {failure}");
    }
}

/// Prints a line. When nobody reads it, there is nobody to show anything to: the process ends, and
/// with it the lab.
fn print_line(line: fmt::Arguments<'_>) {
    if writeln!(io::stdout(), "{line}").is_err() {
        process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let printed = [0, 999, 1_000, 12_345, 1_234_567].map(thousands);
        assert_eq!(printed, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn only_all_looks_like_all() {
        assert_eq!(precise_percent(1.0), "100.00 %");
        assert_eq!(precise_percent(0.999_999), "99.99 %");
    }
}

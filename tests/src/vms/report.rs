//! What was measured, as text.

use std::fmt::Write as _;

use super::{MODES, Opener, Quantity, Results};
use crate::{Mode, statistics::Spread};

/// What has to be known to read the numbers.
const NOTES: &str = "\
The processors of both machines are emulated, one for each: what is true of them is not true of any
real one. Only ratios within this run mean anything. The network driver is virtio-net, without offloads.
The sending node has underpass without XDP in all columns; the receiving node takes packets out of their
tunnels by the kernel's own device, by underpass on traffic control (xdp: off), or by its XDP in the
driver (xdp: native). Medians of the rounds, with the quartiles; the rounds take turns. Where the receiver
is not busy all the time, the sender sets the rate, and the receiver's CPU is what can be compared.
";

/// Everything, in tables.
pub(super) fn text(machine: &str, rounds: usize, results: &Results) -> String {
    let mut text = format!("{machine}\n{rounds} rounds\n\n{NOTES}");
    for mode in MODES {
        add(&mut text, format_args!("\n{}", head(mode)));
        for quantity in Quantity::ALL {
            add(&mut text, row(results, mode, quantity));
        }
        for opener in [Opener::Tc, Opener::Xdp] {
            if let Some(taken_out) = results.taken_out(mode, opener) {
                add(
                    &mut text,
                    format_args!(
                        "{opener}: XDP took {} of {} packets out of their tunnels",
                        taken_out.by_xdp, taken_out.seen
                    ),
                );
            }
        }
    }
    text
}

fn head(mode: Mode) -> String {
    let mut line = format!("{:<26}", mode.to_string());
    for opener in Opener::ALL {
        write!(line, " {opener:>22}").expect("write into a string");
    }
    line + &format!(" {:>9} {:>9}", "XDP/TC", "TC/kernel")
}

fn row(results: &Results, mode: Mode, quantity: Quantity) -> String {
    let mut line = format!("{:<26}", quantity.name());
    for opener in Opener::ALL {
        let digits = quantity.digits();
        let spread = Spread::of(&results.values(mode, opener, quantity));
        let spread = spread.map_or("-".to_owned(), |spread| format!("{spread:.digits$}"));
        write!(line, " {spread:>22}").expect("write into a string");
    }
    for (of, to) in [(Opener::Xdp, Opener::Tc), (Opener::Tc, Opener::Kernel)] {
        let ratio = results.ratio(mode, quantity, of, to);
        let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        write!(line, " {ratio:>9}").expect("write into a string");
    }
    line
}

fn add(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("write into a string");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::vms::{Load, Received, loads::TakenOut};

    #[test]
    fn ratios_stand_beside_what_they_are_of() {
        let mut results = Results::default();
        for (opener, amount, taken_out) in [
            (Opener::Kernel, 1e4, None),
            (Opener::Tc, 2e4, Some(TakenOut { by_xdp: 0, seen: 7 })),
            (Opener::Xdp, 3e4, Some(TakenOut { by_xdp: 8, seen: 9 })),
        ] {
            let received = Received {
                amount,
                time: Duration::from_secs(1),
                busy: Duration::from_secs(1),
                taken_out,
            };
            results.add(Mode::Vxlan, opener, Load::Datagrams, &received);
        }
        let text = text("a machine", 1, &results);
        let line = text
            .lines()
            .find(|line| line.starts_with("64 B UDP") && !line.ends_with('-'));
        let words: Vec<_> = line.expect("a line of VXLAN").split_whitespace().collect();
        assert_eq!(words[4], "10.0");
        assert_eq!(words[words.len() - 2..], ["1.500", "2.000"]);
        assert!(text.contains("TC: XDP took 0 of 7 packets out of their tunnels\n"));
        assert!(text.contains("XDP: XDP took 8 of 9 packets out of their tunnels\n"));
        assert!(text.contains("Only ratios within this run mean anything."));
    }
}

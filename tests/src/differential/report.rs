//! What to say of a packet that the two treat differently.

use std::fmt::Write as _;

use anyhow::Result;
use dataplane_common::memory::MemoryTables;
use dataplane_fuzz::Case;

use super::{Done, LENGTHS};

/// The case with the shortest packet, and the fewest bytes in it that are not zero, of those from
/// the one given on that still differ.
pub(super) fn shrunk(case: &Case, mut differs: impl FnMut(&Case) -> Result<bool>) -> Result<Case> {
    let mut smallest = case.clone();
    for length in *LENGTHS.start()..case.packet.bytes.len() {
        let mut shorter = case.clone();
        shorter.packet.bytes.truncate(length);
        if differs(&shorter)? {
            smallest = shorter;
            break;
        }
    }
    for offset in 0..smallest.packet.bytes.len() {
        let mut simpler = smallest.clone();
        simpler.packet.bytes[offset] = 0;
        if differs(&simpler)? {
            smallest = simpler;
        }
    }
    Ok(smallest)
}

/// All there is to know.
pub(super) fn difference(
    tables: &MemoryTables,
    case: &Case,
    smaller: &Case,
    host: &Done,
    program: &Done,
) -> String {
    let mut text = format!("{}: host and program differ\n", case.hook.name());
    // Writing to a string does not fail.
    let _ = writeln!(text, "tables: {tables:?}");
    let _ = writeln!(text, "packet: {}", hex(&case.packet.bytes));
    let _ = writeln!(
        text,
        "made smaller, on interface {}, gso_size {}: {}",
        smaller.ifindex,
        smaller.packet.gso_size,
        hex(&smaller.packet.bytes)
    );
    for (who, done) in [("host", host), ("program", program)] {
        let Done {
            action,
            mark,
            bytes,
            counted,
        } = done;
        let _ = writeln!(
            text,
            "{who:<8}action {action}, mark {mark:#x}, counted {counted:?}"
        );
        let _ = writeln!(text, "        {}", hex(bytes));
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

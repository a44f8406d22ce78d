//! Files that nobody meant to write, for the tests: whatever stands in one, it is read or refused,
//! and what is refused is found.

/// What means something to YAML or to us, in places where it may mean something else.
const TOKENS: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ": ",
    "- ",
    ",",
    "&a ",
    "*a",
    "? ",
    "| ",
    "> ",
    "# ",
    "!!int ",
    "'",
    "\"",
    "\t",
    "\n",
    "---\n",
    "...\n",
    "%YAML 9\n",
    "<<: ",
    "~",
    "true",
    "0x10",
    "1e999",
    "-1",
    "99999999999999999999",
    "0.0.0.0/0",
    "é",
    "\u{0}",
];

/// Corrupts `text` in `rounds` ways, always the same ones, and hands each to `refusal`, which says
/// why it is refused, if it is. A refusal names a line of the text in each of its own lines, but for
/// those that contain one of `whole`, which are about the file as a whole.
pub(crate) fn corrupt(
    text: &str,
    rounds: u32,
    whole: &[&str],
    refusal: impl Fn(&str) -> Option<String>,
) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut refused = 0;
    for _ in 0..rounds {
        let mut corrupted = text.to_owned();
        for _ in 0..random.usize(1..4) {
            corrupted = change(&mut random, &corrupted);
        }
        let Some(refusal) = refusal(&corrupted) else {
            continue;
        };
        refused += 1;
        let last = corrupted.lines().count() + 1;
        for reason in refusal.lines() {
            let line = reason.split(':').nth(1).and_then(|line| line.parse().ok());
            let is_placed = line.is_some_and(|line| (1..=last).contains(&line));
            let is_whole = whole.iter().any(|whole| reason.contains(whole));
            assert!(is_placed || is_whole, "{reason}\nfor:\n{corrupted}");
        }
    }
    assert!(refused > rounds / 2, "{refused} of {rounds} are refused");
}

fn change(random: &mut fastrand::Rng, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = random.usize(0..=chars.len());
    let until = (at + random.usize(0..8)).min(chars.len());
    match random.u8(0..4) {
        0 => {
            chars.drain(at..until);
        }
        1 => {
            let token = random.choice(TOKENS).unwrap_or_default();
            chars.splice(at..at, token.chars());
        }
        2 => {
            let token = random.choice(TOKENS).unwrap_or_default();
            chars.splice(at..until, token.chars());
        }
        _ => return with_line_moved(random, text),
    }
    chars.into_iter().collect()
}

/// One line at another place, a second time, or further to the right.
fn with_line_moved(random: &mut fastrand::Rng, text: &str) -> String {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    if let Some(line) = random.choice(&lines).cloned() {
        let indent = random.choice(["", "  ", " ", "\t"]).unwrap_or_default();
        lines.insert(random.usize(0..=lines.len()), format!("{indent}{line}"));
    }
    if random.bool() && !lines.is_empty() {
        lines.remove(random.usize(0..lines.len()));
    }
    lines.join("\n")
}

//! Whether two outputs are alike but for numbers, addresses and names.

use anyhow::{Result, ensure};

/// Stands where an example leaves lines out.
const LEFT_OUT: &str = "[...]";

/// What is `shown` has to be in what was `printed`, in this order: of words, what has no digit and is
/// no path; of a table its heading, and as many columns.
pub(crate) fn compare(shown: &str, printed: &str) -> Result<()> {
    let mut lines = printed.lines();
    let mut columns = None;
    for line in shown.lines() {
        if line.is_empty() {
            columns = None;
            continue;
        }
        if line.trim() == LEFT_OUT {
            continue;
        }
        if let Some(columns) = columns {
            let cells = cells(line).len();
            ensure!(
                cells == columns,
                "{cells} cells instead of {columns}: {line}"
            );
            continue;
        }
        if is_heading(line) {
            columns = Some(cells(line).len());
        }
        let wanted = words(line);
        let found = lines.any(|line| words(line) == wanted);
        ensure!(
            found,
            "`{line}` is not there, or not there any more, in\n{printed}"
        );
    }
    Ok(())
}

/// Each row of a table that is `shown` has to be in `printed`, wherever.
pub(crate) fn compare_rows(shown: &str, printed: &str) -> Result<()> {
    let printed: Vec<_> = printed.lines().map(words).collect();
    for line in shown.lines().filter(|line| !line.is_empty()) {
        ensure!(printed.contains(&words(line)), "{line}");
    }
    Ok(())
}

/// A heading of a table: words in capitals alone.
fn is_heading(line: &str) -> bool {
    let is_capital = |letter: char| letter.is_ascii_uppercase() || "-_>".contains(letter);
    line.split_whitespace()
        .all(|word| word.chars().all(is_capital) && word.len() > 2 || word == "A" || word == "B")
}

/// Cells of a row are two spaces apart at the least.
fn cells(line: &str) -> Vec<&str> {
    let cells = line.split("  ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}

/// The words of a line; one `#` for all values that follow each other.
fn words(line: &str) -> Vec<&str> {
    let words = line.split_whitespace();
    let mut words: Vec<_> = words
        .map(|word| if is_value(word) { "#" } else { word })
        .collect();
    words.dedup_by(|one, other| *one == "#" && other == one);
    words
}

/// A number, an address, a name with a number in it, a path, or a byte in hexadecimal.
fn is_value(word: &str) -> bool {
    let is_byte = word.len() == 2 && word.chars().all(|letter| letter.is_ascii_hexdigit());
    is_byte || word.contains(|letter: char| letter.is_ascii_digit() || letter == '/')
}

#[test]
fn another_number_is_alike_and_another_word_is_not() {
    let shown = "A     B\n1.2s  x\n\nstate: up for 2m 1s\n  45 fe 0a\n";
    compare(shown, "A  B\ny  9\nz  z\n\nstate: up for 3s\n  00\n").unwrap();
    compare("a\n[...]\nc\n", "a\nb\nc\n").unwrap();
    compare("A  B\n[...]\nc  1\n", "A  B\na  1\nc  1\n").unwrap();
    for other in ["A  C\n", "A  B\n\nstate: down for 2s\n  45\n"] {
        compare(shown, other).unwrap_err();
    }
    compare("A  B\nx\n", "A  B\n").unwrap_err();
    compare_rows("a  1  b\n", "c\na  7  b\n").unwrap();
    compare_rows("a  1  b\n", "a  7  c\n").unwrap_err();
}

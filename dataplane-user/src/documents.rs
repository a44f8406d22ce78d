//! What of the documents is made from the code, or is an example of what the code reads.

mod configuration;
mod examples;
mod limits;
mod metrics;
mod schemas;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Set by `cargo xtask documents`: what differs is written instead of complained about.
const WRITE: &str = "UNDERPASS_WRITE_DOCUMENTS";

/// A file of the workspace.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("read {name}: {error}"))
}

/// Asserts that the document called `name` is `made`, which the code makes.
#[track_caller]
fn assert_is(name: &str, made: &str) {
    if env::var_os(WRITE).is_some() {
        fs::write(path(name), made).unwrap();
        return;
    }
    let is_same = fs::read_to_string(path(name)).is_ok_and(|found| found == made);
    assert!(
        is_same,
        "{name} is not what the code says: `cargo xtask documents` writes it anew"
    );
}

/// The same of a part of the document, from the comment that names it to the next.
#[track_caller]
fn assert_has(name: &str, part: &str, made: &str) {
    let document = read(name);
    let begin = format!("<!-- made by `cargo xtask documents`: {part} -->\n");
    let (before, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{name} has no line {begin}"));
    let end = "<!-- end -->";
    let (_, after) = rest
        .split_once(end)
        .unwrap_or_else(|| panic!("{name} has no {end} behind {begin}"));
    assert_is(name, &format!("{before}{begin}\n{made}\n{end}{after}"));
}

/// Rows below a heading, as Markdown.
fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    let rule = vec!["---".to_owned(); heading.len()];
    let rows: Vec<Vec<String>> = [heading, rule].into_iter().chain(rows).collect();
    rows.iter().map(|row| line(row)).collect()
}

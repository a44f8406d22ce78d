//! What of the output is another each time, or on another kernel: this and nothing else is left out of
//! the files.

use regex::Regex;

use crate::form::Form;

/// Columns, by their titles.
const COLUMNS: [&str; 11] = [
    "AGE",
    "BYTES",
    "ID",
    "IFINDEX",
    "LOADED",
    "PACKETS",
    "PROGRAM",
    "TAG",
    "TIME",
    "VERIFIED",
    "VERIFIED-INSTRUCTIONS",
];

/// Fields of JSON and YAML that are numbers.
const NUMBERS: &str = "ageSeconds|bytes|carried|id|ifindex|left|packets|program|verifiedInstructions|\
                       verifiedSecondsAgo";
/// Those that are texts.
const TEXTS: &str = "loaded|tag|time";

/// Words, each with what stands for them.
const WORDS: [(&str, &str); 9] = [
    ("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "<time>"),
    (
        "verified [0-9.]+ s ago, [0-9]+ packets",
        "verified <ago> s ago, <packets> packets",
    ),
    (", known for [^\n\"]*", ", known for <age>"),
    ("forgotten in [0-9]+ s", "forgotten in <left> s"),
    (
        "carried [0-9.]+ % of the [0-9]+ packets",
        "carried <share> % of the <packets> packets",
    ),
    ("(pid|process) [0-9]+", "$1 <pid>"),
    ("/links/([a-z_]+)-[0-9]+", "/links/$1-<ifindex>"),
    ("/xdp/[0-9]+-", "/xdp/<ifindex>-"),
    ("underpass [0-9]+[.][0-9]+[.][0-9]+", "underpass <version>"),
];

/// The text with placeholders for what varies, and with two spaces between the cells of a table, since
/// their widths vary, too.
pub fn settled(text: &str, form: Form) -> String {
    let mut settled = match form {
        Form::Table | Form::Wide | Form::Plain => tables(text),
        Form::Json | Form::Yaml => fields(text),
    };
    for (words, placeholder) in WORDS {
        let words = regex(words);
        settled = words.replace_all(&settled, placeholder).into_owned();
    }
    settled
}

fn fields(text: &str) -> String {
    let number = "[-0-9.e]+";
    let json = regex(&format!(r#""({NUMBERS})":( ?){number}"#));
    let placed = json.replace_all(text, r#""$1":$2"<$1>""#);
    let json = regex(&format!(r#""({TEXTS})":( ?)"[^"]*""#));
    let placed = json.replace_all(&placed, r#""$1":$2"<$1>""#);
    let yaml = regex(&format!(
        "(?m)^([ -]*)(?:({NUMBERS}): {number}|({TEXTS}): .*)$"
    ));
    yaml.replace_all(&placed, "$1$2$3: <$2$3>").into_owned()
}

fn tables(text: &str) -> String {
    let gap = regex(" {2,}");
    let title = regex("^[A-Z][A-Z>-]*$");
    let mut titles: Vec<String> = Vec::new();
    let mut settled = String::new();
    for line in text.lines() {
        let mut cells: Vec<String> = gap.split(line).map(str::to_owned).collect();
        if cells.iter().all(|cell| title.is_match(cell)) {
            titles.clone_from(&cells);
        } else if cells.len() == titles.len() && !line.starts_with(' ') {
            for (cell, title) in cells.iter_mut().zip(&titles) {
                if COLUMNS.contains(&&**title) && cell != "-" {
                    *cell = format!("<{}>", title.to_lowercase());
                }
            }
        }
        // What is set in from the left is no table.
        settled += &if line.starts_with(' ') {
            line.to_owned()
        } else {
            cells.join("  ")
        };
        settled.push('\n');
    }
    settled
}

pub fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

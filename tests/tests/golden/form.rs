//! The forms of output, and which rows of a list are kept.

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The only one there is.
    Plain,
    Table,
    Wide,
    Json,
    Yaml,
}

impl Form {
    /// That of this value of `--output`.
    pub fn of(value: &str) -> Self {
        match value {
            "table" => Self::Table,
            "wide" => Self::Wide,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            other => panic!("`--output {other}` is new: say here how it is compared"),
        }
    }

    /// How its files end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Plain => "txt",
            Self::Table => "table",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }

    /// A list without the rows that do not have `word`. A list that is watched is lines of JSON, or
    /// documents of YAML.
    pub fn keeping(self, text: &str, word: &str) -> String {
        match self {
            Self::Plain | Self::Table | Self::Wide => {
                let is_kept = |(n, line): &(usize, &str)| *n == 0 || line.contains(word);
                let lines = text.lines().enumerate().filter(is_kept);
                lines.flat_map(|(_, line)| [line, "\n"]).collect()
            }
            Self::Json if text.starts_with("{\n") => {
                items(text, word, ("\"items\": [\n    {", ",\n    {", "\n  ]"))
            }
            Self::Json => {
                let lines = text.lines().filter(|line| line.contains(word));
                lines.flat_map(|line| [line, "\n"]).collect()
            }
            Self::Yaml if text.starts_with("---\n") => {
                let documents = text.split("---\n").filter(|text| text.contains(word));
                documents.flat_map(|text| ["---\n", text]).collect()
            }
            Self::Yaml => items(text, word, ("items:\n- ", "\n- ", "\n\n")),
        }
    }
}

/// A document without the items that do not have `word`, by what begins the first, what is between two,
/// and what is behind the last.
fn items(text: &str, word: &str, (begin, between, end): (&str, &str, &str)) -> String {
    let Some((before, rest)) = text.split_once(begin) else {
        return text.to_owned();
    };
    let (items, after) = rest
        .rsplit_once(end)
        .map_or((rest, None), |(items, after)| (items, Some(after)));
    let kept: Vec<_> = items
        .split(between)
        .filter(|item| item.contains(word))
        .collect();
    let after = after.map_or(String::new(), |after| format!("{end}{after}"));
    format!("{before}{begin}{}{after}", kept.join(between))
}

//! What documents show in blocks of `sh` and `console`.

/// A command, and what is shown below it.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The document.
    pub(crate) document: String,
    /// As one would type it, on one line.
    pub(crate) line: String,
    /// What the document says that it prints; nothing if it does not say.
    pub(crate) output: String,
}

impl Shown {
    /// Its words, without where a shell would send what it prints.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let words = self.line.split_whitespace();
        words.take_while(|word| !matches!(*word, ">" | "|"))
    }
}

/// Every command in `text`.
pub(crate) fn shown(document: &str, text: &str) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    let mut block = None;
    let mut is_continued = false;
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            block = block.is_none().then_some(kind);
            is_continued = false;
            continue;
        }
        let last = commands.last_mut();
        let typed = match block {
            Some("console") => typed(line),
            Some("sh") if line.trim().is_empty() || line.starts_with('#') => continue,
            Some("sh") => Some(line),
            _ => continue,
        };
        match (typed, last) {
            (_, Some(last)) if is_continued => {
                last.line = format!(
                    "{} {}",
                    last.line.trim_end_matches('\\').trim(),
                    line.trim()
                );
            }
            (Some(typed), _) => commands.push(Shown {
                document: document.to_owned(),
                line: without_comment(typed),
                output: String::new(),
            }),
            (None, Some(last)) => last.output.extend([line, "\n"]),
            (None, None) => {}
        }
        is_continued = line.ends_with('\\');
    }
    commands
}

/// What stands behind a prompt: `$`, or root's, which is a comment of Prometheus', too.
fn typed(line: &str) -> Option<&str> {
    let by_root = line
        .strip_prefix("# ")
        .filter(|line| line.starts_with("cargo "));
    line.strip_prefix("$ ").or(by_root)
}

fn without_comment(line: &str) -> String {
    let line = line.split(" #").next().unwrap_or_default();
    line.trim().to_owned()
}

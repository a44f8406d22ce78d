use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Parser as _, error::ErrorKind};

use crate::{Arguments, lookup};

/// The documents, below the workspace.
fn documents() -> Result<Vec<(PathBuf, String)>> {
    let workspace = lookup::workspace();
    let mut paths = Vec::new();
    for directory in [workspace.to_owned(), workspace.join("docs")] {
        for entry in fs::read_dir(&directory).context("read the documents")? {
            paths.push(entry?.path());
        }
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let read = |path: PathBuf| Ok((path.clone(), fs::read_to_string(path)?));
    paths.into_iter().map(read).collect()
}

/// What stands behind each `prompt`, to the end of its line or of its quotation.
fn commands<'t>(text: &'t str, prompt: &'t str) -> impl Iterator<Item = Vec<&'t str>> {
    let pieces = text.match_indices(prompt).map(move |(start, _)| {
        let is_in_block = text[..start].matches("```").count() % 2 == 1;
        let rest = &text[start + prompt.len()..];
        let end: &[char] = if is_in_block {
            &['\n', '#', '`']
        } else {
            &['`']
        };
        rest.split(end).next().unwrap_or_default()
    });
    pieces.map(|piece| {
        let words = piece.split_whitespace();
        words.take_while(|word| *word != ">").collect()
    })
}

#[test]
fn every_command_that_documents_show_is_one() -> Result<()> {
    let mut count = 0;
    for (path, text) in documents()? {
        for words in commands(&text, "cargo xtask ") {
            count += 1;
            let parsed = Arguments::try_parse_from(["xtask"].iter().chain(&words));
            let error = parsed.err().filter(|error| {
                !matches!(
                    error.kind(),
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
                )
            });
            assert!(error.is_none(), "{}: {words:?}: {error:?}", path.display());
        }
    }
    assert!(count > 20, "{count} commands were found");
    Ok(())
}

#[test]
fn every_link_between_documents_leads_somewhere() -> Result<()> {
    let mut count = 0;
    for (path, text) in documents()? {
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let directory = path.parent().context("a document is in a directory")?;
            let target = match file {
                "" => path.clone(),
                file => directory.join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            assert!(
                heading.is_empty() || has_heading(&target, heading)?,
                "{}: {link}",
                path.display()
            );
        }
    }
    assert!(count > 20, "{count} links were found");
    Ok(())
}

/// Whether a document has a heading of which a link is made so: its words, joined.
fn has_heading(path: &Path, heading: &str) -> Result<bool> {
    let text = fs::read_to_string(path)?;
    let anchor = |line: &str| -> String {
        let kept = line.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || letter == '-' => {
                Some(letter.to_ascii_lowercase())
            }
            _ => None,
        });
        kept.collect()
    };
    let headings = text.lines().filter(|line| line.starts_with('#'));
    Ok(headings
        .map(|line| anchor(line.trim_start_matches('#').trim_start()))
        .any(|found| found == heading))
}

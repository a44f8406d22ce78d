use clap::ValueEnum as _;

use super::*;

const NOUNS: [&str; 9] = [
    "routes",
    "next-hops",
    "endpoints",
    "peers",
    "flows",
    "counters",
    "links",
    "maps",
    "programs",
];

#[test]
fn every_noun_has_the_same_verbs_with_the_same_output() {
    let command = Cli::command();
    command.clone().debug_assert();
    for noun in NOUNS {
        let noun = command.find_subcommand(noun).expect(noun);
        for verb in ["list", "get", "watch"] {
            let verb = noun.find_subcommand(verb).expect(verb);
            let has_output = verb
                .get_arguments()
                .any(|argument| argument.get_long() == Some("output"));
            assert!(has_output, "{} {}", noun.get_name(), verb.get_name());
        }
    }
}

#[test]
fn counters_are_listed_without_a_verb_too() {
    for words in [
        &["counters"][..],
        &["counters", "--all", "-o", "json"],
        &["counters", "list", "--all"],
        &["counters", "get", "no-route", "-o", "yaml"],
        &["counters", "watch", "--interval", "100ms"],
    ] {
        let words = ["underpass"].iter().chain(words);
        assert!(Cli::try_parse_from(words.clone()).is_ok(), "{words:?}");
    }
    for words in [
        &["underpass", "counters", "--all", "watch"][..],
        &["underpass", "counters", "watch", "--interval", "0s"],
        &["underpass", "counters", "watch", "--interval", "soon"],
    ] {
        let error = Cli::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), Exit::Usage as i32, "{words:?}");
    }
}

#[test]
fn each_shell_completes_every_noun() {
    for shell in Shell::value_variants() {
        let script = shell.script(Cli::command()).unwrap();
        for noun in NOUNS {
            assert!(script.contains(noun), "{shell:?}: {noun}");
        }
    }
}

#[test]
fn the_manual_has_every_command_and_what_it_exits_with() {
    let page = man::page(Cli::command()).unwrap();
    for title in [
        ".TH underpass 8",
        ".SH COMMANDS",
        ".SS \"underpass next-hops get\"",
        ".SS \"underpass counters\"",
        ".SS \"underpass counters watch\"",
        ".SH \"EXIT STATUS\"",
        ".SH FILES",
        ".SH ENVIRONMENT",
    ] {
        assert!(page.contains(title), "{title}\n{page}");
    }
    for exit in Exit::ALL {
        assert!(page.contains(exit.meaning()), "{exit:?}\n{page}");
    }
}

#[test]
fn every_exit_status_is_documented() {
    let document = include_str!("../../../docs/commands.md");
    for exit in Exit::ALL {
        let row = format!("\n| {} | ", exit as i32);
        assert!(document.contains(&row), "{exit:?}");
    }
}

/// Those of the agent's image and of Kubernetes are not for here.
#[test]
fn every_command_that_documents_show_is_one() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut count = 0;
    let in_docs = std::fs::read_dir(workspace.join("docs")).unwrap();
    let in_docs = in_docs.map(|entry| entry.unwrap().path());
    let documents = in_docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    for document in documents.chain([workspace.join("README.md")]) {
        let text = std::fs::read_to_string(&document).unwrap();
        let document = document.display();
        let mut block = None;
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("```") {
                block = block.is_none().then_some(kind);
            }
            let typed = match block {
                Some("console") => line.strip_prefix("$ "),
                Some("sh") => Some(line),
                _ => None,
            };
            let Some(line) = typed.filter(|line| line.starts_with("underpass ")) else {
                continue;
            };
            let words = line.split_whitespace();
            let words = words.take_while(|word| !matches!(*word, "#" | ">" | "|"));
            let parsed = Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{document}: {line}: {parsed:?}");
            count += 1;
        }
    }
    assert!(count > 15, "{count} commands were found");
}

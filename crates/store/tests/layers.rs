//! The modules of the crate are a tree of layers: each imports only from those below it.
//!
//! `cargo test -p conferencing-store --test layers -- --nocapture` prints the graph.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom to the top. A module may import from earlier ones, and from itself; those on one line do not know each other.
const LAYERS: &[&[&str]] = &[
    &["authority"],
    &["error"],
    &["actor", "clock", "constraint", "row", "scope", "telemetry"],
    &["input"],
    &["database", "page", "person", "tokens"],
    &["event", "faults", "settings"],
    &["context", "operation"],
    &["notice"],
    &["unit"],
    &["read", "rules"],
    &["audit", "inbox", "nodes", "participants", "recordings", "statistics"],
    &["auth_providers", "feed", "replica_reads", "rooms"],
    &["users"],
    &["erasure", "export"],
    &["store"],
    &["health", "schema"],
    &["doctor"],
    &["statements"],
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The first segments of all paths that begin with `crate::`, but for those in comments and those of names that lib.rs re-exports.
fn imports(text: &str) -> BTreeSet<String> {
    let mut imports = BTreeSet::new();
    // Unit tests may look upwards.
    let code = text.split("#[cfg(test)]").next().unwrap();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            if let Some(names) = rest.strip_prefix('{') {
                let names = names.split('}').next().unwrap().split(',');
                imports.extend(names.map(|name| first_segment(name.trim())));
            } else {
                imports.insert(first_segment(rest));
            }
        }
    }
    imports
}

fn first_segment(path: &str) -> String {
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    path[..end.unwrap_or(path.len())].to_owned()
}

#[test]
fn every_module_imports_only_from_the_layers_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rank: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(rank, modules)| modules.iter().map(move |module| (*module, rank)))
        .collect();
    let mut paths = Vec::new();
    files(&source, &mut paths);
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for path in paths {
        let inside = path.strip_prefix(&source).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(module, "lib" | "event_tests") {
            continue;
        }
        let Some(own) = rank.get(module) else {
            faults.push(format!("{module} is in no layer: add it to LAYERS"));
            continue;
        };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            if import == module {
                continue;
            }
            match rank.get(import.as_str()) {
                Some(other) if other < own => {}
                Some(_) => faults.push(format!(
                    "{} imports {import}, which is not below {module}",
                    inside.display()
                )),
                None => faults.push(format!("{} imports crate::{import}: name its module", inside.display())),
            }
            graph.entry(module.to_owned()).or_default().insert(import);
        }
    }
    for modules in LAYERS {
        for module in *modules {
            let imports: Vec<&str> = graph.get(*module).into_iter().flatten().map(String::as_str).collect();
            println!("{module} -> {}", imports.join(", "));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

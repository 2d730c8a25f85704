//! The table of what is supported names its proofs; this looks whether they are there.

use std::path::Path;

/// Whether this is a function under an attribute that makes it a test.
fn is_rust_test(source: &str, name: &str) -> bool {
    let Some((before, _)) = source.split_once(&format!("fn {name}(")) else { return false };
    // Attributes and comments of the function itself.
    let own = before.rsplit("}\n").next().unwrap_or(before);
    own.contains("#[test]") || own.contains("#[tokio::test")
}

#[test]
fn every_proof_in_the_table_is_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/service-bus.md")).unwrap();
    let mut proofs = 0_usize;
    for row in text.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let before = proofs;
        let column = row.trim_end_matches(" |").rsplit(" |").next().unwrap_or_default();
        for proof in column.split('`').filter(|piece| piece.contains("::")) {
            let (file, name) = proof.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            // A test by its function, or in JavaScript by its title.
            let found = match file.rsplit('.').next() {
                Some("rs") => is_rust_test(&source, name),
                Some("py") => {
                    name.starts_with("test_") && source.contains(&format!("\ndef {name}("))
                }
                _ => {
                    source.contains(&format!("test(\"{name}\"")) || {
                        // Titles that a table of cases gives.
                        let (case, rest) = name.split_once(' ').unwrap_or_default();
                        source.contains(&format!("[\"{name}\"")) && source.contains("test(name")
                            || source.contains(&format!("\n  {case}: {{"))
                                && source.contains(&format!("test(`${{name}} {rest}`"))
                    }
                }
            };
            assert!(found, "{proof} is not a test");
            proofs += 1;
        }
        assert!(proofs > before, "{row} has no proof");
    }
    assert!(proofs > 30, "only {proofs} proofs were found");
}

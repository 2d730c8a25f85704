//! The table of what is supported names its proofs; this looks whether they are there.

use std::path::Path;

#[test]
fn every_proof_in_the_table_is_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/service-bus.md")).unwrap();
    let mut proofs = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let column = row.trim_end_matches(" |").rsplit(" |").next().unwrap_or_default();
        for proof in column.split('`').filter(|piece| piece.contains("::")) {
            let (file, name) = proof.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            // A test by its function, or in JavaScript by its title.
            let found = match file.rsplit('.').next() {
                Some("rs") => source.contains(&format!("fn {name}()")),
                Some("py") => source.contains(&format!("def {name}(")),
                _ => {
                    source.contains(&format!("test(\"{name}\"")) || {
                        // Titles that a table of cases gives.
                        source.contains(&format!("[\"{name}\"")) && source.contains("test(name")
                    }
                }
            };
            assert!(found, "{proof} is not a test");
            proofs += 1;
        }
    }
    assert!(proofs > 30, "only {proofs} proofs were found");
}

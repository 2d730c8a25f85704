//! Packaging against a repository that is not whole. The packages themselves are opened in
//! `tests/packaging`.

use std::path::PathBuf;

use serde_json::json;
use stack::package::{Options, package};
use stack::topology::Topology;
use stack::workspace::Workspace;

fn topology(functions: &[&str]) -> Topology {
    serde_json::from_value(json!({
        "apps": [{ "name": "one", "folder": "one", "functions": functions }],
        "schedules": {}, "serviceBus": {}, "storage": {}, "eventGrid": {}, "cosmos": {},
    }))
    .unwrap()
}

#[test]
fn a_function_without_a_folder_is_named_and_nothing_is_written() {
    let root = std::env::temp_dir().join(format!("bulkhead-package-{}", uuid::Uuid::new_v4()));
    let folder = root.join("functions/one/there");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("function.json"), "{}").unwrap();
    let workspace = Workspace {
        root: root.clone(),
        binaries: root.join("target/debug"),
        apps: root.join("target/apps"),
    };
    let refused = |functions: &[&str]| {
        package(&workspace, &topology(functions), &Options::default()).unwrap_err()
    };
    let fault = refused(&["there", "gone"]);
    assert_eq!(fault.what, "Function `gone` of app `one` has no folder.");
    let missing: PathBuf = root.join("functions/one/gone/function.json");
    assert!(fault.why.contains(&missing.display().to_string()), "{fault}");
    assert_eq!(refused(&[]).what, "App `one` has no function.");
    // With its folders there, it is the handler that is missing.
    assert_eq!(refused(&["there"]).what, "There is no release build of the handler.");
    assert!(!root.join("target").exists());
    std::fs::remove_dir_all(root).unwrap();
}

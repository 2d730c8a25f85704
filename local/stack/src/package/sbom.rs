//! The bill of materials of a package: CycloneDX 1.6, <https://cyclonedx.org/docs/1.6/json/>.
//!
//! It names every crate that cargo may link into the handler on the target, with the checksum from
//! `Cargo.lock`. No time and no serial number: the same sources give the same document.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use serde_json::{Value, json};

use super::elf::TARGET;
use crate::fault::Fault;

/// The package with the executable.
const ROOT: &str = "functions";

/// What the handler is made of.
#[derive(Clone, Debug)]
pub struct Bill {
    version: String,
    licence: String,
    components: Vec<Value>,
    dependencies: Vec<Value>,
    /// Reference of [`ROOT`].
    root: String,
}

impl Bill {
    /// Asks cargo, and reads the checksums.
    ///
    /// # Errors
    /// cargo cannot be run or does not answer, or there is no lock file.
    pub fn read(root: &Path) -> Result<Self, Fault> {
        let unknown = |why: String| {
            let fix = format!("cargo metadata --locked --filter-platform {TARGET}");
            Fault::new("It is unknown what the handler is made of.", why, fix)
        };
        let lock = std::fs::read_to_string(root.join("Cargo.lock"))
            .map_err(|error| unknown(format!("Cargo.lock: {error}")))?;
        let options = ["--locked", "--filter-platform", TARGET].map(str::to_owned);
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(options)
            .exec()
            .map_err(|error| unknown(error.to_string()))?;
        Self::of_metadata(&metadata, &checksums(&lock))
            .ok_or_else(|| unknown(format!("cargo knows no package `{ROOT}`")))
    }

    fn of_metadata(metadata: &Metadata, checksums: &BTreeMap<String, String>) -> Option<Self> {
        let root = metadata.packages.iter().find(|package| package.name.as_str() == ROOT)?;
        let packages: BTreeMap<&PackageId, &Package> =
            metadata.packages.iter().map(|package| (&package.id, package)).collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut components = BTreeMap::new();
        let mut open = vec![&root.id];
        while let Some(id) = open.pop() {
            let package = packages.get(id)?;
            if components.contains_key(&reference(package)) {
                continue;
            }
            components.insert(reference(package), component(package, checksums));
            let linked: Vec<&PackageId> = linked(metadata, id);
            let references = linked.iter().filter_map(|id| packages.get(id));
            edges.insert(reference(package), references.map(|p| reference(p)).collect());
            open.extend(linked);
        }
        let dependencies = edges.iter().map(|(name, on)| json!({ "ref": name, "dependsOn": on }));
        Some(Self {
            version: root.version.to_string(),
            licence: licence(root),
            dependencies: dependencies.collect(),
            components: components.into_values().collect(),
            root: reference(root),
        })
    }

    /// The document for one package with this SHA-256, in hexadecimal.
    #[must_use]
    pub fn of(&self, app: &str, sha256: &str) -> String {
        let subject = format!("app:{app}");
        let mut dependencies = vec![json!({ "ref": subject, "dependsOn": [self.root] })];
        dependencies.extend(self.dependencies.iter().cloned());
        let document = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "lifecycles": [{ "phase": "build" }],
                "component": {
                    "type": "application",
                    "bom-ref": subject,
                    "name": app,
                    "version": self.version,
                    "licenses": [{ "expression": self.licence }],
                    "hashes": [{ "alg": "SHA-256", "content": sha256 }],
                    "properties": [{ "name": "bulkhead:target", "value": TARGET }],
                },
            },
            "components": self.components,
            "dependencies": dependencies,
        });
        format!("{document:#}\n")
    }
}

/// What a package links: neither what only builds it nor what only tests it.
fn linked<'a>(metadata: &'a Metadata, id: &PackageId) -> Vec<&'a PackageId> {
    let nodes =
        metadata.resolve.as_ref().map(|resolve| resolve.nodes.as_slice()).unwrap_or_default();
    let node = nodes.iter().find(|node| node.id == *id);
    let dependencies = node.map(|node| node.deps.as_slice()).unwrap_or_default();
    dependencies
        .iter()
        .filter(|dependency| {
            dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal)
        })
        .map(|dependency| &dependency.pkg)
        .collect()
}

fn component(package: &Package, checksums: &BTreeMap<String, String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name.as_str(),
        "version": package.version.to_string(),
        "purl": reference(package),
        // A macro runs when the handler is built, and leaves only what it wrote.
        "scope": if is_macro(package) { "excluded" } else { "required" },
        "licenses": [{ "expression": licence(package) }],
    });
    if let Some(checksum) = checksums.get(&key(package.name.as_str(), &package.version.to_string()))
    {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

fn is_macro(package: &Package) -> bool {
    package.targets.iter().any(|target| target.is_proc_macro())
}

/// A package URL: <https://github.com/package-url/purl-spec>.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

/// As an SPDX expression; older manifests write `/` for `OR`.
fn licence(package: &Package) -> String {
    package.license.as_deref().unwrap_or("NOASSERTION").replace('/', " OR ")
}

fn key(name: &str, version: &str) -> String {
    format!("{name} {version}")
}

/// SHA-256 of every crate from a registry, by [`key`]. Lock files are written by cargo alone, one
/// field a line.
fn checksums(lock: &str) -> BTreeMap<String, String> {
    let field = |block: &str, name: &str| {
        let start = format!("{name} = \"");
        let line = block.lines().find(|line| line.starts_with(&start))?;
        Some(line[start.len()..].trim_end_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            let (name, version) = (field(block, "name")?, field(block, "version")?);
            Some((key(&name, &version), field(block, "checksum")?))
        })
        .collect()
}

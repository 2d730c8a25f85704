//! `stack package`: one deployment package per app, the same bytes from the same sources.
//!
//! A package is what [`stage`] lays out, with the static release build of the handler in it. Beside
//! each `<app>.zip` lie its SHA-256 in the format of `sha256sum`, and its bill of materials
//! (CycloneDX). Nothing is written before every check has passed.

pub mod archive;
pub mod elf;
pub mod sbom;
pub mod stale;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::fault::Fault;
use crate::stage;
use crate::topology::{App, Topology};
use crate::workspace::Workspace;

/// Bytes that one package may have. A new instance downloads it before the first request, and the
/// release build is a tenth of this; debug information would not fit.
const PACKAGE_BYTES_MAX: usize = 64 << 20;

/// What is packaged, and where to.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// The apps; none means all.
    pub apps: Vec<String>,
    /// The handler, with cargo's `.d` file beside it. By default the static release build,
    /// `x86_64-unknown-linux-musl/release/handler` in the target directory.
    #[arg(long)]
    pub handler: Option<PathBuf>,
    /// Where packages are laid. By default `packages` in the target directory.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// One package.
#[derive(Clone, Debug)]
pub struct Package {
    /// The app.
    pub app: String,
    /// The zip file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: usize,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Packages the apps; the packages, in the topology's order.
///
/// # Errors
/// An app is unknown, a function has no folder, the handler is missing, of another kind or older
/// than its sources, or something cannot be written.
pub fn package(
    workspace: &Workspace,
    topology: &Topology,
    options: &Options,
) -> Result<Vec<Package>, Fault> {
    let handler = options.handler.clone().unwrap_or_else(|| workspace.release_handler());
    check_folders(workspace, topology)?;
    elf::check(&handler)?;
    stale::check(&handler)?;
    let bill = sbom::Bill::read(&workspace.root)?;

    let out = options.out.clone().unwrap_or_else(|| workspace.target().join("packages"));
    let apps = stage::selected(topology, &options.apps)?;
    for app in &apps {
        empty(&out.join(&app.name))?;
    }
    stage::stage_with(workspace, topology, &options.apps, &handler, &out)?;
    apps.into_iter().map(|app| pack(app, &out, &bill)).collect()
}

/// Zips one staged app, and writes what belongs beside it.
fn pack(app: &App, out: &Path, bill: &sbom::Bill) -> Result<Package, Fault> {
    let zip = archive::zip(&out.join(&app.name), &stage::files(app)).map_err(|error| {
        let what = format!("App `{}` cannot be packaged.", app.name);
        Fault::new(what, error.to_string(), "check the disk, then try again")
    })?;
    if zip.len() > PACKAGE_BYTES_MAX {
        return Err(Fault::new(
            format!("The package of app `{}` is too large.", app.name),
            format!("{} bytes; {PACKAGE_BYTES_MAX} are allowed", zip.len()),
            "build the release profile of Cargo.toml, which strips symbols",
        ));
    }
    let sha256 = hex(&Sha256::digest(&zip));
    let path = out.join(format!("{}.zip", app.name));
    let sum = format!("{sha256}  {}.zip\n", app.name);
    let document = bill.of(&app.name, &sha256);
    write(&path, &zip)?;
    write(&out.join(format!("{}.zip.sha256", app.name)), sum.as_bytes())?;
    write(&out.join(format!("{}.cdx.json", app.name)), document.as_bytes())?;
    Ok(Package { app: app.name.clone(), path, bytes: zip.len(), sha256 })
}

/// Whether every function of the topology has its folder. All are checked, whichever are packaged:
/// a topology that names what is not there is wrong as a whole.
fn check_folders(workspace: &Workspace, topology: &Topology) -> Result<(), Fault> {
    let functions = workspace.root.join("functions");
    for app in &topology.apps {
        if app.functions.is_empty() {
            return Err(Fault::new(
                format!("App `{}` has no function.", app.name),
                "infra/topology.json lists none for it",
                "name its functions there",
            ));
        }
        for function in &app.functions {
            let file = functions.join(&app.folder).join(function).join("function.json");
            if !file.is_file() {
                return Err(Fault::new(
                    format!("Function `{function}` of app `{}` has no folder.", app.name),
                    format!("{} does not exist", file.display()),
                    "create it, or take the function out of infra/topology.json",
                ));
            }
        }
    }
    Ok(())
}

/// Removes what an earlier run has laid out: `azd` would zip everything that lies there.
fn empty(directory: &Path) -> Result<(), Fault> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(unwritable(directory, &error))
        }
        _ => Ok(()),
    }
}

/// Writes beside the target and renames, so that nobody deploys half of a file.
fn write(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".writing-{}", std::process::id()));
    std::fs::write(&beside, content)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    let why = format!("{}: {error}", path.display());
    Fault::new("The packages cannot be written.", why, "check the disk and the permissions")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! Staging: one directory per Function App that the local host runs, that `func start` runs, and
//! that the deployment package contains. What ran is what ships.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::fault::Fault;
use crate::topology::{App, Topology};
use crate::workspace::Workspace;

/// Mode of the executable inside the package. Azure mounts it read-only and nothing there would
/// add the bit later.
const HANDLER_MODE: u32 = 0o755;

/// Stages every app of the topology whose name is in `only`, or all when `only` is empty; the
/// directories, in the topology's order.
///
/// # Errors
/// A name is unknown, the handler is not built, or a file cannot be read or written.
pub fn stage(
    workspace: &Workspace,
    topology: &Topology,
    only: &[String],
) -> Result<Vec<PathBuf>, Fault> {
    stage_with(workspace, topology, only, &workspace.handler(), &workspace.apps)
}

/// The same with another build of the handler, into `<apps>/<app>`.
///
/// # Errors
/// As for [`stage`].
pub fn stage_with(
    workspace: &Workspace,
    topology: &Topology,
    only: &[String],
    handler: &Path,
    apps: &Path,
) -> Result<Vec<PathBuf>, Fault> {
    let selected = selected(topology, only)?;
    if !handler.is_file() {
        return Err(Fault::new(
            "The handler is not built.",
            format!("{} does not exist", handler.display()),
            "cargo build --bin handler",
        ));
    }
    let stage = |app: &&App| {
        stage_app(&workspace.root, app, handler, &apps.join(&app.name)).map_err(|(path, error)| {
            Fault::new(
                format!("App `{}` cannot be staged.", app.name),
                format!("{}: {error}", path.display()),
                "check the disk and the permissions, then try again",
            )
        })
    };
    selected.iter().map(stage).collect()
}

/// The apps with these names, or all when there are none, in the topology's order.
///
/// # Errors
/// A name is unknown.
pub fn selected<'a>(topology: &'a Topology, only: &[String]) -> Result<Vec<&'a App>, Fault> {
    let known = || topology.apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = only.iter().find(|name| topology.apps.iter().all(|a| a.name != **name)) {
        return Err(Fault::new(
            format!("There is no app `{unknown}`."),
            format!("infra/topology.json has: {}", known()),
            "name one of them, or none for all",
        ));
    }
    let wanted = |app: &&App| only.is_empty() || only.contains(&app.name);
    Ok(topology.apps.iter().filter(wanted).collect())
}

/// What a staged app consists of, relative to its directory. What else may lie there (settings of a
/// desk) is nobody's to ship.
#[must_use]
pub fn files(app: &App) -> Vec<String> {
    let functions = app.functions.iter().map(|function| format!("{function}/function.json"));
    ["handler", "host.json"].map(str::to_owned).into_iter().chain(functions).collect()
}

fn stage_app(
    root: &Path,
    app: &App,
    handler: &Path,
    target: &Path,
) -> Result<PathBuf, (PathBuf, std::io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path.clone(), error)
    };
    // Only function folders are removed: a function that left the topology must not be served.
    if target.is_dir() {
        for entry in std::fs::read_dir(target).map_err(at(target))? {
            let path = entry.map_err(at(target))?.path();
            if path.join("function.json").is_file() {
                std::fs::remove_dir_all(&path).map_err(at(&path))?;
            }
        }
    }
    std::fs::create_dir_all(target).map_err(at(target))?;
    put(&root.join("host.json"), &target.join("host.json"))?;
    for function in &app.functions {
        let folder = target.join(function);
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        let source = root.join("functions").join(&app.folder).join(function);
        put(&source.join("function.json"), &folder.join("function.json"))?;
    }
    let staged = target.join("handler");
    put(handler, &staged)?;
    let mode = std::fs::Permissions::from_mode(HANDLER_MODE);
    std::fs::set_permissions(&staged, mode).map_err(at(&staged))?;
    Ok(target.to_owned())
}

/// Copies beside the target and renames: an executable that is running keeps its own file, and a
/// crash leaves no half of one.
fn put(source: &Path, target: &Path) -> Result<(), (PathBuf, std::io::Error)> {
    let beside = target.with_extension(format!("staging-{}", std::process::id()));
    std::fs::copy(source, &beside).map_err(|error| (source.to_owned(), error))?;
    std::fs::rename(&beside, target).map_err(|error| (target.to_owned(), error))
}

/// Whether a file can be executed by its owner.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    const OWNER_MAY_EXECUTE: u32 = 0o100;
    std::fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & OWNER_MAY_EXECUTE != 0)
}

//! `stack doctor`: is everything there that the stack needs, and what would the rest add?

use std::process::Command;

use crate::fault::Fault;
use crate::report::{Outcome, Report};
use crate::topology::Topology;
use crate::workspace::Workspace;
use crate::{ports, stage, up};

/// What a check found.
enum Finding {
    Fine(String),
    Warning(Fault),
    Failed(Fault),
}

/// Checks everything; whether the stack can be started.
///
/// # Errors
/// The workspace itself cannot be found.
pub fn doctor() -> Result<bool, Fault> {
    let report = Report::default();
    let workspace = Workspace::locate()?;
    let mut findings = vec![
        tool("cargo", &["--version"], "builds the handler", Some("https://rustup.rs")),
        tool("cc", &["--version"], "compiles the C parts of TLS", Some("apt-get install gcc")),
        tool("func", &["--version"], "would run the apps under the real Functions host", None),
        tool("az", &["version"], "would deploy to Azure", None),
    ];
    match Topology::read(&workspace.topology()) {
        Ok(topology) => {
            let text = format!("infra/topology.json: {} apps", topology.apps.len());
            findings.push(Finding::Fine(text));
            findings.push(staged(&workspace, &topology));
        }
        Err(fault) => findings.push(Finding::Failed(fault)),
    }
    for (port, option) in up::PORTS {
        findings.push(match ports::check_free(port, option) {
            Ok(()) => Finding::Fine(format!("port {port} is free")),
            Err(fault) => Finding::Warning(fault),
        });
    }
    let mut healthy = true;
    for finding in findings {
        match finding {
            Finding::Fine(text) => report.step(Outcome::Done, &text, None),
            Finding::Warning(fault) => report.step(Outcome::Warning, &fault.to_string(), None),
            Finding::Failed(fault) => {
                healthy = false;
                report.step(Outcome::Failed, &fault.to_string(), None);
            }
        }
    }
    Ok(healthy)
}

/// A program that must be there if `install` says how to get it, and may be otherwise.
fn tool(name: &str, arguments: &[&str], purpose: &str, install: Option<&str>) -> Finding {
    let output = Command::new(name).args(arguments).output();
    match (output, install) {
        (Ok(output), _) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let version = text.lines().next().unwrap_or_default().trim().to_owned();
            Finding::Fine(format!("{name}: {version}"))
        }
        (_, Some(install)) => Finding::Failed(Fault::new(
            format!("`{name}` is missing."),
            format!("it {purpose}"),
            install,
        )),
        (_, None) => Finding::Fine(format!("{name}: not installed, not needed; it {purpose}")),
    }
}

/// Whether what is staged is what the sources say.
fn staged(workspace: &Workspace, topology: &Topology) -> Finding {
    let fix = "cargo stack stage";
    for app in &topology.apps {
        let root = workspace.apps.join(&app.name);
        if !root.is_dir() {
            return Finding::Fine(format!("app {} is not staged yet; `up` does it", app.name));
        }
        for function in &app.functions {
            let source = workspace.root.join("functions").join(&app.folder).join(function);
            let read = |folder: &std::path::Path| std::fs::read(folder.join("function.json")).ok();
            if read(&source) != read(&root.join(function)) {
                let why = format!("{function}/function.json differs from the sources");
                let what = format!("App {} is staged from another version.", app.name);
                return Finding::Warning(Fault::new(what, why, fix));
            }
        }
        if !stage::is_executable(&root.join("handler")) {
            let what = format!("App {} cannot be started.", app.name);
            let why = format!("{} is no executable file", root.join("handler").display());
            return Finding::Warning(Fault::new(what, why, fix));
        }
    }
    Finding::Fine(format!("staged: {}", workspace.apps.display()))
}

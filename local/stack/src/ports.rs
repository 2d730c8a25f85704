//! Who holds a port, so that "address in use" comes with a name.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use crate::fault::Fault;

/// Checks that a port on 127.0.0.1 is free; port 0 always is.
///
/// # Errors
/// It is taken, or may not be used; `option` is the option that would choose another.
pub fn check_free(port: u16, option: &str) -> Result<(), Fault> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let owner = owner(port).map_or_else(
                || "another process listens on it".to_owned(),
                |(pid, name)| format!("pid {pid} ({name}) listens on it"),
            );
            let fix = format!("stop it, or choose another port: {option} {}", port.wrapping_add(1));
            Err(Fault::new(format!("Port {port} is taken."), owner, fix))
        }
        Err(error) => Err(Fault::new(
            format!("Port {port} cannot be used."),
            error.to_string(),
            format!("choose another port: {option} <port>"),
        )),
    }
}

/// The process that listens on a local TCP port: process id and name (Linux; elsewhere `None`).
fn owner(port: u16) -> Option<(u32, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(&std::fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds =
            |path: &Path| std::fs::read_link(path).is_ok_and(|to| to.as_os_str() == &*socket);
        if descriptors.flatten().any(|descriptor| holds(&descriptor.path())) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

/// Finds the inode of a listening socket in `/proc/net/tcp` (see proc(5)).
fn listening_inode(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let listens = fields.get(3) == Some(&LISTEN);
        (listens && u16::from_str_radix(local_port, 16).ok()? == port)
            .then(|| fields.get(9).map(|inode| (*inode).to_owned()))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_owner_and_the_way_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = check_free(port, "--bus-port").unwrap_err();
        assert!(fault.what.contains(&port.to_string()), "{fault}");
        assert!(fault.fix.contains("--bus-port"), "{fault}");
        if cfg!(target_os = "linux") {
            assert!(fault.why.contains(&format!("pid {}", std::process::id())), "{fault}");
        }
        drop(listener);
        assert!(check_free(0, "--port").is_ok());
    }
}

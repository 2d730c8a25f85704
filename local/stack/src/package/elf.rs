//! What kind of executable the handler is: Azure runs x86-64 Linux, and promises no C library.
//!
//! Format: System V ABI, "Object Files" and "Program Loading and Dynamic Linking".

use std::path::Path;

use object::elf;
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _};

use crate::fault::Fault;

/// The target that packages are built for.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Checks that the handler is a static x86-64 executable for Linux.
///
/// # Errors
/// The file cannot be read, is none, is for another machine, or needs a loader or libraries that
/// the platform's image may not have.
pub fn check(handler: &Path) -> Result<(), Fault> {
    let build = format!("./scripts/package, which builds for {TARGET}");
    let bytes = std::fs::read(handler).map_err(|error| {
        let why = format!("{}: {error}", handler.display());
        Fault::new("There is no release build of the handler.", why, build.clone())
    })?;
    inspect(&bytes).map_err(|why| {
        let why = format!("{}: {why}", handler.display());
        Fault::new("The handler cannot run on Azure.", why, build)
    })
}

/// What keeps an executable from running there, if anything.
fn inspect(bytes: &[u8]) -> Result<(), String> {
    match object::FileKind::parse(bytes) {
        Ok(object::FileKind::Elf64) => {}
        Ok(object::FileKind::Elf32) => return Err("it is a 32-bit executable".to_owned()),
        Ok(kind) => return Err(format!("it is no Linux executable but {kind:?}")),
        Err(_) => return Err("it is no executable".to_owned()),
    }
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(|error| error.to_string())?;
    let endian = file.endian();
    let header = file.elf_header();
    let machine = header.e_machine(endian);
    if machine != elf::EM_X86_64 || !file.is_little_endian() {
        return Err(format!("it is for {:?}, not for x86-64", file.architecture()));
    }
    let kind = header.e_type(endian);
    if kind != elf::ET_EXEC && kind != elf::ET_DYN {
        return Err("it is an object file, not linked into an executable".to_owned());
    }
    for segment in file.elf_program_headers() {
        if segment.p_type(endian) == elf::PT_INTERP {
            return Err("it is linked dynamically: it asks for a loader".to_owned());
        }
        let entries = segment.dynamic(endian, bytes).map_err(|error| error.to_string())?;
        let needs = |entry: &elf::Dyn64<Endianness>| entry.d_tag(endian) == elf::DT_NEEDED;
        // A static executable that may be loaded anywhere has such entries too, but needs nobody.
        if entries.is_some_and(|entries| entries.iter().any(needs)) {
            return Err("it is linked dynamically: it asks for shared libraries".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset of `e_machine` in the header of a 64-bit ELF file.
    const MACHINE: usize = 18;

    /// The smallest file that passes: a header and one loadable segment.
    fn executable() -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16..18].copy_from_slice(&elf::ET_DYN.0.to_le_bytes());
        bytes[MACHINE..20].copy_from_slice(&elf::EM_X86_64.0.to_le_bytes());
        bytes[20] = 1;
        for (offset, value) in [(32, 64_u16), (52, 64), (54, 56), (56, 1), (58, 64)] {
            bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
        }
        bytes[64] = 1;
        bytes
    }

    #[test]
    fn only_a_static_executable_for_azure_passes() {
        assert_eq!(inspect(&executable()), Ok(()));
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = executable();
            change(&mut bytes);
            inspect(&bytes).unwrap_err()
        };
        let arm = elf::EM_AARCH64.0.to_le_bytes();
        let machine = changed(&|b| b[MACHINE..20].copy_from_slice(&arm));
        assert!(machine.contains("Aarch64"), "{machine}");
        let loader = changed(&|b| b[64] = 3);
        assert!(loader.contains("asks for a loader"), "{loader}");
        let object = changed(&|b| b[16] = 1);
        assert!(object.contains("object file"), "{object}");
        let small = changed(&|b| b[4] = 1);
        assert!(small.contains("32-bit"), "{small}");
        let script = inspect(b"#!/bin/sh\nexec true\n").unwrap_err();
        assert!(script.contains("no executable"), "{script}");
        assert!(inspect(b"").is_err() && inspect(&executable()[..40]).is_err());
    }

    #[test]
    fn this_test_itself_is_linked_dynamically_and_is_refused() {
        if cfg!(target_feature = "crt-static") {
            return;
        }
        let fault = check(&std::env::current_exe().unwrap()).unwrap_err();
        assert!(fault.why.contains("linked dynamically"), "{fault}");
    }
}

//! The Azure Functions custom-handler protocol for Rust: typed triggers in, safe replies out.

//! No code: `Cargo.toml` names the features of shared crates, so that each is compiled once.

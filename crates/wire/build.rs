//! Compiles the session protocol without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo runs this in the package's folder.
    let root = std::path::Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = protox::compile(["estafet/wire/v1/session.proto"], [root])?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}

//! `estafet-relay submit`: hands in files by hand, through the same door as counter programs.

use std::io::Write;
use std::path::{Path, PathBuf};

use estafet_model::{Class, Kind};
use zeroize::Zeroizing;

use crate::config::{Config, ConfigError};
use crate::workstations::read_private;

/// A file was not taken.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum SubmitError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    #[error("failed to read the token in {}: {source}", path.display())]
    #[diagnostic(help("it is the line that `estafet-relay workstation add` printed"))]
    NoToken { path: PathBuf, source: std::io::Error },
    #[error("the token in {} may be read by others (mode {mode:03o}, user {owner})", path.display())]
    #[diagnostic(help("it has to be this user's alone: run chmod 600 {}", path.display()))]
    ExposedToken { path: PathBuf, mode: u32, owner: u32 },
    #[error("failed to read {}: {source}", path.display())]
    #[diagnostic(help("the files before it were taken; correct its name, and submit it and those after it again"))]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("failed to reach the relay at {url}: {reason}")]
    #[diagnostic(help("start it: estafet-relay run --config …"))]
    NoRelay { url: String, reason: String },
    #[error("{} was not taken: {answer}", path.display())]
    #[diagnostic(help("the files before it were taken; when this one can be, submit it and those after it again"))]
    Refused { path: PathBuf, answer: String },
    #[error("{} was not taken: {answer}", path.display())]
    #[diagnostic(help(
        "give the token of this computer with --token-file FILE; `estafet-relay workstation add` prints a new one"
    ))]
    Unknown { path: PathBuf, answer: String },
    #[error("failed to print a slip: {0}")]
    Output(#[from] std::io::Error),
}

/// Submits `files` one after the other and prints a line of JSON for each.
pub(crate) fn submit(
    config: &Path,
    files: &[PathBuf],
    class: Class,
    kind: &Kind,
    token_file: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), SubmitError> {
    let authorization = token_file.map(authorization).transpose()?;
    let url = format!("http://{}/v1/records", Config::load(config)?.intake);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for path in files {
        let body = std::fs::read(path).map_err(|source| SubmitError::Unreadable { path: path.clone(), source })?;
        // The same file by the same name, class and kind is the same record: repeating the command makes no second one.
        let mut key = blake3::Hasher::new();
        for part in [path.as_os_str().as_encoded_bytes(), class.as_str().as_bytes(), kind.as_str().as_bytes(), &body] {
            key.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let key = key.finalize();
        let mut request = agent.post(&url);
        if let Some(authorization) = &authorization {
            request = request.header("authorization", authorization.as_str());
        }
        let answer = request
            .header("estafet-class", class.as_str())
            .header("estafet-kind", kind.as_str())
            .header("idempotency-key", key.to_hex().as_str())
            .content_type(media_type(path))
            .send(&body[..]);
        let no_relay = |error: ureq::Error| SubmitError::NoRelay { url: url.clone(), reason: error.to_string() };
        let mut answer = answer.map_err(no_relay)?;
        let text = answer.body_mut().read_to_string().map_err(no_relay)?;
        // 202: taken, and no slip is given, because the node runs without durability. The answer says so.
        let status = answer.status();
        if status != 201 && status != 202 {
            let problem: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            let detail = problem.and_then(|problem| Some(problem["detail"].as_str()?.to_owned()));
            let (path, answer) = (path.clone(), detail.unwrap_or(text));
            return Err(match status.as_u16() {
                401 => SubmitError::Unknown { path, answer },
                _ => SubmitError::Refused { path, answer },
            });
        }
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// What shows a workstation's token, as its file holds it.
fn authorization(path: &Path) -> Result<Zeroizing<String>, SubmitError> {
    let read = read_private(path).map_err(|source| SubmitError::NoToken { path: path.to_owned(), source })?;
    let token = read.map_err(|(mode, owner)| SubmitError::ExposedToken { path: path.to_owned(), mode, owner })?;
    Ok(Zeroizing::new(format!("Bearer {}", token.trim())))
}

fn media_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "pdf" => "application/pdf",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "tif" | "tiff" => "image/tiff",
        "json" => "application/json",
        "txt" => "text/plain",
        _ => "application/octet-stream",
    }
}

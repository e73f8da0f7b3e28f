//! `topology operator`: who may look, operate and administer.

use std::path::Path;

use estafet_model::{Fingerprint, PublicKey};
use estafet_tls::{create_key, new_key};
use estafet_topology::{OperatorRole, Topology, did_you_mean};
use serde::Serialize;
use toml_edit::{Table, value};

use crate::amendment::{Amendment, text};
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::fingerprint::compare;
use crate::output::{Output, or_dash};

#[derive(Serialize)]
struct MadeKey<'a> {
    file: &'a Path,
    public: String,
    fingerprint: String,
}

/// Makes a private key in a new file, and tells its public half.
pub fn make_key(out: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let key = new_key()?;
    create_key(out, &key)?;
    let public = key.public();
    let made = MadeKey { file: out, public: public.to_string(), fingerprint: Fingerprint::of(&public).to_string() };
    output.answer(&made, |made, output| {
        output.line(format_args!("{}", made.public))?;
        output.note(format_args!("fingerprint {}", made.fingerprint));
        output.note(format_args!(
            "{} is private and stays on this machine. The line above is public: an admin gives it a role with",
            out.display()
        ));
        output.note("  topology operator add NAME --role viewer|operator|admin --key KEY");
        output.note("and asks for the fingerprint, over the telephone.");
        Ok(())
    })?;
    Ok(Outcome::Good)
}

/// Gives somebody a role.
pub fn add(
    city: &CityFolder,
    name: &str,
    role: OperatorRole,
    key: &PublicKey,
    fingerprint: Option<Fingerprint>,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    compare(name, Fingerprint::of(key), fingerprint)?;
    let mut amendment = Amendment::begin(city)?;
    if amendment.topology().operators.iter().any(|operator| operator.id == name) {
        return Err(Failure::OperatorExists(name.to_owned()));
    }
    let mut table = Table::new();
    table.insert("id", value(name));
    table.insert("key", value(key.to_string()));
    table.insert("role", value(role.to_string()));
    amendment.tables("operator")?.push(table);
    amendment.finish(output)
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    role: String,
    key: String,
    fingerprint: String,
    /// The city's folder holds their private key.
    is_here: bool,
}

/// Lists whoever has a role by the signed topology.
pub fn list(city: &CityFolder, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let listed = city.topology().operators.iter().map(|operator| Listed {
        name: &operator.id,
        role: operator.role.to_string(),
        key: operator.key.to_string(),
        fingerprint: Fingerprint::of(&operator.key).to_string(),
        is_here: operator.key == city.operator_key(),
    });
    let listed: Vec<_> = listed.collect();
    if output.is_json() {
        output.object(&listed)?;
        return Ok(Outcome::Good);
    }
    let rows = listed.into_iter().map(|operator| {
        let whose = if operator.is_here { "this folder's" } else { "" };
        [operator.name.to_owned(), operator.role, operator.fingerprint, or_dash(whose)]
    });
    output.table(["operator", "role", "fingerprint", "key"], rows.collect(), "Nobody has a role.")?;
    let Topology { area, version, .. } = city.topology();
    output.note(format_args!("That is version {version} of {area}, as it is signed in this folder."));
    Ok(Outcome::Good)
}

/// Takes somebody's role away. As many admins stay as have to sign.
pub fn remove(city: &CityFolder, name: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut amendment = Amendment::begin(city)?;
    let topology = amendment.topology();
    let Some(operator) = topology.operators.iter().find(|operator| operator.id == name) else {
        return Err(operator_unknown(topology, name));
    };
    let others = topology.operators.iter().filter(|operator| operator.id != name);
    let left = others.filter(|operator| operator.role == OperatorRole::Admin).count();
    if operator.role == OperatorRole::Admin && left < topology.required_signatures {
        let required = topology.required_signatures;
        return Err(Failure::TooFewAdmins { name: name.to_owned(), left, required });
    }
    if operator.key == city.operator_key() {
        return Err(Failure::OwnRole(name.to_owned()));
    }
    amendment.tables("operator")?.retain(|table| text(table, "id") != Some(name));
    amendment.finish(output)
}

fn operator_unknown(topology: &Topology, name: &str) -> Failure {
    let known: Vec<&str> = topology.operators.iter().map(|operator| operator.id.as_str()).collect();
    let rest = format!("use one of {}", known.join(", "));
    Failure::OperatorUnknown { name: name.to_owned(), remedy: did_you_mean(name, known, rest) }
}

//! How to talk to a city that stays.

use crate::init::NewCity;
use crate::output::Output;

/// Says it in commands that can be copied.
pub(super) fn explain(city: &NewCity, output: &mut Output<'_>) {
    let dir = city.dir.display();
    output.note("\nThe city keeps running. In another terminal:");
    if let Some(office) = city.nodes.get("rumbai") {
        output.note(format_args!(
            "  curl -H 'Content-Type: text/plain' -H 'Estafet-Kind: ktp-el' --data-binary 'a record' {}/v1/records",
            office.intake
        ));
    }
    output.note(format_args!("  topology --city {dir} show"));
    output.note(format_args!("  topology --city {dir} trace SLIP"));
    output.note("Ctrl-C ends it.");
}

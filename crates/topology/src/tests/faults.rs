//! Every kind of fault: where it is said to be, what is said, and that nothing else is said beside it.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::{SMALL, key, with_keys};
use crate::parse;

/// Edits [`SMALL`] (`from` to `to`, once) and compares the faults as `line:column what` lines.
fn check(edits: &[(&str, &str)], expected: &[&str]) {
    let text = edits.iter().fold(SMALL.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "nothing to edit: {from}");
        text.replacen(from, to, 1)
    });
    let text = with_keys(&text);
    let faults = parse("city.toml", &text).err().map(|faults| faults.faults().to_vec()).unwrap_or_default();
    let found: Vec<String> = faults
        .iter()
        .map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.what))
        .map(|fault| {
            [1, 2, 3, 100].iter().fold(fault, |f, &n| f.replace(&key(n).public().to_string(), &format!("KEY-{n}")))
        })
        .collect();
    assert_eq!(found, expected, "for {edits:?}");
    assert!(faults.iter().all(|fault| !fault.remedy.is_empty()), "{faults:?}");
}

const SECOND_LINK: &str = "[[link]]\nends = [\"sukajadi\", \"induk\"]\nmedium = \"fiber\"\ncost = 5\n\n[[outage]]";
const BEARERS: &str = "[[link]]\nends = [\"induk\", \"sukajadi\"]\nmedium = \"cellular\"\ncost = 40\n";
const ISOLATED: &str = r#"[[node]]
id = "tampan"
code = "TMP"
label = "Kecamatan Tampan"
role = "relay"
key = "KEY-3"
addresses = ["10.77.0.3:4460"]
admin = "10.77.0.3:4461"

[[link]]"#;

#[test]
fn nothing_is_wrong_with_the_small_area() {
    check(&[], &[]);
}

#[test]
fn faults_of_syntax() {
    check(&[("version = 3", "version = ")], &["3:11 not TOML: string values must be quoted, expected literal string"]);
    check(
        &[("version = 3", "version = 3 3"), ("cost = 10", "cost = ten")],
        &[
            "3:11 not TOML: string values must be quoted, expected literal string",
            "37:8 not TOML: invalid boolean, expected `true`",
        ],
    );
    check(&[("[[link]]", "[[link")], &["34:7 not TOML: unclosed array table, expected `]]`"]);
    check(&[("version = 3", "version = 3\nversion = 4")], &["4:1 not TOML: duplicate key"]);
}

#[test]
fn faults_of_keys_and_types() {
    check(&[("version = 3", "versoin = 3")], &["3:1 unknown key `versoin` in the file"]);
    check(&[("medium = \"radio\"", "medium = \"radio\"\nspeed = 3")], &["37:1 unknown key `speed` in [[link]]"]);
    check(&[("latitude = 0.51826", "latitud = 0.51826")], &["30:11 unknown key `latitud` in place"]);
    check(
        &[("[[hub]]", "[[hubs]]")],
        &["10:3 unknown key `hubs` in the file", "17:8 node `induk` has role hub and no [[hub]] entry"],
    );
    check(
        &[("code = \"SKJ\"\n", ""), ("medium = \"radio\"\n", ""), ("reason = \"rolling blackout\"\n", "")],
        &["22:1 [[node]] has no `code`", "33:1 [[link]] has no `medium`", "38:1 [[outage]] has no `reason`"],
    );
    check(&[("area = \"pekanbaru\"\n", "")], &["1:1 the file has no `area`"]);
    check(&[("version = 3", "version = \"3\"")], &["3:11 `version`: it is a text instead of a whole number"]);
    check(
        &[("label = \"Disdukcapil\"", "label = 7")],
        &["16:9 `label`: it is a whole number instead of one line of text"],
    );
    check(
        &[
            ("risks = [\"pln-sukajadi\"]\n\n[[link", "risks = \"pln-sukajadi\"\n\n[[link"),
            ("risks = [\"pln-sukajadi\"]\nduration", "nodes = [\"induk\"]\nduration"),
        ],
        &["32:9 `risks` is a text instead of an array"],
    );
    check(&[("[[hub]]", "[hub]")], &["10:1 `hub` is a table instead of a list of tables"]);
    check(
        &[("place = { latitude = 0.51826, longitude = 101.43833 }", "place = 7")],
        &["30:9 `place` is a whole number instead of a table"],
    );
    check(&[("addresses = [\"10.77.0.1:4460\"]", "addresses = []")], &["19:13 `addresses` is empty"]);
}

#[test]
fn faults_of_values() {
    check(&[("area = \"pekanbaru\"", "area = \"Pekanbaru Kota\"")], &["1:8 `area`: `Pekanbaru Kota` is no name"]);
    check(&[("version = 3", "version = 0")], &["3:11 `version`: 0 is out of range"]);
    check(&[("version = 3", "version = 3\ncopies = 0")], &["4:10 `copies`: 0 is out of range"]);
    check(
        &[("version = 3", "version = 3\ncopies = 2")],
        &["4:10 `copies` asks for 2 main servers, and the file has 1"],
    );
    check(
        &[("version = 3", "version = 3\nrequired_signatures = 2")],
        &["4:23 `required_signatures` asks for 2, and the file has 1 admins"],
    );
    check(
        &[("label = \"Disdukcapil\"", "label = \" \"")],
        &["16:9 `label`: it is empty, too long or more than one line"],
    );
    check(&[("id = \"sukajadi\"", "id = \"Suka: Jadi\"")], &["23:6 `id`: `Suka: Jadi` is no node id"]);
    check(&[("code = \"SKJ\"", "code = \"SUK\"")], &["24:8 `code`: `SUK` is no short code"]);
    check(&[("code = \"SKJ\"", "code = \"SLO\"")], &["24:8 `code`: `SLO` would be read as `S10`"]);
    check(&[("role = \"relay\"", "role = \"rely\"")], &["26:8 `role`: `rely` is not a role"]);
    check(&[("key = \"KEY-2\"", "key = \"ed25519:short\"")], &["27:7 `key`: `ed25519:short` is no public key"]);
    check(&[("10.77.0.2:4460", "10.77.0.2")], &["28:14 `addresses`: `10.77.0.2` is no address"]);
    check(&[("10.77.0.2:4461", "0.0.0.0:4461")], &["29:9 `admin`: nobody can connect to `0.0.0.0:4461`"]);
    check(&[("cost = 10", "cost = 0")], &["37:8 `cost`: 0 is out of range"]);
    check(&[("cost = 10", "cost = 65536")], &["37:8 `cost`: 65536 is out of range"]);
    check(&[("cost = 10", "cost = -1")], &["37:8 `cost`: -1 is out of range"]);
    check(&[("10Mbit", "10MB")], &["38:12 `capacity`: `10MB` is no capacity"]);
    check(&[("medium = \"radio\"", "medium = \"wifi\"")], &["36:10 `medium`: `wifi` is not a medium"]);
    check(&[("latitude = 0.51826", "latitude = 101.5")], &["30:22 `latitude`: 101.5 is no place on Earth"]);
    check(&[("longitude = 101.43833", "longitude = nan")], &["30:43 `longitude`: nan is no place on Earth"]);
    check(
        &[("ups_minutes = 30", "ups_minutes = 0.5")],
        &["31:25 `ups_minutes`: it is a number with a point instead of a whole number"],
    );
    check(&[("duration = \"3h\"", "duration = \"long\"")], &["43:12 `duration`: `long` is no duration"]);
    check(
        &[("2013-08-06T18:00:00+07:00", "2013-08-06T18:00:00")],
        &["41:9 `start`: `2013-08-06T18:00:00` is no moment"],
    );
    check(&[("2013-08-06T18:00:00+07:00", "\"tomorrow\"")], &["41:9 `start`: `tomorrow` is no moment"]);
    check(&[("role = \"admin\"", "role = \"root\"")], &["8:8 `role`: `root` is not an operator's role"]);
}

#[test]
fn faults_of_names_given_twice() {
    check(
        &[("id = \"sukajadi\"", "id = \"induk\"")],
        &["23:6 node id `induk` is already used on line 14", "35:18 a link to nowhere: there is no node `sukajadi`"],
    );
    check(&[("code = \"SKJ\"", "code = \"NDK\"")], &["24:8 short code `NDK` is already used on line 15"]);
    check(&[("KEY-2", "KEY-1")], &["27:7 key `KEY-1` is already used on line 18"]);
    check(&[("KEY-2", "KEY-100")], &["7:7 key `KEY-100` is already used on line 27"]);
    check(&[("10.77.0.2:4460", "10.77.0.1:4460")], &["28:14 address `10.77.0.1:4460` is already used on line 19"]);
    check(&[("10.77.0.2:4461", "10.77.0.1:4461")], &["29:9 admin address `10.77.0.1:4461` is already used on line 20"]);
    check(&[("10.77.0.2:4461", "10.77.0.1:4460")], &[]);
    check(
        &[("[[hub]]", "[[operator]]\nid = \"kepala\"\nkey = \"KEY-3\"\nrole = \"viewer\"\n\n[[hub]]")],
        &["11:6 operator `kepala` is already used on line 6"],
    );
    check(
        &[("[[hub]]", "[[hub]]\nnode = \"induk\"\nseal_key = \"SEAL-KEY\"\n[[hub]]")],
        &["14:8 hub `induk` is already used on line 11"],
    );
}

#[test]
fn faults_of_links() {
    check(
        &[("\"sukajadi\"]\nmedium", "\"sukjadi\"]\nmedium")],
        &["35:18 a link to nowhere: there is no node `sukjadi`"],
    );
    check(
        &[("\"sukajadi\"]\nmedium", "\"bogor\"]\nmedium")],
        &["23:6 `sukajadi` has no way to any hub", "35:18 a link to nowhere: there is no node `bogor`"],
    );
    check(
        &[("[\"induk\", \"sukajadi\"]", "[\"sukajadi\", \"sukajadi\"]")],
        &["23:6 `sukajadi` has no way to any hub", "35:21 `sukajadi` is linked to itself"],
    );
    check(&[("[\"induk\", \"sukajadi\"]", "[\"sukajadi\"]")], &["35:8 `ends` has 1 items instead of 2"]);
    check(&[("[[outage]]", SECOND_LINK)], &[]);
    let same_medium = SECOND_LINK.replace("fiber", "radio");
    check(&[("[[outage]]", &same_medium)], &["41:9 `induk` and `sukajadi` are already linked by radio on line 35"]);
    check(&[("[[link]]", ISOLATED)], &["35:6 `tampan` has no way to any hub"]);
}

#[test]
fn faults_of_bearers() {
    let second = |rest: &str| format!("{BEARERS}{rest}\n\n[[outage]]");
    for (rest, expected) in [
        ("metered = true\nbulk = true", &[][..]),
        ("addresses = { sukajadi = [\"10.9.0.2:4460\"], induk = [] }", &[]),
        ("addresses = { sukajadi = [\"10.77.0.2:4460\"] }", &[]),
        ("bulk = true", &["44:8 `bulk` says what a metered link carries, and this one is not metered"]),
        ("metered = \"yes\"", &["44:11 `metered`: a text is neither true nor false"]),
        (
            "addresses = { sukajad = [\"10.9.0.2:4460\"] }",
            &["44:15 addresses of `sukajad`, which is no end of this link"],
        ),
        ("addresses = { sukajadi = [\"10.77.0.1:4460\"] }", &["44:27 address `10.77.0.1:4460` is already `induk`'s"]),
        ("addresses = { induk = [], sukajadi = [] }", &["44:27 neither end can be dialed over this link"]),
        (
            "addresses = { sukajadi = \"10.9.0.2:4460\" }",
            &["44:26 `addresses` is a text instead of an array for each name"],
        ),
        ("addresses = [\"10.9.0.2:4460\"]", &["44:13 `addresses` is an array instead of a table"]),
    ] {
        check(&[("[[outage]]", &second(rest))], expected);
    }
}

#[test]
fn faults_of_hubs_and_operators() {
    check(
        &[("node = \"induk\"", "node = \"indul\"")],
        &[
            "11:8 a hub that is no node: there is no node `indul`",
            "17:8 node `induk` has role hub and no [[hub]] entry",
        ],
    );
    check(
        &[("node = \"induk\"", "node = \"sukajadi\"\nseal_key = \"SEAL-KEY\"\n[[hub]]\nnode = \"induk\"")],
        &["11:8 hub `sukajadi` is a node with role relay"],
    );
    check(
        &[("[[hub]]\nnode = \"induk\"\nseal_key = \"SEAL-KEY\"\n", "")],
        &["14:8 node `induk` has role hub and no [[hub]] entry"],
    );
    check(
        &[("[[hub]]\nnode = \"induk\"\nseal_key = \"SEAL-KEY\"\n", ""), ("role = \"hub\"", "role = \"relay\"")],
        &["1:1 no hub at all: nobody would commit a record"],
    );
    check(&[("seal_key = \"SEAL-KEY\"\n", "")], &["10:1 [[hub]] has no `seal_key`"]);
    check(&[("SEAL-KEY", "xwing:AAAA")], &["12:12 `seal_key`: it is no seal key"]);
    check(
        &[("role = \"admin\"", "role = \"operator\"")],
        &["1:1 no operator with role admin: nobody could sign the next version"],
    );
    check(
        &[("[[operator]]\nid = \"kepala\"\nkey = \"KEY-100\"\nrole = \"admin\"\n", "")],
        &["1:1 no operator with role admin: nobody could sign the next version"],
    );
}

#[test]
fn faults_of_outages() {
    check(
        &[("risks = [\"pln-sukajadi\"]\nduration", "risks = [\"pln-sukjadi\"]\nduration")],
        &["42:10 no node and no link has the risk `pln-sukjadi`"],
    );
    check(
        &[("risks = [\"pln-sukajadi\"]\nduration", "nodes = [\"sukajad\"]\nduration")],
        &["42:10 an outage of no node: there is no node `sukajad`"],
    );
    let links = |names: &str| format!("links = [{names}]\nduration");
    for (names, faults) in [
        ("\"sukajadi,induk\", \"induk,sukajadi:radio\"", &[][..]),
        ("\"induk,sukajadi:fiber\"", &["42:10 an outage of no link: there is no link `induk,sukajadi:fiber`"]),
        ("\"induk-sukajadi\"", &["42:10 `links`: `induk-sukajadi` is no link name"]),
    ] {
        check(&[("risks = [\"pln-sukajadi\"]\nduration", &links(names))], faults);
    }
    check(&[("risks = [\"pln-sukajadi\"]\nduration", "duration")], &["40:1 an outage that strikes nothing"]);
    check(&[("every = \"1d\"", "every = \"3h\"")], &["44:9 the outage comes again every 3h and lasts 3h"]);
}

#[test]
fn one_fault_does_not_hide_or_cause_another() {
    // A node without a readable name is no reason to call the links to it links to nowhere.
    check(
        &[("id = \"sukajadi\"", "id = \"Sukajadi\""), ("cost = 10", "cost = 0")],
        &["23:6 `id`: `Sukajadi` is no node id", "37:8 `cost`: 0 is out of range"],
    );
    check(
        &[
            ("KEY-2", "KEY"),
            ("code = \"SKJ\"", "code = \"NDK\""),
            ("10Mbit", "fast"),
            ("every = \"1d\"", "each = \"1d\""),
        ],
        &[
            "24:8 short code `NDK` is already used on line 15",
            "27:7 `key`: `KEY` is no public key",
            "38:12 `capacity`: `fast` is no capacity",
            "44:1 unknown key `each` in [[outage]]",
        ],
    );
    check(&[("role = \"hub\"", "role = \"hob\"")], &["17:8 `role`: `hob` is not a role"]);
}

#[test]
fn a_terminal_shows_the_lines() {
    let text = with_keys(SMALL).replace("cost = 10", "cots = 10").replace("code = \"SKJ\"", "code = \"NDK\"");
    let faults = parse("city.toml", &text).unwrap_err();
    let mut report = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    handler.render_report(&mut report, &faults).unwrap();
    insta::assert_snapshot!(report, @r#"
      × city.toml is not a valid topology: 2 faults

    Error: 
      × short code `NDK` is already used on line 15
        ╭─[city.toml:15:8]
     14 │ id = "induk"
     15 │ code = "NDK"
        ·        ──┬──
        ·          ╰── the other one
     16 │ label = "Disdukcapil"
     17 │ role = "hub"
     18 │ key = "ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w"
     19 │ addresses = ["10.77.0.1:4460"]
     20 │ admin = "10.77.0.1:4461"
     21 │ 
     22 │ [[node]]
     23 │ id = "sukajadi"
     24 │ code = "NDK"
        ·        ──┬──
        ·          ╰── here
     25 │ label = "Kecamatan Sukajadi"
        ╰────
      help: slips begin with it: choose another

    Error: 
      × unknown key `cots` in [[link]]
        ╭─[city.toml:37:1]
     36 │ medium = "radio"
     37 │ cots = 10
        · ──┬─
        ·   ╰── here
     38 │ capacity = "10Mbit"
        ╰────
      help: did you mean `cost`? Otherwise remove it; [[link]] has ends, medium, cost, capacity,
            risks, addresses, metered, bulk
    "#);
}

#[test]
fn a_program_gets_the_same_as_values() {
    let faults = parse("city.toml", &with_keys(SMALL).replace("version = 3", "version = 0")).unwrap_err();
    insta::assert_snapshot!(toml::to_string(&faults.faults()[0]).unwrap(), @r#"
    line = 3
    column = 11
    what = "`version`: 0 is out of range"
    remedy = "write a whole number from 1 to 9223372036854775807, without quotes"
    "#);
}

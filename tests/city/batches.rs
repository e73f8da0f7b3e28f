//! Several records in one request: each has its own slip or its own refusal, and nothing of it is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::{Answer, City, Given, given, noise, post, wait_for};
use crate::workstations::add;

/// A record's headers and its bytes.
pub(crate) type Part<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);

pub(crate) const MULTIPART: (&str, &str) = ("content-type", "multipart/form-data; boundary=between-two-records");

pub(crate) fn multipart(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (headers, content) in parts {
        body.extend_from_slice(b"--between-two-records\r\nContent-Disposition: form-data; name=record\r\n");
        headers.iter().for_each(|(name, value)| write!(body, "{name}: {value}\r\n").unwrap());
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--between-two-records--\r\n");
    body
}

/// What came of each record of a batch.
fn records(answer: &Answer) -> Vec<Answer> {
    let records = answer.body["records"].as_array().unwrap_or_else(|| panic!("{}", answer.body));
    let outcome = |body: &serde_json::Value| Answer {
        status: u16::try_from(body["status"].as_u64().unwrap()).unwrap(),
        body: body.clone(),
    };
    records.iter().map(outcome).collect()
}

fn statuses(answer: &Answer) -> Vec<u16> {
    records(answer).iter().map(|record| record.status).collect()
}

/// The slips of a batch that was taken whole, checked against what was sent.
pub(crate) fn all_given(answer: &Answer, parts: &[Part<'_>]) -> Vec<Given> {
    assert_eq!(answer.status, 201, "{}", answer.body);
    let records = records(answer);
    assert_eq!(records.len(), parts.len());
    records.iter().zip(parts).map(|(record, (_, content))| given(record, content)).collect()
}

fn slips(given: &[Given]) -> Vec<&str> {
    given.iter().map(|given| given.slip.as_str()).collect()
}

/// A city with one relay that runs, and where that takes batches.
fn city_with(node: &str) -> (City, String) {
    let mut city = City::new("pekanbaru");
    city.start(node);
    let url = city.intake(node);
    wait_for("intake answers", || post(&url, b"", &[("estafet-class", "none")]).ok());
    let batches = url.replace("/records", "/batches");
    (city, batches)
}

#[test]
fn each_record_of_a_batch_has_its_own_slip_or_its_own_refusal() {
    let (mut city, url) = city_with("sail");
    let (small, large) = (noise(1, 500), noise(2, 700_000));
    let parts: [Part<'_>; 3] = [
        (&[("idempotency-key", "a")], &small),
        (&[("idempotency-key", "b")], &large),
        (&[("Idempotency-Key", "c"), ("Estafet-Class", "urgent")], b""),
    ];
    let good = multipart(&parts);
    let first = all_given(&post(&url, &good, &[MULTIPART, ("estafet-kind", "ktp-el")]).unwrap(), &parts);
    let again = |city: &City| all_given(&post(&city_url(city), &good, &[MULTIPART]).unwrap(), &parts);
    assert_eq!(slips(&again(&city)), slips(&first), "the same keys");

    let mixed = multipart(&[
        (&[("idempotency-key", "a")], b"other bytes"),
        (&[("estafet-class", "soon")], b"x"),
        (&[("content-length", "16777217")], b"x"),
        (&[("content-length", "2")], b"x"),
        (&[], b"good"),
    ]);
    let answer = post(&url, &mixed, &[MULTIPART]).unwrap();
    assert_eq!((answer.status, statuses(&answer)), (207, vec![409, 400, 413, 400, 201]), "{}", answer.body);
    let fifth = given(&records(&answer)[4], b"good");

    city.kill("sail");
    city.start("sail");
    let url = city_url(&city);
    wait_for("sail is back", || post(&url, b"", &[]).ok());
    assert_eq!(slips(&again(&city)), slips(&first), "the same keys after a restart");
    for node in city.node_ids().into_iter().filter(|node| node != "sail") {
        city.start(&node);
    }
    city.assert_honored(&first.into_iter().chain([fifth]).collect::<Vec<_>>());
}

fn city_url(city: &City) -> String {
    city.intake("sail").replace("/records", "/batches")
}

#[test]
fn a_batch_that_breaks_off_keeps_what_was_taken_and_says_so() {
    let (mut city, url) = city_with("sail");
    let parts: [Part<'_>; 2] = [(&[("idempotency-key", "a")], b"one"), (&[("idempotency-key", "b")], b"two")];
    let whole = multipart(&parts);
    // The second is not whole: its last bytes may be missing.
    let cut = &whole[..whole.len() - "o\r\n--between-two-records--\r\n".len()];
    let answer = post(&url, cut, &[MULTIPART]).unwrap();
    assert_eq!((answer.status, statuses(&answer)), (207, vec![201, 400]), "{}", answer.body);
    let first = given(&records(&answer)[0], b"one");

    // Whoever hangs up hears nothing, and gets the same slip when it asks again.
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let (name, content_type) = MULTIPART;
    write!(stream, "POST /v1/batches HTTP/1.1\r\nHost: x\r\n{name}: {content_type}\r\nContent-Length: 9999\r\n\r\n")
        .unwrap();
    stream.write_all(&whole[..whole.len() - 1]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut nothing = Vec::new();
    let _reset = stream.read_to_end(&mut nothing);

    let all = all_given(&post(&url, &whole, &[MULTIPART]).unwrap(), &parts);
    assert_eq!(all[0].slip, first.slip);
    for node in city.node_ids().into_iter().filter(|node| node != "sail") {
        city.start(&node);
    }
    city.assert_honored(&all);
}

#[test]
fn what_is_no_batch_is_refused_with_what_to_do() {
    let (_city, url) = city_with("sail");
    let many: Vec<Part<'_>> = vec![(&[], b"x"); 1001];
    for (what, body, headers, status) in [
        ("no multipart", &b"x"[..], &[("content-type", "application/pdf")][..], 415),
        ("no part", &multipart(&[]), &[MULTIPART], 400),
        ("no boundary in it", b"x", &[MULTIPART], 400),
    ] {
        let answer = post(&url, body, headers).unwrap();
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {}", answer.body);
    }
    let answer = post(&url, &multipart(&many), &[MULTIPART]).unwrap();
    let statuses = statuses(&answer);
    assert_eq!((answer.status, statuses.len(), statuses[999], statuses[1000]), (207, 1001, 201, 413));
}

#[test]
fn a_batch_counts_as_the_records_that_it_has() {
    let mut city = City::new("pekanbaru");
    let config = std::fs::read_to_string(city.config("sail")).unwrap();
    std::fs::write(city.config("sail"), config.replace("[intake]\n", "[intake]\nrecords_per_minute = 5\n")).unwrap();
    let token = add(&city, "sail", &["van"]);
    city.start("sail");
    let url = city_url(&city);
    wait_for("intake answers", || TcpStream::connect(url.trim_start_matches("http://").split('/').next()?).ok());
    let authorization = format!("Bearer {token}");
    let eight = multipart(&[(&[][..], &b"x"[..]); 8]);
    let answer = post(&url, &eight, &[MULTIPART, ("authorization", &authorization)]).unwrap();
    assert_eq!((answer.status, statuses(&answer)), (207, vec![201, 201, 201, 201, 201, 429]), "{}", answer.body);
    assert_eq!(post(&url, &eight, &[MULTIPART]).unwrap().status, 401);
}

#[test]
fn a_batch_ends_where_the_spool_is_full() {
    let mut city = City::new("pekanbaru");
    let config = std::fs::read_to_string(city.config("sail")).unwrap();
    std::fs::write(city.config("sail"), config.replace("8GiB", "64MiB")).unwrap();
    city.start("sail");
    let url = city_url(&city);
    wait_for("intake answers", || post(&url, b"", &[]).ok());
    let contents: Vec<Vec<u8>> = (0..20).map(|seed| noise(seed, 4 << 20)).collect();
    let parts: Vec<Part<'_>> = contents.iter().map(|content| (&[][..], &content[..])).collect();
    let answer = post(&url, &multipart(&parts), &[MULTIPART]).unwrap();
    let (last, taken) = records(&answer).split_last().map(|(last, taken)| (last.status, taken.len())).unwrap();
    assert_eq!((answer.status, last), (207, 507), "{}", answer.body);
    let given: Vec<Given> =
        records(&answer)[..taken].iter().zip(&contents).map(|(record, content)| given(record, content)).collect();
    assert!((8..20).contains(&taken), "{taken} records of 4 MiB fit into 64 MiB");
    for node in city.node_ids().into_iter().filter(|node| node != "sail") {
        city.start(&node);
    }
    city.assert_honored(&given);
}

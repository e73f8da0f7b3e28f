//! Anything may come in at the counter's door. Requests of this file are damaged by seed and sent as bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::harness::{City, capture, get, given, noise, post, wait_for};

/// How many damaged requests are sent; a failing one is named by its number, and is the same in every run.
const REQUESTS: u64 = 2000;

/// Requests that are answered as they are.
const WHOLE: [&str; 6] = [
    "POST /v1/records HTTP/1.1\r\nHost: x\r\nEstafet-Class: urgent\r\nEstafet-Kind: ktp-el\r\nContent-Type: application/pdf\r\n\
     Idempotency-Key: abc\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    "POST /v1/records HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /v1/batches HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Length: 63\r\n\
     Connection: close\r\n\r\n--b\r\nEstafet-Kind: ktp-el\r\n\r\nhello\r\n--b\r\n\r\n\r\n\r\nhello\r\n--b--\r\n\r\n",
    "GET /v1/records/SKJ0-4000-1A7K HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /v1/records/%ff%00..%2f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "PUT /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
];

/// Requests that announce more than they bring.
const BOASTFUL: [&str; 3] = [
    "POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\nConnection: close\r\n\r\nhello",
    "POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    "POST /v1/records HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nFFFFFFFFFFFFFFFF\r\nhello",
];

/// A few bytes changed, taken out, or said again and again.
fn damaged(number: u64) -> Vec<u8> {
    let dice = noise(number, 16);
    let which = usize::try_from(number).unwrap() % (WHOLE.len() + BOASTFUL.len());
    let mut request = WHOLE.iter().chain(&BOASTFUL).nth(which).unwrap().as_bytes().to_vec();
    for roll in dice[1..].chunks(4).take(usize::from(dice[0] % 4)) {
        let [high, low, what, how_often] = roll else { break };
        let place = usize::from(u16::from_be_bytes([*high, *low])) % request.len();
        match what % 4 {
            0 => request[place] ^= 1 << (how_often % 8),
            1 => request.truncate(place + 1),
            2 => drop(request.splice(place..place, vec![*what; usize::from(*how_often) * 64])),
            _ => drop(request.splice(place..place, request[..place].repeat(2))),
        }
    }
    request
}

/// The first line of the answer; nothing if the line was cut.
fn send(address: &str, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).expect("the relay listens, whatever was sent before");
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let _cut = stream.write_all(request);
    // Who waits for more than comes is not to wait for long. A request that is whole gets its answer first.
    if !WHOLE.iter().any(|whole| whole.as_bytes() == request) {
        let _cut = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _cut = stream.take(4096).read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).lines().next().map(str::to_owned)
}

#[test]
fn no_bytes_at_the_counters_door_stop_the_relay() {
    let mut city = City::new("pekanbaru");
    for node in ["induk", "sukajadi"] {
        city.start(node);
    }
    let intake = city.intake("sukajadi");
    let before = wait_for("sukajadi listens", || post(&intake, b"before", &[]).ok());
    let before = given(&before, b"before");
    let address = intake.trim_start_matches("http://").split('/').next().unwrap();
    let (mut taken, mut refused) = (0, 0);
    for number in 0..REQUESTS {
        let answer = send(address, &damaged(number));
        // 500 would be a fault of the program, and 507 or 503 would say that something leaked.
        let own_fault = answer.as_deref().is_some_and(|line| line.starts_with("HTTP/1.1 5"));
        assert!(!own_fault, "request {number} was answered {answer:?}");
        taken += u64::from(answer.as_deref().is_some_and(|line| line.starts_with("HTTP/1.1 2")));
        refused += u64::from(answer.as_deref().is_some_and(|line| line.starts_with("HTTP/1.1 4")));
    }
    println!("of {REQUESTS} requests {taken} were good and {refused} were refused");
    assert!(taken > REQUESTS / 40 && refused > REQUESTS / 4, "nearly all were refused before anything looked at them");
    let after = capture(&intake, b"after", &[]);
    for slip in [before.slip, after.slip] {
        let state = || get(&format!("{intake}/{slip}")).body["state"].clone();
        wait_for("it gets to the hub", || (state() == "receipted").then_some(()));
    }
    let log = city.log("sukajadi");
    assert!(!log.contains("panicked"), "{log}");
}

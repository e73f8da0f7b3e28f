//! Reads the UPS from NUT's `upsd`, by the network protocol of RFC 9271.
//!
//! The protocol is lines of text, and two questions are all that is asked. The crate that speaks it, `rups`, has had no
//! release since August 2023, so these lines are read here.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::driver::Commands;
use crate::standing::Supply;

/// On mains nothing is lost by looking rarely; on battery minutes count.
const POLL_ON_MAINS: Duration = Duration::from_secs(5);
const POLL_ON_BATTERY: Duration = Duration::from_secs(2);

/// `upsd` answers from memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest line of an answer; RFC 9271 knows of none that comes near.
const LINE_BYTES_MAX: u64 = 1024;

/// Which UPS feeds this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nut {
    /// Where `upsd` listens.
    pub(crate) address: SocketAddr,
    /// Its name for the UPS.
    pub(crate) ups: String,
    /// Name and password, where it wants them even of those who only look.
    pub(crate) login: Option<(String, String)>,
}

/// Why the UPS could not be read.
#[derive(Debug, thiserror::Error)]
enum NutError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("no answer within {PATIENCE:?}")]
    Slow,
    #[error("upsd answers `{0}`")]
    Refused(String),
}

type Connection = BufStream<TcpStream>;

/// Reads the UPS for as long as the relay runs, and tells the driver what changes.
///
/// While `upsd` cannot be asked, what it said last counts: on battery, its silence is no sign that the mains are back.
pub(crate) async fn watch(nut: Nut, commands: Commands) {
    let mut connection = None;
    let mut known = Supply::Mains;
    let mut answered = true;
    loop {
        match look(&nut, &mut connection).await {
            Ok(supply) => {
                if !std::mem::replace(&mut answered, true) {
                    info!(upsd = %nut.address, "the UPS can be read again");
                }
                if std::mem::replace(&mut known, supply) != supply && commands.set_supply(supply).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                connection = None;
                if std::mem::replace(&mut answered, false) {
                    warn!(upsd = %nut.address, ups = nut.ups, %error, "the UPS cannot be read; is upsd running?");
                }
            }
        }
        sleep(if known == Supply::Mains { POLL_ON_MAINS } else { POLL_ON_BATTERY }).await;
    }
}

async fn look(nut: &Nut, connection: &mut Option<Connection>) -> Result<Supply, NutError> {
    let asking = async {
        if connection.is_none() {
            *connection = Some(connect(nut).await?);
        }
        let Some(open) = connection else { return Err(NutError::Slow) };
        let status = variable(open, &nut.ups, "ups.status").await?;
        // Not every UPS says how long it lasts.
        let runtime = match variable(open, &nut.ups, "battery.runtime").await {
            Err(NutError::Refused(_)) => None,
            runtime => Some(runtime?),
        };
        Ok(supply(&status, runtime.as_deref()))
    };
    timeout(PATIENCE, asking).await.unwrap_or(Err(NutError::Slow))
}

async fn connect(nut: &Nut) -> Result<Connection, NutError> {
    let mut connection = BufStream::new(TcpStream::connect(nut.address).await?);
    if let Some((name, password)) = &nut.login {
        for line in [format!("USERNAME {name}"), format!("PASSWORD {password}")] {
            let answer = ask(&mut connection, &line).await?;
            if !answer.starts_with("OK") {
                return Err(NutError::Refused(answer));
            }
        }
    }
    Ok(connection)
}

async fn variable(connection: &mut Connection, ups: &str, name: &str) -> Result<String, NutError> {
    let answer = ask(connection, &format!("GET VAR {ups} {name}")).await?;
    let value = answer.strip_prefix(&format!("VAR {ups} {name} "));
    let value = value.and_then(|value| value.strip_prefix('"')?.strip_suffix('"')).map(ToOwned::to_owned);
    value.ok_or(NutError::Refused(answer))
}

async fn ask(connection: &mut Connection, line: &str) -> Result<String, NutError> {
    connection.write_all(format!("{line}\n").as_bytes()).await?;
    connection.flush().await?;
    let mut answer = String::new();
    connection.take(LINE_BYTES_MAX).read_line(&mut answer).await?;
    match answer.strip_suffix('\n') {
        Some(answer) => Ok(answer.trim_end().to_owned()),
        None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
}

/// What `ups.status` and `battery.runtime` (seconds) mean. A low battery that is on mains is being charged.
fn supply(status: &str, runtime: Option<&str>) -> Supply {
    let says = |word: &str| status.split_ascii_whitespace().any(|said| said == word);
    if says("FSD") || (says("OB") && says("LB")) {
        Supply::Low
    } else if says("OB") {
        let seconds = runtime.and_then(|runtime| runtime.parse::<f64>().ok()).filter(|seconds| *seconds >= 0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such a cast saturates")]
        let minutes_left = seconds.map(|seconds| (seconds / 60.0) as u16);
        Supply::Battery { minutes_left }
    } else {
        Supply::Mains
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn what_a_status_means() {
        let battery = |minutes_left| Supply::Battery { minutes_left };
        for (status, runtime, expected) in [
            ("OL", Some("3600"), Supply::Mains),
            ("OL CHRG LB", Some("60"), Supply::Mains),
            ("OB DISCHRG", Some("1799"), battery(Some(29))),
            ("OB", Some("90.5"), battery(Some(1))),
            ("OB", Some("-1"), battery(None)),
            ("OB", Some("soon"), battery(None)),
            ("OB", Some("99999999999"), battery(Some(u16::MAX))),
            ("OB", None, battery(None)),
            ("OB LB", Some("120"), Supply::Low),
            ("FSD OB LB", None, Supply::Low),
            ("FSD OL", None, Supply::Low),
            ("OFF", None, Supply::Mains),
            ("", None, Supply::Mains),
        ] {
            assert_eq!(supply(status, runtime), expected, "{status} {runtime:?}");
        }
    }

    /// An `upsd` that gives these answers, one by one, and hangs up.
    async fn upsd(answers: &'static [&'static str]) -> (Nut, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.split();
            let mut lines = BufReader::new(read).lines();
            let mut asked = Vec::new();
            for answer in answers {
                asked.extend(lines.next_line().await.unwrap());
                write.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (Nut { address, ups: "ups".to_owned(), login: None }, asked)
    }

    #[tokio::test]
    async fn it_asks_for_status_and_runtime() {
        let (nut, asked) = upsd(&["VAR ups ups.status \"OB\"\n", "VAR ups battery.runtime \"600\"\n"]).await;
        assert_eq!(look(&nut, &mut None).await.unwrap(), Supply::Battery { minutes_left: Some(10) });
        assert_eq!(asked.await.unwrap(), ["GET VAR ups ups.status", "GET VAR ups battery.runtime"]);
    }

    #[tokio::test]
    async fn a_ups_without_a_runtime_is_a_battery_all_the_same() {
        let (nut, _asked) = upsd(&["VAR ups ups.status \"OB\"\n", "ERR VAR-NOT-SUPPORTED\n"]).await;
        assert_eq!(look(&nut, &mut None).await.unwrap(), Supply::Battery { minutes_left: None });
    }

    #[tokio::test]
    async fn it_logs_in_where_that_is_wanted() {
        let (mut nut, asked) =
            upsd(&["OK\n", "OK\n", "VAR ups ups.status \"OL\"\n", "VAR ups battery.runtime \"9\"\n"]).await;
        nut.login = Some(("estafet".to_owned(), "secret".to_owned()));
        assert_eq!(look(&nut, &mut None).await.unwrap(), Supply::Mains);
        assert_eq!(asked.await.unwrap()[..2], ["USERNAME estafet", "PASSWORD secret"]);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let long: &'static str = Box::leak("x".repeat(4096).into_boxed_str());
        for answer in ["ERR DATA-STALE\n", "ERR ACCESS-DENIED\n", "VAR other ups.status \"OB\"\n", "OB", "", long] {
            let answers: &'static [&'static str] = Box::leak(Box::new([answer]));
            let (nut, _asked) = upsd(answers).await;
            assert!(look(&nut, &mut None).await.is_err(), "{answer}");
        }
    }
}

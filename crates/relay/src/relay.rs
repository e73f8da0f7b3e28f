//! One running relay: opens what it needs, joins it, and takes it down in order.

use std::io;
use std::net::SocketAddr;

use estafet_admin::{Listeners, ServeError, bind_unix};
use estafet_audit_log::{Event, Who};
use estafet_node::{Node, NodeConfig};
use estafet_quic::{RefusedSession, Transport, TransportConfig, TransportError};
use estafet_seal::BadSealKeys;
use estafet_tls::{Identity, TlsError};
use estafet_topology::Role;
use rustix::process::Signal;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use crate::admin::{AdminService, Keys};
use crate::audit_log::AuditLog;
use crate::carrier;
use crate::config::Config;
use crate::door;
use crate::doorkeeper::AdminDoor;
use crate::drain::DrainFile;
use crate::driver::{Commands, Driver, Ended, Successions};
use crate::gate::Gate;
use crate::heads::HeadBook;
use crate::intake::Intake;
use crate::nut;
use crate::scrub::{self, Scrubs};
use crate::seal::{SealKeysError, Seals};
use crate::standing::{Grounds, Supply};
use crate::store::{FIRST_NEIGHBOR_TRANSFER, Opened, Store, StoreError, random_epoch, wall_clock};
use crate::topologies::{Told, Topologies, neighborhood};
use crate::workstations;

/// Refused sessions that wait to be written down. Those that come while so many wait are not counted.
const REFUSED_SESSIONS_MAX: usize = 64;

/// The relay could not start, or stopped by a fault.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum RelayError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    #[diagnostic(help("is another relay running on this address? `listen` in relay.toml overrides the topology's"))]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("failed to listen for {what} on {address}: {source}")]
    #[diagnostic(help("another program has this address, or this machine does not: see relay.toml"))]
    Listen { what: &'static str, address: String, source: io::Error },
    #[error("failed to serve the admin API: {0}")]
    Admin(#[from] ServeError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Secrets(#[from] SealKeysError),
    #[error("failed to seal records: {0}")]
    #[diagnostic(help("the topology names the main servers' seal keys: correct it, sign it and push it"))]
    SealKeys(#[from] BadSealKeys),
    #[error("failed to ask the operating system: {0}")]
    System(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT, then says goodbye to the neighbors. With `promises` the disk must be a good one. If it is to
/// be `clear`, nothing that its counters hand in is sealed.
pub(crate) fn run(config: Config, promises: bool, clear: bool) -> Result<(), RelayError> {
    let is_hub = config.node.role == Role::Hub;
    // Before the runtime: recovery may take long, and nobody is to be told that this node lives until it is done.
    let opened =
        Store::open(&config.data, &config.node.id, is_hub, config.spool_bytes_max, config.hold_bytes_max, promises)?;
    // One thread is faster than two: a record crosses many tasks, and waking another thread costs more than what it does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, opened, promises, clear))
}

async fn serve(config: Config, opened: Opened, promises: bool, clear: bool) -> Result<(), RelayError> {
    let Opened { store, events, recovered, identity, pace } = opened;
    let me = config.node.id.clone();
    info!(node = %me, records = recovered.records.count(), epoch = identity.epoch.get(), starts = identity.starts, "the store is open");
    if !promises {
        error!(node = %me, "this node runs without durability: it gives no slip, no acceptance and no receipt");
    }
    if clear {
        error!(node = %me, "nothing that is handed in here is sealed: whoever has a disk on its way can read it");
    }
    if let Some(by) = config.shut_out() {
        by.report();
    }
    if let Some(missing) = config.seal_keys.missing(&config.topology, &me)? {
        // What comes is committed all the same: the key may be found again.
        error!(key = %missing, "the private seal key is not here: nothing that is captured now can be opened");
    }
    let audit_log = AuditLog::open(&config.data, &me, &config.key, identity.starts);
    audit_log.note(start_event(&config, promises, clear));
    let node = Node::new(
        NodeConfig {
            me: me.clone(),
            signing_key: config.key.clone(),
            topology: Arc::clone(&config.topology),
            epoch: identity.epoch,
            spare_epoch: random_epoch(),
            durable: promises,
            first_transfer: FIRST_NEIGHBOR_TRANSFER | (identity.starts << 32),
            receipt_patience: config.receipt_patience,
            first_lsa_sequence: identity.starts << 32,
        },
        recovered,
    );
    let drain_file = DrainFile::in_folder(&config.data);
    let grounds = Grounds::new(config.rules.clone(), drain_file.load(), wall_clock());
    let heads = HeadBook::in_folder(&config.data);
    let (refusals, refused) = mpsc::channel(REFUSED_SESSIONS_MAX);
    let (transport, sessions) = Transport::start(transport_config(&config, refusals)?, Arc::new(store.clone()))?;
    tokio::spawn(log_refused_sessions(refused, audit_log.clone()));
    let (offers, offered) = Topologies::channel();
    let successions = Successions { transport, told: Told::new(&config.signed), offers };
    let (driver, commands) = Driver::new(node, store.clone(), pace, config.hold_max, heads, grounds, successions);

    let intake_listener = listen("counters", config.intake).await?;
    let admin_listener = listen("operators", config.admin).await?;
    let admin_socket = config.admin_socket.as_deref().map(|path| {
        bind_unix(path).map_err(|source| RelayError::Listen {
            what: "operators",
            address: path.display().to_string(),
            source,
        })
    });
    let listeners = Listeners {
        tcp: Some((admin_listener, Identity::new(&config.key, me.as_str())?)),
        unix: admin_socket.transpose()?,
    };
    info!(node = %me, quic = %config.listen, admin = %config.admin, intake = %config.intake, "serving");

    let (stop, stopped) = watch::channel(false);
    let scrubs = Arc::<Scrubs>::default();
    if let Some(interval) = config.scrub_interval {
        let scrubs = Arc::clone(&scrubs);
        tokio::spawn(scrub::run(store.clone(), commands.clone(), interval, scrubs, stopped.clone()));
    }
    let topologies = Arc::new(Topologies::new(&config, commands.clone(), audit_log.clone()));
    let seals = if clear { Seals::off(topologies.in_force()) } else { Seals::new(topologies.in_force())? };
    let (workstations, who_may) = watch::channel(Arc::new(config.workstations.clone()));
    tokio::spawn(workstations::watch(config.workstation_file.clone(), workstations, audit_log.clone()));
    let gate = Gate::new(who_may, config.intake, config.records_per_minute, topologies.shut_out(), audit_log.clone());
    let routes = Intake::new(promises, commands.clone(), store.clone(), &config.node, seals, scrubs, gate).routes();
    let intake = tokio::spawn(door::serve(intake_listener, routes, until(stopped.clone())));
    tokio::spawn(Arc::clone(&topologies).hear(offered));
    let admin_door = AdminDoor { in_force: topologies.in_force(), audit_log: audit_log.clone() };
    if let Some(nut) = config.nut.clone() {
        tokio::spawn(nut::watch(nut, commands.clone()));
    }
    carrier::watch(commands.clone());
    let power = signal(SignalKind::from_raw(Signal::POWER.as_raw()))?;
    tokio::spawn(heed_power_signal(power, commands.clone(), audit_log.clone()));
    let seal_keys = config.seal_keys.clone();
    let receipt_key = promises.then(|| config.key.clone());
    let admin = AdminService::new(
        commands,
        store,
        Keys { receipt_key, seal_keys },
        me.clone(),
        topologies,
        audit_log.clone(),
        drain_file,
    );
    let stopping = until(stopped.clone());
    let admin = tokio::spawn(estafet_admin::serve(admin, listeners, config.admin_limits, admin_door, stopping));

    // On the main thread, not as a task among the others: what comes while it works is then handled together.
    let (ended, transport) = driver.run(sessions, events, shutdown_signal()?).await;
    let why = match ended {
        Ended::Asked => "shutdown",
        Ended::PowerGone => "power gone",
    };
    info!(node = %me, why, "stopping");
    transport.shut_down(why).await;
    stop.send_replace(true);
    let intake = intake.await.map_err(|error| error.to_string());
    let admin =
        admin.await.map_err(|error| error.to_string()).and_then(|ended| ended.map_err(|error| error.to_string()));
    for (what, ended) in [("intake", intake), ("admin", admin)] {
        if let Err(reason) = ended {
            error!(what, reason, "a face of the relay ended with a fault");
        }
    }
    audit_log.close(Event::noted(Who::ThisNode, "stop").about("why", why)).await;
    Ok(())
}

/// How the relay was started, and with what it was told not to do.
fn start_event(config: &Config, promises: bool, clear: bool) -> Event {
    let event = Event::noted(Who::ThisNode, "start")
        .about("program", env!("CARGO_PKG_VERSION"))
        .about("topology", config.topology.version);
    let flags = [(!promises, "--no-durability-i-know"), (clear, "--no-sealing-i-know")];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(given, flag)| given.then_some(flag)).collect();
    if flags.is_empty() { event } else { event.about("flags", flags.join(" ")) }
}

async fn log_refused_sessions(mut refused: mpsc::Receiver<RefusedSession>, audit_log: AuditLog) {
    while let Some(RefusedSession { remote, reason }) = refused.recv().await {
        let stranger = Who::Stranger { address: remote.ip().to_string(), key: None };
        audit_log.refused(Event::refused(stranger, "session", &format!("not a neighbor of this topology: {reason}")));
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, RelayError> {
    let fault = |source| RelayError::Listen { what, address: address.to_string(), source };
    TcpListener::bind(address).await.map_err(fault)
}

fn transport_config(config: &Config, refusals: mpsc::Sender<RefusedSession>) -> Result<TransportConfig, RelayError> {
    let me = &config.node.id;
    Ok(TransportConfig {
        me: me.clone(),
        boot: rand::random(),
        listen: config.listen,
        identity: Identity::new(&config.key, me.as_str())?,
        neighborhood: neighborhood(&config.topology, me, config.topology.version),
        refusals,
    })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// SIGPWR is how a UPS's program without a network tells a low battery (systemd, `powerd`, `apcupsd`).
async fn heed_power_signal(mut power: tokio::signal::unix::Signal, commands: Commands, audit_log: AuditLog) {
    while power.recv().await.is_some() && commands.set_supply(Supply::Low).await.is_ok() {
        audit_log.note(Event::noted(Who::ThisNode, "sigpwr"));
    }
}

fn shutdown_signal() -> Result<impl Future<Output = ()>, RelayError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

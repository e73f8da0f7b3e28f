//! Which nodes can be asked, and how to find one that answers.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use estafet_admin::ConnectError;
use estafet_admin::v1::admin_client::AdminClient;
use estafet_model::NodeId;
use estafet_tls::Identity;
use estafet_topology::{Node, Role, Topology, did_you_mean};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::arguments::Options;
use crate::city::CityFolder;
use crate::failure::Failure;

/// A node that answered.
#[derive(Debug, Clone)]
pub struct NodeClient {
    /// Its id, or the path of its socket.
    pub name: String,
    /// For asking it.
    pub client: AdminClient<Channel>,
}

/// A node that did not answer.
#[derive(Debug, Clone)]
pub struct Silence {
    /// Its id, or the path of its socket.
    pub node: String,
    /// What kept it from answering.
    pub reason: String,
    /// It is there, and refuses the key of this folder.
    pub refuses_key: bool,
}

/// What all nodes said to one question.
#[derive(Debug)]
pub struct Asked<T> {
    /// The answers, in the order of [`Reach`].
    pub answers: Vec<(String, T)>,
    /// Those who gave none.
    pub silent: Vec<Silence>,
}

/// The nodes that may be asked, in the order in which they are tried: hubs first.
#[derive(Debug, Clone)]
pub struct Reach {
    doors: Vec<Door>,
}

/// Where a node can be asked.
#[derive(Debug, Clone)]
enum Door {
    /// Over TLS, with the operator's identity.
    Tls { node: Box<Node>, identity: Arc<Identity> },
    /// Over its Unix socket, on the same machine.
    Socket(PathBuf),
}

impl Reach {
    /// What the options name: a socket, a node of the city, or all of them.
    pub fn from_options(options: &Options) -> Result<Self, Failure> {
        if let Some(socket) = &options.socket {
            return Ok(Self { doors: vec![Door::Socket(socket.clone())] });
        }
        let city = CityFolder::open(options.city.as_deref().ok_or(Failure::NoCity)?)?;
        match &options.node {
            Some(id) => Self::node(&city, id),
            None => Self::city(&city),
        }
    }

    /// The node of this name, by the socket that the options name or over the network: no other can do what is asked.
    pub fn just(options: &Options, id: &NodeId) -> Result<Self, Failure> {
        Self::from_options(&Options { node: Some(id.clone()), ..options.clone() })
    }

    /// All nodes of a city.
    pub fn city(city: &CityFolder) -> Result<Self, Failure> {
        let mut nodes: Vec<&Node> = city.topology().nodes.values().collect();
        nodes.sort_by_key(|node| node.role != Role::Hub);
        Self::nodes(city, nodes)
    }

    /// One node of a city.
    pub fn node(city: &CityFolder, id: &NodeId) -> Result<Self, Failure> {
        let node = city.topology().node(id).ok_or_else(|| node_unknown(city.topology(), id))?;
        Self::nodes(city, vec![node])
    }

    fn nodes(city: &CityFolder, nodes: Vec<&Node>) -> Result<Self, Failure> {
        let identity = Arc::new(city.operator_identity()?);
        let door = |node: &Node| Door::Tls { node: Box::new(node.clone()), identity: Arc::clone(&identity) };
        Ok(Self { doors: nodes.into_iter().map(door).collect() })
    }

    /// Only the hubs among them. A node that was named and is none cannot be meant. A socket is believed to be a
    /// hub's: the node itself knows better.
    pub fn hubs(mut self) -> Result<Self, Failure> {
        match self.doors.as_slice() {
            [Door::Tls { node, .. }] if node.role != Role::Hub => Err(Failure::NotAHub(node.id.clone())),
            _ => {
                self.doors.retain(|door| !matches!(door, Door::Tls { node, .. } if node.role != Role::Hub));
                Ok(self)
            }
        }
    }

    /// The same, but `node` is asked first: it knows best about itself.
    #[must_use]
    pub fn preferring(mut self, node: &NodeId) -> Self {
        self.doors.sort_by_key(|door| !matches!(door, Door::Tls { node: listed, .. } if listed.id == *node));
        self
    }

    /// Only those of these names.
    #[must_use]
    pub fn among(&self, names: &BTreeSet<&str>) -> Self {
        Self { doors: self.doors.iter().filter(|door| names.contains(door.to_string().as_str())).cloned().collect() }
    }

    /// True if only one node may be asked.
    #[must_use]
    pub fn is_one_node(&self) -> bool {
        self.doors.len() == 1
    }

    /// All but this one: it is not to be believed.
    #[must_use]
    pub fn except(mut self, node: &NodeId) -> Self {
        self.doors.retain(|door| door.to_string() != node.as_str());
        self
    }

    /// Only the node of this name.
    #[must_use]
    pub fn only(mut self, name: &str) -> Self {
        self.doors.retain(|door| door.to_string() == name);
        self
    }

    /// Each node by itself, in order.
    pub fn one_by_one(&self) -> impl Iterator<Item = Self> {
        self.doors.iter().map(|door| Self { doors: vec![door.clone()] })
    }

    /// The first node that answers. The next is tried when one has failed or a moment has passed, so that one that
    /// is dark costs little and one that is well is not raced against its city. Not if a hub refuses this key: whoever takes it
    /// all the same may be a machine in wrong hands.
    pub async fn first(&self) -> Result<NodeClient, Failure> {
        let mut waiting = self.doors.iter();
        let mut trying = FuturesUnordered::new();
        let mut silent = Vec::new();
        loop {
            trying.extend(waiting.next().map(Door::connect));
            let patience = if waiting.len() > 0 { STAGGER } else { CONNECT_TIMEOUT };
            tokio::select! {
                tried = trying.next() => match tried {
                    Some(Ok(client)) => return Ok(client),
                    Some(Err(silence)) if silence.refuses_key && self.is_hub(&silence.node) && !self.is_one_node() => {
                        return Err(Failure::KeyRefused { node: silence.node });
                    }
                    Some(Err(silence)) => silent.push(silence),
                    None => return Err(Failure::NobodyAnswered(silent)),
                },
                () = sleep(patience) => {}
            }
        }
    }

    fn is_hub(&self, name: &str) -> bool {
        let of_name = |door: &&Door| door.to_string() == name;
        matches!(self.doors.iter().find(of_name), Some(Door::Tls { node, .. }) if node.role == Role::Hub)
    }

    /// Puts one question to every node at once.
    pub async fn ask_all<T, Asking>(
        &self,
        within: Duration,
        ask: impl Fn(AdminClient<Channel>) -> Asking,
    ) -> Result<Asked<T>, Failure>
    where
        Asking: Future<Output = Result<T, Status>>,
    {
        let ask_one = async |door: &Door| {
            let NodeClient { name, client } = door.connect().await?;
            match timeout(within, ask(client)).await {
                Ok(answer) => Ok((name, answer)),
                Err(_) => Err(silence(&name, "it took too long")),
            }
        };
        let (mut asked, mut denied) = (Asked { answers: Vec::new(), silent: Vec::new() }, None);
        for answer in join_all(self.doors.iter().map(ask_one)).await {
            match answer {
                Ok((name, Ok(answer))) => asked.answers.push((name, answer)),
                Ok((name, Err(status))) => {
                    asked.silent.push(silence(&name, status.message()));
                    denied = denied.or((status.code() == Code::PermissionDenied).then_some((name, status)));
                }
                Err(silence) => asked.silent.push(silence),
            }
        }
        match denied {
            _ if !asked.answers.is_empty() => Ok(asked),
            Some((node, status)) => Err(Failure::refused(&node)(status)),
            None => Err(Failure::NobodyAnswered(asked.silent)),
        }
    }
}

impl Door {
    async fn connect(&self) -> Result<NodeClient, Silence> {
        let name = self.to_string();
        let connecting = async {
            match self {
                Self::Tls { node, identity } => AdminClient::connect_tls(node.admin, node.key, identity).await,
                Self::Socket(path) => AdminClient::connect_unix(path).await,
            }
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(client)) => Ok(NodeClient { name, client }),
            Ok(Err(error)) => {
                let refuses_key = matches!(error, ConnectError::KeyRefused { .. });
                Err(Silence { refuses_key, ..silence(&name, error) })
            }
            Err(_) => Err(silence(&name, format!("no answer within {CONNECT_TIMEOUT:?}"))),
        }
    }
}

impl Display for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { node, .. } => node.id.fmt(formatter),
            Self::Socket(path) => path.display().fmt(formatter),
        }
    }
}

fn silence(node: &str, reason: impl Display) -> Silence {
    Silence { node: node.to_owned(), reason: reason.to_string(), refuses_key: false }
}

pub(crate) fn node_unknown(topology: &Topology, node: &NodeId) -> Failure {
    let known: Vec<&str> = topology.nodes.keys().map(NodeId::as_str).collect();
    let rest = format!("use one of {}", known.join(", "));
    Failure::NodeUnknown { node: node.clone(), remedy: did_you_mean(node.as_str(), known, rest) }
}

/// A TLS handshake over a satellite takes about 1.3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const STAGGER: Duration = Duration::from_millis(200);

//! Links by name: `rumbai,sukajadi`, or one of several bearers, `rumbai,sukajadi:radio`. Between the ends stands a comma,
//! because node ids have hyphens themselves.

use std::fmt;
use std::str::FromStr;

use estafet_model::{Medium, NodeId};

use crate::topology::Link;

/// All links between two nodes, or the one of them that a medium names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkName {
    ends: [NodeId; 2],
    medium: Option<Medium>,
}

/// It names no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the two nodes with a comma between them, and behind a colon what carries it: `induk,sukajadi:radio`")]
pub struct LinkNameError;

impl LinkName {
    /// The name of all links between two nodes, or of the one by this medium.
    #[must_use]
    pub fn new(one: NodeId, other: NodeId, medium: Option<Medium>) -> Self {
        let mut ends = [one, other];
        ends.sort();
        Self { ends, medium }
    }

    /// The two nodes, in order.
    #[must_use]
    pub fn ends(&self) -> &[NodeId; 2] {
        &self.ends
    }

    /// What carries it, if that is said.
    #[must_use]
    pub fn medium(&self) -> Option<Medium> {
        self.medium
    }

    /// True if this link is meant.
    #[must_use]
    pub fn means(&self, link: &Link) -> bool {
        link.ends == self.ends && self.medium.is_none_or(|medium| medium == link.medium)
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        let (ends, medium) = text.split_once(':').map_or((text, None), |(ends, medium)| (ends, Some(medium)));
        let medium = medium.map(|medium| medium.trim().parse()).transpose().map_err(|_| LinkNameError)?;
        let (one, other) = ends.split_once(',').ok_or(LinkNameError)?;
        let node = |text: &str| text.trim().parse::<NodeId>().map_err(|_| LinkNameError);
        Ok(Self::new(node(one)?, node(other)?, medium))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.ends;
        write!(formatter, "{one},{other}")?;
        self.medium.map_or(Ok(()), |medium| write!(formatter, ":{medium}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_one_name_however_it_is_written() {
        for (text, name) in [
            ("sukajadi,induk", "induk,sukajadi"),
            ("induk, sukajadi : radio", "induk,sukajadi:radio"),
            ("rumbai-pesisir,sail:fiber", "rumbai-pesisir,sail:fiber"),
        ] {
            let read = text.parse::<LinkName>().unwrap();
            assert_eq!(read.to_string(), name);
            assert_eq!(name.parse(), Ok(read));
        }
        for bad in ["", "induk", "induk-sukajadi", "induk,sukajadi,sail", "induk,sukajadi:smoke", "induk,"] {
            assert_eq!(bad.parse::<LinkName>(), Err(LinkNameError), "{bad}");
        }
    }

    #[test]
    fn a_name_without_a_medium_means_every_bearer() {
        let link = |medium| {
            let name = LinkName::new("induk".parse().unwrap(), "sail".parse().unwrap(), None);
            Link::new(name.ends, medium, estafet_model::LinkCost(10))
        };
        for (name, radio, fiber) in
            [("sail,induk", true, true), ("induk,sail:radio", true, false), ("induk,sukajadi", false, false)]
        {
            let name: LinkName = name.parse().unwrap();
            assert_eq!((name.means(&link(Medium::Radio)), name.means(&link(Medium::Fiber))), (radio, fiber), "{name}");
        }
    }
}

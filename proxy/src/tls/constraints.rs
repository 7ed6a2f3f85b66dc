//! Which names a CA may sign for: the name constraints of its certificate (RFC 5280, 4.2.1.10). Pure.

use std::fmt;
use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};

/// A subject alternative name of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// In lower case.
    Dns(String),
    Address(IpAddr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns(name) => f.write_str(name),
            Name::Address(address) => address.fmt(f),
        }
    }
}

/// A name is permitted when no excluded subtree holds it, and one of the permitted subtrees of its kind does if there are any.
pub fn permits(constraints: &NameConstraints<'_>, name: &Name) -> bool {
    let of_kind = |subtrees: &Option<Vec<GeneralSubtree<'_>>>| -> (bool, bool) {
        let matches = subtrees
            .iter()
            .flatten()
            .filter_map(|subtree| holds(&subtree.base, name));
        matches.fold((false, false), |(_, any), held| (true, any || held))
    };
    let (_, excluded) = of_kind(&constraints.excluded_subtrees);
    let (constrained, permitted) = of_kind(&constraints.permitted_subtrees);
    !excluded && (permitted || !constrained)
}

/// `None`: the subtree says nothing of this kind of name.
fn holds(subtree: &GeneralName<'_>, name: &Name) -> Option<bool> {
    match (subtree, name) {
        (GeneralName::DNSName(base), Name::Dns(name)) => Some(holds_dns(base, name)),
        (GeneralName::IPAddress(network), Name::Address(address)) => {
            Some(holds_address(network, *address))
        }
        _ => None,
    }
}

/// `example` holds itself and everything below, `.example` only what is below, the empty name everything.
fn holds_dns(base: &str, name: &str) -> bool {
    let base = base.to_ascii_lowercase();
    let parent = base.strip_prefix('.').unwrap_or(&base);
    let below = name
        .strip_suffix(parent)
        .is_some_and(|head| head.ends_with('.'));
    base.is_empty() || name == base || below
}

/// An address followed by its mask.
fn holds_address(network: &[u8], address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (base, mask) = network.split_at(network.len() / 2);
    base.len() == octets.len()
        && mask.len() == octets.len()
        && octets
            .iter()
            .zip(base)
            .zip(mask)
            .all(|((octet, base), mask)| octet & mask == base & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Name {
        Name::Dns(name.to_owned())
    }

    fn address(text: &str) -> Name {
        Name::Address(text.parse().expect("an address"))
    }

    fn subtrees<'a>(names: Vec<GeneralName<'a>>) -> Option<Vec<GeneralSubtree<'a>>> {
        Some(
            names
                .into_iter()
                .map(|base| GeneralSubtree { base })
                .collect(),
        )
    }

    #[test]
    fn a_permitted_name_holds_itself_and_what_is_below() {
        let constraints = NameConstraints {
            permitted_subtrees: subtrees(vec![
                GeneralName::DNSName("Kubernetes"),
                GeneralName::IPAddress(&[10, 96, 0, 1, 255, 255, 255, 255]),
            ]),
            excluded_subtrees: None,
        };
        assert!(permits(&constraints, &dns("kubernetes")));
        assert!(permits(&constraints, &dns("a.kubernetes")));
        assert!(!permits(&constraints, &dns("notkubernetes")));
        assert!(!permits(&constraints, &dns("kubernetes.default")));
        assert!(permits(&constraints, &address("10.96.0.1")));
        assert!(!permits(&constraints, &address("10.96.0.2")));
        assert!(!permits(&constraints, &address("::1")));
    }

    #[test]
    fn a_kind_without_permitted_subtrees_is_free_unless_excluded() {
        let only_dns = NameConstraints {
            permitted_subtrees: subtrees(vec![GeneralName::DNSName(".svc")]),
            excluded_subtrees: None,
        };
        assert!(permits(&only_dns, &address("10.96.0.1")));
        assert!(permits(&only_dns, &dns("a.svc")));
        assert!(!permits(&only_dns, &dns("svc")));
        let no_address = NameConstraints {
            permitted_subtrees: None,
            excluded_subtrees: subtrees(vec![GeneralName::IPAddress(&[0; 8])]),
        };
        assert!(!permits(&no_address, &address("10.96.0.1")));
        assert!(permits(&no_address, &address("fd00::1")));
        assert!(permits(&no_address, &dns("kubernetes")));
    }

    #[test]
    fn a_malformed_network_holds_nothing() {
        for network in [&[][..], &[10], &[10, 96, 0, 1], &[0; 9]] {
            assert!(!holds_address(network, IpAddr::from([10, 96, 0, 1])));
        }
    }
}

//! Three masters with a replica each, who find out by themselves when one is gone.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::node::{Node, Role, free_port};

/// How many masters there are.
pub(super) const MASTERS: usize = 3;

/// Starts the servers and makes them a cluster.
pub(super) fn start(folder: &Path) -> io::Result<Vec<Node>> {
    let nodes: io::Result<Vec<Node>> = (0..2 * MASTERS)
        .map(|number| {
            // The usual one, 10,000 above, may not exist.
            let bus = free_port()?;
            let settings = format!(
                "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout {TIMEOUT}\n\
                 cluster-config-file nodes.conf\n"
            );
            Node::start(folder, &format!("redis-{number}"), &settings)
        })
        .collect();
    let nodes = nodes?;
    let output = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(nodes.iter().map(|node| node.address().to_string()))
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        return Err(io::Error::other(format!("the cluster is not made: {text}")));
    }
    Ok(nodes)
}

/// A server as the cluster lists it.
struct Listed {
    port: u16,
    is_master: bool,
    /// Whether it is thought to be up.
    is_well: bool,
    slots: Vec<(u16, u16)>,
}

/// What the first server says that answers and is in touch with the others.
fn listed(nodes: &[Node]) -> Option<Vec<Listed>> {
    nodes.iter().find_map(|node| {
        let info = node.ask(&["CLUSTER", "INFO"]).ok()?;
        if !info.text().contains("cluster_state:ok") {
            return None;
        }
        let reply = node.ask(&["CLUSTER", "NODES"]).ok()?;
        Some(reply.text().lines().filter_map(read).collect())
    })
}

/// `<id> <ip:port@cport> <flags> <master> <ping> <pong> <epoch> <link> <slot> …`
fn read(line: &str) -> Option<Listed> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (_, port) = fields.get(1)?.split('@').next()?.rsplit_once(':')?;
    let flags: Vec<&str> = fields.get(2)?.split(',').collect();
    let slots = fields.iter().skip(8).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    Some(Listed {
        port: port.parse().ok()?,
        is_master: flags.contains(&"master"),
        is_well: !flags.iter().any(|flag| flag.contains("fail") || *flag == "handshake"),
        slots: slots.collect(),
    })
}

/// Returns the masters that have slots.
pub(super) fn masters(nodes: &[Node]) -> Vec<usize> {
    let listed = listed(nodes).unwrap_or_default();
    let is_master = |node: &Node| {
        let mut masters = listed.iter().filter(|listed| listed.is_master && listed.is_well);
        masters.any(|listed| listed.port == node.port && !listed.slots.is_empty())
    };
    let numbers = nodes.iter().enumerate().filter(|(_, node)| is_master(node));
    numbers.map(|(number, _)| number).collect()
}

/// Returns the master that has this key.
pub(super) fn master_of(nodes: &[Node], key: &str) -> Option<usize> {
    let slot = |node: &Node| node.ask(&["CLUSTER", "KEYSLOT", key]).ok()?.number();
    let slot = u16::try_from(nodes.iter().find_map(slot)?).ok()?;
    let listed = listed(nodes)?;
    let has = |listed: &&Listed| {
        listed.is_master
            && listed.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    };
    let port = listed.iter().find(has)?.port;
    nodes.iter().position(|node| node.port == port)
}

/// Asks a replica to take over.
pub(super) fn fail_over(nodes: &[Node]) -> io::Result<()> {
    let follows = |node: &&Node| node.role() == Some(Role::Replica { follows: true });
    let replica = nodes.iter().find(follows).ok_or_else(|| io::Error::other("no replica"))?;
    replica.ask(&["CLUSTER", "FAILOVER"]).map(drop)
}

/// All servers are up and agree, and each master has its replica.
pub(super) fn is_healthy(nodes: &[Node]) -> bool {
    let (mut masters, mut replicas) = (0, 0);
    for node in nodes {
        match node.role() {
            Some(Role::Master { replicas: 1.. }) => masters += 1,
            Some(Role::Replica { follows: true }) => replicas += 1,
            _ => return false,
        }
        let Ok(reply) = node.ask(&["CLUSTER", "NODES"]) else { return false };
        let seen: Vec<Listed> = reply.text().lines().filter_map(read).collect();
        let Ok(info) = node.ask(&["CLUSTER", "INFO"]) else { return false };
        let is_whole = seen.len() == nodes.len() && seen.iter().all(|listed| listed.is_well);
        if !is_whole || !info.text().contains("cluster_state:ok") {
            return false;
        }
    }
    masters == MASTERS && replicas == nodes.len() - MASTERS
}

/// After so many milliseconds without a word a server is thought to be gone.
const TIMEOUT: u32 = 2_000;

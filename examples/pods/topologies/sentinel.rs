//! A master, its replicas, and three sentinels.

use std::io;
use std::path::Path;

use super::node::{Node, Role, wait_for};
use super::resp::Reply;

/// What the sentinels call the master.
pub(super) const MASTER: &str = "pods";

/// Milliseconds. A machine that is busy may let a server that is well wait for a second.
const DOWN_AFTER: u32 = 2_000;
const SENTINELS: usize = 3;
const QUORUM: usize = 2;

/// Starts the servers and those who watch them.
pub(super) fn start(folder: &Path, replicas: usize) -> io::Result<(Vec<Node>, Vec<Node>)> {
    let master = Node::start(folder, "redis-0", "")?;
    let follow = format!("replicaof 127.0.0.1 {}\n", master.port);
    let mut nodes = vec![master];
    for number in 1..=replicas {
        nodes.push(Node::start(folder, &format!("redis-{number}"), &follow)?);
    }
    let follows = |node: &Node| node.role() == Some(Role::Replica { follows: true });
    wait_for(|| nodes[1..].iter().all(follows))
        .map_err(|_| io::Error::other("the replicas do not follow"))?;
    let settings = format!(
        "sentinel monitor {MASTER} 127.0.0.1 {} {QUORUM}\n\
         sentinel down-after-milliseconds {MASTER} {DOWN_AFTER}\n\
         sentinel failover-timeout {MASTER} 3000\n\
         sentinel parallel-syncs {MASTER} 1\n",
        nodes[0].port,
    );
    let names = (0..SENTINELS).map(|number| format!("sentinel-{number}"));
    let sentinels: io::Result<Vec<Node>> =
        names.map(|name| Node::sentinel(folder, &name, &settings)).collect();
    let sentinels = sentinels?;
    for sentinel in &sentinels {
        // Ten seconds and two: how long it takes until a server that was away may be promoted.
        // Before Redis 7 they cannot be changed, and tests take longer.
        let _ = sentinel.ask(&["SENTINEL", "DEBUG", "info-period", "1000"]);
        let _ = sentinel.ask(&["SENTINEL", "DEBUG", "publish-period", "500"]);
    }
    Ok((nodes, sentinels))
}

/// Returns whom most of the sentinels call master.
pub(super) fn master(sentinels: &[Node], nodes: &[Node]) -> Option<usize> {
    let named: Vec<i64> = sentinels.iter().filter_map(named_by).collect();
    let votes = |node: &Node| named.iter().filter(|port| **port == i64::from(node.port)).count();
    nodes.iter().position(|node| votes(node) >= QUORUM)
}

fn named_by(sentinel: &Node) -> Option<i64> {
    let reply = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).ok()?;
    reply.list().get(1)?.number()
}

pub(super) fn fail_over(sentinels: &[Node]) -> io::Result<()> {
    // For a while after the last one they refuse.
    wait_for(|| sentinels[0].ask(&["SENTINEL", "FAILOVER", MASTER]).is_ok())
        .map_err(|_| io::Error::other("the sentinels refuse"))
}

/// All sentinels know each other and name the same master, which is one, and whose replicas follow
/// it and are known to.
pub(super) fn is_healthy(sentinels: &[Node], nodes: &[Node]) -> bool {
    let Some(master) = master(sentinels, nodes) else { return false };
    let wanted = |number| match number == master {
        true => Role::Master { replicas: nodes.len() - 1 },
        false => Role::Replica { follows: true },
    };
    let port = i64::from(nodes[master].port);
    nodes.iter().enumerate().all(|(number, node)| node.role() == Some(wanted(number)))
        && sentinels.iter().all(|sentinel| named_by(sentinel) == Some(port))
        && sentinels.iter().all(|sentinel| sees_everybody(sentinel, nodes.len() - 1))
}

/// They ask for it now and then; without it nobody would be promoted.
fn sees_everybody(sentinel: &Node, replicas: usize) -> bool {
    let ask = |what| sentinel.ask(&["SENTINEL", what, MASTER]);
    let (Ok(master), Ok(listed)) = (ask("MASTER"), ask("REPLICAS")) else { return false };
    let number = |name| field(&master, name).parse().ok();
    let is_well = |replica: &Reply| {
        field(replica, "flags") == "slave" && field(replica, "master-link-status") == "ok"
    };
    number("num-other-sentinels") == Some(SENTINELS - 1)
        && field(&master, "flags") == "master"
        && listed.list().len() == replicas
        && listed.list().iter().all(is_well)
}

/// A list of names and values, as sentinels answer.
fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    let mut pairs = reply.list().chunks(2);
    let pair = pairs.find(|pair| pair[0].text() == name);
    pair.and_then(|pair| pair.get(1)).map_or("", Reply::text)
}

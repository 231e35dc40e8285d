//! The servers do what the tests that use them lean on: they take over from each other.

use std::time::Instant;

use crate::topologies::{Shape, Topology};

/// Writes where the master of the key is now; what `replicas` have not got is lost with it.
fn set(topology: &Topology, key: &str, value: &str, replicas: i64) {
    let master = topology.master_of(key).expect("somebody has the key");
    let wait = ["WAIT", &replicas.to_string(), "900"];
    let commands: [&[&str]; 2] = [&["SET", key, value], &wait];
    let reply = topology.node(master).ask_in_turn(&commands).unwrap();
    assert_eq!(reply.number(), Some(replicas), "{value} is on the replica");
}

fn get(topology: &Topology, key: &str) -> String {
    let master = topology.master_of(key).expect("somebody has the key");
    topology.node(master).ask(&["GET", key]).unwrap().text().to_owned()
}

fn takes_over(shape: Shape, scheme: &str) {
    let begun = Instant::now();
    let mut topology = Topology::start(shape).unwrap();
    println!("{}: healthy after {:?}", shape.name(), begun.elapsed());
    assert!(topology.url().starts_with(scheme), "{}", topology.url());

    set(&topology, "{a}:b", "kept", 1);
    let hung = topology.master_of("{a}:b").unwrap();
    let begun = Instant::now();
    topology.hang(hung).unwrap();
    assert!(!topology.node(hung).answers());
    topology.wait_until_replaced(hung).unwrap();
    println!("{}: hung master replaced after {:?}", shape.name(), begun.elapsed());
    assert_eq!(get(&topology, "{a}:b"), "kept");
    set(&topology, "{a}:b", "changed", 0);
    topology.resume(hung).unwrap();
    topology.wait_until_healthy().unwrap();
    assert!(!topology.masters().contains(&hung), "it follows now");

    let killed = topology.master_of("{a}:b").unwrap();
    assert_ne!(killed, hung);
    let begun = Instant::now();
    topology.kill(killed);
    topology.wait_until_replaced(killed).unwrap();
    println!("{}: killed master replaced after {:?}", shape.name(), begun.elapsed());
    assert_eq!(get(&topology, "{a}:b"), "changed");
    topology.start_again(killed).unwrap();
    topology.wait_until_healthy().unwrap();
    assert_eq!(get(&topology, "{a}:b"), "changed", "it came back empty, as a replica");

    let before = topology.masters();
    topology.fail_over().unwrap();
    assert_ne!(topology.masters(), before);
    topology.wait_until_healthy().unwrap();
    assert_eq!(get(&topology, "{a}:b"), "changed");
}

#[test]
#[ignore = "needs redis-server: scripts/test"]
fn sentinels_replace_a_master() {
    takes_over(Shape::Sentinel, "redis+sentinel://127.0.0.1:");
}

#[test]
#[ignore = "needs redis-server: scripts/test"]
fn a_cluster_replaces_a_master() {
    takes_over(Shape::Cluster, "redis+cluster://127.0.0.1:");
}

#[test]
#[ignore = "needs redis-server: scripts/test"]
fn one_server_comes_back_empty() {
    let mut topology = Topology::start(Shape::Single).unwrap();
    set(&topology, "a", "b", 0);
    topology.kill(0);
    assert!(!topology.is_healthy());
    topology.start_again(0).unwrap();
    assert_eq!(get(&topology, "a"), "");
}

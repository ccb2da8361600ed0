//! Keys of 2015: `pod_networks` is `podNetworks`.

use kiln_cloudconfig::{Map, Node, Value};

/// Below these everything is appc's or a plugin's, whose keys are as they are.
const OTHERS: [&str; 3] = ["podManifest", "initialPods", "apps"];

/// Names keys as they are called here. Of two that are the same then, the later one counts.
pub(super) fn settle(node: &mut Node) {
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(nodes) => nodes.iter_mut().for_each(settle),
        Value::Map(map) => {
            let mut settled = Map::new();
            for entry in map.iter() {
                let key = camel(&entry.key);
                let mut node = entry.node.clone();
                if !OTHERS.contains(&key.as_str()) {
                    settle(&mut node);
                }
                settled.insert(key, entry.key_place.clone(), node);
            }
            *map = settled;
        }
    }
}

/// One value stands for a list of it, so that it is joined with those of other layers.
pub(super) fn lists(root: &mut Node, keys: &[&str]) {
    let Value::Map(map) = &mut root.value else { return };
    for key in keys {
        if let Some(node) = map.get_mut(key)
            && matches!(node.value, Value::Scalar(_))
            && !node.is_null()
        {
            *node = Node::list(node.place.clone(), vec![node.clone()]);
        }
    }
}

fn camel(key: &str) -> String {
    let mut parts = key.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut rest = part.chars();
        match rest.next() {
            Some(first) if !name.is_empty() => {
                name.extend(first.to_uppercase());
                name.push_str(rest.as_str());
            }
            _ => {
                name.push('_');
                name.push_str(part);
            }
        }
    }
    // these two were called otherwise
    match name.as_str() {
        "initContainers" => "initialPods".to_owned(),
        "sshKeys" | "keys" => "sshKeys".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_of_both_years() {
        for (key, now) in [
            ("pod_networks", "podNetworks"),
            ("podNetworks", "podNetworks"),
            ("ssh_keys", "sshKeys"),
            ("debug", "debug"),
            ("_x", "_x"),
            ("a__b", "a_B"),
        ] {
            assert_eq!(super::camel(key), now, "{key}");
        }
    }
}

//! The dependency tree as text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::protocol::TreeNode;

/// Draws what `root` stands on, or every service that nothing stands on with all below it. A
/// service that was drawn with its branches is drawn without them the next time, marked with `…`.
#[must_use]
pub fn draw(nodes: &[TreeNode], root: Option<&str>) -> String {
    let by_name: BTreeMap<&str, &TreeNode> = nodes.iter().map(|n| (n.name.as_str(), n)).collect();
    let below: BTreeSet<&str> =
        nodes.iter().flat_map(|node| branches(node).map(|(_, name)| name)).collect();
    let mut todo: Vec<Branch<'_>> = nodes
        .iter()
        .map(|node| node.name.as_str())
        .filter(|name| root.map_or_else(|| !below.contains(name), |root| root == *name))
        .map(|name| Branch { prefix: String::new(), name, relation: "", root: true, last: true })
        .collect();
    todo.reverse();
    let mut drawn = BTreeSet::new();
    let mut out = String::new();
    // a list of what is still to be drawn, not recursion: a chain may be thousands long
    while let Some(branch) = todo.pop() {
        let Branch { prefix, name, relation, root, last } = branch;
        let node = by_name.get(name).copied();
        let state = node.map_or("unknown", |node| node.state.as_str());
        let children: Vec<_> = node.into_iter().flat_map(branches).collect();
        let again = !drawn.insert(name) && !children.is_empty();
        let tick = match (root, last) {
            (true, _) => "",
            (false, true) => "└─ ",
            (false, false) => "├─ ",
        };
        let dots = if again { " …" } else { "" };
        let _ = writeln!(out, "{prefix}{tick}{name} {state}{relation}{dots}");
        if again {
            continue;
        }
        let deeper = match (root, last) {
            (true, _) => prefix,
            // beyond this nobody can read it anyway
            (false, _) if prefix.len() > 400 => prefix,
            (false, true) => prefix + "   ",
            (false, false) => prefix + "│  ",
        };
        for (place, (relation, name)) in children.into_iter().rev().enumerate() {
            let prefix = deeper.clone();
            todo.push(Branch { prefix, name, relation, root: false, last: place == 0 });
        }
    }
    out
}

struct Branch<'a> {
    prefix: String,
    name: &'a str,
    relation: &'static str,
    root: bool,
    last: bool,
}

fn branches(node: &TreeNode) -> impl DoubleEndedIterator<Item = (&'static str, &str)> {
    let requires = node.requires.iter().map(|name| ("", name.as_str()));
    let wants = node.wants.iter().map(|name| (" (wanted)", name.as_str()));
    let after = node.after.iter().map(|name| (" (before)", name.as_str()));
    requires.chain(wants).chain(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, requires: &[&str], wants: &[&str]) -> TreeNode {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        TreeNode {
            name: name.into(),
            state: "up".into(),
            requires: list(requires),
            wants: list(wants),
            after: Vec::new(),
        }
    }

    #[test]
    fn branches_are_drawn_once() {
        let nodes = [
            node("nomad", &["network", "data"], &[]),
            node("network", &["modules"], &[]),
            node("modules", &[], &[]),
            node("data", &["modules"], &["network"]),
        ];
        assert_eq!(
            draw(&nodes, None),
            "nomad up\n\
             ├─ network up\n\
             │  └─ modules up\n\
             └─ data up\n\
             \u{20}  ├─ modules up\n\
             \u{20}  └─ network up (wanted) …\n"
        );
        assert_eq!(draw(&nodes, Some("network")), "network up\n└─ modules up\n");
        assert_eq!(draw(&nodes, Some("nothing")), "");
    }

    #[test]
    fn a_long_chain_ends() {
        let names: Vec<String> = (0..5_000).map(|n| format!("s{n}")).collect();
        let nodes: Vec<_> =
            names.windows(2).map(|pair| node(&pair[0], &[pair[1].as_str()], &[])).collect();
        assert_eq!(draw(&nodes, None).lines().count(), 5_000);
    }
}

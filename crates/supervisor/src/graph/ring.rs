//! Rings of a graph whose nodes are places of a list.

/// The sets of two or more nodes of which each is reached from each, so that all of them are on
/// rings, and nobody else is. Each in the order of places, as are the sets (Kosaraju's algorithm,
/// with stacks of its own: a ring of thousands must not end the process).
pub(super) fn rings(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut reverse = vec![Vec::new(); edges.len()];
    for (from, to) in
        edges.iter().enumerate().flat_map(|(from, all)| all.iter().map(move |to| (from, *to)))
    {
        if let Some(list) = reverse.get_mut(to) {
            list.push(from);
        }
    }
    let mut new = vec![true; edges.len()];
    let mut rings = Vec::new();
    for root in finished(edges).into_iter().rev() {
        let mut ring = Vec::new();
        let mut todo = vec![root];
        while let Some(at) = todo.pop() {
            if is_first(&mut new, at) {
                ring.push(at);
                todo.extend(reverse.get(at).into_iter().flatten());
            }
        }
        if ring.len() > 1 {
            ring.sort_unstable();
            rings.push(ring);
        }
    }
    rings.sort_unstable();
    rings
}

/// The nodes in the order in which a depth-first search has done with them.
fn finished(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut new = vec![true; edges.len()];
    let mut done = Vec::with_capacity(edges.len());
    for root in 0..edges.len() {
        let mut stack = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(at) = next.take().filter(|at| is_first(&mut new, *at)) {
                stack.push((at, edges.get(at).map(Vec::as_slice).unwrap_or_default().iter()));
            }
            let Some((at, rest)) = stack.last_mut() else { break };
            next = rest.next().copied();
            if next.is_none() {
                done.push(*at);
                stack.pop();
            }
        }
    }
    done
}

/// Whether a node is come to for the first time.
fn is_first(new: &mut [bool], at: usize) -> bool {
    new.get_mut(at).is_some_and(std::mem::take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_a_ring_is_found_and_who_is_between_two_is_not() {
        // 0 <-> 1, and 1 -> 2 -> 3; 3 -> 4 -> 5 -> 3; 6 -> 0; 7
        let edges = [vec![1], vec![0, 2], vec![3], vec![4], vec![5], vec![3], vec![0], vec![]];
        assert_eq!(rings(&edges), [vec![0, 1], vec![3, 4, 5]]);
        // two rings with one in common are one set
        assert_eq!(rings(&[vec![1], vec![0, 2], vec![1]]), [vec![0, 1, 2]]);
        assert_eq!(rings(&[vec![1], vec![]]), [[0_usize; 0]; 0]);
    }
}

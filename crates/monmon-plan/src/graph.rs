//! The bare graph: which stage feeds which, by index. Order, circles, reach.

use std::collections::VecDeque;

/// Inputs and outputs of each node.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) inputs: Vec<Vec<usize>>,
    pub(crate) outputs: Vec<Vec<usize>>,
}

impl Graph {
    pub(crate) fn new(nodes: usize) -> Graph {
        Graph { inputs: vec![Vec::new(); nodes], outputs: vec![Vec::new(); nodes] }
    }

    pub(crate) fn join(&mut self, from: usize, to: usize) {
        self.outputs[from].push(to);
        self.inputs[to].push(from);
    }

    /// Every node behind all that feed it, else in the order given (Kahn's algorithm); or a circle.
    pub(crate) fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut waiting_for: Vec<usize> = self.inputs.iter().map(Vec::len).collect();
        let mut ready: VecDeque<usize> =
            (0..self.inputs.len()).filter(|node| waiting_for[*node] == 0).collect();
        let mut order = Vec::with_capacity(self.inputs.len());
        while let Some(node) = ready.pop_front() {
            order.push(node);
            for next in &self.outputs[node] {
                waiting_for[*next] -= 1;
                if waiting_for[*next] == 0 {
                    ready.push_back(*next);
                }
            }
        }
        if order.len() == self.inputs.len() { Ok(order) } else { Err(self.circle(&waiting_for)) }
    }

    /// Walks back from a node that never became ready: each such node has an input of the same sort, so the walk must
    /// meet itself.
    fn circle(&self, waiting_for: &[usize]) -> Vec<usize> {
        let stuck = |node: &usize| waiting_for[*node] > 0;
        let mut walk: Vec<usize> = (0..waiting_for.len()).filter(stuck).take(1).collect();
        while let Some(input) = walk.last().and_then(|node| self.inputs[*node].iter().copied().find(stuck)) {
            if let Some(start) = walk.iter().position(|node| *node == input) {
                let mut circle = walk.split_off(start);
                circle.reverse();
                return circle;
            }
            walk.push(input);
        }
        walk
    }

    /// All nodes from which some node of `targets` can be reached, those included.
    pub(crate) fn leading_to(&self, targets: impl IntoIterator<Item = usize>) -> Vec<bool> {
        let mut leads = vec![false; self.inputs.len()];
        let mut next: Vec<usize> = targets.into_iter().collect();
        while let Some(node) = next.pop() {
            if !std::mem::replace(&mut leads[node], true) {
                next.extend(&self.inputs[node]);
            }
        }
        leads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, edges: &[(usize, usize)]) -> Graph {
        let mut graph = Graph::new(nodes);
        edges.iter().for_each(|(from, to)| graph.join(*from, *to));
        graph
    }

    #[test]
    fn a_diamond_is_ordered() {
        let order = graph(4, &[(3, 1), (3, 2), (1, 0), (2, 0)]).order();
        assert_eq!(order, Ok(vec![3, 1, 2, 0]));
    }

    #[test]
    fn circles_are_found_behind_their_tail() {
        assert_eq!(graph(4, &[(0, 1), (1, 2), (2, 1), (2, 3)]).order(), Err(vec![2, 1]));
        assert_eq!(graph(1, &[(0, 0)]).order(), Err(vec![0]));
    }

    #[test]
    fn reach_goes_backwards() {
        assert_eq!(graph(4, &[(0, 1), (1, 2), (0, 3)]).leading_to([2]), [true, true, true, false]);
    }
}

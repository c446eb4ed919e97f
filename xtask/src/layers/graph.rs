//! A directed graph of named nodes: its circles, and its layers.

/// Nodes `0..names.len()`, and edges from an importing node to an imported one.
pub(super) struct Graph {
    pub(super) names: Vec<String>,
    edges: Vec<(usize, usize)>,
}

impl Graph {
    pub(super) fn new(names: Vec<String>, edges: Vec<(usize, usize)>) -> Self {
        Self { names, edges }
    }

    /// Which nodes can be reached from which, over at least one edge.
    fn reachable(&self) -> Vec<Vec<bool>> {
        let count = self.names.len();
        let mut reach = vec![vec![false; count]; count];
        for &(from, to) in &self.edges {
            reach[from][to] = true;
        }
        for middle in 0..count {
            let onwards = reach[middle].clone();
            for row in &mut reach {
                if row[middle] {
                    row.iter_mut().zip(&onwards).for_each(|(cell, &reached)| *cell |= reached);
                }
            }
        }
        reach
    }

    /// The circles: sets of two or more nodes that can all be reached from each other.
    pub(super) fn circles(&self) -> Vec<Vec<usize>> {
        let reach = self.reachable();
        let count = self.names.len();
        let circle_of = |node: usize| {
            let joined = |other: usize| reach[node][other] && reach[other][node];
            (0..count).filter(|&other| other == node || joined(other)).collect::<Vec<_>>()
        };
        let circles = (0..count).map(circle_of);
        // Every node of a circle gives the same set; the first one counts.
        let first = |(node, circle): &(usize, Vec<usize>)| circle.len() > 1 && circle[0] == *node;
        circles.enumerate().filter(first).map(|(_, circle)| circle).collect()
    }

    /// The layers, the lowest first. A node stands one layer above the highest one that it imports;
    /// the nodes of a circle share a layer.
    pub(super) fn layers(&self) -> Vec<Vec<usize>> {
        let reach = self.reachable();
        let count = self.names.len();
        let mut height = vec![0; count];
        // Heights only grow, and no chain of layers is longer than the number of nodes.
        for _ in 0..count {
            for &(from, to) in &self.edges {
                let apart = !reach[to][from];
                height[from] = height[from].max(height[to] + usize::from(apart && from != to));
            }
        }
        let top = height.iter().copied().max().map_or(0, |top| top + 1);
        (0..top).map(|layer| (0..count).filter(|&node| height[node] == layer).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Graph;

    fn graph(count: usize, edges: &[(usize, usize)]) -> Graph {
        Graph::new((0..count).map(|node| node.to_string()).collect(), edges.to_vec())
    }

    #[test]
    fn nodes_stand_above_what_they_import() {
        let layers = graph(4, &[(0, 1), (1, 2), (0, 2), (3, 2)]).layers();
        assert_eq!(layers, [vec![2], vec![1, 3], vec![0]]);
    }

    #[test]
    fn circles_are_found_and_share_a_layer() {
        let graph = graph(5, &[(0, 1), (1, 2), (2, 1), (2, 3), (4, 4)]);
        assert_eq!(graph.circles(), [vec![1, 2]]);
        assert_eq!(graph.layers(), [vec![3, 4], vec![1, 2], vec![0]]);
    }

    #[test]
    fn a_tree_has_no_circle() {
        assert!(graph(3, &[(0, 1), (0, 2)]).circles().is_empty());
    }
}

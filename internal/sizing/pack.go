package sizing

import "slices"

// nodes returns how many nodes the pods of all simulations need. It places the largest pods first, each on the first
// node with room.
func nodes(r *Result) int {
	var pods []Pods
	for i := range r.Components {
		for range r.Components[i].Replicas * r.Simulations {
			pods = append(pods, r.Components[i])
		}
	}
	slices.SortStableFunc(pods, func(a, b Pods) int {
		switch {
		case a.size(r.Request.Node) > b.size(r.Request.Node):
			return -1
		case a.size(r.Request.Node) < b.size(r.Request.Node):
			return 1
		}
		return 0
	})
	var free []Node
	for i := range pods {
		p := &pods[i]
		at := slices.IndexFunc(free, func(n Node) bool { return p.CPURequest <= n.Cores+roundingError && p.MemoryRequest <= n.MemoryBytes })
		if at < 0 {
			free = append(free, r.Request.Node) // a pod that fits on no node counts like a pod that fills one
			at = len(free) - 1
		}
		free[at].Cores -= p.CPURequest
		free[at].MemoryBytes -= p.MemoryRequest
	}
	return len(free)
}

// size returns the share of a node's CPU or memory that a pod requests, whichever share is larger.
func (p *Pods) size(n Node) float64 {
	return max(p.CPURequest/n.Cores, float64(p.MemoryRequest)/float64(n.MemoryBytes))
}

package memory

// pool contains the available plates, ordered by entry time and then by plate.
type pool struct {
	// entered contains the entry time of each plate, in Unix milliseconds. An element of heap that differs from
	// entered is outdated.
	entered map[string]int64
	heap    []available
}

type available struct {
	at    int64 // the entry time of the plate, in Unix milliseconds
	plate string
}

func (a available) less(b available) bool { return a.at < b.at || a.at == b.at && a.plate < b.plate }

func newPool() *pool { return &pool{entered: map[string]int64{}} }

func (p *pool) len() int { return len(p.entered) }

func (p *pool) put(plate string, at int64) {
	if before, found := p.entered[plate]; found && before == at {
		return
	}
	p.entered[plate] = at
	p.heap = append(p.heap, available{at: at, plate: plate})
	p.rise(len(p.heap) - 1)
}

// evict removes the plates whose entry time is at or before the given time.
func (p *pool) evict(until int64) {
	for p.prune(); len(p.heap) > 0 && p.heap[0].at <= until; p.prune() {
		p.pop()
	}
}

// remove removes and returns the plate with the earliest entry time. It returns false if no plate entered by the time
// newest.
func (p *pool) remove(newest int64) (available, bool) {
	if p.prune(); len(p.heap) == 0 || p.heap[0].at > newest {
		return available{}, false
	}
	return p.pop(), true
}

// prune removes outdated items from the top of the heap.
func (p *pool) prune() {
	for len(p.heap) > 0 {
		if at, found := p.entered[p.heap[0].plate]; found && at == p.heap[0].at {
			return
		}
		p.removeTop()
	}
}

// pop removes and returns the plate with the earliest entry time. The heap must not be empty, and its top must not be
// outdated.
func (p *pool) pop() available {
	first := p.heap[0]
	delete(p.entered, first.plate)
	p.removeTop()
	return first
}

func (p *pool) removeTop() {
	last := len(p.heap) - 1
	p.heap[0] = p.heap[last]
	p.heap[last] = available{}
	p.heap = p.heap[:last]
	p.sink(0)
}

func (p *pool) rise(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !p.heap[i].less(p.heap[parent]) {
			return
		}
		p.heap[i], p.heap[parent] = p.heap[parent], p.heap[i]
		i = parent
	}
}

func (p *pool) sink(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(p.heap); child++ {
			if p.heap[child].less(p.heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		p.heap[i], p.heap[least] = p.heap[least], p.heap[i]
		i = least
	}
}

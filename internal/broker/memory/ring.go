package memory

// ring is a double-ended queue that is stored in a ring buffer. The buffer grows when it is full, and never
// shrinks.
type ring[T any] struct {
	buffer []T // its length is a power of two, or zero
	head   int
	length int
}

func (r *ring[T]) pushBack(v T) {
	r.grow()
	r.buffer[(r.head+r.length)&(len(r.buffer)-1)] = v
	r.length++
}

func (r *ring[T]) pushFront(v T) {
	r.grow()
	r.head = (r.head - 1) & (len(r.buffer) - 1)
	r.buffer[r.head] = v
	r.length++
}

// front returns the first element. The ring must not be empty.
func (r *ring[T]) front() T { return r.buffer[r.head] }

// popFront removes and returns the first element. The ring must not be empty.
func (r *ring[T]) popFront() T {
	var none T
	v := r.buffer[r.head]
	r.buffer[r.head] = none
	r.head = (r.head + 1) & (len(r.buffer) - 1)
	r.length--
	return v
}

func (r *ring[T]) grow() {
	if r.length < len(r.buffer) {
		return
	}
	larger := make([]T, max(16, 2*len(r.buffer)))
	n := copy(larger, r.buffer[r.head:])
	copy(larger[n:], r.buffer[:r.head])
	r.buffer, r.head = larger, 0
}

package memory

// queue is a first-in first-out queue in a ring buffer. The ring grows as needed and shrinks when it is mostly empty.
type queue[T any] struct {
	ring  []T // its length is a power of two, or 0
	first int
	count int
}

const smallestRing = 64

func (q *queue[T]) len() int { return q.count }

// front returns the oldest item. The queue must not be empty.
func (q *queue[T]) front() *T { return &q.ring[q.first] }

func (q *queue[T]) push(item T) {
	if q.count == len(q.ring) {
		q.resize(max(smallestRing, 2*len(q.ring)))
	}
	q.ring[(q.first+q.count)&(len(q.ring)-1)] = item
	q.count++
}

func (q *queue[T]) pop() T {
	var none T
	item := q.ring[q.first]
	q.ring[q.first] = none
	q.first = (q.first + 1) & (len(q.ring) - 1)
	q.count--
	if len(q.ring) > smallestRing && q.count < len(q.ring)/4 {
		q.resize(len(q.ring) / 2)
	}
	return item
}

func (q *queue[T]) resize(size int) {
	ring := make([]T, size)
	n := copy(ring, q.ring[q.first:min(len(q.ring), q.first+q.count)])
	copy(ring[n:], q.ring[:q.count-n])
	q.ring, q.first = ring, 0
}

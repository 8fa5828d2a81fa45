// Package ring provides a double-ended queue.
package ring

import "slices"

// Ring is a double-ended queue in a ring buffer. The buffer grows as needed and shrinks when it is mostly empty. The
// zero value is an empty queue.
type Ring[T any] struct {
	buffer []T // its length is 0 or a power of two
	first  int
	length int
}

const smallest = 64

// Len returns the number of elements.
func (r *Ring[T]) Len() int { return r.length }

// PushBack adds an element at the end.
func (r *Ring[T]) PushBack(v T) {
	r.grow()
	r.buffer[r.index(r.first+r.length)] = v
	r.length++
}

// PushFront adds an element at the beginning.
func (r *Ring[T]) PushFront(v T) {
	r.grow()
	r.first = r.index(r.first - 1)
	r.buffer[r.first] = v
	r.length++
}

// Front returns the first element. The ring must not be empty.
func (r *Ring[T]) Front() T { return r.buffer[r.first] }

// PopFront removes and returns the first element. The ring must not be empty.
func (r *Ring[T]) PopFront() T {
	var none T
	v := r.buffer[r.first]
	r.buffer[r.first] = none
	r.first = r.index(r.first + 1)
	r.length--
	if len(r.buffer) > smallest && r.length < len(r.buffer)/4 {
		r.resize(len(r.buffer) / 2)
	}
	return v
}

// Clone returns a copy. It does not copy what elements point to.
func (r *Ring[T]) Clone() Ring[T] {
	return Ring[T]{buffer: slices.Clone(r.buffer), first: r.first, length: r.length}
}

func (r *Ring[T]) index(i int) int { return i & (len(r.buffer) - 1) }

func (r *Ring[T]) grow() {
	if r.length == len(r.buffer) {
		r.resize(max(smallest, 2*len(r.buffer)))
	}
}

func (r *Ring[T]) resize(size int) {
	buffer := make([]T, size)
	n := copy(buffer, r.buffer[r.first:min(len(r.buffer), r.first+r.length)])
	copy(buffer[n:], r.buffer[:r.length-n])
	r.buffer, r.first = buffer, 0
}

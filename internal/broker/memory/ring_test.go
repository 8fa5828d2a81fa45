package memory

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRing_BehavesLikeADoubleEndedQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r ring[int]
		var model []int
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push back": func(*rapid.T) {
				next++
				r.pushBack(next)
				model = append(model, next)
			},
			"push front": func(*rapid.T) {
				next++
				r.pushFront(next)
				model = slices.Insert(model, 0, next)
			},
			"pop front": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("it is empty")
				}
				if front, got := r.front(), r.popFront(); got != model[0] || front != got {
					t.Fatalf("popped %d, want %d", got, model[0])
				}
				model = model[1:]
			},
			"": func(t *rapid.T) {
				if r.length != len(model) {
					t.Fatalf("the length is %d, want %d", r.length, len(model))
				}
			},
		})
	})
}

package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestRing_RandomOperations_BehavesLikeADoubleEndedQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r Ring[int]
		var model []int
		next := 0
		t.Repeat(map[string]func(*rapid.T){
			"push back": func(t *rapid.T) {
				for range rapid.IntRange(1, 200).Draw(t, "pushes") {
					next++
					r.PushBack(next)
					model = append(model, next)
				}
			},
			"push front": func(*rapid.T) {
				next++
				r.PushFront(next)
				model = slices.Insert(model, 0, next)
			},
			"pop front": func(t *rapid.T) {
				if len(model) == 0 {
					t.Skip("it is empty")
				}
				for range min(len(model), rapid.IntRange(1, 200).Draw(t, "pops")) {
					if front, got := r.Front(), r.PopFront(); got != model[0] || front != got {
						t.Fatalf("popped %d, want %d", got, model[0])
					}
					model = model[1:]
				}
			},
			"": func(t *rapid.T) {
				if r.Len() != len(model) {
					t.Fatalf("the length is %d, want %d", r.Len(), len(model))
				}
				if len(r.buffer) > max(smallest, 8*len(model)) {
					t.Fatalf("a buffer of %d holds %d elements", len(r.buffer), len(model))
				}
			},
		})
	})
}

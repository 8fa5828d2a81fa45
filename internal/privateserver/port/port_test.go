package port

import "testing"

func TestReserve_ReturnsEachPortOnce(t *testing.T) {
	t.Parallel()
	first, err := Reserve(50)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(first)
	second, err := Reserve(50)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(second)
	owners := map[int]bool{}
	for _, p := range append(first, second...) {
		if owners[p.number] {
			t.Fatalf("port %d was reserved twice", p.number)
		}
		owners[p.number] = true
	}
}

// The processes of a test may have different directories for temporary files. They must still share the reservations.
func TestReserve_OtherTMPDIR_PortStaysReserved(t *testing.T) {
	reserved, err := Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	defer Release(reserved)
	t.Setenv("TMPDIR", t.TempDir())
	if again, err := reserve(reserved[0].number); err == nil {
		Release([]Port{again})
		t.Errorf("port %s was reserved twice", reserved[0])
	}
}

package rabbitmq

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestWire_ClosedWithUnwrittenBytes_WritesAllBytesInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := newWire(near, time.Minute)
		var want []byte
		received := make(chan []byte)
		go func() {
			got, _ := io.ReadAll(far) // ReadAll returns when the wire is closed
			received <- got
		}()
		for n := range 1000 {
			frame := bytes.Repeat([]byte{byte(n)}, n)
			want = append(want, frame...)
			if _, err := w.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := <-received; !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived, want the %d bytes that were written", len(got), len(want))
		}
		<-w.done
		if _, err := w.Write([]byte{1}); !errors.Is(err, errWireClosed) {
			t.Errorf("a write after the close returned %v", err)
		}
	})
}

func TestWire_PeerDoesNotRead_WriteBlocks(t *testing.T) {
	t.Parallel()
	ends := map[string]func(w *wire, far net.Conn){
		"until the wire is closed":              func(w *wire, _ net.Conn) { _ = w.Close() },
		"until the wire is aborted":             func(w *wire, _ net.Conn) { w.abort() },
		"until the peer closes its end":         func(w *wire, far net.Conn) { go read(w); _ = far.Close() },
		"until the peer is silent for too long": func(w *wire, _ net.Conn) { go read(w) },
		"until the peer reads":                  func(_ *wire, far net.Conn) { go func() { _, _ = io.Copy(io.Discard, far) }() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				defer func() { _ = far.Close() }()
				w := newWire(near, time.Minute)
				returned := make(chan error, 1)
				go func() {
					var err error
					for range 100 {
						if _, err = w.Write(make([]byte, maxUnwritten/4)); err != nil {
							break
						}
					}
					returned <- err
				}()
				synctest.Wait()
				select {
				case err := <-returned:
					t.Fatalf("the writer was not blocked: %v", err)
				default:
				}
				end(w, far)
				err := <-returned
				if reads := name == "until the peer reads"; (err == nil) != reads {
					t.Errorf("the writer got %v", err)
				}
				_ = w.Close()
				<-w.done
			})
		})
	}
}

func read(w *wire) { _, _ = w.Read(make([]byte, 1)) }

func TestWire_PeerIsSilent_ReadFailsAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		w := newWire(near, time.Minute)
		begun := time.Now()
		if _, err := w.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("the read returned %v", err)
		}
		if waited := time.Since(begun); waited != time.Minute {
			t.Errorf("the read failed after %s, want 1m", waited)
		}
		<-w.done
	})
}

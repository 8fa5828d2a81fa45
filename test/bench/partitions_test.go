package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

func TestDelayRelay_LargeEcho_ArrivesCompleteAfterTwoDelays(t *testing.T) {
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		if c, err := listener.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	const delay = 50 * time.Millisecond
	relay, err := listenDelayed(t.Context(), listener.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	var dialer net.Dialer
	client, err := dialer.DialContext(t.Context(), "tcp", relay.address())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	start := time.Now()
	go func() { _, _ = client.Write(want) }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the relay changed the data")
	}
	if took := time.Since(start); took < 2*delay {
		t.Errorf("the echo took %s, want at least %s", took, 2*delay)
	}
	if err := relay.close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Read(got); err == nil {
		t.Error("the connection stays open after the relay is closed")
	}
}

func TestMeasurePartitioned_TwoPartitions_MeasuresBothProcessors(t *testing.T) {
	env, r, stop := prepareOrSkip(t)
	defer stop()
	relays, err := moveAway(t.Context(), &env)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := relays.close(); err != nil {
			t.Error(err)
		}
	}()
	result, err := measurePartitioned(context.WithoutCancel(t.Context()), env, 2, options{warmUp: 2 * time.Second, length: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	row := partitioned(2, []pipelineResult{result})
	if row.EventsPerSecond <= 0 || row.UsedCores <= 0 {
		t.Errorf("measured %+v on %s, want a rate and CPU time", row, r.Broker)
	}
	for _, name := range []string{"process-0", "process-1"} {
		if result.PerEvent[name][cpuMicros] <= 0 {
			t.Errorf("%s used no CPU time: %v", name, result.PerEvent)
		}
	}
	if fastest := 2 * distance; result.Processing.P50 < fastest.Seconds() {
		t.Errorf("half of the events took less than %.3f s, want at least %s to Redis and back", result.Processing.P50, fastest)
	}
}

func TestNextRate_BringsNumberOfWaitingEventsCloserToAim(t *testing.T) {
	for _, test := range []struct {
		processed    float64
		waiting, aim int64
		want         int64
	}{
		{100, 0, 100, 150},
		{100, 100, 100, 100},
		{100, 200, 100, 50},
		{100, 1000, 100, 50},
		{0, 0, 100, 10},
		{0, 50, 100, 5},
		{0, 100, 100, 0},
	} {
		if got := nextRate(test.processed, test.waiting, test.aim); got != test.want {
			t.Errorf("%.0f events/s and %d of %d waiting: rate %d, want %d", test.processed, test.waiting, test.aim, got, test.want)
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// syncEvery is the time between two writes, as between two summaries at 500 events/s: half of the events are exits, and
// 20 % of the exits (matchPercent) are matched.
const syncEvery = 20 * time.Millisecond

// measureDisk measures how long the disk takes to append and sync 4 KiB. Nothing else may use the disk meanwhile.
func measureDisk(ctx context.Context, dir string, length time.Duration) (q quantiles, err error) {
	file, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return q, fmt.Errorf("measure the disk: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	var took []time.Duration
	page := make([]byte, 4096)
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	for end := time.Now().Add(length); len(took) == 0 || time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return q, ctx.Err()
		case <-ticker.C:
		}
		start := time.Now()
		if _, err := file.Write(page); err != nil {
			return q, fmt.Errorf("measure the disk: %w", err)
		}
		if err := file.Sync(); err != nil {
			return q, fmt.Errorf("measure the disk: %w", err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return quantiles{P50: took[len(took)/2].Seconds(), P99: took[len(took)*99/100].Seconds()}, nil
}

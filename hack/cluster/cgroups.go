package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupHierarchies returns the mount points of the control group hierarchies. Control groups v2 have one hierarchy.
// Control groups v1 have several hierarchies.
func cgroupHierarchies() ([]string, error) {
	if isCgroup(cgroupRoot) {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var roots []string
	for _, entry := range entries {
		// Skip symbolic links, such as cpuacct: each link leads to a mount point that has its own entry.
		if path := filepath.Join(cgroupRoot, entry.Name()); entry.IsDir() && isCgroup(path) {
			roots = append(roots, path)
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("no control group hierarchies are mounted")
	}
	return roots, nil
}

func isCgroup(path string) bool {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return false
	}
	return stat.Type == unix.CGROUP2_SUPER_MAGIC || stat.Type == unix.CGROUP_SUPER_MAGIC
}

// makeCgroups creates the control group with the given name in all hierarchies. Inside this group, the kubelet creates
// the control groups of the pods.
func makeCgroups(name string) error {
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups removes a control group and its descendants from all hierarchies. It retries, because killed
// processes stay in their group for a short time.
func removeCgroups(name string) error {
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	const attempts, interval = 50, 100 * time.Millisecond
	for range attempts {
		err = nil
		for _, root := range roots {
			err = errors.Join(err, removeCgroup(filepath.Join(root, name)))
		}
		if err == nil {
			return nil
		}
		<-time.After(interval)
	}
	return fmt.Errorf("remove control groups: %w", err)
}

// removeCgroup removes a control group and its descendants from one hierarchy.
func removeCgroup(path string) error {
	var groups []string
	err := filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, group := range slices.Backward(groups) {
		if err := unix.Rmdir(group); err != nil {
			return fmt.Errorf("%s: %w", group, err)
		}
	}
	return nil
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of the CPU times in /proc/<pid>/stat. The kernel constant USER_HZ is 100 on every Linux
// architecture that Go supports (see proc_pid_stat(5)).
const clockTick = 10 * time.Millisecond

// process contains some fields of /proc/<pid>/stat.
type process struct {
	parent int
	name   string
	cpu    time.Duration
}

// cpuOf returns the user and system CPU time that a process has used so far.
func cpuOf(pid int) (time.Duration, error) {
	p, err := readProcess(pid)
	return p.cpu, err
}

// cpuByName returns the total CPU time of the processes that descend from the given process and run the command
// with the given name.
func cpuByName(ancestor int, name string) (time.Duration, error) {
	all, err := descendantsByName(ancestor, name)
	var sum time.Duration
	for _, p := range all {
		sum += p.cpu
	}
	return sum, err
}

// descendantsByName returns the processes that descend from the given process and run the command with the given name,
// by process ID.
func descendantsByName(ancestor int, name string) (map[int]process, error) {
	all, err := readProcesses()
	if err != nil {
		return nil, err
	}
	named := map[int]process{}
	for pid, p := range all {
		if p.name == name && descends(all, pid, ancestor) {
			named[pid] = p
		}
	}
	return named, nil
}

func descends(all map[int]process, pid, ancestor int) bool {
	for pid > 1 {
		if pid == ancestor {
			return true
		}
		pid = all[pid].parent
	}
	return false
}

func readProcesses() (map[int]process, error) {
	directories, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	all := make(map[int]process, len(directories))
	for _, directory := range directories {
		pid, err := strconv.Atoi(filepath.Base(directory))
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil { // the process may have ended since Glob
			all[pid] = p
		}
	}
	return all, nil
}

func readProcess(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("read CPU time of process %d: %w", pid, err)
	}
	// The name is in parentheses and may contain spaces and parentheses.
	text := string(b)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("read CPU time of process %d: unexpected format of its stat file", pid)
	}
	fields := strings.Fields(text[end+1:]) // fields[0] is field 3 of proc_pid_stat(5)
	if len(fields) < 13 {
		return process{}, fmt.Errorf("read CPU time of process %d: %d fields in its stat file", pid, len(fields))
	}
	parent, _ := strconv.Atoi(fields[1])
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return process{parent: parent, name: text[open+1 : end], cpu: time.Duration(user+system) * clockTick}, nil
}

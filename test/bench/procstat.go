package main

import (
	"fmt"
	"iter"
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
	p, err := readProcess(fmt.Sprintf("/proc/%d", pid))
	return p.cpu, err
}

// measure is a resource usage of a process. The string is its name in the JSON report.
type measure string

const (
	cpuMicros measure = "cpuMicros"
	// switches is the number of times that a thread of the process gave up the CPU or lost it.
	switches measure = "contextSwitches"
	// ioCalls is the number of system calls of the kinds read and write, on files and sockets. The kernel does not
	// count the kinds recv and send.
	ioCalls measure = "readWriteCalls"
	// commands is the number of commands that Redis executed, including those in scripts. It is measured only for
	// Redis.
	commands measure = "commands"
)

// effort contains the resource usage of a process, in total or per event. It lacks measures that the kernel does not
// provide.
type effort map[measure]float64

// perEvent returns the increase of each measure since an earlier observation, divided by the number of events.
func (e effort) perEvent(earlier effort, events float64) effort {
	each := effort{}
	for m, n := range e {
		each[m] = (n - earlier[m]) / events
	}
	return each
}

func (e effort) add(other effort) {
	for m, n := range other {
		e[m] += n
	}
}

// sumOf adds up the resource usage of several processes, separately for each measure.
func sumOf(efforts iter.Seq[effort]) effort {
	sum := effort{}
	for e := range efforts {
		sum.add(e)
	}
	return sum
}

// effortOf returns the resource usage of a process since its start.
func effortOf(pid int) (effort, error) { return readEffort(fmt.Sprintf("/proc/%d", pid)) }

// effortByName adds up the resource usage of all processes that descend from the given process and run the given
// command.
func effortByName(ancestor int, name string) (effort, error) {
	all, err := descendantsByName(ancestor, name)
	sum := effort{}
	for pid := range all {
		if e, err := effortOf(pid); err == nil { // skip processes that have ended meanwhile, such as a child of Redis
			sum.add(e)
		}
	}
	return sum, err
}

// readEffort reads the resource usage of a process from its directory in /proc. The context switches are only those of
// threads that have not ended.
func readEffort(dir string) (effort, error) {
	p, err := readProcess(dir)
	if err != nil {
		return nil, err
	}
	e := effort{cpuMicros: float64(p.cpu.Microseconds())}
	if fields, err := readFields(dir + "/io"); err == nil {
		e.addFields(ioCalls, fields, "syscr", "syscw")
	}
	threads, err := filepath.Glob(dir + "/task/[0-9]*/status")
	if err != nil {
		return nil, fmt.Errorf("list the threads in %s: %w", dir, err)
	}
	for _, thread := range threads {
		if fields, err := readFields(thread); err == nil { // skip a thread that has ended
			e.addFields(switches, fields, "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
		}
	}
	return e, nil
}

// addFields adds the values of the named fields to e[m]. It ignores missing fields.
func (e effort) addFields(m measure, fields map[string]int64, names ...string) {
	for _, name := range names {
		if n, ok := fields[name]; ok {
			e[m] += float64(n)
		}
	}
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
		if p, err := readProcess(directory); err == nil { // the process may have ended since its directory was listed
			all[pid] = p
		}
	}
	return all, nil
}

func readProcess(dir string) (process, error) {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, fmt.Errorf("read the CPU time of a process: %w", err)
	}
	// The name of the program is in parentheses, and may itself contain parentheses, so it ends at the last closing
	// parenthesis.
	text := string(b)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("read the CPU time of a process: unexpected format of %s/stat", dir)
	}
	fields := strings.Fields(text[end+1:]) // fields[0] is field 3 of proc_pid_stat(5)
	if len(fields) < 13 {
		return process{}, fmt.Errorf("read the CPU time of a process: only %d fields after the name of the program in %s/stat", len(fields), dir)
	}
	parent, _ := strconv.Atoi(fields[1])
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return process{parent: parent, name: text[open+1 : end], cpu: time.Duration(user+system) * clockTick}, nil
}

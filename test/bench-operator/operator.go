package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/procfs"

	"github.com/parking-operator/parking-operator/test/servers"
)

type operator struct {
	cmd     *exec.Cmd
	ended   chan error
	health  string // address of the health endpoint
	metrics string // address of the metrics endpoint
	pprof   string // address of the profiling endpoint, or "0" if the operator serves no profiles
	log     string // path of the log file
	// reserved contains the reservations of the operator's addresses, so that other processes do not use them.
	reserved []*servers.Address
}

// startOperator starts an operator and waits until it is ready. All flags have their default values, except those for
// addresses.
func startOperator(ctx context.Context, binary, directory, kubeconfig string, profiled bool) (*operator, error) {
	o := &operator{ended: make(chan error, 1), pprof: "0", log: filepath.Join(directory, "operator.log")}
	for _, address := range []*string{&o.health, &o.metrics, &o.pprof} {
		if address == &o.pprof && !profiled {
			continue
		}
		reserved, err := servers.ReserveAddress()
		if err != nil {
			return nil, err
		}
		o.reserved = append(o.reserved, reserved)
		*address = reserved.String()
	}
	output, err := os.OpenFile(o.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start the operator: %w", err)
	}
	defer func() { _ = output.Close() }() // the operator has its own descriptor of the log file
	o.cmd = exec.Command(binary, "operator", "--leader-election-namespace", system, "--operator-namespace", system,
		"--health-address", o.health, "--metrics-address", o.metrics, "--metrics-insecure", "--pprof-address", o.pprof)
	o.cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	o.cmd.Stdout, o.cmd.Stderr = output, output
	if err := o.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the operator: %w", err)
	}
	go func() { o.ended <- o.cmd.Wait() }()
	if err := o.waitReady(ctx); err != nil {
		return nil, errors.Join(err, o.stop())
	}
	return o, nil
}

func (o *operator) waitReady(ctx context.Context) error {
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if body, err := get(ctx, "http://"+o.health+"/readyz"); err == nil {
			return body.Close()
		}
		select {
		case err := <-o.ended:
			o.ended <- err
			return fmt.Errorf("the operator ended: %w: run again with -keep and see %s", err, o.log)
		case <-ctx.Done():
			return fmt.Errorf("wait for the operator to be ready: %w; run again with -keep and see %s", ctx.Err(), o.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop sends SIGTERM to the operator, as Kubernetes does, and waits until the process has ended.
func (o *operator) stop() error {
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the operator: %w", err)
	}
	if err := <-o.ended; err != nil {
		return fmt.Errorf("the operator ended with %w", err)
	}
	return nil
}

// usage is the CPU time and the peak memory that a process has used so far.
type usage struct {
	cpuSeconds float64
	peakRSS    uint64 // bytes
}

func (o *operator) usage() (usage, error) { return usageOf(o.cmd.Process.Pid) }

func usageOf(pid int) (usage, error) {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return usage{}, fmt.Errorf("read the usage of process %d: %w", pid, err)
	}
	stat, err := process.Stat()
	if err != nil {
		return usage{}, fmt.Errorf("read the usage of process %d: %w", pid, err)
	}
	status, err := process.NewStatus()
	if err != nil {
		return usage{}, fmt.Errorf("read the usage of process %d: %w", pid, err)
	}
	return usage{cpuSeconds: stat.CPUTime(), peakRSS: status.VmHWM}, nil
}

// childrenCPU returns the CPU time in seconds of this process and its child processes, by command name.
func childrenCPU() (map[string]float64, error) {
	processes, err := procfs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	seconds := map[string]float64{}
	for _, process := range processes {
		if stat, err := process.Stat(); err == nil && (stat.PPID == os.Getpid() || stat.PID == os.Getpid()) {
			seconds[stat.Comm] += stat.CPUTime()
		}
	}
	return seconds, nil
}

// work says how much work the controller has done, according to its metrics.
type work struct {
	reconciles, errors float64
	waiting            float64 // simulations that are queued or being reconciled
}

func (o *operator) work(ctx context.Context) (work, error) {
	body, err := get(ctx, "http://"+o.metrics+"/metrics")
	if err != nil {
		return work{}, err
	}
	defer func() { _ = body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return work{}, fmt.Errorf("read the operator's metrics: %w", err)
	}
	sum := func(name string) (total float64) {
		for _, metric := range families[name].GetMetric() {
			total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
		return total
	}
	return work{
		reconciles: sum("controller_runtime_reconcile_total"), errors: sum("controller_runtime_reconcile_errors_total"),
		waiting: sum("workqueue_depth") + sum("controller_runtime_active_workers"),
	}, nil
}

// profile downloads a pprof profile of the operator to a file in the directory. path is relative to /debug/pprof/.
func (o *operator) profile(ctx context.Context, directory, name, path string) error {
	body, err := get(ctx, "http://"+o.pprof+"/debug/pprof/"+path)
	if err != nil {
		return err
	}
	profile, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close(), os.WriteFile(filepath.Join(directory, name), profile, 0o600)); err != nil {
		return fmt.Errorf("download %s of the operator: %w", name, err)
	}
	return nil
}

// get sends a GET request and returns the response body. It returns an error unless the status is 200.
func get(ctx context.Context, url string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("get %s: status %s", url, response.Status), response.Body.Close())
	}
	return response.Body, nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nodeCommand is the command with which this program runs as the node.
const nodeCommand = "node"

// nativeCluster is our own.
type nativeCluster struct {
	layout layout
	steps  *steps
}

// nodeProcess tells which process the node is. Its start time, in the kernel's ticks, tells it from a later
// process with the same number.
type nodeProcess struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
	// API is where the API server answers on the host.
	API string `json:"api"`
}

func (c *nativeCluster) up(ctx context.Context) error {
	if err := c.check(ctx); err != nil { // before the minutes of building
		return err
	}
	if err := installPackages(ctx, c.layout.source(), "nftables"); err != nil {
		return err
	}
	if err := (&builder{c.layout.source(), c.layout.programs, c.steps}).build(ctx, nodePrograms()); err != nil {
		return err
	}
	if _, running := c.node(); !running {
		if err := c.startNode(ctx); err != nil {
			return err
		}
	}
	if err := c.loadServers(ctx); err != nil {
		return err
	}
	if err := equip(c.layout, "native"); err != nil {
		return err
	}
	fmt.Printf("The cluster is up after %.0f s: export KUBECONFIG=%s\n", c.steps.total().Seconds(), c.layout.kubeconfig())
	return nil
}

// nodeNamespaces are those that a node has for itself.
const nodeNamespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

func (c *nativeCluster) check(ctx context.Context) error {
	if _, running := c.node(); running {
		return nil
	}
	const remedy = "in a container, run it privileged; or use CLUSTER=existing with the cluster that KUBECONFIG names"
	isolated := exec.CommandContext(ctx, "mount", "--make-rprivate", "/")
	isolated.SysProcAttr = &syscall.SysProcAttr{Cloneflags: nodeNamespaces}
	if _, err := outputOf(isolated); err != nil {
		return fmt.Errorf("a node needs mount, PID and network namespaces of its own, and they cannot be made here (%s): %w", remedy, err)
	}
	// Those of a node that did not survive are removed too.
	if err := errors.Join(makeCgroups(c.layout.cgroup()), removeCgroups(c.layout.cgroup())); err != nil {
		return fmt.Errorf("a node needs control groups below %s, and they cannot be made here (%s): %w", cgroupRoot, remedy, err)
	}
	return nil
}

// equip puts kubectl beside the project's other tools, and beside the kubeconfig the chart's values for this
// kind of cluster, and the images of what monitors it.
func equip(l layout, kind string) error {
	for _, name := range []string{"values", "monitoring"} {
		text, err := configs.ReadFile("config/" + name + "-" + kind + ".yaml")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(l.state, name+".yaml"), text, 0o644); err != nil {
			return err
		}
	}
	link := filepath.Join(l.repository, ".tools", "bin", "kubectl")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(l.program("kubectl"), link)
}

// startNode starts a new cluster.
func (c *nativeCluster) startNode(ctx context.Context) error {
	// What is left of one that was not taken down, or did not survive, and the logs of the last one.
	if err := errors.Join(c.remove(), os.RemoveAll(c.layout.logs())); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"starting etcd and the API server", c.launch},
		{"importing the images of the node", c.loadNodeImages},
		{"starting the kubelet", c.awaitNode},
		{"starting CoreDNS", c.startDNS},
	} {
		if err := c.steps.do(step.name, func() error { return step.do(ctx) }); err != nil {
			return c.explain(err)
		}
	}
	return nil
}

// launch starts the node's process and waits for its API server.
func (c *nativeCluster) launch(ctx context.Context) error {
	if err := os.MkdirAll(c.layout.logs(), 0o755); err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	log, err := os.Create(c.layout.nodeLog())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command("/proc/self/exe", nodeCommand)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{socket} // apiListener
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: nodeNamespaces,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process in namespaces of its own: %w", err)
	}
	go func() { _ = cmd.Wait() }() // so that it does not seem alive after its end
	started, err := startTime(cmd.Process.Pid)
	if err != nil {
		return err
	}
	text, err := json.Marshal(nodeProcess{PID: cmd.Process.Pid, Started: started, API: listener.Addr().String()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.layout.nodeFile(), text, 0o644); err != nil {
		return err
	}
	return c.until(ctx, func() error {
		if err := c.writeKubeconfig(listener.Addr().String()); err != nil {
			return err
		}
		_, err := c.kubectl(ctx, nil, "get", "--raw", "/readyz")
		return err
	})
}

// writeKubeconfig writes the one for the host once the node has made its certificates.
func (c *nativeCluster) writeKubeconfig(api string) error {
	p := &pki{folder: filepath.Join(c.layout.state, "pki")}
	var err error
	if p.authorityPEM, err = p.read("ca.crt"); err != nil {
		return err
	}
	text, err := p.kubeconfig("admin", api)
	if err != nil {
		return err
	}
	return os.WriteFile(c.layout.kubeconfig(), text, 0o600)
}

// awaitNode waits until the kubelet says that pods can run.
func (c *nativeCluster) awaitNode(ctx context.Context) error {
	return c.until(ctx, func() error {
		_, err := c.kubectl(ctx, nil, "wait", "--for=condition=Ready", "--timeout=2s", "node/"+nodeName)
		return err
	})
}

func (c *nativeCluster) startDNS(ctx context.Context) error {
	for _, name := range []string{"storage.yaml", "coredns.yaml"} {
		manifest, err := configs.ReadFile("config/" + name)
		if err != nil {
			return err
		}
		if _, err := c.kubectl(ctx, manifest, "apply", "--server-side", "-f", "-"); err != nil {
			return err
		}
	}
	_, err := c.kubectl(ctx, nil, "rollout", "status", "--namespace=kube-system", "--timeout=2m", "deployment/coredns")
	return err
}

func (c *nativeCluster) kubectl(ctx context.Context, input []byte, arguments ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.layout.program("kubectl"), arguments...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.layout.kubeconfig())
	cmd.Stdin = bytes.NewReader(input)
	return outputOf(cmd)
}

// until waits until a check passes, or the node ends.
func (c *nativeCluster) until(ctx context.Context, check func() error) error {
	const timeout, interval = 2 * time.Minute, 200 * time.Millisecond
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if _, running := c.node(); !running {
			return errors.New("the node ended")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited for %s: %w", timeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
}

// explain adds the end of the node's log to an error.
func (c *nativeCluster) explain(err error) error {
	text, readErr := os.ReadFile(c.layout.nodeLog())
	if readErr != nil || len(text) == 0 {
		return fmt.Errorf("%w; the logs are in %s", err, c.layout.logs())
	}
	const end = 2000
	return fmt.Errorf("%w; the logs are in %s, and the node's ends with:\n%s", err, c.layout.logs(), text[max(0, len(text)-end):])
}

func (c *nativeCluster) shell(ctx context.Context, command []string) error {
	if len(command) == 0 {
		command = []string{"/bin/sh"}
	}
	cmd, err := c.inNode(ctx, command...)
	if err != nil {
		return err
	}
	return interactive(cmd)
}

// inNode returns a command that runs in the node's namespaces.
func (c *nativeCluster) inNode(ctx context.Context, command ...string) (*exec.Cmd, error) {
	node, running := c.node()
	if !running {
		return nil, errors.New("the cluster is not running: start it with make cluster-up")
	}
	enter := []string{"--target", strconv.Itoa(node.PID), "--mount", "--net", "--pid", "--ipc", "--uts", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, command...)...)
	cmd.Env = append(os.Environ(), "PATH="+nodeBin+":"+os.Getenv("PATH"), "CONTAINERD_ADDRESS="+containerdSocket,
		"KUBECONFIG="+nodeState+"/admin.kubeconfig")
	return cmd, nil
}

func (c *nativeCluster) down(context.Context) error {
	return c.steps.do("removing the cluster", c.remove)
}

// remove ends the node, with which all goes but control groups and files. Logs stay.
func (c *nativeCluster) remove() error {
	if node, running := c.node(); running {
		if err := syscall.Kill(node.PID, syscall.SIGKILL); err != nil {
			return fmt.Errorf("end the node, process %d: %w", node.PID, err)
		}
		if err := c.awaitEnd(); err != nil {
			return err
		}
	}
	if err := removeCgroups(c.layout.cgroup()); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.layout.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if path := filepath.Join(c.layout.state, entry.Name()); path != c.layout.logs() {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitEnd waits until the kernel has ended every process of the node.
func (c *nativeCluster) awaitEnd() error {
	const timeout, interval = 30 * time.Second, 50 * time.Millisecond
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); <-time.After(interval) {
		if _, running := c.node(); !running {
			return nil
		}
	}
	return errors.New("the node does not end")
}

// node returns the node's process, if it runs.
func (c *nativeCluster) node() (node nodeProcess, running bool) {
	text, err := os.ReadFile(c.layout.nodeFile())
	if err != nil || json.Unmarshal(text, &node) != nil {
		return nodeProcess{}, false
	}
	started, err := startTime(node.PID)
	return node, err == nil && started == node.Started
}

// startTime returns when a process started, in ticks since the machine did. A process that has ended, and
// that nobody waited for, does not count.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything. The state is the first field after it.
	const state, start = 0, 19
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) <= start || fields[state] == "Z" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// nodeCommand is the internal subcommand that runs the node.
const nodeCommand = "node"

// nativeCluster is a single-node cluster that runs directly on this machine, without a container engine.
type nativeCluster struct {
	layout layout
	steps  *steps
}

// nodeProcess identifies the process that runs the node.
type nodeProcess struct {
	PID int `json:"pid"`
	// Started is in clock ticks since boot. It distinguishes the process from a later one with the same PID.
	Started uint64 `json:"started"`
	// API is the address (host:port) at which the API server is reachable from this machine.
	API string `json:"api"`
}

func (c *nativeCluster) up(ctx context.Context) error {
	if err := c.check(ctx); err != nil { // fail before the builds, which take minutes
		return err
	}
	// nftables contains nft, which kube-proxy runs. dnsmasq-base contains the name server of the pods.
	if err := installPackages(ctx, c.steps, "nftables", "dnsmasq-base"); err != nil {
		return err
	}
	if err := c.buildAll(ctx, nodeBuilds(), c.writeServers); err != nil {
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

// policies builds kube-router, which enforces NetworkPolicies. It returns an error if the node already runs without
// kube-router, because kube-router starts only together with the node.
func (c *nativeCluster) policies(ctx context.Context) error {
	if err := installPackages(ctx, c.steps, "iptables", "ipset"); err != nil { // kube-router runs iptables and ipset
		return err
	}
	if err := c.buildAll(ctx, policyBuilds()); err != nil {
		return err
	}
	if _, running := c.node(); !running {
		return nil
	}
	cmd, err := c.inNode(ctx, "pgrep", "-x", kubeRouter)
	if err != nil {
		return err
	}
	if _, err := outputOf(cmd); err != nil {
		return errors.New("the running cluster does not enforce NetworkPolicies: run make cluster-down first")
	}
	return nil
}

// buildAll runs the builds and the functions in others, two at a time, because one build does not always use all CPUs.
func (c *nativeCluster) buildAll(ctx context.Context, builds []build, others ...func(context.Context) error) error {
	b := &builder{c.layout.source(), c.layout.programs, c.steps}
	if slices.ContainsFunc(builds, func(b build) bool { return b.cgo }) {
		if err := installPackages(ctx, c.steps, "gcc", "libc6-dev", "pkg-config", "libseccomp-dev"); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	const parallel = 2
	group.SetLimit(parallel)
	for _, build := range builds {
		group.Go(func() error { return b.build(ctx, build) })
	}
	for _, other := range others {
		group.Go(func() error { return other(ctx) })
	}
	return group.Wait()
}

// nodeNamespaces are the kinds of namespaces that the node does not share with the host.
const nodeNamespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS

func (c *nativeCluster) check(ctx context.Context) error {
	if _, running := c.node(); running {
		return nil
	}
	const remedy = "run the container privileged, or set CLUSTER=existing to use the cluster that KUBECONFIG names"
	isolated := exec.CommandContext(ctx, "mount", "--make-rprivate", "/")
	isolated.SysProcAttr = &syscall.SysProcAttr{Cloneflags: nodeNamespaces}
	if _, err := outputOf(isolated); err != nil {
		return fmt.Errorf("create the mount, PID and network namespaces of a node (%s): %w", remedy, err)
	}
	// Check that control groups can be created. The check also removes the control groups of a crashed node.
	if err := errors.Join(makeCgroups(c.layout.cgroup()), removeCgroups(c.layout.cgroup())); err != nil {
		return fmt.Errorf("create control groups below %s for the pods (%s): %w", cgroupRoot, remedy, err)
	}
	return nil
}

// equip writes and links what users of the cluster need: kubectl, the chart values for this kind of cluster, and the
// operator's kustomization.
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
	return errors.Join(
		link(l.program("kubectl"), filepath.Join(l.repository, ".tools", "bin", "kubectl")),
		link(filepath.Join(l.source(), "config", "operator-"+kind), filepath.Join(l.state, "operator")),
	)
}

// link creates a symbolic link at the given path. It replaces an existing file or link.
func link(target, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, path)
}

// startNode removes the files of the previous cluster, starts the node, and waits until the node is ready.
func (c *nativeCluster) startNode(ctx context.Context) error {
	if err := errors.Join(c.remove(), os.RemoveAll(c.layout.logs())); err != nil {
		return err
	}
	for _, step := range []struct {
		what, usually string
		do            func(context.Context) error
	}{
		{"Start etcd and the API server", "10 s", c.launch},
		{"Import the pause image", "2 s", c.loadNodeImages},
		{"Start the kubelet", "5 s", c.awaitNode},
	} {
		if err := c.steps.do(step.what, step.usually, func() error { return step.do(ctx) }); err != nil {
			return c.explain(err)
		}
	}
	return nil
}

// launch starts the node and waits until its API server is ready.
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
	cmd.ExtraFiles = []*os.File{socket} // the node inherits the socket as file descriptor apiListener
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: nodeNamespaces,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the node in Linux namespaces of its own: %w", err)
	}
	go func() { _ = cmd.Wait() }() // reap the process when it ends
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
	return c.await(ctx, func() error {
		if err := c.writeKubeconfig(listener.Addr().String()); err != nil {
			return err
		}
		_, err := c.kubectl(ctx, nil, "get", "--raw", "/readyz")
		return err
	})
}

// writeKubeconfig writes the kubeconfig for users on the host. It returns an error if the node has not created the
// certificates yet.
func (c *nativeCluster) writeKubeconfig(api string) error {
	p := &pki{directory: filepath.Join(c.layout.state, "pki")}
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

// awaitNode creates the storage class and waits until the node is ready.
func (c *nativeCluster) awaitNode(ctx context.Context) error {
	manifest, err := configs.ReadFile("config/storage.yaml")
	if err != nil {
		return err
	}
	if _, err := c.kubectl(ctx, manifest, "apply", "--server-side", "-f", "-"); err != nil {
		return err
	}
	return c.await(ctx, func() error {
		_, err := c.kubectl(ctx, nil, "wait", "--for=condition=Ready", "--timeout=2s", "node/"+nodeName)
		return err
	})
}

func (c *nativeCluster) kubectl(ctx context.Context, input []byte, arguments ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.layout.program("kubectl"), arguments...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.layout.kubeconfig())
	cmd.Stdin = bytes.NewReader(input)
	return outputOf(cmd)
}

// await calls check repeatedly until it returns nil, the node ends, or a timeout expires.
func (c *nativeCluster) await(ctx context.Context, check func() error) error {
	const timeout, interval = 2 * time.Minute, 200 * time.Millisecond
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if _, running := c.node(); !running {
			return errors.New("the process of the node ended")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the cluster is not ready after %s: %w", timeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
}

// explain appends the end of the node's log to an error.
func (c *nativeCluster) explain(err error) error {
	text, readErr := os.ReadFile(c.layout.nodeLog())
	if readErr != nil || len(text) == 0 {
		return fmt.Errorf("%w; the logs are in %s", err, c.layout.logs())
	}
	const end = 2000
	return fmt.Errorf("%w; the logs are in %s; the log of the node ends with:\n%s", err, c.layout.logs(), text[max(0, len(text)-end):])
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

// inNode returns a command that runs in the namespaces of the node.
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
	return c.steps.do("Remove the cluster", "3 s", c.remove)
}

// remove kills the node. Then it removes the control groups of the node, and all files of the node except the logs.
func (c *nativeCluster) remove() error {
	if node, running := c.node(); running {
		if err := syscall.Kill(node.PID, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill the node (PID %d): %w", node.PID, err)
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

func (c *nativeCluster) awaitEnd() error {
	const timeout, interval = 30 * time.Second, 50 * time.Millisecond
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); <-time.After(interval) {
		if _, running := c.node(); !running {
			return nil
		}
	}
	return fmt.Errorf("the node did not end within %s", timeout)
}

// node returns the process that runs the node, and whether this process is still running.
func (c *nativeCluster) node() (node nodeProcess, running bool) {
	text, err := os.ReadFile(c.layout.nodeFile())
	if err != nil || json.Unmarshal(text, &node) != nil {
		return nodeProcess{}, false
	}
	started, err := startTime(node.PID)
	return node, err == nil && started == node.Started
}

// startTime returns the start time of a process in clock ticks since boot. It returns fs.ErrNotExist if the process
// does not exist or is a zombie.
func startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name of the process may contain spaces and parentheses, so parse only what follows the last parenthesis.
	const state, start = 0, 19
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) <= start || fields[state] == "Z" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// build describes one run of "go build". It builds several programs with the same flags, in versions that a go.mod
// file pins.
type build struct {
	// The field what is the text that names the programs in progress messages.
	what string
	// usually is the usual duration of the build in progress messages, such as "7 min".
	usually string
	// module is the directory of the Go module, relative to hack/cluster.
	module string
	// programs maps the name of each program to its Go package.
	programs map[string]string
	// flags are the flags of go build. They can contain the placeholders VERSION and MINOR.
	flags []string
	// stamped is the Go package whose version replaces VERSION, and whose minor version replaces MINOR, in the flags.
	stamped string
	// cgo is true if the build needs a C compiler.
	cgo bool
}

// kubernetesBuild returns a build of Kubernetes programs, with flags that set the version that the programs report.
func kubernetesBuild(what, usually string, programs map[string]string) build {
	return build{
		what: what, usually: usually, module: ".", programs: programs, stamped: "k8s.io/kubernetes/cmd/kubectl",
		flags: []string{"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=VERSION" +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=MINOR"},
	}
}

// commands returns the Go packages <directory>/<name>, by the base of the name.
func commands(directory string, names ...string) map[string]string {
	all := map[string]string{}
	for _, name := range names {
		all[path.Base(name)] = directory + "/" + name
	}
	return all
}

// nodeBuilds returns the builds of kubectl and of the programs that every node runs.
func nodeBuilds() []build {
	kubernetes := commands("k8s.io/kubernetes/cmd",
		"kubectl", "kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "kube-apiserver")
	kubernetes["etcd"] = "go.etcd.io/etcd/server/v3"
	containerd := "github.com/containerd/containerd/v2/cmd"
	return []build{
		kubernetesBuild("Build Kubernetes and etcd from source, once", "7 min", kubernetes),
		{
			what: "Build containerd from source, once", usually: "1 min", module: "modules/containerd",
			programs: commands(containerd, "containerd", "containerd-shim-runc-v2", "ctr"), stamped: containerd + "/containerd",
			flags: []string{
				"-tags=no_btrfs,no_zfs,no_devmapper,no_aufs",
				"-ldflags=-s -w -X github.com/containerd/containerd/v2/version.Version=VERSION",
			},
		},
		{
			what: "Build runc from source, once", usually: "30 s", module: "modules/runc",
			programs: map[string]string{"runc": "github.com/opencontainers/runc"}, stamped: "github.com/opencontainers/runc",
			flags: []string{"-tags=seccomp", "-ldflags=-s -w -X main.version=VERSION"}, cgo: true,
		},
		{
			what: "Build the network plugins from source, once", usually: "20 s", module: "modules/cni",
			programs: commands("github.com/containernetworking/plugins/plugins", "main/ptp", "main/loopback", "ipam/host-local"),
		},
		{what: "Build pause", usually: "1 s", module: ".", programs: map[string]string{"pause": "./pause"}},
	}
}

// policyBuilds returns the build of kube-router, which enforces NetworkPolicies.
func policyBuilds() []build {
	return []build{{
		what: "Build kube-router from source, once", usually: "5 min", module: "modules/kube-router",
		programs: commands("github.com/cloudnativelabs/kube-router/v2/cmd", kubeRouter), flags: []string{"-ldflags=-s -w"},
	}}
}

// kindBuilds returns the programs to build for a cluster in Docker. The node image contains all other programs.
func kindBuilds() []build {
	return []build{
		{what: "Build kind from source, once", usually: "30 s", module: "modules/kind", programs: map[string]string{"kind": "sigs.k8s.io/kind"}},
		kubernetesBuild("Build kubectl from source, once", "2 min", commands("k8s.io/kubernetes/cmd", "kubectl")),
	}
}

const prometheusOperatorCommands = "github.com/prometheus-operator/prometheus-operator/cmd/"

// monitoringBuilds returns the builds of the Prometheus Operator and its config reloader.
func monitoringBuilds() []build {
	return []build{{
		what: "Build the Prometheus Operator from source, once", usually: "2 min", module: "modules/prometheus-operator",
		programs: map[string]string{
			"prometheus-operator":        prometheusOperatorCommands + "operator",
			"prometheus-config-reloader": prometheusOperatorCommands + "prometheus-config-reloader",
		},
		stamped: prometheusOperatorCommands + "operator",
		flags:   []string{"-ldflags=-s -w -X github.com/prometheus/common/version.Version=VERSION"},
	}}
}

// kubernetesVersion returns the Kubernetes version that go.mod pins.
func kubernetesVersion(ctx context.Context, repository string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	cmd.Dir = filepath.Join(repository, "hack", "cluster")
	return outputOf(cmd)
}

// builder builds programs into a directory.
type builder struct {
	source, directory string
	steps             *steps
}

// build compiles each program whose binary is missing or has a different version than go.mod requires.
func (b *builder) build(ctx context.Context, build build) error {
	if err := os.MkdirAll(b.directory, 0o755); err != nil {
		return err
	}
	versions, err := b.versions(ctx, build)
	if err != nil {
		return err
	}
	missing := maps.Clone(build.programs)
	maps.DeleteFunc(missing, func(name, path string) bool {
		version := versions[path] // a program of this repository has no version, so it is always built
		return version != "" && builtVersion(filepath.Join(b.directory, name)) == version
	})
	if len(missing) == 0 {
		return nil
	}
	// Build into a temporary directory, so that an interrupted build leaves no incomplete program in b.directory.
	part, err := os.MkdirTemp(b.directory, "part-")
	if err != nil {
		return err
	}
	version := versions[build.stamped]
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "v1."), ".")
	stamp := strings.NewReplacer("VERSION", version, "MINOR", minor)
	arguments := []string{"build", "-v", "-trimpath", "-o", part + "/"}
	for _, flag := range build.flags {
		arguments = append(arguments, stamp.Replace(flag))
	}
	arguments = append(arguments, slices.Sorted(maps.Values(missing))...)
	err = b.steps.run(ctx, strings.TrimSpace(build.what+" "+version), build.usually, b.goCommand(ctx, build, arguments...))
	for name, path := range missing {
		if err == nil {
			err = os.Rename(filepath.Join(part, binaryName(path)), filepath.Join(b.directory, name))
		}
	}
	return errors.Join(err, os.RemoveAll(part))
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// binaryName returns the file name that go build chooses for a package.
func binaryName(pkg string) string {
	if majorVersion.MatchString(path.Base(pkg)) {
		pkg = path.Dir(pkg)
	}
	return path.Base(pkg)
}

// versions returns the module version of each package in a build, or "" for a package of this repository. It downloads
// the modules of the packages, but not their dependencies.
func (b *builder) versions(ctx context.Context, build build) (map[string]string, error) {
	arguments := append([]string{"list", "-find", "-f", "{{.ImportPath}} {{.Module.Version}}"}, slices.Sorted(maps.Values(build.programs))...)
	if build.stamped != "" {
		arguments = append(arguments, build.stamped)
	}
	text, err := outputOf(b.goCommand(ctx, build, arguments...))
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for line := range strings.Lines(text) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		versions[path] = version
	}
	return versions, nil
}

// goCommand returns a go command that runs in the module of the given build.
func (b *builder) goCommand(ctx context.Context, build build, arguments ...string) *exec.Cmd {
	cgo := "CGO_ENABLED=0"
	if build.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", arguments...)
	cmd.Dir = filepath.Join(b.source, build.module)
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off")
	return cmd
}

// builtVersion returns the module version of an existing binary. It returns "" if the binary cannot be read.
func builtVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	return info.Main.Version
}

// installPackages installs missing Debian packages. It does nothing on systems without dpkg-query.
func installPackages(ctx context.Context, s *steps, names ...string) error {
	var missing []string
	for _, name := range names {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
		if errors.Is(err, exec.ErrNotFound) {
			return nil
		}
		if err != nil || string(out) != "installed" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.repository, "hack", "apt-install.sh"), missing...)
	cmd.Stdout, cmd.Stderr = s, s
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("install the packages %s: %w", strings.Join(missing, " "), err)
	}
	return nil
}

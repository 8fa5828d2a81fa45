package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// program is one that is built from source. The go.mod of its module pins its version.
type program struct {
	name string
	// module is the folder, below hack/cluster, of the module that pins it.
	module string
	// path is its package.
	path string
	// flags are those of go build; VERSION and MINOR in them are replaced by the version.
	flags []string
	// cgo says that it is written in C as well.
	cgo bool
}

const kubernetesStamp = "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=VERSION" +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=MINOR"

func kubernetesProgram(name string) program {
	return program{name: name, module: ".", path: "k8s.io/kubernetes/cmd/" + name, flags: []string{kubernetesStamp}}
}

func containerdProgram(name string) program {
	return program{
		name: name, module: "modules/containerd", path: "github.com/containerd/containerd/v2/cmd/" + name,
		flags: []string{
			"-tags=no_btrfs,no_zfs,no_devmapper,no_aufs",
			"-ldflags=-s -w -X github.com/containerd/containerd/v2/version.Version=VERSION",
		},
	}
}

func cniProgram(path string) program {
	return program{name: filepath.Base(path), module: "modules/cni", path: "github.com/containernetworking/plugins/plugins/" + path}
}

// nodePrograms are all that a node runs, and kubectl. The longest to build comes last.
func nodePrograms() []program {
	return []program{
		cniProgram("main/ptp"), cniProgram("main/loopback"), cniProgram("ipam/host-local"),
		{name: "pause", module: ".", path: "./pause"},
		{name: "runc", module: "modules/runc", path: "github.com/opencontainers/runc", flags: []string{"-tags=seccomp", "-ldflags=-s -w -X main.version=VERSION"}, cgo: true},
		containerdProgram("containerd"), containerdProgram("containerd-shim-runc-v2"), containerdProgram("ctr"),
		{name: "coredns", module: "modules/coredns", path: "github.com/coredns/coredns"},
		{name: "etcd", module: ".", path: "go.etcd.io/etcd/server/v3"},
		kubernetesProgram("kubectl"), kubernetesProgram("kubelet"), kubernetesProgram("kube-proxy"),
		kubernetesProgram("kube-scheduler"), kubernetesProgram("kube-controller-manager"), kubernetesProgram("kube-apiserver"),
	}
}

// kindPrograms are those that are needed where Docker runs the node.
func kindPrograms() []program {
	return []program{{name: "kind", module: "modules/kind", path: "sigs.k8s.io/kind"}, kubernetesProgram("kubectl")}
}

// monitoringPrograms are those of the Prometheus Operator.
func monitoringPrograms() []program {
	prometheusOperator := func(name, command string) program {
		return program{
			name: name, module: "modules/prometheus-operator", path: "github.com/prometheus-operator/prometheus-operator/cmd/" + command,
			flags: []string{"-ldflags=-s -w -X github.com/prometheus/common/version.Version=VERSION"},
		}
	}
	return []program{
		prometheusOperator("prometheus-operator", "operator"),
		prometheusOperator("prometheus-config-reloader", "prometheus-config-reloader"),
	}
}

// kubernetesVersion is the one that go.mod pins.
func kubernetesVersion(ctx context.Context, repository string) (string, error) {
	b := builder{source: filepath.Join(repository, "hack", "cluster")}
	version, err := b.goCommand(ctx, program{module: "."}, "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	return strings.TrimSpace(version), err
}

// builder builds programs into a folder.
type builder struct {
	source, folder string
	steps          *steps
}

// build builds the programs that are not there yet in the version that is pinned.
func (b *builder) build(ctx context.Context, all []program) error {
	if err := os.MkdirAll(b.folder, 0o755); err != nil {
		return err
	}
	versions, err := b.versions(ctx, all)
	if err != nil {
		return err
	}
	for _, p := range all {
		version := versions[p.path]
		path := filepath.Join(b.folder, p.name)
		if version != "" && builtVersion(path) == version {
			continue
		}
		name := strings.TrimSpace("building " + p.name + " " + version)
		if err := b.steps.do(name, func() error { return b.compile(ctx, p, version, path) }); err != nil {
			return err
		}
	}
	return nil
}

// versions asks the go command for the versions of the programs' modules, by package. Those of this module
// have none.
func (b *builder) versions(ctx context.Context, all []program) (map[string]string, error) {
	paths := map[string][]string{}
	for _, p := range all {
		paths[p.module] = append(paths[p.module], p.path)
	}
	versions := map[string]string{}
	for module, paths := range paths {
		arguments := append([]string{"list", "-f", "{{.ImportPath}} {{.Module.Version}}"}, paths...)
		text, err := b.goCommand(ctx, program{module: module}, arguments...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(text) {
			path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
			versions[path] = version
		}
	}
	return versions, nil
}

func (b *builder) compile(ctx context.Context, p program, version, path string) error {
	if p.cgo {
		if err := installPackages(ctx, b.source, "gcc", "libc6-dev", "pkg-config", "libseccomp-dev"); err != nil {
			return err
		}
	}
	minor, _, _ := strings.Cut(strings.TrimPrefix(version, "v1."), ".")
	stamp := strings.NewReplacer("VERSION", version, "MINOR", minor)
	arguments := []string{"build", "-trimpath"}
	for _, flag := range p.flags {
		arguments = append(arguments, stamp.Replace(flag))
	}
	// An interrupted build must not be mistaken for a finished one.
	part := path + ".part"
	if _, err := b.goCommand(ctx, p, append(arguments, "-o", part, p.path)...); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// goCommand runs the go command in a program's module and returns what it prints.
func (b *builder) goCommand(ctx context.Context, p program, arguments ...string) (string, error) {
	cgo := "CGO_ENABLED=0"
	if p.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd := exec.CommandContext(ctx, "go", arguments...)
	cmd.Dir = filepath.Join(b.source, p.module)
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", arguments[0], cmd.Dir, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// builtVersion reads the version of a binary's module, "" if there is none.
func builtVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return ""
	}
	return info.Main.Version
}

// installPackages installs Debian packages that are missing.
func installPackages(ctx context.Context, source string, names ...string) error {
	var missing []string
	for _, name := range names {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${db:Status-Status}", name).Output()
		if errors.Is(err, exec.ErrNotFound) {
			return nil // not Debian: who is missing something will see what
		}
		if err != nil || string(out) != "installed" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	cmd := exec.CommandContext(ctx, filepath.Join(source, "..", "apt-install.sh"), missing...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w\n%s", strings.Join(missing, " "), err, out)
	}
	return nil
}

//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// The users with whose permissions the test runs the kubectl plugin.
const (
	pluginViewer   = "e2e-plugin-viewer"   // a user who may read simulations
	pluginWatcher  = "e2e-plugin-watcher"  // a user who may read simulations and forward ports
	pluginEditor   = "e2e-plugin-editor"   // a user who may create, change and delete simulations
	pluginOutsider = "e2e-plugin-outsider" // a user who has no permissions
)

// plugin runs kubectl with the parking plugin in the PATH.
type plugin struct {
	*namespace

	path string
}

// buildPlugin builds the kubectl plugin, and grants roles to the users of the tests.
func (ns *namespace) buildPlugin() *plugin {
	ns.t.Helper()
	dir := ns.t.TempDir()
	build := exec.CommandContext(ns.t.Context(), "go", "build", "-o", filepath.Join(dir, "kubectl-parking"), repository+"/cmd/parking")
	if out, err := build.CombinedOutput(); err != nil {
		ns.t.Fatalf("build the plugin: %v: %s", err, out)
	}
	for role, users := range map[string][]string{"viewer": {pluginViewer, pluginWatcher}, "ui": {pluginWatcher}, "editor": {pluginEditor}} {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "plugin-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ns.clusterRole("-" + role + "-")},
		}
		for _, user := range users {
			binding.Subjects = append(binding.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user})
		}
		ns.create(binding)
	}
	return &plugin{namespace: ns, path: dir + string(os.PathListSeparator) + os.Getenv("PATH")}
}

// within returns a copy of the plugin that reports failures to the given subtest.
func (p *plugin) within(t *testing.T) *plugin {
	ns := *p.namespace
	ns.t = t
	return &plugin{namespace: &ns, path: p.path}
}

// command returns a command that runs the plugin as a user.
func (p *plugin) command(ctx context.Context, user, line string) *exec.Cmd {
	arguments := append([]string{"parking"}, strings.Fields(line)...)
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, kubectl, append(arguments, "--as", user, "--namespace", p.name)...)
	cmd.Env = append(os.Environ(), "PATH="+p.path)
	return cmd
}

// run runs the plugin as a user. It checks the exit code, and checks that the output contains the expected text.
func (p *plugin) run(user, line string, code int, want string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	var output bytes.Buffer
	cmd := p.command(ctx, user, line)
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatalf("kubectl parking %s: %v", line, err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(output.String(), want) {
		p.t.Errorf("kubectl parking %s as %s: exit code %d, want %d and %q:\n%s", line, user, got, code, want, &output)
	}
}

func TestPlugin_EachUser_CanRunOnlyThePermittedCommands(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	p := ns.buildPlugin()
	// At the end, pluginEditor pauses a simulation that is complete. The operator ignores this edit.
	ns.expected = []warning{{"EditIgnored", "spec.suspend"}}
	sim := ns.applySample("run-to-completion.yaml", func(sim *v1alpha1.ParkingSimulation) {
		sim.Spec.Duration = v1alpha1.NewDuration(2 * time.Minute)
		sim.Spec.Objectives = v1alpha1.ObjectivesSpec{}
		lowRates(sim)
		shareNode(sim)
	})
	ns.awaitCondition(sim, v1alpha1.ConditionReady, readyTimeout)
	ns.eventually("processed events", time.Minute, func() error {
		if ns.processed(sim) == 0 {
			return errors.New("no event is processed")
		}
		return nil
	})
	const forward, simulations = `resources: ["pods/portforward"], verbs: ["get", "create"]`, `resources: ["parkingsimulations"]`

	p.run(pluginWatcher, "top "+sim.Name+" --output json", 0, `"live": true`)
	t.Run("UI", func(t *testing.T) { p.within(t).ui(sim) })
	p.run(pluginViewer, "status "+sim.Name, 0, "BrokerReady")
	p.run(pluginViewer, "top "+sim.Name, 0, forward)
	p.run(pluginViewer, "ui "+sim.Name, 2, forward)
	for _, line := range []string{"status", "top", "audit " + sim.Name, "ui " + sim.Name} {
		p.run(pluginOutsider, line, 2, simulations)
	}

	ns.awaitPass(sim)
	p.run(pluginViewer, "status", 0, string(v1alpha1.VerdictPass))
	p.run(pluginViewer, "top", 0, string(v1alpha1.VerdictPass))
	p.run(pluginViewer, "report "+sim.Name+" --output md", 0, string(v1alpha1.VerdictPass))
	p.run(pluginViewer, "audit "+sim.Name, 0, string(v1alpha1.VerdictPass))
	p.run(pluginViewer, "purge "+sim.Name+" --yes", 2, `verbs: ["delete"]`)
	p.run(pluginEditor, "pause "+sim.Name, 0, "spec.suspend is true")
	p.run(pluginEditor, "resume "+sim.Name, 0, "spec.suspend is false")
	p.run(pluginEditor, "purge "+sim.Name+" --yes", 0, "is purged")
}

// ui runs "kubectl parking ui" for a running simulation and opens the live page in a browser.
func (p *plugin) ui(sim *v1alpha1.ParkingSimulation) {
	p.t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		p.t.Fatal("chromium is not installed; 'make test-e2e' installs it")
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := p.command(ctx, pluginWatcher, "ui "+sim.Name)
	output, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // always fails, because cancel has killed the process
	}()
	line, err := bufio.NewReader(output).ReadString('\n')
	url := regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+/`).FindString(line)
	if err != nil || url == "" {
		p.t.Fatalf("kubectl parking ui prints %q: %v", line, err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.DisableGPU, chromedp.UserDataDir(p.t.TempDir()))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	defer stop()
	browser, leave := chromedp.NewContext(allocator)
	defer leave()
	if _, err := chromedp.Run(browser, chromedp.Navigate(url)); err != nil {
		p.t.Fatal(err)
	}
	p.eventually("the page shows the running simulation", time.Minute, func() error {
		shown, err := chromedp.Run(browser, chromedp.Evaluate[string](
			`JSON.stringify([document.getElementById('name').textContent, document.getElementById('phase').textContent, document.getElementById('charts').dataset.rows ?? ''])`))
		if err != nil {
			return err
		}
		if !regexp.MustCompile(`"[^"]*` + regexp.QuoteMeta(sim.Name) + `","running","[1-9]`).MatchString(shown) {
			return errors.New("it shows " + shown)
		}
		return nil
	})
}

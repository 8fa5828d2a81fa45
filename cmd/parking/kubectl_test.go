//go:build !nooperator

package main

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/test/apiserver"
)

// kubectlParking runs the kubectl plugin under the given program name, and waits for it to end.
func kubectlParking(t *testing.T, name, kubeconfig string, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(binary(t), link); err != nil {
		t.Fatal(err)
	}
	r := &running{cmd: command(ctx, t, args...)}
	r.cmd.Path, r.cmd.Args[0] = link, link
	r.cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, r)
}

func TestKubectl_Errors_SetTheExitCode(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   string
		code   int
		stderr string
	}{
		"unknown command":         {"parke", exitBadInput, `unknown command "parke"`},
		"missing name":            {"pause", exitBadInput, "the argument NAME is missing; see 'kubectl parking pause --help'"},
		"invalid format":          {"status -o csv", exitBadInput, "must be json, yaml, wide or name"},
		"no cluster":              {"status", exitBadInput, "no cluster is configured in " + empty + ": name a kubeconfig"},
		"unknown context":         {"status --server https://127.0.0.1:1 --context nope", exitBadInput, "'kubectl config get-contexts' lists all"},
		"invalid name":            {"status --server https://127.0.0.1:1 Bad/Name", exitBadInput, `"Bad/Name" is not the name of a simulation`},
		"invalid names":           {"pause --server https://127.0.0.1:1 good ../x", exitBadInput, `"../x" is not the name of a simulation`},
		"invalid name for audit":  {"audit --server https://127.0.0.1:1 x/y", exitBadInput, `"x/y" is not the name of a simulation`},
		"invalid name for report": {"report --server https://127.0.0.1:1 X", exitBadInput, `"X" is not the name of a simulation`},
		"invalid namespace":       {"status --server https://127.0.0.1:1 -n A", exitBadInput, `"A" is not a valid name of a namespace`},
		"missing report":          {"compare missing.json other.json", exitBadInput, "no such file"},
		"unwritable file":         {"report --server https://127.0.0.1:1 x --output-file /nowhere/x", exitBadInput, "--output-file: write /nowhere/x: no such file"},
		"unknown suffix":          {"report --server https://127.0.0.1:1 x --output-file x.pdf", exitBadInput, "the suffix of x.pdf selects no format"},
		"suffix of no comparison": {"compare a b --server https://127.0.0.1:1 --output-file x.xml", exitBadInput, "the suffix of x.xml selects no format"},
		"unwritable comparison":   {"compare a b --server https://127.0.0.1:1 --output-file /nowhere/x", exitBadInput, "--output-file: write /nowhere/x: no such file"},
		"unreachable for report":  {"report --server https://127.0.0.1:1 x", exitFailed, "cannot reach the API server"},
		"unreachable for status":  {"status --server https://127.0.0.1:1", exitFailed, "cannot reach the API server"},
		"URI as the user":         {"status --server https://127.0.0.1:1 --as https://issuer.example#ann", exitFailed, "cannot reach the API server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := kubectlParking(t, pluginName, empty, strings.Fields(test.args)...)
			if got.code != test.code || !strings.HasPrefix(got.stderr, "kubectl parking: ") || !strings.Contains(got.stderr, test.stderr) {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
		})
	}
}

func TestKubectl_HelpOfACommand_RefersToTheGlobalFlags(t *testing.T) {
	t.Parallel()
	got := kubectlParking(t, pluginName, "", "status", "--help")
	if !strings.Contains(got.stdout, "--watch") || strings.Contains(got.stdout, "--as-group") || !strings.Contains(got.stdout, "'kubectl parking --help' lists the flags") {
		t.Errorf("stdout %q", got.stdout)
	}
	got = kubectlParking(t, pluginName, "", "--help")
	for _, flag := range []string{ // the flags of kubectl that select the cluster, the user and the namespace
		"--as", "--as-group", "--as-uid", "--certificate-authority", "--client-certificate", "--client-key", "--cluster", "--context",
		"--disable-compression", "--insecure-skip-tls-verify", "--kubeconfig", "-n, --namespace", "--password", "--request-timeout",
		"-s, --server", "--tls-server-name", "--token", "--user", "--username",
	} {
		if !strings.Contains(got.stdout, " "+flag+" ") {
			t.Errorf("the help has no %s: %s", flag, got.stdout)
		}
	}
}

func TestKubectl_CompletesCommandLines(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	u.Simulate("nightly", nil)
	u.Simulate("rush-hour", nil)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"pau"}, "pause\t"},
		{[]string{"status", "-n", u.Namespace, ""}, "nightly\nrush-hour\n:"},
		{[]string{"status", "-n", u.Namespace, "nightly", ""}, ":"},
		{[]string{"pause", "-n", u.Namespace, "nightly", ""}, "rush-hour\n:"},
		{[]string{"compare", "-n", u.Namespace, "nightly", ""}, "rush-hour\n:"},
		{[]string{"status", "--wa"}, "--watch\t"},
		{[]string{"top", "-o", ""}, "json\nyaml\nwide\nname\n:"},
		{[]string{"audit", "-o", ""}, "table\njson\nyaml\n:"},
		{[]string{"status", "--server", "https://127.0.0.1:1", ""}, ":"},
	} {
		got := kubectlParking(t, completionName, u.kubeconfig, test.args...)
		if got.code != exitOK || !strings.HasPrefix(got.stdout, test.want) {
			t.Errorf("%q: exit code %d, stdout %q, want %q", test.args, got.code, got.stdout, test.want)
		}
	}
}

// users is an API server with the users ann, ben, dan and eve. The user eve has no permissions.
type users struct {
	*apiserver.Cluster

	kubeconfig string
}

func newUsers(t *testing.T) *users {
	t.Helper()
	u := &users{Cluster: apiserver.New(t)}
	u.kubeconfig = file(t, "kubeconfig", string(u.KubeConfig))
	for _, role := range []string{"viewer", "ui", "editor"} {
		text, err := os.ReadFile("../../config/rbac/parkingsimulation_" + role + "_role.yaml")
		if err != nil {
			t.Fatal(err)
		}
		rules := &rbacv1.ClusterRole{}
		if err := yaml.UnmarshalStrict(text, rules); err != nil {
			t.Fatal(err)
		}
		u.Create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: u.Namespace, Name: role}, Rules: rules.Rules})
	}
	u.bind("viewer", "ann", "ben")
	u.bind("ui", "ben")
	u.bind("editor", "dan")
	return u
}

func (u *users) bind(role string, users ...string) {
	u.T.Helper()
	b := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: u.Namespace, Name: role}}
	b.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role}
	for _, user := range users {
		b.Subjects = append(b.Subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user})
	}
	u.Create(b)
}

// complete creates a complete simulation with a report.
func (u *users) complete(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile("../../internal/report/testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	sim := u.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) { s.Duration = v1alpha1.NewDuration(time.Minute) })
	u.Create(resources.ReportConfigMap(sim, text))
	u.setStatus(sim, func(s *v1alpha1.ParkingSimulationStatus) {
		s.CompletionTime, s.Verdict, s.Report = new(metav1.Now()), v1alpha1.VerdictFail, resources.ReportName(sim)
		s.Reasons = []string{"2 events were lost"}
	})
}

// running creates a running simulation with one processor pod and a ledger in its status.
func (u *users) running(name string) {
	u.T.Helper()
	sim := u.Simulate(name, nil)
	start := metav1.NewTime(time.Now().Add(-100 * time.Second))
	u.setStatus(sim, func(s *v1alpha1.ParkingSimulationStatus) {
		s.StartTime, s.TargetRates = &start, &v1alpha1.TargetRates{Entry: 20, Exit: 10}
		s.Ledger = &v1alpha1.LedgerStatus{ObservedTime: new(metav1.Now()), EntriesConfirmed: 2000, EntriesRecorded: 1990, Processed: 1990}
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: u.Namespace, Name: name + "-processor-0", Labels: resources.Selector(sim, resources.ComponentProcessor),
	}}
	pod.Spec.Containers = []corev1.Container{{
		Name: resources.ContainerParking, Image: "parking:test", Ports: []corev1.ContainerPort{{Name: resources.PortPage, ContainerPort: 8085}},
	}}
	u.Create(pod)
	pod.Status.Phase = corev1.PodRunning
	if err := u.Client.Status().Update(u.T.Context(), pod); err != nil {
		u.T.Fatal(err)
	}
}

func (u *users) setStatus(sim *v1alpha1.ParkingSimulation, edit func(*v1alpha1.ParkingSimulationStatus)) {
	u.T.Helper()
	edit(&sim.Status)
	if err := u.Client.Status().Update(u.T.Context(), sim); err != nil {
		u.T.Fatal(err)
	}
}

func (u *users) run(t *testing.T, user, line string) ended {
	t.Helper()
	return kubectlParking(t, pluginName, u.kubeconfig, append(strings.Fields(line), "--as", user, "-n", u.Namespace)...)
}

func TestKubectl_ViewerRole_AllowsOnlyReading(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	u.complete(t, "nightly")
	u.running("rush-hour")
	for line, test := range map[string]struct {
		code int
		want string
	}{
		"status":                        {exitOK, "rush-hour"},
		"status nightly":                {exitOK, "2 events were lost"},
		"status nightly --watch=false":  {exitOK, "end-to-end p99 without faults"},
		"status rush-hour":              {exitOK, "1990"},
		"status rush-hour -o name":      {exitOK, "parkingsimulation.simulation.parking.dev/rush-hour\n"},
		"status -o yaml":                {exitOK, "kind: ParkingSimulation"},
		"status -o wide":                {exitOK, "RABBITMQ"},
		"top --no-watch":                {exitOK, "nightly"},
		"top --no-watch -o wide":        {exitOK, "PROCESSING P99"},
		"top -o name":                   {exitOK, "parkingsimulation.simulation.parking.dev/rush-hour\n"},
		"top --watch --no-watch":        {exitBadInput, ""},
		"top rush-hour":                 {exitOK, "of 20.0"},
		"top rush-hour -o json":         {exitOK, `"live": false`},
		"report nightly":                {exitOK, " FAIL "},
		"report nightly -o html":        {exitOK, "<!doctype html>"},
		"report nightly -o md":          {exitOK, "FAIL"},
		"report nightly -o json":        {exitOK, `"verdict": "FAIL"`},
		"report nightly -o xml":         {exitOK, "<testsuite"},
		"compare nightly nightly":       {exitOK, "end-to-end p99"},
		"audit nightly":                 {exitFailed, "0123456789abc-0-42"},
		"audit nightly -o json":         {exitFailed, `"ledger"`},
		"audit nightly -o yaml":         {exitFailed, "\nverdict: FAIL\n"},
		"audit rush-hour":               {exitFailed, "cannot be read from a pod"},
		"status nothing":                {exitBadInput, ""},
		"report rush-hour":              {exitBadInput, ""},
		"status rush-hour -A":           {exitBadInput, ""},
		"compare nightly a/b":           {exitBadInput, ""},
		"purge nightly":                 {exitBadInput, ""},
		"purge nightly --yes":           {exitBadInput, ""},
		"pause rush-hour":               {exitBadInput, ""},
		"ui rush-hour":                  {exitBadInput, ""},
		"status -A":                     {exitBadInput, ""},
		"audit nightly --output=potato": {exitBadInput, ""},
	} {
		got := u.run(t, "ann", line)
		if got.code != test.code || !strings.Contains(got.stdout, test.want) {
			t.Errorf("%s: exit code %d\nstdout: %s\nstderr: %s", line, got.code, got.stdout, got.stderr)
		}
	}
}

func TestKubectl_MissingPermission_ErrorNamesTheRule(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	u.complete(t, "nightly")
	u.running("rush-hour")
	rule := func(group, resource, verbs string) string {
		return `{apiGroups: ["` + group + `"], resources: ["` + resource + `"], verbs: [` + verbs + `]}`
	}
	for line, want := range map[string]string{
		"status":           rule(v1alpha1.Group, "parkingsimulations", `"list"`),
		"status rush-hour": rule(v1alpha1.Group, "parkingsimulations", `"get"`),
		"top":              rule(v1alpha1.Group, "parkingsimulations", `"list"`),
		"ui rush-hour":     rule(v1alpha1.Group, "parkingsimulations", `"get"`),
		"report nightly":   rule(v1alpha1.Group, "parkingsimulations", `"get"`),
		"audit nightly":    rule(v1alpha1.Group, "parkingsimulations", `"get"`),
		"pause rush-hour":  rule(v1alpha1.Group, "parkingsimulations", `"patch"`),
		"purge nightly -y": rule(v1alpha1.Group, "parkingsimulations", `"get"`),

		"compare nightly nightly": rule(v1alpha1.Group, "parkingsimulations", `"get"`),
		"resume rush-hour":        rule(v1alpha1.Group, "parkingsimulations", `"patch"`),
		"status -A":               "one of your ClusterRoles: " + rule(v1alpha1.Group, "parkingsimulations", `"list"`),
		"top -A":                  "one of your ClusterRoles: " + rule(v1alpha1.Group, "parkingsimulations", `"list"`),
	} {
		got := u.run(t, "eve", line)
		if got.code != exitBadInput || got.stdout != "" || !strings.HasPrefix(got.stderr, "kubectl parking: ") || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: exit code %d\nstdout: %s\nstderr: %s", line, got.code, got.stdout, got.stderr)
		}
	}
}

func TestKubectl_UserMayOnlyGetSimulations_OutputNamesTheMissingRule(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	u.complete(t, "nightly")
	u.running("rush-hour")
	u.Create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: u.Namespace, Name: "getter"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.Group}, Resources: []string{"parkingsimulations"}, Verbs: []string{"get"}},
	}})
	u.bind("getter", "gus")
	const (
		configMaps = `{apiGroups: [""], resources: ["configmaps"], verbs: ["get"]}`
		pods       = `{apiGroups: [""], resources: ["pods"], verbs: ["list"]}`
		watch      = `{apiGroups: ["` + v1alpha1.Group + `"], resources: ["parkingsimulations"], verbs: ["watch"]}`
	)
	for line, test := range map[string]struct {
		code int
		want string
	}{
		"report nightly":           {exitBadInput, configMaps},
		"compare nightly nightly":  {exitBadInput, configMaps},
		"audit nightly":            {exitBadInput, configMaps},
		"status rush-hour":         {exitOK, pods}, // without the permission to list pods, status omits only the pods
		"top rush-hour":            {exitOK, pods},
		"status --watch":           {exitBadInput, watch},
		"status rush-hour --watch": {exitBadInput, watch},
	} {
		got := u.run(t, "gus", line)
		if output := strings.Join(strings.Fields(got.stdout+got.stderr), " "); got.code != test.code || !strings.Contains(output, test.want) {
			t.Errorf("%s: exit code %d\nstdout: %s\nstderr: %s", line, got.code, got.stdout, got.stderr)
		}
	}
}

func TestKubectl_LiveData_NeedsTheUIRole(t *testing.T) {
	t.Parallel()
	const rule = `{apiGroups: [""], resources: ["pods/portforward"], verbs: ["get", "create"]}`
	u := newUsers(t)
	u.running("rush-hour")
	got := u.run(t, "ann", "ui rush-hour")
	if got.code != exitBadInput || !strings.Contains(got.stderr, rule) {
		t.Errorf("as a viewer: %+v", got)
	}
	for _, line := range []string{"top rush-hour", "audit rush-hour"} {
		if got := u.run(t, "ann", line); !strings.Contains(strings.Join(strings.Fields(got.stdout), " "), rule) {
			t.Errorf("%s as a viewer: %+v", line, got)
		}
	}
	// The cluster has no kubelet, so port forwarding fails, but not because of missing permissions.
	got = u.run(t, "ben", "ui rush-hour")
	if strings.Contains(got.stderr, "forbidden") || !strings.Contains(got.stderr, "pod rush-hour-processor-0 does not answer") {
		t.Errorf("with the role: %+v", got)
	}
}

func TestKubectl_PauseResumePurge_SuspendResumeAndDeleteSimulation(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	sim := u.Simulate("rush-hour", func(s *v1alpha1.ParkingSimulationSpec) { s.DeletionPolicy = v1alpha1.DeletionPolicyRetain })
	run := func(line string) ended {
		return kubectlParking(t, pluginName, u.kubeconfig, append(strings.Fields(line), "-n", u.Namespace)...)
	}
	for _, test := range []struct {
		line      string
		suspended bool
	}{{"pause rush-hour", true}, {"resume rush-hour -o name", false}} {
		if got := run(test.line); got.code != exitOK {
			t.Fatalf("%s: %+v", test.line, got)
		}
		u.Exists(sim, sim.Name)
		if sim.Spec.Suspend != test.suspended {
			t.Errorf("after %s spec.suspend is %t", test.line, sim.Spec.Suspend)
		}
	}
	if got := run("purge rush-hour"); got.code != exitBadInput || !strings.Contains(got.stderr, "--yes") {
		t.Errorf("without confirmation: %+v", got)
	}
	if got := run("purge rush-hour --yes"); got.code != exitOK || !strings.Contains(got.stdout, "is purged") {
		t.Errorf("with confirmation: %+v", got)
	}
	if err := u.Absent(sim); err != nil {
		t.Error(err)
	}
}

func TestKubectl_EditorRole_AllowsPauseResumeAndPurge(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	sim := u.Simulate("rush-hour", nil)
	for line, want := range map[string]string{
		"pause rush-hour -o yaml": "suspend: true", "resume rush-hour -o json": `"kind": "ParkingSimulation"`,
		"pause rush-hour -o name": "parkingsimulation.simulation.parking.dev/rush-hour\n",
	} {
		if got := u.run(t, "dan", line); got.code != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: %+v", line, got)
		}
	}
	got := u.run(t, "dan", "purge rush-hour --yes -o name")
	if got.code != exitOK || got.stderr != "" || got.stdout != "parkingsimulation.simulation.parking.dev/rush-hour\n" {
		t.Errorf("purge: %+v", got)
	}
	if err := u.Absent(sim); err != nil {
		t.Error(err)
	}
}

func TestKubectl_PurgeWithoutPermissionToListEvents_NamesTheRule(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	sim := u.Simulate("rush-hour", nil)
	u.Create(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: u.Namespace, Name: "deleter"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.Group}, Resources: []string{"parkingsimulations"}, Verbs: []string{"get", "delete"}},
	}})
	u.bind("deleter", "pat")
	got := u.run(t, "pat", "purge rush-hour --yes")
	if got.code != exitOK || !strings.Contains(got.stdout, "is purged") ||
		!strings.Contains(got.stderr, "it is unknown whether the operator removed all data: ") ||
		!strings.Contains(got.stderr, `{apiGroups: [""], resources: ["events"], verbs: ["list"]}`) {
		t.Errorf("purge: %+v", got)
	}
	if err := u.Absent(sim); err != nil {
		t.Error(err)
	}
}

func TestKubectl_AllNamespaces_ListsTheSimulationsOfEachNamespace(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	other := &users{Cluster: apiserver.New(t)}
	u.Simulate("rush-hour", nil)
	other.Simulate("nightly", nil)
	name := "lister-" + u.Namespace
	u.Create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.Group}, Resources: []string{"parkingsimulations"}, Verbs: []string{"list", "watch"}},
	}})
	u.Create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	})
	got := u.run(t, name, "status -A -o wide")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "NAMESPACE") || !strings.Contains(got.stdout, "SUMMARY API") {
		t.Fatalf("status -A: %+v", got)
	}
	top := u.run(t, name, "top -A")
	if top.code != exitOK || !strings.HasPrefix(top.stdout, "NAMESPACE") || !strings.Contains(top.stdout, "BACKLOG") {
		t.Fatalf("top -A: %+v", top)
	}
	rows, topRows := rowsByNamespace(got.stdout), rowsByNamespace(top.stdout)
	for namespace, name := range map[string]string{u.Namespace: "rush-hour", other.Namespace: "nightly"} {
		if row := rows[namespace]; !strings.Contains(row, " "+name+" ") || strings.Count(row, " managed") != 3 {
			t.Errorf("the row of %s/%s is %q", namespace, name, row)
		}
		if row := topRows[namespace]; !strings.Contains(row, " "+name+" ") {
			t.Errorf("the row of %s/%s in top is %q", namespace, name, row)
		}
	}
	await, _ := u.startWatch(t, name, "status -A --watch")
	await("NAMESPACE", "NAME")
	await(other.Namespace, "nightly")
}

// rowsByNamespace returns the lines of a table by namespace. The namespace is the first cell of a line.
func rowsByNamespace(table string) map[string]string {
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Fields(line); len(cells) > 1 {
			rows[cells[0]] = line
		}
	}
	return rows
}

// startWatch starts a plugin command. The function await waits for a line with the given words. The function rest waits
// for the end of the command and returns the remaining output.
func (u *users) startWatch(t *testing.T, user, line string) (await func(words ...string), rest func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	link := filepath.Join(t.TempDir(), pluginName)
	if err := os.Symlink(binary(t), link); err != nil {
		t.Fatal(err)
	}
	cmd := command(ctx, t, append(strings.Fields(line), "--as", user, "-n", u.Namespace)...)
	cmd.Path, cmd.Args[0] = link, link
	cmd.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	await = func(words ...string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(" "+strings.Join(strings.Fields(lines.Text()), " ")+" ", " "+strings.Join(words, " ")+" ") {
				return
			}
		}
		t.Fatalf("%s ends without %q: %s", line, words, &stderr)
	}
	rest = func() string {
		t.Helper()
		var all strings.Builder
		for lines.Scan() {
			all.WriteString(lines.Text() + "\n")
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		return all.String() + stderr.String()
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // ignore the exit code: cancel may have killed the command
	})
	return await, rest
}

func TestKubectl_StatusWatch_ShowsChangesAndTheDeletion(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	sim := u.Simulate("rush-hour", nil)
	await, rest := u.startWatch(t, "ann", "status rush-hour --watch")
	awaitInList, _ := u.startWatch(t, "ann", "status --watch")
	await("Suspended:", "false")
	awaitInList("NAME", "STATUS")
	awaitInList("rush-hour")
	u.Edit(sim, func() { sim.Spec.Suspend = true })
	await("Suspended:", "true")
	u.setStatus(sim, func(s *v1alpha1.ParkingSimulationStatus) {
		s.CompletionTime, s.Verdict = new(metav1.Now()), v1alpha1.VerdictFail
	})
	await("Verdict:", "FAIL")
	awaitInList("FAIL")
	u.Delete(sim, sim.Name)
	if got := rest(); !strings.Contains(got, u.Namespace+"/rush-hour was deleted.") {
		t.Errorf("after the deletion, the output is %q", got)
	}
	awaitInList(u.Namespace+"/rush-hour", "deleted")
}

func TestKubectl_TopWatch_PrintsTheTableRepeatedly(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	sim := u.Simulate("rush-hour", nil)
	await, _ := u.startWatch(t, "ann", "top --watch")
	await("NAME", "STATUS")
	await("rush-hour")
	u.setStatus(sim, func(s *v1alpha1.ParkingSimulationStatus) {
		s.CompletionTime, s.Verdict = new(metav1.Now()), v1alpha1.VerdictFail
	})
	await("NAME", "STATUS")
	await("FAIL")
	u.Delete(sim, sim.Name)
	await("No", "simulations", "found")
}

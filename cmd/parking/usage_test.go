package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// No command may open a misplaced URI or quote it in a message, because a URI may contain a password.
func TestCommands_MisplacedURI_IsRejectedWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	uris := []string{
		"https:/user:s3cr3t@h/v1.json", "http:user:s3cr3t@h.json", `https:\\user:s3cr3t@h.json`, "redis://:s3cr3t@h/0.json", "user:s3cr3t@h.json",
		"amqp://h?s3cr3t.json",
	}
	for _, build := range []func(*cli) *cobra.Command{(*cli).rootCommand, (*cli).pluginCommand} {
		newRoot := func() *cobra.Command { return build(newCLI(os.Stdout, os.Stderr, func(string) string { return "" })) }
		for _, path := range commandPaths(newRoot()) {
			find := func() *cobra.Command {
				cmd, _, err := newRoot().Find(path)
				if err != nil {
					t.Fatal(err)
				}
				return cmd
			}
			find().Flags().VisitAll(func(f *pflag.Flag) {
				if placeholder, _ := pflag.UnquoteUsage(f); placeholder == "URI" || placeholder == "URL" || placeholder == "image" {
					return
				}
				for _, uri := range uris {
					cmd := find()
					err := cmd.ParseFlags([]string{"--" + f.Name + "=" + uri})
					if err != nil {
						err = cmd.FlagErrorFunc()(cmd, err)
					} else {
						err = noMisplacedURI(cmd, nil)
					}
					if err == nil || strings.Contains(err.Error(), "s3cr3t") {
						t.Errorf("%s --%s=%s: error is %v", cmd.CommandPath(), f.Name, uri, err)
					}
				}
			})
			for _, uri := range uris {
				for n := range 3 {
					args := append([]string{"a", "b", "c"}[:n:n], uri)
					if err := find().ValidateArgs(args); err == nil || strings.Contains(err.Error(), "s3cr3t") {
						t.Errorf("%s %v: error is %v", path, args, err)
					}
				}
			}
		}
	}
}

// Placeholders such as "number" or "file" tell users what a flag expects. The name of a Go type would not.
func TestCommands_Flags_HaveNoGoTypesAsPlaceholders(t *testing.T) {
	t.Parallel()
	for _, build := range []func(*cli) *cobra.Command{(*cli).rootCommand, (*cli).pluginCommand} {
		root := build(newCLI(os.Stdout, os.Stderr, func(string) string { return "" }))
		for _, path := range commandPaths(root) {
			cmd, _, err := root.Find(path)
			if err != nil {
				t.Fatal(err)
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				switch placeholder, _ := pflag.UnquoteUsage(f); placeholder {
				case "string", "strings", "int", "uint", "float", "float32":
					t.Errorf("%s --%s has the placeholder %s", cmd.CommandPath(), f.Name, placeholder)
				}
			})
		}
	}
}

func commandPaths(cmd *cobra.Command) [][]string {
	var paths [][]string
	for _, sub := range cmd.Commands() {
		paths = append(paths, []string{sub.Name()})
		for _, below := range commandPaths(sub) {
			paths = append(paths, append([]string{sub.Name()}, below...))
		}
	}
	return paths
}

func TestCommands_PathWithAtSign_IsAccepted(t *testing.T) {
	t.Parallel()
	root := newCLI(os.Stdout, os.Stderr, func(string) string { return "" }).rootCommand()
	cmd, _, err := root.Find([]string{"simulate"})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags([]string{
		"--filename=/home/user@example.com/a:1.yaml", "--http=[::1]:8080", "--redis-uri=redis://:pass@h", "--summary-url=https://h/v1",
	}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.ValidateArgs(nil); err != nil {
		t.Error(err)
	}
}

func TestFlags_Enumerations_HaveShellCompletion(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"parking", pluginName} {
		c := newCLI(os.Stdout, os.Stderr, os.Getenv)
		c.name = name
		var visit func(*cobra.Command)
		visit = func(cmd *cobra.Command) {
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				_, isCompleted := cmd.GetFlagCompletionFunc(f.Name)
				isEnumeration := f.Value.Type() == "format" || f.Value.Type() == "level" || f.Name == "image-pull-policy" || f.Name == "threshold" || f.Name == flagServers
				if isEnumeration && !isCompleted {
					t.Errorf("%s --%s is not completed", cmd.CommandPath(), f.Name)
				}
			})
			for _, sub := range cmd.Commands() {
				visit(sub)
			}
		}
		visit(c.rootFor())
	}
	for line, want := range map[string]string{
		"report r.json -o ":                "html\nmd\nxml\njson\ntable\n:4\n",
		"compare a.json b.json --output ":  "table\njson\nmd\nhtml\n:4\n",
		"compare --threshold ":             "endToEnd.p50=\n",
		"simulate --output ":               "table\njson\n:4\n",
		"simulate --servers ":              "private\n:4\n",
		"audit --log-level ":               "debug\ninfo\nwarn\nerror\n:4\n",
		"report ":                          "json\n:8\n",
		"simulate --report ":               "html\njson\nmd\nxml\n:8\n",
		"operator --image-pull-policy ":    "Always\nIfNotPresent\nNever\n:4\n",
		"compare before.json after.json  ": ":4\n",
	} {
		got := parking(t, append([]string{cobra.ShellCompRequestCmd}, strings.Split(line, " ")...)...)
		if got.code != exitOK || !strings.HasPrefix(got.stdout, want) {
			t.Errorf("%q is completed with %q, want %q", line, got.stdout, want)
		}
	}
}

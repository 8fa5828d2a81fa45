package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The linker sets these variables with -ldflags "-X main.version=v1.2.3 -X main.commit=… -X main.date=…".
var (
	version string
	commit  string
	date    string
)

// build identifies the source code that the binary was built from.
type build struct {
	version, commit, date string
}

// currentBuild returns the values that the linker set. It takes missing values from the build information of the Go
// toolchain.
func currentBuild() build {
	b := build{version: version, commit: commit, date: date}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.fill(info)
	}
	return b
}

// fill sets empty fields from the build information of the Go toolchain.
func (b *build) fill(info *debug.BuildInfo) {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if b.version == "" {
		b.version = info.Main.Version
	}
	if b.commit == "" {
		b.commit = settings["vcs.revision"]
		if b.commit != "" && settings["vcs.modified"] == "true" {
			b.commit += " (modified)"
		}
	}
	if b.date == "" {
		b.date = settings["vcs.time"]
	}
}

// String returns the build as one line of text.
func (b build) String() string {
	text := b.version
	if text == "" || text == "(devel)" {
		text = "unreleased"
	}
	if b.commit != "" {
		text += ", commit " + b.commit
	}
	if b.date != "" {
		text += ", " + b.date
	}
	return text
}

func versionLine() string {
	return fmt.Sprintf("parking %s, %s %s/%s", currentBuild(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		RunE: func(*cobra.Command, []string) error {
			return c.print([]string{versionLine()})
		},
	}
}

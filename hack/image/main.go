// Command image writes the container image of the parking command to an archive, without a container engine:
//
//	image -binary bin/parking -version v1.2.3 -commit 0123abc -date 2026-01-02T03:04:05Z -output bin/parking.tar
//
// The same inputs always produce the same bytes.
package main

import (
	"debug/buildinfo"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/parking-operator/parking-operator/hack/image/oci"
)

// user is the numeric ID of the user that the containers run as.
const user = "65532"

type options struct {
	binary, output, name  string
	version, commit, date string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/parking", "static `binary` of the parking command")
	flag.StringVar(&o.output, "output", "bin/parking.tar", "`file` to write the archive to")
	flag.StringVar(&o.name, "name", "docker.io/local/parking-operator:dev", "full `reference` of the image")
	flag.StringVar(&o.version, "version", "", "version in the labels of the image (required)")
	flag.StringVar(&o.commit, "commit", "", "commit in the labels of the image")
	flag.StringVar(&o.date, "date", "", "time of the commit, which is also the creation time of the image, in RFC 3339 (default 1970)")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	image, err := parkingImage(o)
	if err != nil {
		return err
	}
	if err := image.WriteFile(o.output); err != nil {
		return err
	}
	fmt.Printf("%s contains the image %s\n", o.output, o.name)
	return nil
}

func parkingImage(o options) (oci.Image, error) {
	if o.version == "" {
		return oci.Image{}, errors.New("-version is missing")
	}
	created := time.Unix(0, 0)
	if o.date != "" && o.date != "unknown" { // outside of a git checkout, the Makefile sets the date to "unknown"
		var err error
		if created, err = time.Parse(time.RFC3339, o.date); err != nil {
			return oci.Image{}, fmt.Errorf("-date is %q, want a time in RFC 3339 such as 2026-01-02T03:04:05Z", o.date)
		}
	}
	architecture, err := architectureOf(o.binary)
	if err != nil {
		return oci.Image{}, err
	}
	return oci.Image{
		Name:         o.name,
		Architecture: architecture,
		Created:      created,
		Config: v1.Config{
			User:       user + ":" + user,
			Env:        []string{"PATH=/usr/local/bin"},
			Entrypoint: []string{"/usr/local/bin/parking"},
			WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title":       "parking-operator",
				"org.opencontainers.image.description": "Event-driven parking simulations on Kubernetes that account for every event",
				"org.opencontainers.image.licenses":    "Apache-2.0",
				"org.opencontainers.image.source":      "https://github.com/parking-operator/parking-operator",
				"org.opencontainers.image.version":     o.version,
				"org.opencontainers.image.revision":    o.commit,
				"org.opencontainers.image.created":     created.UTC().Format(time.RFC3339),
			},
		},
		Layers: []oci.Layer{baseLayer, func(f *oci.Files) { f.Program("usr/local/bin/parking", o.binary) }},
	}, nil
}

// architectureOf returns the CPU architecture of a binary. It returns an error if the binary is not static or not
// built for Linux.
func architectureOf(binary string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("read the build settings of %s: %w; build it with make build", binary, err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if settings["CGO_ENABLED"] != "0" || settings["GOOS"] != "linux" {
		return "", fmt.Errorf("%s is not a static binary for Linux: build it with GOOS=linux CGO_ENABLED=0", binary)
	}
	return settings["GOARCH"], nil
}

// baseLayer adds files that Go programs expect in an image, such as CA certificates.
func baseLayer(f *oci.Files) {
	f.Text("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:"+user+":"+user+":nonroot:/:/sbin/nologin\n")
	f.Text("etc/group", "root:x:0:\nnonroot:x:"+user+":\n")
	f.Text("etc/ssl/certs/ca-certificates.crt", authorities())
	f.Directory("tmp", 0o1777)
}

// authorities returns Mozilla's CA certificates in PEM format. It omits certificates that Mozilla trusts only with
// constraints.
func authorities() string {
	var text strings.Builder
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // writing to a strings.Builder never fails
		}
	}
	return text.String()
}

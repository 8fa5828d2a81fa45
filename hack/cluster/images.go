package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/hack/image/oci"
)

// Names of the images that the cluster brings, besides that of the operator.
const (
	pauseImage   = "docker.io/local/pause:1"
	corednsImage = "docker.io/local/coredns:1"
	// serversImage has RabbitMQ and Redis of Debian 13.
	serversImage = "docker.io/local/debian-servers:13"
)

// loadNodeImages imports what the node itself runs in pods.
func (c *nativeCluster) loadNodeImages(ctx context.Context) error {
	if err := c.until(ctx, func() error {
		cmd, err := c.inNode(ctx, "ctr", "version")
		if err != nil {
			return err
		}
		_, err = outputOf(cmd)
		return err
	}); err != nil {
		return err
	}
	for name, program := range map[string]string{pauseImage: "pause", corednsImage: "coredns"} {
		archive := filepath.Join(c.layout.images, program+".tar")
		if err := programImage(name, c.layout.program(program)).WriteFile(archive); err != nil {
			return err
		}
		if err := c.importImage(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// load imports the archives, and those that every cluster has.
func (c *nativeCluster) load(ctx context.Context, archives []string) error {
	if len(archives) == 0 {
		servers, err := serversArchive(ctx, c.layout, c.steps)
		if err != nil {
			return err
		}
		archives = []string{servers}
	}
	for _, archive := range archives {
		if err := c.steps.do("importing "+filepath.Base(archive), func() error { return c.importImage(ctx, archive) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *nativeCluster) importImage(ctx context.Context, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	cmd, err := c.inNode(ctx, "ctr", "--namespace", "k8s.io", "images", "import", "--local", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = file
	_, err = outputOf(cmd)
	return err
}

// programImage is an image of one static program.
func programImage(name, program string) oci.Image {
	path := "usr/local/bin/" + filepath.Base(program)
	return oci.Image{
		Name: name, Architecture: runtime.GOARCH, Created: time.Unix(0, 0),
		Config: oci.Config{Entrypoint: []string{"/" + path}},
		Layers: []oci.Layer{func(f *oci.Files) { f.Program(path, program) }},
	}
}

// serversArchive makes the image with RabbitMQ and Redis, unless it is there.
func serversArchive(ctx context.Context, l layout, s *steps) (string, error) {
	archive := filepath.Join(l.images, "debian-servers.tar")
	if _, err := os.Stat(archive); !errors.Is(err, fs.ErrNotExist) {
		return archive, err
	}
	var root string
	if err := s.do("installing RabbitMQ and Redis of Debian 13 in a folder", func() error {
		out, err := outputOf(exec.CommandContext(ctx, filepath.Join(l.repository, "hack", "trixie.sh")))
		root = out[strings.LastIndexByte(out, '\n')+1:]
		return err
	}); err != nil {
		return "", err
	}
	return archive, s.do("making an image of them", func() error { return serversImageOf(root).WriteFile(archive) })
}

// serversImageOf is an image of a Debian system, without what only people read or apt needs.
func serversImageOf(root string) oci.Image {
	const user = "999" // of the official images of both
	unneeded := map[string]bool{}
	for path := range strings.FieldsSeq(`boot dev proc sys run tmp complete var/cache var/log var/lib/apt var/lib/rabbitmq
		var/lib/redis usr/share/doc usr/share/man usr/share/info usr/share/locale etc/passwd etc/group`) {
		unneeded[path] = true
	}
	return oci.Image{
		Name: serversImage, Architecture: runtime.GOARCH, Created: time.Unix(0, 0),
		Config: oci.Config{
			User: user,
			// The scripts of RabbitMQ itself, before those with which Debian makes sure who runs them.
			Env: []string{"PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		},
		Layers: []oci.Layer{func(f *oci.Files) {
			f.Tree(root, func(path string) bool { return unneeded[path] })
			for _, folder := range []string{"dev", "proc", "sys", "run", "var/log"} {
				f.Folder(folder, 0o755)
			}
			f.Folder("tmp", 0o1777)
			f.Text("etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/sh\nserver:x:%s:%[1]s:server:/tmp:/bin/sh\n", user))
			f.Text("etc/group", fmt.Sprintf("root:x:0:\nserver:x:%s:\n", user))
		}},
	}
}

package main

import (
	"context"
	"fmt"
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
	// exporterImage has the exporter of Redis' metrics of Debian 13.
	exporterImage = "docker.io/local/prometheus-redis-exporter:13"
	// The other images are for those alone who want to have Prometheus.
	prometheusImage         = "docker.io/local/prometheus:13"
	prometheusOperatorImage = "docker.io/local/prometheus-operator:1"
	configReloaderImage     = "docker.io/local/prometheus-config-reloader:1"
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
	return c.loadPrograms(ctx, map[string]string{pauseImage: "pause", corednsImage: "coredns"})
}

// loadPrograms imports images of programs, which are given by the image's name.
func (c *nativeCluster) loadPrograms(ctx context.Context, programs map[string]string) error {
	for name, program := range programs {
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

// loadServers imports what simulations run besides the operator's image.
func (c *nativeCluster) loadServers(ctx context.Context) error {
	debian, err := newDebian(ctx, c.layout, c.steps)
	if err != nil {
		return err
	}
	servers, err := debian.servers()
	if err != nil {
		return err
	}
	exporter, err := debian.program(ctx, exporterImage, "prometheus-redis-exporter")
	if err != nil {
		return err
	}
	return c.load(ctx, []string{servers, exporter})
}

// monitoring builds the Prometheus Operator, and imports its images and that of Prometheus.
func (c *nativeCluster) monitoring(ctx context.Context) error {
	if err := (&builder{c.layout.source(), c.layout.programs, c.steps}).build(ctx, monitoringPrograms()); err != nil {
		return err
	}
	debian, err := newDebian(ctx, c.layout, c.steps)
	if err != nil {
		return err
	}
	prometheus, err := debian.program(ctx, prometheusImage, "prometheus")
	if err != nil {
		return err
	}
	if err := c.load(ctx, []string{prometheus}); err != nil {
		return err
	}
	return c.steps.do("importing the Prometheus Operator", func() error {
		return c.loadPrograms(ctx, map[string]string{
			prometheusOperatorImage: "prometheus-operator", configReloaderImage: "prometheus-config-reloader",
		})
	})
}

// load imports the archives.
func (c *nativeCluster) load(ctx context.Context, archives []string) error {
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

// programImage is an image of one static program, in /bin as in the programs' own images.
func programImage(name, program string) oci.Image {
	path := "bin/" + filepath.Base(program)
	return oci.Image{
		Name: name, Architecture: runtime.GOARCH, Created: time.Unix(0, 0),
		Config: oci.Config{Entrypoint: []string{"/" + path}},
		Layers: []oci.Layer{func(f *oci.Files) { f.Program(path, program) }},
	}
}

// debian makes images of parts of a Debian 13 in a folder.
type debian struct {
	root   string
	layout layout
	steps  *steps
}

// newDebian installs the system, unless it is there.
func newDebian(ctx context.Context, l layout, s *steps) (*debian, error) {
	d := &debian{layout: l, steps: s}
	return d, s.do("preparing a Debian 13 in a folder", func() error {
		out, err := outputOf(exec.CommandContext(ctx, filepath.Join(l.repository, "hack", "trixie.sh")))
		d.root = out[strings.LastIndexByte(out, '\n')+1:]
		return err
	})
}

// write writes the archive of an image and returns its path.
func (d *debian) write(image oci.Image, name string) (string, error) {
	archive := filepath.Join(d.layout.images, name+".tar")
	return archive, d.steps.do("making the image "+name, func() error { return image.WriteFile(archive) })
}

// servers makes the image with RabbitMQ and Redis.
func (d *debian) servers() (archive string, err error) {
	return d.write(serversImageOf(d.root), "debian-servers")
}

// program makes an image of one program, with the libraries that it is linked with.
func (d *debian) program(ctx context.Context, image, name string) (archive string, err error) {
	path := filepath.Join("usr", "bin", name)
	linked, err := output(ctx, "chroot", d.root, "ldd", "/"+path)
	if err != nil {
		return "", err
	}
	i := programImage(image, filepath.Join(d.root, path))
	i.Layers = append(i.Layers, func(f *oci.Files) {
		for word := range strings.FieldsSeq(linked) {
			if library, found := strings.CutPrefix(word, "/"); found {
				f.Program(library, filepath.Join(d.root, library))
			}
		}
	})
	return d.write(i, name)
}

// serversImageOf is an image of a Debian system, without what only people read or apt needs, and without
// Prometheus.
func serversImageOf(root string) oci.Image {
	const user = "999" // of the official images of both
	unneeded := map[string]bool{}
	for path := range strings.FieldsSeq(`boot dev proc sys run tmp complete var/cache var/log var/lib/apt var/lib/rabbitmq
		var/lib/redis usr/share/doc usr/share/man usr/share/info usr/share/locale etc/passwd etc/group
		usr/bin/prometheus usr/bin/promtool usr/bin/prometheus-redis-exporter
		usr/share/fonts usr/share/javascript usr/share/nodejs usr/share/prometheus`) {
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

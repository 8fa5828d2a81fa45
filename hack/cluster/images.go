package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/parking-operator/parking-operator/hack/image/oci"
)

// These images are imported, in addition to the image of the operator, because a nativeCluster cannot pull images.
const (
	pauseImage = "docker.io/local/pause:1"
	// serversImage contains RabbitMQ and Redis from Debian 13.
	serversImage = "docker.io/local/debian-servers:13"
	// exporterImage contains the Prometheus exporter for Redis from Debian 13.
	exporterImage = "docker.io/local/prometheus-redis-exporter:13"
	// These are the images of Prometheus and the Prometheus Operator.
	prometheusImage         = "docker.io/local/prometheus:13"
	prometheusOperatorImage = "docker.io/local/prometheus-operator:1"
	configReloaderImage     = "docker.io/local/prometheus-config-reloader:1"
)

// loadNodeImages imports the pause image, which every pod needs.
func (c *nativeCluster) loadNodeImages(ctx context.Context) error {
	if err := c.await(ctx, func() error {
		cmd, err := c.inNode(ctx, "ctr", "version")
		if err != nil {
			return err
		}
		_, err = outputOf(cmd)
		return err
	}); err != nil {
		return err
	}
	return c.importImage(ctx, programImage(pauseImage, c.layout.program("pause")))
}

// writeServers writes the archives of the server images and the exporter image. It skips archives that already
// exist.
func (c *nativeCluster) writeServers(ctx context.Context) error {
	root, err := c.debian13(ctx, "rabbitmq-server", "redis-server", "valkey-server", "prometheus-redis-exporter")
	if err != nil {
		return err
	}
	exporter, err := linkedImage(ctx, exporterImage, root, "prometheus-redis-exporter")
	if err != nil {
		return err
	}
	return c.steps.do("Write the images of RabbitMQ and Redis", "5 s", func() error {
		for _, image := range []oci.Image{serversImageOf(root), exporter} {
			if _, err := os.Stat(c.archive(image)); err == nil {
				continue
			}
			if err := image.WriteFile(c.archive(image)); err != nil {
				return err
			}
		}
		return nil
	})
}

// loadServers imports the server images and the exporter image.
func (c *nativeCluster) loadServers(ctx context.Context) error {
	return c.load(ctx, []string{c.archive(oci.Image{Name: serversImage}), c.archive(oci.Image{Name: exporterImage})})
}

// monitoring builds the Prometheus Operator, then imports the images of the Prometheus Operator and of Prometheus.
func (c *nativeCluster) monitoring(ctx context.Context) error {
	if err := c.buildAll(ctx, monitoringBuilds()); err != nil {
		return err
	}
	root, err := c.debian13(ctx, "prometheus")
	if err != nil {
		return err
	}
	prometheus, err := linkedImage(ctx, prometheusImage, root, "prometheus")
	if err != nil {
		return err
	}
	return c.steps.do("Import the images of Prometheus and its operator", "10 s", func() error {
		for _, image := range []oci.Image{
			prometheus,
			programImage(prometheusOperatorImage, c.layout.program("prometheus-operator")),
			programImage(configReloaderImage, c.layout.program("prometheus-config-reloader")),
		} {
			if err := c.importImage(ctx, image); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *nativeCluster) load(ctx context.Context, archives []string) error {
	for _, archive := range archives {
		if err := c.steps.do("Import "+filepath.Base(archive), "5 s", func() error { return c.importArchive(ctx, archive) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *nativeCluster) archive(image oci.Image) string {
	name, _, _ := strings.Cut(image.Name[strings.LastIndexByte(image.Name, '/')+1:], ":")
	return filepath.Join(c.layout.images, name+".tar")
}

func (c *nativeCluster) importImage(ctx context.Context, image oci.Image) error {
	if err := image.WriteFile(c.archive(image)); err != nil {
		return err
	}
	return c.importArchive(ctx, c.archive(image))
}

func (c *nativeCluster) importArchive(ctx context.Context, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	cmd, err := c.inNode(ctx, "ctr", "--namespace", "k8s.io", "images", "import", "--local", "-")
	if err != nil {
		return err
	}
	cmd.Stdin = file
	_, err = outputOf(cmd)
	return err
}

// programImage returns an image that contains one static program. The program is in /bin, as in the upstream images.
func programImage(name, program string) oci.Image {
	path := "bin/" + filepath.Base(program)
	return oci.Image{
		Name: name, Architecture: runtime.GOARCH, Created: time.Unix(0, 0),
		Config: v1.Config{Entrypoint: []string{"/" + path}},
		Layers: []oci.Layer{func(f *oci.Files) { f.Program(path, program) }},
	}
}

// debian13 downloads and extracts packages of Debian 13, and returns the directory with the extracted files. It does
// nothing if the files already exist.
func (c *nativeCluster) debian13(ctx context.Context, packages ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.layout.repository, "hack", "debian13.sh"), packages...)
	cmd.Stderr = c.steps
	return outputOf(cmd)
}

// linkedImage returns an image that contains one dynamically linked program and its shared libraries. It copies them
// from root, the directory with the extracted Debian packages.
func linkedImage(ctx context.Context, name, root, program string) (oci.Image, error) {
	path := filepath.Join("usr", "bin", program)
	linked, err := output(ctx, "chroot", root, "ldd", "/"+path)
	if err != nil {
		return oci.Image{}, err
	}
	image := programImage(name, filepath.Join(root, path))
	image.Layers = append(image.Layers, func(f *oci.Files) {
		for word := range strings.FieldsSeq(linked) {
			if library, found := strings.CutPrefix(word, "/"); found {
				f.Program(library, filepath.Join(root, library))
			}
		}
	})
	return image, nil
}

// serversImageOf returns an image that contains RabbitMQ and Redis. It copies them from root, the directory with the
// extracted Debian packages.
func serversImageOf(root string) oci.Image {
	return oci.Image{
		Name: serversImage, Architecture: runtime.GOARCH, Created: time.Unix(0, 0),
		Config: v1.Config{
			User: "999", // as in the official images of RabbitMQ and Redis
			// RabbitMQ's own scripts come first in PATH, because Debian's scripts work only for the user rabbitmq.
			Env: []string{"PATH=/usr/lib/rabbitmq/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"},
		},
		Layers: []oci.Layer{func(f *oci.Files) {
			f.Tree(root, "tmp", "usr/bin/prometheus-redis-exporter")
			f.Directory("tmp", 0o1777)
		}},
	}
}

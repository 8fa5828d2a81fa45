package crd_test

import (
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
)

// The API server and the CLI must accept exactly the images that the kubelet's parser, ParseNormalizedNamed, accepts.
func TestCRDCreate_ImagesNearKubeletLimits_AcceptsWhatTheKubeletAccepts(t *testing.T) {
	t.Parallel()
	a := load(t)
	rejected := 0
	for _, image := range imagesAroundLimits() {
		_, expected := reference.ParseNormalizedNamed(image)
		text := manifesttest.Faulty{Spec: "redis: {managed: {image: '" + image + "'}}"}.Manifest()
		admitted := a.Create(t.Context(), parse(t, text))
		_, read := manifest.Read(strings.NewReader(text))
		if (admitted == nil) != (expected == nil) || (read == nil) != (expected == nil) {
			t.Errorf("%s\nkubelet: %v\nadmission: %v\nmanifest: %v", image, expected, admitted, read)
		}
		if expected != nil {
			rejected++
		}
	}
	if rejected == 0 {
		t.Error("the kubelet accepts all images, want some beyond its limits")
	}
}

// imagesAroundLimits returns valid references, and references that are invalid only because of the length or the form
// of the repository.
func imagesAroundLimits() []string {
	digest := "@sha256:" + strings.Repeat("0a", 32)
	var repositories, images []string
	for _, length := range []int{1, 2, 63, 64, 65, 237, 238, 246, 247, 248, 249, 254, 255, 256, 257} {
		repositories = append(repositories, strings.Repeat("a", length))
		if length > 2 {
			repositories = append(repositories, "b/"+strings.Repeat("a", length-2), strings.Repeat("a", length-2)+"/b")
		}
	}
	for _, registry := range []string{"", "localhost/", "docker.io/", "index.docker.io/", "Docker.io/", "example.com/", "host:5000/", "MyOrg/", "org/"} {
		for _, repository := range repositories {
			for _, version := range []string{"", ":v1", digest, ":v1.0_a-b" + digest} {
				images = append(images, registry+repository+version)
			}
		}
	}
	return images
}

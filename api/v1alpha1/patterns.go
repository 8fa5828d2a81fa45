package v1alpha1

// ImagePattern is the regular expression for a container image reference: registry, repository, tag and digest. Only
// the repository is required. The validation rules of the CRD repeat the pattern.
const ImagePattern = `^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$`

// Nodes reject some images that match ImagePattern. To exclude these, an image must also match ImageLengthPattern, and
// must not match ImageRefusedPattern. The validation rules of the CRD repeat the patterns.
const (
	// ImageLengthPattern matches images whose repository, without the registry, has at most 255 characters. What
	// precedes the first slash is a registry if it is "localhost" or contains a dot, a colon or a capital.
	ImageLengthPattern = `^((localhost|[^/]*[.:A-Z][^/]*)/)?[^:@]{1,255}([:@][^/]*)?$`
	// ImageRefusedPattern matches images that are rejected. Image IDs are rejected because nodes pull images only by
	// name. Repositories on Docker Hub without a namespace are rejected if they have more than 247 characters: nodes
	// prepend "library/", which makes the repository longer than 255 characters.
	ImageRefusedPattern = `^([0-9a-f]{64}$|((index[.])?docker[.]io/)?[^/:@]{248}[^/]*$)`
)

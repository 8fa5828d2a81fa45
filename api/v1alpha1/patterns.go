package v1alpha1

// ImagePattern is the regular expression for a container image reference: registry, repository, tag and digest. Only
// the repository is required. The validation rules of the CRD repeat the pattern.
const ImagePattern = `^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$`

// Nodes refuse some images that match ImagePattern. These patterns are for such images. The validation rules of the CRD
// repeat them.
const (
	// ImageLengthPattern matches images whose repository, without the registry, has at most 255 characters. What
	// precedes the first slash is a registry if it is "localhost" or contains a dot, a colon or a capital.
	ImageLengthPattern = `^((localhost|[^/]*[.:A-Z][^/]*)/)?[^:@]{1,255}([:@][^/]*)?$`
	// ImageRefusedPattern matches image IDs, and images of Docker Hub of more than 247 characters without a slash. Nodes
	// add "library/" to the repository of the latter, which makes it too long.
	ImageRefusedPattern = `^([0-9a-f]{64}$|((index[.])?docker[.]io/)?[^/:@]{248}[^/]*$)`
)

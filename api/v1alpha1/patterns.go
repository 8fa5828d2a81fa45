package v1alpha1

// ImagePattern matches a container image: an optional registry, a repository, and an optional tag and digest. The
// validation rules of the CRD repeat the pattern.
const ImagePattern = `^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?/)?[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?$`

// An image must match ImageLengthPattern and not ImageRefusedPattern, because nodes reject some images that match
// ImagePattern. The validation rules of the CRD repeat the patterns.
const (
	// ImageLengthPattern limits the repository, without the registry, to 255 characters. A registry before the first
	// slash is "localhost", or contains a dot, a colon or a capital.
	ImageLengthPattern = `^((localhost|[^/]*[.:A-Z][^/]*)/)?[^:@]{1,255}([:@][^/]*)?$`
	// ImageRefusedPattern matches image IDs, which nodes cannot pull, and repositories on Docker Hub of more than 247
	// characters without a namespace: nodes prepend "library/", which exceeds 255 characters.
	ImageRefusedPattern = `^([0-9a-f]{64}$|((index[.])?docker[.]io/)?[^/:@]{248}[^/]*$)`
)

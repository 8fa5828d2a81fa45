package metricsauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// reviewer is a fake API server that accepts the tokens "prometheus" and "tenant". Only the user "prometheus" may read
// the metrics.
type reviewer struct{ client.Writer }

func (reviewer) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	switch review := o.(type) {
	case *authenticationv1.TokenReview:
		review.Status.Authenticated = review.Spec.Token == "prometheus" || review.Spec.Token == "tenant"
		review.Status.User.Username = review.Spec.Token
	case *authorizationv1.SubjectAccessReview:
		attributes := review.Spec.NonResourceAttributes
		review.Status.Allowed = review.Spec.User == "prometheus" && attributes.Path == "/metrics" && attributes.Verb == "get"
	}
	return nil
}

func TestMayRead_EachAuthorization_AllowsOnlyAuthorizedClients(t *testing.T) {
	t.Parallel()
	for authorization, want := range map[string]int{
		"":                   http.StatusUnauthorized,
		"Bearer ":            http.StatusUnauthorized,
		"Basic cHJvbWV0aGV1": http.StatusUnauthorized,
		"Bearer unknown":     http.StatusUnauthorized,
		"Bearer tenant":      http.StatusForbidden,
		"Bearer prometheus":  http.StatusOK,
	} {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		request.Header.Set("Authorization", authorization)
		if got, err := mayRead(t.Context(), reviewer{}, request); err != nil || got != want {
			t.Errorf("Authorization %q: the status is %d (%v), want %d", authorization, got, err, want)
		}
	}
}

package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestAgentCredentials_EachSecret_AreReusedOnlyIfValidAndNotDueForRenewal(t *testing.T) {
	t.Parallel()
	now := time.Now()
	first, err := agentCredentials(nil, now)
	if err != nil {
		t.Fatal(err)
	}
	secret := func(c resources.AgentCredentials) *corev1.Secret {
		return &corev1.Secret{Data: map[string][]byte{"token": []byte(c.Token), "tls.crt": []byte(c.Certificate), "tls.key": []byte(c.PrivateKey)}}
	}
	withoutToken, withoutKey := first, first
	withoutToken.Token, withoutKey.PrivateKey = "", ""
	for _, tt := range []struct {
		name string
		in   *corev1.Secret
		now  time.Time
		kept bool
	}{
		{"valid", secret(first), now, true},
		{"a month before its end", secret(first), now.AddDate(0, 11, 10), false},
		{"without a token", secret(withoutToken), now, false},
		{"without a key", secret(withoutKey), now, false},
		{"no Secret", nil, now, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := agentCredentials(tt.in, tt.now)
			if err != nil {
				t.Fatal(err)
			}
			if kept := got == first; kept != tt.kept {
				t.Errorf("kept: %t, want %t", kept, tt.kept)
			}
		})
	}
}

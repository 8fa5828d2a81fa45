package rabbitmq_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/relay"
	"github.com/parking-operator/parking-operator/test/servers"
)

// A node may reject correct credentials because it cannot reach its authentication backend. So a rejected login must not
// end the attempts at other addresses.
func TestBrokerCheck_SeveralAddressesAndWrongPassword_TriesAllAndReturnsTheReason(t *testing.T) {
	t.Parallel()
	good, err := url.Parse(servers.AMQPURI(t))
	if err != nil {
		t.Fatal("the server's URI cannot be parsed")
	}
	forward, err := relay.Listen(t.Context(), "127.0.0.1:0", good.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = forward.Close() })
	wrong := *good
	wrong.User = url.UserPassword(good.User.Username(), "a-wrong-password")
	options := optionsFor(t, good.String())
	options.Binding = func() (binding.Binding, error) {
		return binding.Binding{URI: &wrong, Alternatives: []string{forward.Address()}}, nil
	}
	b := open(t, options)
	dials := b.CountDials()
	err = b.Check(t.Context())
	if n := dials(); n != 2 {
		t.Errorf("the check tried %d addresses, want 2", n)
	}
	// RabbitMQ sends this text only to clients that announce the capability authentication_failure_close.
	const want = "ACCESS_REFUSED - Login was refused"
	if err == nil || strings.Count(err.Error(), want) != 2 || !strings.HasSuffix(err.Error(), ": correct the user name or password") {
		t.Errorf("the check returned %v, want %q for each address, and the remedy", err, want)
	}
}

func TestBrokerPing_Connected_ConnectionConfigHasNoCredentials(t *testing.T) {
	t.Parallel()
	accept := func(request) *rejection { return nil }
	b := open(t, optionsFor(t, startFakeServer(t, accept)))
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.HoldsLogins() {
		t.Error("the field Config.SASL of the connection contains credentials")
	}
}

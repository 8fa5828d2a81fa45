package rabbitmq_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/relay"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The credentials are the same for all addresses. So the first rejected login is final, and its reason must not get lost
// among the timeouts of further attempts.
func TestBrokerCheck_SeveralAddressesAndWrongPassword_ReturnsTheReasonOfTheFirst(t *testing.T) {
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
	if n := dials(); n != 1 {
		t.Errorf("the check tried %d addresses, want 1", n)
	}
	// This is the text of the server. The server sends it at once, and only to clients that announce that they understand it.
	const want = "ACCESS_REFUSED - Login was refused"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), ": correct the user name or password") {
		t.Errorf("the check returned %v, want %q and the remedy", err, want)
	}
}

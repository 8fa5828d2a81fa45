package certificates_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/certificates"
)

const day = 24 * time.Hour

var (
	start = time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC)
	hosts = []string{"rush-hour-redis.lot.svc.cluster.local", "rush-hour-redis.lot.svc"}
)

func newAuthority(t *testing.T, before certificates.Authority, now time.Time) certificates.Authority {
	t.Helper()
	a, err := certificates.RenewAuthority(before, "rush-hour", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func renew(t *testing.T, a certificates.Authority, p certificates.Pair, names []string, now time.Time) certificates.Pair {
	t.Helper()
	renewed, err := a.Renew(p, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return renewed
}

// verify checks that a client accepts the certificate of p for each name in the package variable hosts. The client
// trusts the given CA certificates.
func verify(t *testing.T, trusted []byte, p certificates.Pair, now time.Time) {
	t.Helper()
	block, _ := pem.Decode(p.Certificate)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	for _, host := range hosts {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("at %s, a client rejects the certificate for %s: %v", now, host, err)
		}
	}
}

func TestRenew_AThirdOfTheLifetimeIsLeft_RenewsTheCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, certificates.Authority{}, start)
	first := renew(t, a, certificates.Pair{}, hosts, start)
	verify(t, a.Trusted, first, start)
	due := certificates.RenewalTime(first)
	if want := start.Add(60 * day); !due.Equal(want) {
		t.Errorf("the renewal is due at %s, want %s", due, want)
	}
	if kept := renew(t, a, first, hosts, due.Add(-time.Second)); !bytes.Equal(kept.Certificate, first.Certificate) {
		t.Error("the certificate was renewed before it was due")
	}
	second := renew(t, a, first, hosts, due)
	if bytes.Equal(second.Certificate, first.Certificate) || bytes.Equal(second.Key, first.Key) {
		t.Error("the certificate or its key was not renewed when it was due")
	}
	verify(t, a.Trusted, second, due.Add(day))
}

func TestRenew_UnusablePair_IsReplaced(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, certificates.Authority{}, start)
	good, other := renew(t, a, certificates.Pair{}, hosts, start), renew(t, a, certificates.Pair{}, hosts, start)
	foreign := newAuthority(t, certificates.Authority{}, start)
	for name, pair := range map[string]certificates.Pair{
		"no certificate":              {Key: good.Key},
		"not a certificate":           {Certificate: []byte("certificate"), Key: []byte("key")},
		"the key of another pair":     {Certificate: good.Certificate, Key: other.Key},
		"signed by another authority": renew(t, foreign, certificates.Pair{}, hosts, start),
		"a certificate for one host":  renew(t, a, certificates.Pair{}, hosts[:1], start),
	} {
		renewed := renew(t, a, pair, hosts, start)
		if bytes.Equal(renewed.Certificate, pair.Certificate) {
			t.Errorf("%s: the pair was kept", name)
		}
		verify(t, a.Trusted, renewed, start)
	}
	if !certificates.RenewalTime(certificates.Pair{}).IsZero() {
		t.Error("a pair without certificate has a renewal time")
	}
}

// Every ten days for 25 simulated years, a controller checks the certificates of a CA and a server, and renews those
// that are due. Clients must accept the server at all times.
func TestRenewAuthority_CAIsRenewedRepeatedly_ClientsAlwaysTrustTheServerCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, certificates.Authority{}, start)
	leaf := renew(t, a, certificates.Pair{}, hosts, start)
	authorities, most := 1, 0
	for now := start; now.Before(start.Add(25 * 365 * day)); now = now.Add(10 * day) {
		next := newAuthority(t, a, now)
		if !bytes.Equal(next.Certificate, a.Certificate) {
			authorities++
		}
		a, leaf = next, renew(t, next, leaf, hosts, now)
		verify(t, a.Trusted, leaf, now)
		verify(t, a.Trusted, leaf, now.Add(certificates.RenewBefore-time.Second))
		most = max(most, bytes.Count(a.Trusted, []byte("BEGIN")))
	}
	if authorities != 3 || most != 2 {
		t.Errorf("25 years needed %d authorities, of which clients trusted up to %d at a time, want 3 and 2", authorities, most)
	}
}

// A server may get its certificate before a client gets the new CA certificate. So the new authority must not sign
// until clients trust it.
func TestRenew_AuthorityHasJustBeenRenewed_OldAuthoritySigns(t *testing.T) {
	t.Parallel()
	first := newAuthority(t, certificates.Authority{}, start)
	now := start.Add(9 * 365 * day)
	leaf := renew(t, first, certificates.Pair{}, hosts, now.Add(-60*day))
	second := newAuthority(t, first, now)
	if bytes.Equal(second.Certificate, first.Certificate) {
		t.Fatal("the authority was not renewed")
	}
	renewed := renew(t, second, leaf, hosts, now)
	if bytes.Equal(renewed.Certificate, leaf.Certificate) {
		t.Fatal("the certificate was not renewed")
	}
	for _, trusted := range [][]byte{first.Trusted, second.Trusted} {
		verify(t, trusted, renewed, now)
	}
	now = now.Add(60 * day)
	for name, a := range map[string]certificates.Authority{"as stored": {Pair: second.Pair, Trusted: second.Trusted}, "as returned": second} {
		last := renew(t, newAuthority(t, a, now), renewed, hosts, now)
		if _, err := certificates.Check(last, second.Certificate, hosts[0], now); err != nil {
			t.Errorf("%s: the new authority does not sign although clients trust it: %v", name, err)
		}
	}
	// An authority must not sign a certificate that expires later than the authority itself.
	late := start.Add(10 * 365 * day).Add(-certificates.Lifetime)
	third := newAuthority(t, first, late)
	verify(t, third.Trusted, renew(t, third, leaf, hosts, late), late.Add(certificates.Lifetime-time.Second))
}

func TestRenewAuthority_Unusable_IsReplaced(t *testing.T) {
	t.Parallel()
	good, other := newAuthority(t, certificates.Authority{}, start), newAuthority(t, certificates.Authority{}, start)
	for name, a := range map[string]certificates.Authority{
		"the key of another authority": {Pair: certificates.Pair{Certificate: good.Certificate, Key: other.Key}, Trusted: good.Trusted},
		"not trusted by clients":       {Pair: good.Pair, Trusted: other.Trusted},
		"a server certificate":         {Pair: renew(t, good, certificates.Pair{}, hosts, start), Trusted: good.Trusted},
	} {
		if renewed := newAuthority(t, a, start); bytes.Equal(renewed.Certificate, a.Certificate) {
			t.Errorf("%s: the authority was kept", name)
		}
	}
	if kept := newAuthority(t, good, start.Add(day)); !bytes.Equal(kept.Certificate, good.Certificate) {
		t.Error("a good authority was replaced")
	}
}

func TestCheck_ValidCertificate_ReturnsTheEarlierExpiryOfCertificateAndCA(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, certificates.Authority{}, start)
	end := start.Add(10 * 365 * day)
	for name, c := range map[string]struct{ issued, want time.Time }{
		"the certificate expires first": {start, start.Add(certificates.Lifetime)},
		"the authority expires first":   {end.Add(-day), end},
	} {
		pair := renew(t, a, certificates.Pair{}, hosts, c.issued)
		if expiry, err := certificates.Check(pair, a.Trusted, hosts[0], c.issued); err != nil || !expiry.Equal(c.want) {
			t.Errorf("%s: the expiry is %s (%v), want %s", name, expiry, err, c.want)
		}
	}
}

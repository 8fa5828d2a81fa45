// Package certificates issues and renews the certificates of servers and of their certificate authority, without I/O.
//
// The caller stores each result of RenewAuthority and Renew, and passes it to the next call. A certificate that is
// still good is returned unchanged.
package certificates

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	day = 24 * time.Hour
	// Lifetime is how long the certificate of a server is valid.
	Lifetime = 90 * day
	// RenewBefore is the remaining lifetime at which the certificate of a server is renewed.
	RenewBefore = 30 * day

	authorityLifetime = 10 * 365 * day
	// authorityRenewBefore is the remaining lifetime at which a CA certificate is renewed. It exceeds Lifetime, so
	// that no server certificate outlives its CA certificate.
	authorityRenewBefore = 365 * day

	// skew is how far a new certificate is backdated, so that clients with slow clocks accept the certificate.
	skew = 5 * time.Minute
)

// Pair is a certificate and its private key, both in PEM.
type Pair struct{ Certificate, Key []byte }

// Authority is a certificate authority. Trusted contains the CA certificates that clients trust, in PEM: the current
// certificate, and all previous certificates that have not expired.
type Authority struct {
	Pair

	Trusted []byte
	// previous is the pair from before the renewal, which signs until clients trust the new pair. If previous is nil,
	// the embedded Pair signs.
	previous *Pair
}

// RenewAuthority returns the given authority if clients trust it and it is valid for more than a year. Otherwise, it
// renews the authority in two calls, so that clients trust the new CA certificate before it signs:
//   - The first call returns an authority that contains the new pair, but signs with the previous pair if usable.
//   - The caller stores Pair and Trusted. The second call returns an authority that signs with the new pair.
func RenewAuthority(a Authority, name string, now time.Time) (Authority, error) {
	a.previous = nil
	if a.canSignUntil(now.Add(authorityRenewBefore)) {
		return a, nil
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLifetime),
	}
	pair, err := create(template, nil, nil)
	if err != nil {
		return Authority{}, fmt.Errorf("make the certificate authority %s: %w", name, err)
	}
	renewed := Authority{Pair: pair, Trusted: slices.Concat(pair.Certificate, unexpired(a.Trusted, now))}
	if a.canSignUntil(now.Add(Lifetime)) {
		renewed.previous = &a.Pair
	}
	return renewed, nil
}

// canSignUntil reports whether the authority is usable, clients trust it, and it expires after the given time.
func (a Authority) canSignUntil(end time.Time) bool {
	certificate, err := a.parse()
	return err == nil && certificate.IsCA && end.Before(certificate.NotAfter) && bytes.Contains(a.Trusted, a.Certificate)
}

// Renew returns p if a trusted authority signed p for the same hosts, and p is valid for longer than RenewBefore.
// Otherwise, it issues a new pair.
func (a Authority) Renew(p Pair, hosts []string, now time.Time) (Pair, error) {
	if a.isGood(p, hosts, now) {
		return p, nil
	}
	signer := a.Pair
	if a.previous != nil {
		signer = *a.previous
	}
	authority, err := tls.X509KeyPair(signer.Certificate, signer.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("read the certificate authority: %w", err)
	}
	// A RabbitMQ node presents its certificate also as a client, when it connects to other nodes of the cluster. So the
	// certificate must also allow client authentication.
	renewed, err := create(&x509.Certificate{
		Subject: pkix.Name{CommonName: commonName(hosts[0])}, DNSNames: hosts,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   now.Add(-skew), NotAfter: now.Add(Lifetime),
	}, authority.Leaf, authority.PrivateKey)
	if err != nil {
		return Pair{}, fmt.Errorf("make a certificate for %s: %w", hosts[0], err)
	}
	return renewed, nil
}

// Check returns until when clients that trust the CA certificates accept the server certificate for the host. It
// returns an error if clients reject the certificate, or if p.Key does not match it. Intermediate certificates may
// follow the server certificate in p.Certificate.
func Check(p Pair, ca []byte, host string, now time.Time) (expiry time.Time, err error) {
	chain, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return time.Time{}, fmt.Errorf("tls.crt and tls.key are not a certificate and its private key in PEM: %w", err)
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return time.Time{}, errors.New("ca.crt contains no certificate in PEM")
	}
	for _, der := range chain.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	verified, err := chain.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: intermediates, CurrentTime: now})
	if err != nil {
		return time.Time{}, fmt.Errorf("clients would reject tls.crt: %w", err)
	}
	for _, path := range verified { // the path that expires last counts, because clients need only one valid path
		if end := slices.MinFunc(path, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter; end.After(expiry) {
			expiry = end
		}
	}
	return expiry, nil
}

// RenewalTime returns the time from which Renew renews the certificate of the pair p. It returns the zero time if p is
// invalid.
func RenewalTime(p Pair) time.Time {
	leaf, err := p.parse()
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter.Add(-RenewBefore)
}

func (a Authority) isGood(p Pair, hosts []string, now time.Time) bool {
	leaf, err := p.parse()
	if err != nil || !slices.Equal(leaf.DNSNames, hosts) || !now.Add(RenewBefore).Before(leaf.NotAfter) {
		return false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Trusted)
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now})
	return err == nil
}

// parse returns the certificate of the pair. It returns an error if p.Key is not the private key of the certificate.
func (p Pair) parse() (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(p.Certificate, p.Key)
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}

// create returns a certificate with a new key. If issuer is nil, the certificate is self-signed.
func create(template, issuer *x509.Certificate, issuerKey crypto.PrivateKey) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		return Pair{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

// unexpired removes the expired certificates from a PEM bundle.
func unexpired(bundle []byte, now time.Time) []byte {
	var kept []byte
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil && now.Before(certificate.NotAfter) {
			kept = append(kept, pem.EncodeToMemory(block)...)
		}
	}
	return kept
}

// commonName cuts a host name to the length that X.509 permits. The cut is harmless, because clients verify only the
// subject alternative names.
func commonName(host string) string {
	const most = 64
	return host[:min(len(host), most)]
}

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func (r *Reconciler) neededCertificates(s *scope) []resources.Certificate {
	return resources.Certificates(s.sim, r.options.ClusterDomain)
}

// readCertificate reads the user's Secret with the certificate of the given components, if the spec names one. If the
// Secret cannot be used, of.finding says why.
func (r *Reconciler) readCertificate(ctx context.Context, s *scope, of *server, components ...resources.Component) error {
	external := slices.DeleteFunc(r.neededCertificates(s), func(c resources.Certificate) bool {
		return !c.External || !slices.Contains(components, c.Component)
	})
	if len(external) == 0 {
		return nil
	}
	// While the Secret is missing or invalid, clients of RabbitMQ and Redis still trust the last known CA
	// certificates.
	of.certificate.CA = resources.ReadCertificate(of.data).CA
	// All certificates in the slice external come from the same Secret.
	key := client.ObjectKey{Namespace: s.key.Namespace, Name: external[0].Secret}
	secret, err := r.readSecret(ctx, s, key)
	switch {
	case err != nil:
		return err
	case secret == nil:
		of.withheld, of.finding = s.recordMissing(key, "the certificate of "+of.name, "the keys tls.crt, tls.key and ca.crt")
		return nil
	case !allowsSimulation(secret, s.key.Name):
		of.denied, of.withheld = true, true
		of.finding = notAllowed(secret, s.key.Name)
		return nil
	}
	certificate := resources.ReadCertificate(secret.Data)
	var expiry time.Time
	for _, needed := range external {
		if expiry, err = certificates.Check(certificate.Pair, certificate.CA, needed.Hosts[0], s.now); err != nil {
			// The kubelet also copies invalid files to the pods. Then new connections to RabbitMQ fail.
			of.finding = found(stalled, reasonSecretInvalid, "Secret %s has no valid certificate for %s: %s. It needs the keys tls.crt, tls.key and ca.crt, "+
				"and the certificate must be valid for %s", key, of.name, err, hosts(external))
			return nil
		}
	}
	for _, needed := range external {
		s.addCertificateVersion(needed.Component, secret)
	}
	of.certificate = certificate
	s.warnOfExpiry(expiry, key, of.name)
	return nil
}

func hosts(all []resources.Certificate) string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.Hosts[0]
	}
	return strings.Join(names, ", ")
}

// warnOfExpiry adds a note if the user's certificate expires within certificates.RenewBefore. It requests a reconcile
// for the time when the note becomes due, or when the certificate expires.
func (s *scope) warnOfExpiry(expiry time.Time, secret client.ObjectKey, server string) {
	left := expiry.Sub(s.now)
	if left > certificates.RenewBefore {
		s.wakeAfter(left - certificates.RenewBefore)
		return
	}
	s.wakeAfter(left)
	s.findings.notes = append(s.findings.notes, fmt.Sprintf("a certificate of %s in Secret %s (tls.crt or ca.crt) expires at %s: renew it before then",
		server, secret, expiry.UTC().Format(time.RFC3339)))
}

// ensureCertificates issues the certificates that the user does not provide, and renews them before they expire.
func (r *Reconciler) ensureCertificates(ctx context.Context, s *scope) error {
	s.credentials.Certificates = map[string]resources.CertificateData{}
	for _, needed := range r.neededCertificates(s) {
		var err error
		if needed.External {
			// Several servers may use the same Secret. Keep the CA certificates that another server has read from it.
			if known := s.managedServer(needed.Component).certificate; known.CA != nil {
				s.credentials.Certificates[needed.Secret] = known
			}
		} else {
			err = r.ensureCertificate(ctx, s, needed)
		}
		if err != nil {
			return err
		}
		// Keep the first certificate of a component, because clients verify only this one. RabbitMQ has a second
		// certificate, for connections between its nodes.
		if s.trusted[needed.Component].Host == "" {
			s.trusted[needed.Component] = podhttp.Server{CA: string(s.credentials.Certificates[needed.Secret].CA), Host: needed.Hosts[0]}
		}
	}
	return nil
}

// serverIn returns the HTTP server of a component in the pod with the given IP address.
func (s *scope) serverIn(c resources.Component, ip string) podhttp.Server {
	pod := s.trusted[c]
	pod.IP = ip
	return pod
}

// ensureCertificate issues or renews one certificate. If another owner uses the name of a Secret, it issues none.
func (r *Reconciler) ensureCertificate(ctx context.Context, s *scope, needed resources.Certificate) error {
	if err := r.ensureAuthority(ctx, s); err != nil {
		return err
	}
	secret, err := r.ownSecret(ctx, s, needed.Secret)
	if err != nil {
		return err
	}
	certificate := resources.ReadCertificate(dataOf(secret))
	s.addCertificateVersion(needed.Component, secret)
	if authority := s.credentials.Authority; authority.Certificate != nil {
		certificate.CA = authority.Trusted
		if !s.isTaken(needed.Secret) {
			if certificate.Pair, err = authority.Renew(certificate.Pair, needed.Hosts, s.now); err != nil {
				return err
			}
			s.wakeAfter(certificates.RenewalTime(certificate.Pair).Sub(s.now))
		}
	}
	s.credentials.Certificates[needed.Secret] = certificate
	return nil
}

// ensureAuthority creates or renews the certificate authority, unless the name of its Secret is taken.
func (r *Reconciler) ensureAuthority(ctx context.Context, s *scope) error {
	if s.credentials.Authority.Certificate != nil {
		return nil
	}
	name := resources.AuthoritySecretName(s.sim)
	secret, err := r.ownSecret(ctx, s, name)
	if err != nil || s.isTaken(name) {
		return err
	}
	stored := resources.ReadCertificate(dataOf(secret))
	s.credentials.Authority, err = certificates.RenewAuthority(
		certificates.Authority{Pair: stored.Pair, Trusted: stored.CA}, s.plan.Simulation, s.now)
	return err
}

func (s *scope) isTaken(secret string) bool { return s.taken[childKey{"Secret", secret}] != nil }

// addCertificateVersion records the version of a Secret that the pods of a component mount. It does nothing if the
// Secret is nil.
func (s *scope) addCertificateVersion(c resources.Component, secret *corev1.Secret) {
	if secret != nil {
		s.certificateVersions[c] = append(s.certificateVersions[c], secret.ResourceVersion)
	}
}

// managedServer returns the server that runs in the pods of a component. For generators and processors, managedServer
// returns the server of their metrics.
func (s *scope) managedServer(c resources.Component) *server {
	switch c {
	case resources.ComponentRabbitMQ:
		return &s.broker
	case resources.ComponentRedis:
		return &s.store
	case resources.ComponentSummaries:
		return &s.summaries
	}
	return &s.metrics
}

func dataOf(secret *corev1.Secret) map[string][]byte {
	if secret == nil {
		return nil
	}
	return secret.Data
}

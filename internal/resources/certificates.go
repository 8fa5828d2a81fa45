package resources

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/certificates"
)

// Keys of the Secrets with certificates. Secrets that cert-manager creates have the same keys.
const (
	keyCertificate = corev1.TLSCertKey
	keyPrivateKey  = corev1.TLSPrivateKeyKey
	keyCA          = "ca.crt"
)

// certificateDir is the path at which a component mounts the Secret with its certificate.
const certificateDir = "/run/secrets/tls"

// Certificate describes a TLS certificate that the pods of a component mount.
type Certificate struct {
	Component Component
	// Secret is the name of the Secret that the pods mount.
	Secret string
	// Hosts are the DNS names that the certificate must be valid for.
	Hosts []string
	// External is true if the Secret is the user's. Otherwise the operator issues the certificate and creates the
	// Secret.
	External bool
}

// AuthoritySecretName returns the name of the Secret with the certificate authority that signs the certificates that the
// operator issues. No pod mounts this Secret.
func AuthoritySecretName(sim *v1alpha1.ParkingSimulation) string { return sim.Name + "-ca" }

// Certificates returns the certificates that the components of a simulation need.
func Certificates(sim *v1alpha1.ParkingSimulation, clusterDomain string) []Certificate {
	b := newNames(sim, clusterDomain)
	var needed []Certificate
	for _, c := range append(Servers(), ComponentEntry, ComponentExit, ComponentProcessor) {
		if tls := TLSOf(sim, c); tls != nil {
			needed = append(needed, b.serverCertificate(c, tls))
			if c == ComponentRabbitMQ {
				needed = append(needed, b.nodesCertificate())
			}
		}
	}
	return needed
}

// nodesCertificate returns the certificate with which RabbitMQ nodes authenticate to each other. The operator always
// issues it, because a certificate of the user is only for clients.
func (b *builder) nodesCertificate() Certificate {
	nodes := Certificate{Component: ComponentRabbitMQ, Secret: b.rabbitMQNodes()}
	for i := range *b.sim.Spec.RabbitMQ.ManagedOrDefault().Replicas {
		nodes.Hosts = append(nodes.Hosts, b.rabbitMQNode(fmt.Sprintf("%s-%d", b.name(ComponentRabbitMQ), i)))
	}
	return nodes
}

const defaultClusterDomain = "cluster.local"

// newNames returns a builder that only derives the names of objects.
func newNames(sim *v1alpha1.ParkingSimulation, clusterDomain string) *builder {
	return &builder{sim: sim, Input: Input{ClusterDomain: cmp.Or(clusterDomain, defaultClusterDomain)}}
}

// serverCertificate returns the certificate that a component presents to its clients.
func (b *builder) serverCertificate(c Component, tls *v1alpha1.TLSSpec) Certificate {
	name := b.name(c)
	certificate := Certificate{Component: c, Secret: name + "-tls", Hosts: []string{
		b.host(name), name + "." + b.sim.Namespace + ".svc", name + "." + b.sim.Namespace, name, "localhost",
	}}
	if tls.SecretName != "" {
		certificate.Secret, certificate.External = tls.SecretName, true
	}
	return certificate
}

// CertificateData is the content of a Secret with a certificate. CA contains the CA certificates that clients trust.
// Build needs only CA from a Secret of the user.
type CertificateData struct {
	certificates.Pair

	CA []byte
}

// ReadCertificate returns the certificate in the data of a Secret. The data may be nil.
func ReadCertificate(data map[string][]byte) CertificateData {
	return CertificateData{Pair: certificates.Pair{Certificate: data[keyCertificate], Key: data[keyPrivateKey]}, CA: data[keyCA]}
}

// certificates returns the Secrets with the certificates that the operator issues, and the Secret with the certificate
// authority that signs them.
func (b *builder) certificates() ([]client.Object, error) {
	var objects []client.Object
	for _, c := range Certificates(b.sim, b.ClusterDomain) {
		if c.External {
			continue
		}
		if objects == nil {
			a := b.Credentials.Authority
			objects = append(objects, b.certificateSecret(AuthoritySecretName(b.sim), componentAll, CertificateData{Pair: a.Pair, CA: a.Trusted}))
		}
		objects = append(objects, b.certificateSecret(c.Secret, c.Component, b.Credentials.Certificates[c.Secret]))
	}
	return objects, nil
}

func (b *builder) certificateSecret(name string, c Component, content CertificateData) client.Object {
	return b.namedSecret(name, c, map[string][]byte{
		keyCertificate: content.Certificate, keyPrivateKey: content.Key, keyCA: content.CA,
	})
}

// unknownCA is a placeholder for CA certificates that are not known yet. It makes clients report an error. Without a
// placeholder, clients would connect without TLS.
const unknownCA = "The CA certificates are not known yet.\n"

// trusting returns a Secret with the binding of a server. If the server uses TLS, the Secret also contains CA
// certificates, which make clients use TLS.
func (b *builder) trusting(c Component, tls *v1alpha1.TLSSpec, values map[string]string) client.Object {
	if tls != nil {
		values[keyCA] = cmp.Or(string(b.Credentials.Certificates[b.serverCertificate(c, tls).Secret].CA), unknownCA)
	}
	return b.secret(c, values)
}

func (b *builder) certificateVolume(c Component, tls *v1alpha1.TLSSpec) corev1.Volume {
	return certificateVolume("tls", b.serverCertificate(c, tls).Secret)
}

func certificateVolume(name, secret string) corev1.Volume {
	return secretVolume(name, secret, keyCertificate, keyPrivateKey, keyCA)
}

// serveTLS makes a parking command serve HTTP over TLS if its component uses TLS. It adds the volume with the
// certificate.
func (b *builder) serveTLS(c Component, container *corev1.Container, volumes []corev1.Volume) []corev1.Volume {
	tls := TLSOf(b.sim, c)
	if tls == nil {
		return volumes
	}
	container.Args = append(container.Args, "--tls-dir="+certificateDir)
	container.VolumeMounts = append(container.VolumeMounts, readOnly("tls", certificateDir))
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
		probe.HTTPGet.Scheme = corev1.URISchemeHTTPS
	}
	return append(volumes, b.certificateVolume(c, tls))
}

// TLSOf returns the TLS settings of the pods of a component. It returns nil if they do not use TLS, or if the component is
// external.
func TLSOf(sim *v1alpha1.ParkingSimulation, c Component) *v1alpha1.TLSSpec {
	spec := &sim.Spec
	switch c {
	case ComponentRabbitMQ:
		if managed := spec.RabbitMQ.ManagedOrDefault(); managed != nil {
			return managed.TLS
		}
	case ComponentRedis:
		if managed := spec.Redis.ManagedOrDefault(); managed != nil {
			return managed.TLS
		}
	case ComponentSummaries:
		if managed := spec.SummaryAPI.ManagedOrDefault(); managed != nil {
			return managed.TLS
		}
	case ComponentEntry, ComponentExit, ComponentProcessor:
		return spec.Monitoring.TLS
	}
	return nil
}

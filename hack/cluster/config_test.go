package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// The configuration files repeat some constants of layout.go, because they cannot refer to Go constants.
func TestConfigFiles_PathsAndAddresses_AgreeWithConstants(t *testing.T) {
	t.Parallel()
	var cni struct {
		Plugins []struct {
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	read(t, "cni.conflist", json.Unmarshal, &cni)
	var kubelet struct {
		Address, ClusterDomain, ContainerRuntimeEndpoint string
		ClusterDNS                                       []string
	}
	read(t, "kubelet.yaml", yamlUnmarshal, &kubelet)
	var proxy struct{ ClusterCIDR, BindAddress string }
	read(t, "kube-proxy.yaml", yamlUnmarshal, &proxy)
	for _, pair := range [][2]string{
		{cni.Plugins[0].IPAM.Ranges[0][0].Subnet, podSubnet},
		{kubelet.Address, nodeAddress},
		{kubelet.ClusterDomain, domain},
		{kubelet.ContainerRuntimeEndpoint, "unix://" + containerdSocket},
		{kubelet.ClusterDNS[0], nodeAddress},
		{proxy.ClusterCIDR, podSubnet},
		{proxy.BindAddress, nodeAddress},
	} {
		if pair[0] != pair[1] {
			t.Errorf("a configuration file has %s, layout.go has %s", pair[0], pair[1])
		}
	}
	_, services, err := net.ParseCIDR(serviceRange)
	if err != nil {
		t.Fatal(err)
	}
	if !services.Contains(net.ParseIP(apiService)) {
		t.Errorf("%s is not in %s", apiService, serviceRange)
	}
}

// images contains the values that a file config/monitoring-*.yaml sets: three images and the version of Prometheus.
type images struct{ Operator, ConfigReloader, Prometheus, PrometheusVersion string }

func TestConfigFiles_ReferToTheImagesOfTheCluster(t *testing.T) {
	t.Parallel()
	var values struct {
		Simulations struct {
			Images struct{ RabbitMQ, Redis, RedisExporter string }
		}
	}
	read(t, "values-native.yaml", yamlUnmarshal, &values)
	if got, want := values.Simulations.Images, (struct{ RabbitMQ, Redis, RedisExporter string }{serversImage, serversImage, exporterImage}); got != want {
		t.Errorf("values-native.yaml has %v, want %v", got, want)
	}
	var native, upstream images
	read(t, "monitoring-native.yaml", yamlUnmarshal, &native)
	read(t, "monitoring-kind.yaml", yamlUnmarshal, &upstream)
	version := native.PrometheusVersion
	if want := (images{prometheusOperatorImage, configReloaderImage, prometheusImage, version}); native != want {
		t.Errorf("monitoring-native.yaml has %v, want %v", native, want)
	}
	build := monitoringBuilds()[0]
	versions, err := (&builder{source: "."}).versions(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	if want := (images{
		"quay.io/prometheus-operator/prometheus-operator:" + versions[build.programs["prometheus-operator"]],
		"quay.io/prometheus-operator/prometheus-config-reloader:" + versions[build.programs["prometheus-config-reloader"]],
		"quay.io/prometheus/prometheus:" + version, version,
	}); upstream != want {
		t.Errorf("monitoring-kind.yaml has %v, want the versions of the local cluster: %v", upstream, want)
	}
}

func yamlUnmarshal(text []byte, into any) error { return yaml.Unmarshal(text, into) }

func read(t *testing.T, name string, unmarshal func([]byte, any) error, into any) {
	t.Helper()
	text, err := configs.ReadFile("config/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func TestPKI_Certificates_AreValid(t *testing.T) {
	t.Parallel()
	p, err := newPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.certificates(); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.authority)
	server := parse(t, p, "apiserver")
	for _, host := range []string{"127.0.0.1", nodeAddress, apiService, "kubernetes.default.svc." + domain} {
		if _, err := server.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("verify the certificate of the API server for %s: %v", host, err)
		}
	}
	kubelet := parse(t, p, "node")
	if _, err := kubelet.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("verify the client certificate of the kubelet: %v", err)
	}
	if kubelet.Subject.CommonName != "system:node:"+nodeName {
		t.Errorf("the subject of the kubelet's certificate is %s", kubelet.Subject)
	}
}

func parse(t *testing.T, p *pki, name string) *x509.Certificate {
	t.Helper()
	text, err := p.read(name + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestPKI_Kubeconfig_CanBeLoaded(t *testing.T) {
	t.Parallel()
	p, err := newPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.certificates(); err != nil {
		t.Fatal(err)
	}
	text, err := p.kubeconfig("admin", "127.0.0.1:1234")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://127.0.0.1:1234" || len(config.CertData) == 0 || len(config.CAData) == 0 {
		t.Errorf("the configuration is %s, want the address of the API server and the certificates", config)
	}
}

func TestStartTime_SameProcess_ReturnsSameTime(t *testing.T) {
	t.Parallel()
	first, err := startTime(os.Getpid())
	if err != nil || first == 0 {
		t.Fatalf("this process started at %d: %v", first, err)
	}
	if again, err := startTime(os.Getpid()); err != nil || again != first {
		t.Errorf("the second start time is %d, the first %d: %v", again, first, err)
	}
	const unused = 1 << 30 // larger than every process ID on Linux
	if _, err := startTime(unused); err == nil {
		t.Error("startTime returned no error for a process that does not exist")
	}
}

func TestLayout_CgroupName_IsUniquePerRepository(t *testing.T) {
	t.Parallel()
	if a, b := newLayout("/a", "v1"), newLayout("/b", "v1"); a.cgroup() == b.cgroup() {
		t.Errorf("both repositories have the cgroup %s", a.cgroup())
	}
}

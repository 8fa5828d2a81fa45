package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// node is the process that starts all others of a cluster. It is PID 1 of a PID namespace, so the others end when it
// ends.
type node struct {
	layout layout
	pki    *pki
	*supervisor
}

// apiListener is the file descriptor of a listener on the loopback address of the host. The node inherits this
// descriptor from its parent process.
const apiListener = 3

// runNode runs the cluster. It returns when ctx is cancelled, or when a process of the cluster ends.
func runNode(ctx context.Context, l layout) error {
	if err := enterNode(l); err != nil {
		return err
	}
	p, err := newPKI(nodeState + "/pki")
	if err != nil {
		return err
	}
	n := &node{layout: l, pki: p, supervisor: newSupervisor("/var/log")}
	if err := n.writeConfig(); err != nil {
		return err
	}
	if err := n.forwardAPI(ctx); err != nil {
		return err
	}
	if err := n.startAll(ctx); err != nil {
		return err
	}
	return n.wait(ctx)
}

// startAll starts the components in the order of their dependencies.
func (n *node) startAll(ctx context.Context) error {
	for _, component := range []struct {
		start func() error
		ready func(context.Context) error
	}{
		{n.startEtcd, answers(nodeEtcd+"/health", nil)},
		{n.startContainerd, nil},
		{n.startAPIServer, n.apiServerAnswers},
		{n.startControllerManager, nil},
		{n.startScheduler, nil},
		{n.startKubeProxy, nil},
		{nil, accepts("unix", containerdSocket)},
		// Wait until dnsmasq listens. Before that, the SIGHUP from publishNames would kill it.
		{n.startDNS, accepts("tcp", net.JoinHostPort(nodeAddress, "53"))},
		{n.startKubelet, n.isRegistered},
		{n.startKubeRouter, nil}, // kube-router exits if the Node object does not exist yet
	} {
		if component.start != nil {
			if err := component.start(); err != nil {
				return err
			}
		}
		if component.ready == nil {
			continue
		}
		if err := n.await(ctx, component.ready); err != nil {
			return err
		}
	}
	return n.startControllers(ctx)
}

func newClient() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", nodeState+"/admin.kubeconfig")
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// isRegistered returns an error until the kubelet has created the Node object.
func (n *node) isRegistered(ctx context.Context) error {
	client, err := newClient()
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	return err
}

// startControllers starts two controllers that Kubernetes does not include: a provisioner of volumes, and a controller
// that publishes the names of Services in DNS.
func (n *node) startControllers(ctx context.Context) error {
	client, err := newClient()
	if err != nil {
		return err
	}
	const resync = 5 * time.Second
	factory := informers.NewSharedInformerFactory(client, resync)
	if err := errors.Join(provisionVolumes(ctx, client, factory, nodeState+"/volumes"), n.publishNames(factory)); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	return nil
}

func (n *node) writeConfig() error {
	if err := n.pki.certificates(); err != nil {
		return err
	}
	for _, name := range []string{"admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", kubeRouter, "node"} {
		text, err := n.pki.kubeconfig(name, nodeAPI)
		if err != nil {
			return err
		}
		if err := os.WriteFile(nodeState+"/"+name+".kubeconfig", text, 0o600); err != nil {
			return err
		}
	}
	// The file resolv.conf is for the kubelet. It is empty, because no name server resolves names outside the cluster.
	if err := os.WriteFile(nodeState+"/resolv.conf", nil, 0o644); err != nil {
		return err
	}
	for name, path := range map[string]string{
		"containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml",
		"kube-proxy.yaml": "kube-proxy.yaml", "cni.conflist": "cni/pods.conflist",
	} {
		text, err := configs.ReadFile("config/" + name)
		if err != nil {
			return err
		}
		path = filepath.Join(nodeState, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) startEtcd() error {
	return n.start("etcd",
		"--name=parking", "--data-dir="+nodeState+"/etcd", "--unsafe-no-fsync",
		"--listen-client-urls="+nodeEtcd, "--advertise-client-urls="+nodeEtcd,
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=parking=http://127.0.0.1:2380", "--log-level=warn")
}

func (n *node) startAPIServer() error {
	pki := nodeState + "/pki/"
	return n.start("kube-apiserver",
		"--advertise-address="+nodeAddress, "--secure-port=6443", "--etcd-servers="+nodeEtcd,
		"--service-cluster-ip-range="+serviceRange,
		"--tls-cert-file="+pki+"apiserver.crt", "--tls-private-key-file="+pki+"apiserver.key",
		"--client-ca-file="+pki+"ca.crt",
		"--kubelet-certificate-authority="+pki+"ca.crt",
		"--kubelet-client-certificate="+pki+"apiserver-kubelet.crt", "--kubelet-client-key="+pki+"apiserver-kubelet.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc."+domain,
		"--service-account-key-file="+pki+"service-accounts.crt", "--service-account-signing-key-file="+pki+"service-accounts.key",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged", "--profiling=false")
}

func (n *node) startControllerManager() error {
	pki := nodeState + "/pki/"
	return n.start("kube-controller-manager",
		"--kubeconfig="+nodeState+"/kube-controller-manager.kubeconfig", "--bind-address=127.0.0.1",
		"--leader-elect=false", "--use-service-account-credentials", "--cluster-cidr="+podSubnet,
		"--root-ca-file="+pki+"ca.crt", "--service-account-private-key-file="+pki+"service-accounts.key",
		"--cluster-signing-cert-file="+pki+"ca.crt", "--cluster-signing-key-file="+pki+"ca.key")
}

func (n *node) startScheduler() error {
	return n.start("kube-scheduler",
		"--kubeconfig="+nodeState+"/kube-scheduler.kubeconfig", "--bind-address=127.0.0.1", "--leader-elect=false")
}

func (n *node) startKubeProxy() error {
	return n.start("kube-proxy", "--config="+nodeState+"/kube-proxy.yaml", "--hostname-override="+nodeName)
}

const kubeRouter = "kube-router"

// startKubeRouter starts kube-router if its binary exists. The flags enable only NetworkPolicies, because kube-proxy
// and the CNI plugins do the rest of the networking.
func (n *node) startKubeRouter() error {
	if _, err := os.Stat(n.layout.program(kubeRouter)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return n.start(kubeRouter,
		"--kubeconfig="+nodeState+"/"+kubeRouter+".kubeconfig", "--hostname-override="+nodeName,
		"--run-firewall", "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false",
		"--service-cluster-ip-range="+serviceRange, "--health-port=0")
}

func (n *node) startContainerd() error {
	return n.start("containerd", "--config="+nodeState+"/containerd.toml", "--log-level=warn")
}

func (n *node) startKubelet() error {
	return n.start("kubelet",
		"--config="+nodeState+"/kubelet.yaml", "--kubeconfig="+nodeState+"/node.kubeconfig",
		"--root-dir="+nodeState+"/kubelet", "--cert-dir="+nodeState+"/kubelet/pki",
		"--cgroup-root=/"+n.layout.cgroup(), "--hostname-override="+nodeName, "--node-ip="+nodeAddress)
}

// forwardAPI connects the loopback address of the host with the API server, which listens in the network namespace
// of the node.
func (n *node) forwardAPI(ctx context.Context) error {
	listener, err := net.FileListener(os.NewFile(apiListener, "api"))
	if err != nil {
		return fmt.Errorf("use the inherited listener for the API server: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			outer, err := listener.Accept()
			if err != nil {
				return
			}
			go forward(outer, nodeAPI)
		}
	}()
	return nil
}

// forward copies data in both directions until either side closes its connection.
func forward(outer net.Conn, address string) {
	defer func() { _ = outer.Close() }()
	inner, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = inner.Close() }()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{outer, inner}, {inner, outer}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

func (n *node) apiServerAnswers(ctx context.Context) error {
	roots := x509.NewCertPool()
	roots.AddCert(n.pki.authority)
	return answers("https://"+nodeAPI+"/readyz", &tls.Config{RootCAs: roots})(ctx)
}

// answers returns a check that succeeds if the response to a GET request for the URL has the status 200.
func answers(url string, config *tls.Config) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 2 * time.Second}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	}
}

// accepts returns a check that succeeds if a connection to the address can be opened.
func accepts(network, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			err = connection.Close()
		}
		return err
	}
}

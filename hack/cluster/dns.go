package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
)

// hostsFile contains the DNS names of the cluster and their addresses, in the format of /etc/hosts. dnsmasq serves
// these names.
const hostsFile = nodeState + "/hosts"

// startDNS starts dnsmasq, the only name server of the pods. dnsmasq resolves only the names in the hosts file.
func (n *node) startDNS() error {
	if err := os.WriteFile(hostsFile, nil, 0o644); err != nil {
		return err
	}
	return n.start("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-",
		"--no-resolv", "--no-hosts", "--addn-hosts="+hostsFile, "--address=/#/",
		"--listen-address="+nodeAddress, "--bind-interfaces")
}

// names updates the hosts file when Services or their endpoints change.
type names struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	// changed makes dnsmasq read the hosts file again.
	changed func() error

	mu      sync.Mutex
	written string
}

// publishNames registers event handlers that update the hosts file when a Service or its endpoints change. The caller
// must then start the informer factory.
func (n *node) publishNames(factory informers.SharedInformerFactory) error {
	services, endpoints := factory.Core().V1().Services(), factory.Discovery().V1().EndpointSlices()
	all := &names{
		services: services.Lister(), slices: endpoints.Lister(),
		changed: func() error { return n.signal("dnsmasq", syscall.SIGHUP) },
	}
	if err := handle(services.Informer(), func(*corev1.Service) error { return all.write() }); err != nil {
		return err
	}
	return handle(endpoints.Informer(), func(*discoveryv1.EndpointSlice) error { return all.write() })
}

// write replaces the hosts file if its content has changed.
func (n *names) write() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	services, err := n.services.List(labels.Everything())
	if err != nil {
		return err
	}
	endpoints, err := n.slices.List(labels.Everything())
	if err != nil {
		return err
	}
	text := hosts(services, endpoints)
	if text == n.written {
		return nil
	}
	if err := os.WriteFile(hostsFile+".part", []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Rename(hostsFile+".part", hostsFile); err != nil {
		return err
	}
	n.written = text
	return n.changed()
}

// hosts returns the content of the hosts file: one line per Service with a cluster IP, and one per ready address of a
// headless Service.
func hosts(services []*corev1.Service, endpoints []*discoveryv1.EndpointSlice) string {
	var lines []string
	headless := map[string]bool{}
	for _, s := range services {
		if s.Spec.ClusterIP == corev1.ClusterIPNone {
			headless[s.Namespace+"/"+s.Name] = true
		} else if s.Spec.ClusterIP != "" {
			lines = append(lines, s.Spec.ClusterIP+" "+serviceName(s.Namespace, s.Name))
		}
	}
	for _, slice := range endpoints {
		service := slice.Labels[discoveryv1.LabelServiceName]
		if !headless[slice.Namespace+"/"+service] {
			continue
		}
		name := serviceName(slice.Namespace, service)
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready != nil && !*ready {
				continue
			}
			for _, address := range endpoint.Addresses {
				if endpoint.Hostname != nil {
					lines = append(lines, fmt.Sprintf("%s %s.%s %[3]s", address, *endpoint.Hostname, name))
				} else {
					lines = append(lines, address+" "+name)
				}
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(append(lines, ""), "\n")
}

func serviceName(namespace, name string) string { return name + "." + namespace + ".svc." + domain }

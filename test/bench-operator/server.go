package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/parking-operator/parking-operator/controllers"
)

const (
	// operatorUser is the name of the user whose credentials the operator has. This user has the role from the
	// manifests.
	operatorUser = "parking-operator"
	// system is the namespace of the operator.
	system = "system"
	// lot is the namespace of the simulations.
	lot = "lot"
)

// auditPolicy is an API server audit policy that logs every write request of the operator.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
  - level: Metadata
    users: [` + operatorUser + `]
    verbs: [create, update, patch, delete, deletecollection]
  - level: None
`

// server is an API server together with its etcd.
type server struct {
	environment *envtest.Environment
	admin       client.Client
	audit       string // the path of the audit log
	kubeconfig  string // the path of the operator's kubeconfig
}

func startServer(ctx context.Context, directory string) (_ *server, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, errors.New("KUBEBUILDER_ASSETS is not set: set it to the directory that hack/envtest.sh prints")
	}
	policy := filepath.Join(directory, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return nil, fmt.Errorf("write the audit policy: %w", err)
	}
	s := &server{audit: filepath.Join(directory, "audit.log"), kubeconfig: filepath.Join(directory, "kubeconfig")}
	s.environment = &envtest.Environment{
		CRDDirectoryPaths: []string{"config/crd/bases"}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute,
	}
	s.environment.ControlPlane.GetAPIServer().Configure().
		Set("audit-policy-file", policy).Set("audit-log-path", s.audit).Set("audit-log-maxsize", "10000").
		// Each simulation needs three Service addresses, and the default range has only 254.
		Set("service-cluster-ip-range", "10.96.0.0/16")
	config, err := s.environment.Start()
	if err != nil {
		return nil, fmt.Errorf("start the API server: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	config.QPS = -1
	scheme, err := controllers.NewScheme()
	if err != nil {
		return nil, err
	}
	if s.admin, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return nil, fmt.Errorf("create a client: %w", err)
	}
	if err := s.addOperator(); err != nil {
		return nil, err
	}
	return s, s.grant(ctx)
}

func (s *server) stop() error {
	if err := s.environment.Stop(); err != nil {
		return fmt.Errorf("stop the API server: %w", err)
	}
	return nil
}

// addOperator creates the user of the operator and a kubeconfig for it.
func (s *server) addOperator() error {
	user, err := s.environment.AddUser(envtest.User{Name: operatorUser}, nil)
	if err != nil {
		return fmt.Errorf("add the operator's user: %w", err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return fmt.Errorf("create the operator's kubeconfig: %w", err)
	}
	if err := os.WriteFile(s.kubeconfig, kubeconfig, 0o600); err != nil {
		return fmt.Errorf("write the operator's kubeconfig: %w", err)
	}
	return nil
}

// grant creates the namespaces, and the roles from the manifests. It gives the roles to the user of the operator.
func (s *server) grant(ctx context.Context) error {
	objects := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lot}},
	}
	roles, err := readObjects("config/rbac/role.yaml")
	if err != nil {
		return err
	}
	for _, role := range roles {
		objects = append(objects, role, binding(role))
	}
	for _, o := range objects {
		if err := s.admin.Create(ctx, o); err != nil {
			return fmt.Errorf("create %s: %w", o.GetName(), err)
		}
	}
	return nil
}

func binding(role client.Object) client.Object {
	kind := role.GetObjectKind().GroupVersionKind().Kind
	meta := metav1.ObjectMeta{Namespace: role.GetNamespace(), Name: role.GetName()}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: role.GetName()}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: operatorUser}}
	if kind == "Role" {
		return &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}
	}
	return &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}
}

func readObjects(path string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	const lookAhead = 4096
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), lookAhead)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		objects = append(objects, object)
	}
}

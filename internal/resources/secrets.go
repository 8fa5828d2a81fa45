package resources

import (
	"encoding/json"
	"maps"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// These are the keys of Secrets. The Service Binding specification defines the first five.
const (
	keyType     = "type"
	keyHost     = "host"
	keyPort     = "port"
	keyUsername = "username"
	keyPassword = "password"

	keyErlangCookie = "erlang-cookie"
	keyDefinitions  = "definitions.json"
	keyAuthConf     = "auth.conf"
	keyExporter     = "exporter.json"
)

// ReadCredentials returns the credentials in the data of the Secrets. The data may be nil. Missing credentials are
// empty.
func ReadCredentials(rabbitMQ, redis map[string][]byte) Credentials {
	return Credentials{
		BrokerPassword: string(rabbitMQ[keyPassword]),
		ErlangCookie:   string(rabbitMQ[keyErlangCookie]),
		RedisPassword:  string(redis[keyPassword]),
	}
}

// rabbitMQSecret returns the Secret with the binding of the managed RabbitMQ. It also contains the Erlang cookie
// and the definition of the user, which only the nodes read.
func (b *builder) rabbitMQSecret() (client.Object, error) {
	c := b.Credentials
	definitions, err := json.Marshal(map[string]any{
		"vhosts": []any{map[string]string{"name": "/"}},
		"users":  []any{map[string]string{"name": rabbitMQUserName, "password": c.BrokerPassword, "tags": ""}},
		"permissions": []any{map[string]string{
			"user": rabbitMQUserName, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*",
		}},
	})
	if err != nil {
		return nil, err
	}
	return b.trusting(ComponentRabbitMQ, b.rabbitMQ.TLS, map[string]string{
		keyType:         string(ComponentRabbitMQ),
		keyHost:         b.host(b.name(ComponentRabbitMQ)),
		keyPort:         strconv.Itoa(amqpNumber),
		keyUsername:     rabbitMQUserName,
		keyPassword:     c.BrokerPassword,
		keyErlangCookie: c.ErlangCookie,
		keyDefinitions:  string(definitions),
	}), nil
}

// clusterSecret returns the simulation's copy of the binding of a RabbitmqCluster.
func (b *builder) clusterSecret() client.Object {
	s := b.secret(ComponentRabbitMQ, nil)
	s.Data = maps.Clone(b.BrokerAddress)
	return s
}

// redisSecret returns the Secret with the binding of the managed Redis. It also contains the password in the
// formats that the server and the exporter read.
func (b *builder) redisSecret() (client.Object, error) {
	password := b.Credentials.RedisPassword
	exporter, err := json.Marshal(map[string]string{b.redisLocalAddress(): password})
	if err != nil {
		return nil, err
	}
	return b.trusting(ComponentRedis, b.redis.TLS, map[string]string{
		keyType:     string(ComponentRedis),
		keyHost:     b.host(b.name(ComponentRedis)),
		keyPort:     strconv.Itoa(redisNumber),
		keyPassword: password,
		keyAuthConf: "requirepass " + password + "\n",
		keyExporter: string(exporter),
	}), nil
}

// secret returns a Secret that is named after a component and contains the given values.
func (b *builder) secret(c Component, values map[string]string) *corev1.Secret {
	data := map[string][]byte{}
	for key, value := range values {
		data[key] = []byte(value)
	}
	return b.namedSecret(b.name(c), c, data)
}

func (b *builder) namedSecret(name string, c Component, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: b.object(name, c), Type: corev1.SecretTypeOpaque, Data: data}
}

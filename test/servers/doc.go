// Package servers runs real RabbitMQ, Redis and PostgreSQL servers for tests and benchmarks; see package
// privateserver.
//
// A test that stops or kills a server must start a server of its own:
//
//	broker := servers.NewRabbitMQ(t, servers.RabbitMQOptions{})
//	cache := servers.NewRedis(t, servers.RedisOptions{})
//	broker.SyncQueues()              // call after the declaration of quorum queues, before Kill
//	broker.Kill()                    // sends SIGKILL to all processes of the broker
//	broker.Start(ctx)                // keeps the address, the password and the data
//
// Other tests share the servers of their package, which take seconds to start, and use unique names:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
//
//	uri := servers.AMQPURI(t)        // or servers.VHostURI(t): a virtual host for this test alone
//	uri := servers.RedisURI(t)
//	uri := servers.PostgresURI(t)    // a database for this test alone
//	name := servers.Name(t)          // a unique part of the names of queues, exchanges and keys
//	servers.RemoveKeys(t, name)      // when the test ends, deletes the keys that contain the name
//
// Environment variables, in addition to those of package privateserver:
//
//	PARKING_TEST_AMQP_URI, PARKING_TEST_REDIS_URI    URIs of existing servers to use as shared servers
//	PARKING_TEST_REQUIRE=1                           a test whose server is not installed fails; it is not skipped
//	PARKING_TEST_REPORT                              file that receives a list of the used servers and the skipped tests
//
// Under go test -short, tests that need a server are skipped.
package servers

// Package rabbitmq implements the interfaces of package broker with RabbitMQ 3.10 or later.
//
// # Topology
//
// A simulation has one durable direct exchange, parking.<simulation>, and for each partition p:
//
//	queue                              routing key       contains
//	parking.<simulation>.entry.<p>     entry.<p>         entry events
//	parking.<simulation>.exit.<p>      exit.<p>          exit events
//	parking.<simulation>.retry.entry.<p>   retry.entry.<p>   entry events that wait for another attempt
//	parking.<simulation>.retry.exit.<p>    retry.exit.<p>    exit events that wait for another attempt
//
// The queue parking.<simulation>.dead, with the routing key dead, holds messages that cannot be processed. Messages in
// a retry queue expire after the retry delay. The server then dead-letters them back to their entry or exit queue.
//
// The owner exchange, parking.<simulation>.owner, has an argument that names the owner: the UID of the
// ParkingSimulation. Nothing is published to the owner exchange. A Broker with another owner belongs to another
// simulation of the same name. Such a Broker refuses to use the queues.
//
// The queues are quorum queues or durable classic queues. A quorum queue keeps a confirmed message as long as a
// majority of the nodes works. When a quorum queue dead-letters a message, it removes the message only after
// the target queue has confirmed the message. A classic queue does not wait for this confirm, so an event may be lost
// if the node dies while the event returns from its retry queue.
//
// A quorum queue dead-letters a message that was delivered too often; see DefaultDeliveryLimit.
//
// If a consumer leaves a message unsettled for longer than the server's consumer_timeout, 30 minutes by default, the
// server closes the channel of the consumer and delivers the messages again. A consumer holds as many messages in
// memory as its prefetch allows, whatever their size.
//
// Any program may publish to the exchange parking.<simulation>. It must use the routing key entry.<p> or exit.<p>,
// where p is the partition of the plate: the 32-bit FNV-1a hash of the plate, modulo the number of partitions. The body
// must be in the wire format of package event. No header or property is required.
//
// Whenever publishers and consumers open a channel, they declare both exchanges and the queues that they need. So a
// deleted queue is created again as an empty queue. If a queue exists with other arguments, publishers and consumers
// log an error and retry.
//
// # Connections
//
// A Broker opens up to three connections: for publishers, for consumers, and for administrative requests such as
// Depths. It opens each connection at the first use.
//
// Publishers have their own connection, so that acknowledgements reach the server during a memory or disk alarm. During
// an alarm, a server stops reading from each connection that publishes.
//
// Publishers and consumers try to reconnect until they succeed. Each attempt uses the address and the credentials that
// Dependencies.Binding returns at that time. The log reports the loss of a connection, with the cause, and its
// restoration. The log does not report each attempt.
package rabbitmq
